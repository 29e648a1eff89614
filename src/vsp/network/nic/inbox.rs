//! Frames that one channel has fetched for another.

use std::collections::VecDeque;

use crate::net::frame::FrameBuffer;

/// Maximum size of the waiting frames, including [`FRAME_COST`]: some segments of maximum length.
const INBOX: usize = 1 << 20;

/// Memory overhead of a frame.
const FRAME_COST: usize = 256;

/// Frames in order, each with its hash if it has one.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    frames: VecDeque<(FrameBuffer, Option<u32>)>,
    cost: usize,
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame. Returns `false` if there is no room and the frame was dropped.
    pub fn push(&mut self, frame: FrameBuffer, hash: Option<u32>) -> bool {
        let cost = frame.bytes.len() + FRAME_COST;
        if self.cost + cost > INBOX {
            return false;
        }
        self.cost += cost;
        self.frames.push_back((frame, hash));
        true
    }

    pub fn pop(&mut self) -> Option<(FrameBuffer, Option<u32>)> {
        let (frame, hash) = self.frames.pop_front()?;
        self.cost -= frame.bytes.len() + FRAME_COST;
        Some((frame, hash))
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
