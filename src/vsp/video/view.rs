//! The visible picture: its place and its size, and what is known of changes.

use std::sync::{Arc, Weak};

use serde::Serialize;

use super::damage::Rectangle;
use super::early::Early;
use super::picture::{MAX_HEIGHT, MAX_WIDTH, Picture};
use super::pointer::Look;
use super::text::{Fonts, Text};
use super::wire::Situation;
use super::writes::Writes;
use crate::memory::GuestMemory;

/// Bits of a pixel: red, green, blue and an unused byte.
const DEPTH: u8 = 32;

/// The place and the size of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mode {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Distance of two lines in memory, in bytes.
    pub pitch: u32,
    /// Offset of the first pixel in the screen's memory, in bytes.
    pub offset: u32,
}

impl Mode {
    /// Returns the mode of a picture that is drawn without a driver.
    pub fn of_early(early: &Early) -> Self {
        let (width, height) = early.size;
        Self { width, height, pitch: width.saturating_mul(4), offset: 0 }
    }

    /// Returns `None` if the host does not show such a picture.
    pub fn new(situation: &Situation) -> Option<Self> {
        let Situation { depth, width, height, pitch, offset, .. } = *situation;
        let (width, height, offset) = (width.get(), height.get(), offset.get());
        // hyperv_drm counts the pitch in bytes; 0 stands for lines without a gap.
        let pitch = if pitch.get() == 0 { width.saturating_mul(4) } else { pitch.get() };
        let fits = (1..=MAX_WIDTH).contains(&width) && (1..=MAX_HEIGHT).contains(&height);
        let pitch_fits = pitch >= width.saturating_mul(4) && pitch <= 4 * MAX_WIDTH;
        (fits && pitch_fits && depth == DEPTH).then_some(Self { width, height, pitch, offset })
    }
}

/// State of a guest's reports of its drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// Nothing says so.
    No,
    /// It has answered a request for reports, and has reported nothing since its last situation.
    Promised,
    /// It has reported something since.
    Made,
}

/// The visible picture, which is read without holding the screen.
pub struct View {
    /// The memory of the guest.
    pub memory: GuestMemory,
    /// The address of the first pixel.
    pub first: u64,
    /// The size and the pitch.
    pub mode: Mode,
    /// The number of the situation.
    pub situation: u64,
    /// The guest reports what it draws.
    pub reports: Reports,
    /// The rectangles that were drawn since the last call. Parts may be outside of the picture.
    pub damage: Vec<Rectangle>,
    /// The guest's pointer, which is not in its picture.
    pub pointer: Look,
    /// Records what the guest writes into the screen's memory, if that is possible.
    pub writes: Option<Weak<dyn Writes>>,
    /// The fonts in the memory of the guest.
    pub fonts: Arc<Fonts>,
}

impl View {
    /// Reads the picture.
    pub fn picture(&self) -> Picture {
        let Mode { width, height, pitch, .. } = self.mode;
        Picture::read(&self.memory, self.first, width, height, pitch)
    }

    /// Returns the text of a [`picture`](Self::picture). Returns `None` if the guest's memory has no font.
    pub fn text(&self, picture: &Picture) -> Option<Text> {
        self.fonts.read(picture, &self.memory)
    }
}
