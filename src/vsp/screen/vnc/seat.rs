//! What a viewer knows and wants, and what it is sent next.

use super::missing::{Missing, TILE, Wanted};
use super::tight::MAX_WIDTH;
use super::turn::{Desktop, Scrolled, Turn, Wishes};
use crate::vsp::keyboard::protocol::Leds;
use crate::vsp::video::damage::Rectangle;
use crate::vsp::video::pointer::Look;

/// A viewer.
pub struct Seat {
    pub(super) wishes: Wishes,
    wanted: Option<Wanted>,
    /// The size that it knows.
    size: (u32, u32),
    pub(super) missing: Missing,
    /// It shows a picture that is larger than the screen, and what is outside of the screen is old.
    outside: bool,
    /// What it can copy itself, from pixels that it does not lack.
    scrolled: Option<Scrolled>,
    /// Its update does not have all its pixels yet: they may become newer than the update says.
    pub(super) serving: bool,
    /// Its thread waits for something to send.
    pub(super) idle: bool,
    /// The pointer that it knows.
    pointer: Look,
    /// The lights that it knows.
    lights: Option<Leds>,
}

impl Seat {
    /// Creates one that lacks all of a picture of this size.
    pub fn new(size: (u32, u32)) -> Self {
        Self {
            wishes: Wishes::default(),
            wanted: None,
            size,
            missing: Missing::all(size),
            outside: false,
            scrolled: None,
            serving: false,
            idle: false,
            pointer: Look::Unknown,
            lights: None,
        }
    }

    /// Notes that it has nothing of the picture, which has this size now.
    pub fn start_over(&mut self, size: (u32, u32)) {
        self.missing = Missing::all(size);
        self.scrolled = None;
        self.outside = true;
    }

    /// Notes a request.
    pub fn want(&mut self, incremental: bool, area: Rectangle) {
        // A request that was not answered is part of this one.
        let earlier = self.wanted.unwrap_or(Wanted { area, whole: None });
        let whole = (!incremental).then_some(area).into_iter().chain(earlier.whole).reduce(Rectangle::around);
        self.wanted = Some(Wanted { area: area.around(earlier.area), whole });
    }

    /// Returns `true` if a change of the picture would be sent at once.
    pub fn is_ready(&self) -> bool {
        self.idle && self.wanted.is_some()
    }

    /// Returns an update without pixels of the picture, if there is something to announce.
    pub fn announcement(&mut self, size: (u32, u32), pointer: &Look, lights: Option<Leds>) -> Option<Turn> {
        let wishes = self.wishes;
        let is_new = wishes.resizes && self.size != size;
        let points = wishes.pointer && self.pointer != *pointer;
        let lights = lights.filter(|lights| wishes.lights && self.lights != Some(*lights));
        let announces = wishes.keys || wishes.size || wishes.answer.is_some() || is_new || points || lights.is_some();
        if self.wanted.is_none() || !announces {
            return None;
        }
        // An answer about the size comes after the news of it.
        let answer = wishes.answer.filter(|_| !wishes.size && !is_new);
        let desktop = (wishes.size || answer.is_some() || is_new).then_some(Desktop { size, answer });
        let later = wishes.answer.filter(|_| answer.is_none());
        self.wishes = Wishes { keys: false, size: false, answer: later, ..wishes };
        if is_new {
            // The viewer asks for the new picture next.
            (self.size, self.wanted) = (size, None);
            self.missing.fill();
            self.outside = false;
        }
        if points {
            self.pointer = pointer.clone();
        }
        self.lights = lights.or(self.lights);
        let pointer = points.then(|| pointer.clone());
        Some(Turn { keys: wishes.keys, desktop, pointer, lights, ..Turn::new(wishes) })
    }

    /// Returns an update with what the viewer wants of a picture of this size.
    pub fn picture(&mut self, size: (u32, u32)) -> Option<Turn> {
        let wanted = self.wanted?;
        let Wanted { area, whole } = wanted;
        let shown = Rectangle::of_size(self.size.0.min(size.0), self.size.1.min(size.1));
        // Who asks for a part, or for pixels as they are, is sent pixels.
        if let Some(Scrolled { to, .. }) =
            self.scrolled.filter(|scrolled| whole.is_some() || scrolled.to.common(area) != Some(scrolled.to))
        {
            self.scrolled = None;
            self.missing.add(to);
        }
        let mut rectangles = self.missing.take(wanted, shown);
        if std::mem::take(&mut self.outside) {
            rectangles.extend(self.outside_of(shown));
        }
        let scrolled = self.scrolled.take();
        if whole.is_none() && rectangles.is_empty() && scrolled.is_none() {
            return None;
        }
        self.wanted = None;
        self.serving = true;
        Some(Turn { scrolled, rectangles, ..Turn::new(self.wishes) })
    }

    /// Returns the parts of the viewer's picture that are outside of the screen, which are black.
    fn outside_of(&self, shown: Rectangle) -> Vec<Rectangle> {
        let (width, height) = self.size;
        let right = Rectangle { left: shown.right, top: 0, right: width, bottom: shown.bottom };
        let below = Rectangle { left: 0, top: shown.bottom, right: width, bottom: height };
        let mut parts = Vec::new();
        for strip in [right, below] {
            for top in (strip.top..strip.bottom).step_by(TILE as usize) {
                for left in (strip.left..strip.right).step_by(MAX_WIDTH as usize) {
                    let part = Rectangle { left, top, right: left + MAX_WIDTH, bottom: top + TILE };
                    parts.extend(part.common(strip));
                }
            }
        }
        parts
    }

    /// Notes that a part of the picture has scrolled. The viewer copies it itself if it can, and lacks what it cannot copy.
    pub fn scroll(&mut self, scrolled: Scrolled, size: (u32, u32)) {
        if let Some(earlier) = self.scrolled.take() {
            // It has not been sent the last one yet, and an update has one at most.
            self.missing.add(earlier.to);
        }
        if !self.wishes.copies || self.serving || self.size != size {
            return self.missing.add(scrolled.to);
        }
        if self.missing.scroll(scrolled) {
            self.scrolled = Some(scrolled);
        } else {
            self.missing.add(scrolled.to);
        }
    }
}
