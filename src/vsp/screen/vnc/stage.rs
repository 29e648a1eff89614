//! The picture that all viewers see, and for each of them the tiles that it lacks.

use std::collections::BTreeMap;

use super::encoder::RAW;
use super::format::Format;
use crate::host::lock::{Condvar, Mutex};
use crate::vsp::video::damage::Rectangle;

/// Width and height of a tile, the smallest part that is sent.
pub const TILE: u32 = 64;

/// The picture, shared by all threads of a server.
pub struct Stage {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    width: u32,
    height: u32,
    /// 0x00RRGGBB. There are none while there is no viewer.
    pixels: Vec<u32>,
    /// The picture is not yet the guest's, so it is not sent.
    incomplete: bool,
    seats: BTreeMap<u64, Seat>,
    next: u64,
}

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
    /// It is to be told that it cannot change the size.
    pub refused: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        let format = Format::NATIVE;
        Self { format, encoding: RAW, resizes: false, extended: false, keys: false, size: false, refused: false }
    }
}

struct Seat {
    wishes: Wishes,
    wanted: Option<Wanted>,
    /// The size that it knows.
    size: (u32, u32),
    dirty: Vec<bool>,
}

/// A viewer's unanswered requests for updates.
#[derive(Clone, Copy)]
struct Wanted {
    /// The part of which it wants what has changed.
    area: Rectangle,
    /// The part that it wants as it is.
    whole: Option<Rectangle>,
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
    /// The rectangles, each no higher than a tile.
    pub rectangles: Vec<Rectangle>,
}

/// The size of the screen, for a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desktop {
    /// Width and height.
    pub size: (u32, u32),
    /// It answers the viewer, which has asked for another size.
    pub refused: bool,
}

impl State {
    /// Returns what a viewer is to be sent now, `None` if there is no such viewer.
    fn turn(&mut self, number: u64) -> Option<Option<Turn>> {
        let (size, columns, incomplete) = ((self.width, self.height), self.columns(), self.incomplete);
        let seat = self.seats.get_mut(&number)?;
        Some(seat.announcement(size).or_else(|| if incomplete { None } else { seat.picture(size, columns) }))
    }

    fn columns(&self) -> u32 {
        self.width.div_ceil(TILE)
    }

    /// Replaces the picture by a black one. Everything is sent again when it is [complete](Stage::complete).
    fn clear(&mut self) {
        self.incomplete = true;
        self.pixels = vec![0; self.width as usize * self.height as usize];
        let tiles = (self.columns() * self.height.div_ceil(TILE)) as usize;
        self.seats.values_mut().for_each(|seat| seat.dirty = vec![true; tiles]);
    }
}

impl Stage {
    /// Creates a black picture.
    pub fn new(width: u32, height: u32) -> Self {
        let state = State { width, height, pixels: Vec::new(), incomplete: true, seats: BTreeMap::new(), next: 0 };
        Self { state: Mutex::new(state), changed: Condvar::default() }
    }

    /// Adds a viewer. Returns its number and the size of the screen.
    pub fn enter(&self) -> (u64, (u32, u32)) {
        let mut state = self.state.lock();
        state.next += 1;
        let (number, size) = (state.next, (state.width, state.height));
        let is_first = state.seats.is_empty();
        let tiles = (state.columns() * state.height.div_ceil(TILE)) as usize;
        let seat = Seat { wishes: Wishes::default(), wanted: None, size, dirty: vec![true; tiles] };
        state.seats.insert(number, seat);
        if is_first {
            state.clear();
        }
        (number, size)
    }

    /// Removes a viewer. Returns `true` if there is none left.
    pub fn leave(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        state.seats.remove(&number);
        if state.seats.is_empty() {
            state.pixels = Vec::new();
        }
        self.changed.notify_all();
        state.seats.is_empty()
    }

    /// Returns the number of viewers.
    pub fn viewers(&self) -> usize {
        self.state.lock().seats.len()
    }

    /// Returns `true` if there is no viewer.
    pub fn is_empty(&self) -> bool {
        self.viewers() == 0
    }

    /// Returns the size of the screen.
    pub fn size(&self) -> (u32, u32) {
        let state = self.state.lock();
        (state.width, state.height)
    }

    /// Changes what a viewer wants to be sent.
    pub fn wish(&self, number: u64, change: impl FnOnce(&mut Wishes)) {
        if let Some(seat) = self.state.lock().seats.get_mut(&number) {
            change(&mut seat.wishes);
        }
        self.changed.notify_all();
    }

    /// Notes that a viewer wants to be sent a part, as it is or only what changes in it.
    pub fn want(&self, number: u64, incremental: bool, area: Rectangle) {
        let mut state = self.state.lock();
        if let Some(seat) = state.seats.get_mut(&number) {
            // A request that was not answered is part of this one.
            let earlier = seat.wanted.unwrap_or(Wanted { area, whole: None });
            let whole = (!incremental).then_some(area).into_iter().chain(earlier.whole).reduce(Rectangle::around);
            seat.wanted = Some(Wanted { area: area.around(earlier.area), whole });
        }
        self.changed.notify_all();
    }

    /// Notes that the whole picture has been put.
    pub fn complete(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.incomplete) {
            self.changed.notify_all();
        }
    }

    /// Changes the size of the screen. Its picture is black then, and not complete.
    pub fn resize(&self, width: u32, height: u32) {
        let mut state = self.state.lock();
        if (state.width, state.height) == (width, height) {
            return;
        }
        (state.width, state.height) = (width, height);
        if !state.seats.is_empty() {
            state.clear();
        }
        self.changed.notify_all();
    }

    /// Replaces part of a line of tiles: from a column and a line on, lines of `width` pixels of four bytes. Tiles that change are sent
    /// to the viewers.
    pub fn put(&self, left: u32, top: u32, width: u32, lines: &[u8]) {
        let mut state = self.state.lock();
        let (columns, stride) = (state.columns(), state.width as usize);
        let right = (left + width).min(state.width);
        if left >= right {
            return;
        }
        let mut changed = Vec::new();
        for (y, line) in (top..state.height).zip(lines.chunks_exact(width as usize * 4)) {
            let at = y as usize * stride;
            let Some(old) = state.pixels.get_mut(at + left as usize..at + right as usize) else { return };
            for ((x, old), new) in (left..).zip(old).zip(line.chunks_exact(4)) {
                let new = u32::from_le_bytes([new[0], new[1], new[2], 0]);
                if *old != new {
                    *old = new;
                    let tile = y / TILE * columns + x / TILE;
                    if changed.last() != Some(&tile) {
                        changed.push(tile);
                    }
                }
            }
        }
        if changed.is_empty() {
            return;
        }
        for seat in state.seats.values_mut() {
            for tile in &changed {
                if let Some(dirty) = seat.dirty.get_mut(*tile as usize) {
                    *dirty = true;
                }
            }
        }
        self.changed.notify_all();
    }

    /// Waits until a viewer is to be sent something. Returns `None` when it has left.
    pub fn turn(&self, number: u64) -> Option<Turn> {
        let mut state = self.state.lock();
        loop {
            if let Some(turn) = state.turn(number)? {
                return Some(turn);
            }
            state = self.changed.wait(state);
        }
    }

    /// Appends the pixels of a part to `to`. What is outside of the picture, which may have changed its size, is black.
    pub fn copy(&self, area: Rectangle, to: &mut Vec<u32>) {
        let state = self.state.lock();
        let width = area.right.saturating_sub(area.left) as usize;
        let right = area.right.min(state.width) as usize;
        for y in area.top..area.bottom {
            let line = y as usize * state.width as usize;
            let range = line + area.left as usize..line + right;
            let pixels = state.pixels.get(range).filter(|_| y < state.height).unwrap_or_default();
            to.extend_from_slice(pixels);
            to.resize(to.len() + width - pixels.len(), 0);
        }
    }
}

impl Seat {
    /// Returns an update without pixels, if there is something to announce.
    fn announcement(&mut self, size: (u32, u32)) -> Option<Turn> {
        let wishes = self.wishes;
        let is_new = wishes.resizes && self.size != size;
        if self.wanted.is_none() || !(wishes.keys || wishes.size || wishes.refused || is_new) {
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
        }
        Some(Turn { wishes, keys: wishes.keys, desktop, rectangles: Vec::new() })
    }

    /// Returns an update with the tiles that the viewer wants.
    fn picture(&mut self, size: (u32, u32), columns: u32) -> Option<Turn> {
        let (wishes, Wanted { area, whole }) = (self.wishes, self.wanted?);
        let shown = Rectangle::of_size(self.size.0.min(size.0), self.size.1.min(size.1));
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
                Some(last) if last.right == tile.left && last.top == tile.top => last.right = tile.right,
                _ => rectangles.push(tile),
            }
        }
        if whole.is_none() && rectangles.is_empty() {
            return None;
        }
        self.wanted = None;
        Some(Turn { wishes, keys: false, desktop: None, rectangles })
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
