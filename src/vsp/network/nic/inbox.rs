//! Frames that one channel has fetched for another.

use std::collections::VecDeque;

use crate::net::frame::FrameBuffer;

/// How much may wait, counted with [`FRAME_COST`]: some segments of the greatest length.
const INBOX: usize = 1 << 20;

/// What a frame costs beside its bytes: even empty ones need memory.
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

    /// Adds a frame. Returns `false` if there is no room and it is dropped.
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
