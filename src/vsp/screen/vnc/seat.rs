//! What a viewer knows and wants, and what it is sent next.

use super::tight::MAX_WIDTH;
use super::turn::{Desktop, Scrolled, TILE, Turn, Wishes};
use crate::vsp::keyboard::protocol::Leds;
use crate::vsp::video::damage::Rectangle;
use crate::vsp::video::pointer::Look;

/// A viewer.
pub struct Seat {
    pub(super) wishes: Wishes,
    wanted: Option<Wanted>,
    /// The size that it knows.
    size: (u32, u32),
    /// The tiles that it lacks.
    pub(super) dirty: Vec<bool>,
    /// It shows a picture that is larger than the screen, and what is outside of the screen is old.
    outside: bool,
    /// What it can copy itself, from the pixels of tiles that it does not lack.
    scrolled: Option<Scrolled>,
    /// Its update does not have all its pixels yet: they may become newer than the update says.
    pub(super) serving: bool,
    /// The pointer that it knows.
    pointer: Look,
    /// The lights that it knows.
    lights: Option<Leds>,
}

/// A viewer's unanswered requests for updates.
#[derive(Clone, Copy)]
struct Wanted {
    /// The part of which it wants what has changed.
    area: Rectangle,
    /// The part that it wants as it is.
    whole: Option<Rectangle>,
}

/// Returns the numbers of the tiles that a part touches.
fn tiles(part: Rectangle, columns: u32) -> impl Iterator<Item = usize> {
    let (left, right) = (part.left / TILE, part.right.div_ceil(TILE).min(columns));
    let rows = part.top / TILE..part.bottom.div_ceil(TILE);
    rows.flat_map(move |row| (left..right).map(move |column| (row * columns + column) as usize))
}

impl Seat {
    /// Creates one that lacks that many tiles.
    pub fn new(size: (u32, u32), tiles: usize) -> Self {
        Self {
            wishes: Wishes::default(),
            wanted: None,
            size,
            dirty: vec![true; tiles],
            outside: false,
            scrolled: None,
            serving: false,
            pointer: Look::Unknown,
            lights: None,
        }
    }

    /// Notes that it has nothing of the picture, which has that many tiles now.
    pub fn start_over(&mut self, tiles: usize) {
        self.dirty = vec![true; tiles];
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

    /// Returns an update without pixels of the picture, if there is something to announce.
    pub fn announcement(&mut self, size: (u32, u32), pointer: &Look, lights: Option<Leds>) -> Option<Turn> {
        let wishes = self.wishes;
        let is_new = wishes.resizes && self.size != size;
        let points = wishes.pointer && self.pointer != *pointer;
        let lights = lights.filter(|lights| wishes.lights && self.lights != Some(*lights));
        let announces = wishes.keys || wishes.size || wishes.refused || is_new || points || lights.is_some();
        if self.wanted.is_none() || !announces {
            return None;
        }
        // An answer about the size comes after the news of it.
        let refused = wishes.refused && !wishes.size && !is_new;
        let desktop = (wishes.size || refused || is_new).then_some(Desktop { size, refused });
        self.wishes = Wishes { keys: false, size: false, refused: wishes.refused && !refused, ..wishes };
        if is_new {
            // The viewer asks for the new picture next.
            (self.size, self.wanted) = (size, None);
            self.dirty.fill(true);
            self.outside = false;
        }
        if points {
            self.pointer = pointer.clone();
        }
        self.lights = lights.or(self.lights);
        let pointer = points.then(|| pointer.clone());
        Some(Turn { keys: wishes.keys, desktop, pointer, lights, ..Turn::new(wishes) })
    }

    /// Returns an update with the tiles that the viewer wants.
    pub fn picture(&mut self, size: (u32, u32), columns: u32) -> Option<Turn> {
        let Wanted { area, whole } = self.wanted?;
        let shown = Rectangle::of_size(self.size.0.min(size.0), self.size.1.min(size.1));
        // Who asks for a part, or for pixels as they are, is sent pixels.
        if let Some(Scrolled { to, .. }) =
            self.scrolled.filter(|scrolled| whole.is_some() || scrolled.to.common(area) != Some(scrolled.to))
        {
            self.scrolled = None;
            self.lack(to, columns);
        }
        let mut rectangles: Vec<Rectangle> = Vec::new();
        for (index, dirty) in (0_u32..).zip(&mut self.dirty) {
            if whole.is_none() && !*dirty {
                continue;
            }
            let (left, top) = (index % columns * TILE, index / columns * TILE);
            let tile = Rectangle { left, top, right: left + TILE, bottom: top + TILE };
            // Whole tiles are sent, so that a tile is either dirty or not.
            let Some(tile) = tile.common(shown) else { continue };
            let is_in = |area: Rectangle| tile.common(area).is_some();
            if !(*dirty && is_in(area) || whole.is_some_and(is_in)) {
                continue;
            }
            *dirty = false;
            match rectangles.last_mut() {
                Some(last)
                    if last.right == tile.left && last.top == tile.top && tile.right - last.left <= MAX_WIDTH =>
                {
                    last.right = tile.right;
                }
                _ => rectangles.push(tile),
            }
        }
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

    /// Notes that the viewer lacks a part.
    fn lack(&mut self, part: Rectangle, columns: u32) {
        for tile in tiles(part, columns) {
            if let Some(dirty) = self.dirty.get_mut(tile) {
                *dirty = true;
            }
        }
    }

    /// Notes that a part of the picture has scrolled. The viewer copies it itself if it can, and lacks what it cannot copy.
    pub fn scroll(&mut self, scrolled: Scrolled, size: (u32, u32), columns: u32) {
        let Scrolled { to, from } = scrolled;
        if let Some(earlier) = self.scrolled.take() {
            // It has not been sent the last one yet, and an update has one at most.
            self.lack(earlier.to, columns);
        }
        if !self.wishes.copies || self.serving || self.size != size {
            return self.lack(to, columns);
        }
        let before = self.dirty.clone();
        let is_lacking = |part: Rectangle| tiles(part, columns).any(|tile| before.get(tile).copied().unwrap_or(true));
        let mut useful = false;
        for index in tiles(to, columns) {
            let (left, top) = (index as u32 % columns * TILE, index as u32 / columns * TILE);
            let tile = Rectangle { left, top, right: left + TILE, bottom: top + TILE };
            let Some(copied) = tile.common(to) else { continue };
            let moved = |y: u32| y - to.top + from;
            let source = Rectangle { top: moved(copied.top), bottom: moved(copied.bottom), ..copied };
            let whole = copied == tile.common(Rectangle::of_size(size.0, size.1)).unwrap_or(tile);
            if let Some(dirty) = self.dirty.get_mut(index) {
                *dirty = is_lacking(source) || *dirty && !whole;
                useful |= !*dirty;
            }
        }
        self.scrolled = useful.then_some(scrolled);
        if !useful {
            self.lack(to, columns);
        }
    }
}
