//! What a viewer wants, and what it is sent next.

use super::encoder::RAW;
use super::format::Format;
use crate::vsp::keyboard::protocol::Leds;
use crate::vsp::video::damage::Rectangle;
use crate::vsp::video::pointer::Look;

/// The abilities and requests of a viewer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wishes {
    /// The pixels.
    pub format: Format,
    /// The encoding of rectangles.
    pub encoding: i32,
    /// The viewer knows that screens change their size.
    pub resizes: bool,
    /// It knows the extended form of the message about that.
    pub extended: bool,
    /// It is to be told that it can send scan codes.
    pub keys: bool,
    /// It is to be told the size of the screen.
    pub size: bool,
    /// The answer to its request for another size.
    pub answer: Option<SizeAnswer>,
    /// It can copy pixels that it has.
    pub copies: bool,
    /// It shows the guest's pointer.
    pub pointer: bool,
    /// It shows the keyboard's lights.
    pub lights: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            format: Format::NATIVE,
            encoding: RAW,
            resizes: false,
            extended: false,
            keys: false,
            size: false,
            answer: None,
            copies: false,
            pointer: false,
            lights: false,
        }
    }
}

/// The next update for a viewer.
#[derive(Debug, PartialEq)]
pub struct Turn {
    /// The viewer's abilities: pixel format and encoding.
    pub wishes: Wishes,
    /// It can send scan codes.
    pub keys: bool,
    /// The size of the screen.
    pub desktop: Option<Desktop>,
    /// The guest's pointer.
    pub pointer: Option<Look>,
    /// The keyboard's lights.
    pub lights: Option<Leds>,
    /// What has scrolled. It precedes the rectangles.
    pub scrolled: Option<Scrolled>,
    /// The rectangles.
    pub rectangles: Vec<Rectangle>,
}

/// A part of the picture that has moved up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrolled {
    /// Where it is now.
    pub to: Rectangle,
    /// The line where it began before.
    pub from: u32,
}

/// The size of the screen, for a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desktop {
    /// Width and height.
    pub size: (u32, u32),
    /// The answer, if the viewer has asked for another size.
    pub answer: Option<SizeAnswer>,
}

/// The answer to a viewer that asks for a size of the screen, with its number in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SizeAnswer {
    /// The screen has this size.
    Done = 0,
    /// The guest cannot be told.
    Prohibited = 1,
    /// The screen is never as large.
    TooLarge = 2,
    /// There are several screens, or no pixels.
    WrongLayout = 3,
    /// The guest has been told, and may change the size.
    Forwarded = 4,
}

impl Turn {
    /// Returns an update with nothing in it.
    pub fn new(wishes: Wishes) -> Self {
        Self { wishes, keys: false, desktop: None, pointer: None, lights: None, scrolled: None, rectangles: Vec::new() }
    }
}
