//! The picture that all viewers see, and for each of them the tiles that it lacks.

use std::collections::BTreeMap;

use super::scroll::{Detector, hash};
use super::seat::Seat;
use super::turn::{Scrolled, TILE, Turn, Wishes};
use crate::host::lock::{Condvar, Mutex};
use crate::vsp::keyboard::protocol::Leds;
use crate::vsp::video::damage::Rectangle;
use crate::vsp::video::pointer::Look;

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
    pointer: Look,
    lights: Option<Leds>,
    detector: Detector,
    /// Number of scrolls that viewers were sent as such, or could have been.
    scrolls: u64,
}

/// Returns a pixel of the guest's memory.
fn pixel(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes) & 0xff_ffff
}

impl State {
    /// Returns what a viewer is to be sent now, `None` if there is no such viewer.
    fn turn(&mut self, number: u64) -> Option<Option<Turn>> {
        let (size, columns, incomplete) = ((self.width, self.height), self.columns(), self.incomplete);
        let seat = self.seats.get_mut(&number)?;
        let announced = seat.announcement(size, &self.pointer, self.lights);
        Some(announced.or_else(|| if incomplete { None } else { seat.picture(size, columns) }))
    }

    fn columns(&self) -> u32 {
        self.width.div_ceil(TILE)
    }

    /// Moves lines of the picture.
    fn move_lines(&mut self, Scrolled { to, from }: Scrolled) {
        let (stride, left, right) = (self.width as usize, to.left as usize, to.right as usize);
        let mut move_line = |line: u32| {
            let (old, new) = ((from + line) as usize * stride, (to.top + line) as usize * stride);
            if old + right <= self.pixels.len() && new + right <= self.pixels.len() {
                self.pixels.copy_within(old + left..old + right, new + left);
            }
        };
        let lines = 0..to.bottom - to.top;
        // So that no line is overwritten before it is moved.
        if from > to.top { lines.for_each(&mut move_line) } else { lines.rev().for_each(&mut move_line) }
    }

    /// Replaces the picture by a black one. Everything is sent again when it is [complete](Stage::complete).
    fn clear(&mut self) {
        self.incomplete = true;
        self.pixels = vec![0; self.width as usize * self.height as usize];
        let tiles = (self.columns() * self.height.div_ceil(TILE)) as usize;
        self.seats.values_mut().for_each(|seat| seat.start_over(tiles));
    }
}

impl Stage {
    /// Creates a black picture.
    pub fn new(width: u32, height: u32) -> Self {
        let state = State {
            width,
            height,
            pixels: Vec::new(),
            incomplete: true,
            seats: BTreeMap::new(),
            next: 0,
            pointer: Look::Unknown,
            lights: None,
            detector: Detector::default(),
            scrolls: 0,
        };
        Self { state: Mutex::new(state), changed: Condvar::default() }
    }

    /// Adds a viewer. Returns its number and the size of the screen.
    pub fn enter(&self) -> (u64, (u32, u32)) {
        let mut state = self.state.lock();
        state.next += 1;
        let (number, size) = (state.next, (state.width, state.height));
        let is_first = state.seats.is_empty();
        let tiles = (state.columns() * state.height.div_ceil(TILE)) as usize;
        state.seats.insert(number, Seat::new(size, tiles));
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
            seat.want(incremental, area);
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
            let Some(mut old) = state.pixels.get_mut(at + left as usize..at + right as usize) else { return };
            let (mut new, mut x) = (line.as_chunks().0, left);
            // The part of the line in each tile. Most parts are the same as before, and the comparison has no branches.
            while !old.is_empty() {
                let length = ((TILE - x % TILE) as usize).min(old.len());
                let (Some((old_part, old_rest)), Some((new_part, new_rest))) =
                    (old.split_at_mut_checked(length), new.split_at_checked(length))
                else {
                    return;
                };
                let pairs = old_part.iter().zip(new_part);
                if pairs.fold(0, |difference, (old, new)| difference | (old ^ pixel(new))) != 0 {
                    old_part.iter_mut().zip(new_part).for_each(|(old, new)| *old = pixel(new));
                    let tile = y / TILE * columns + x / TILE;
                    if changed.last() != Some(&tile) {
                        changed.push(tile);
                    }
                }
                (old, new, x) = (old_rest, new_rest, x + length as u32);
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

    /// Changes how the guest's pointer looks.
    pub fn point(&self, pointer: Look) {
        let mut state = self.state.lock();
        if state.pointer != pointer {
            state.pointer = pointer;
            self.changed.notify_all();
        }
    }

    /// Changes the keyboard's lights.
    pub fn light(&self, lights: Option<Leds>) {
        let mut state = self.state.lock();
        if state.lights != lights {
            state.lights = lights;
            self.changed.notify_all();
        }
    }

    /// Returns the number of scrolls that were found.
    pub fn scrolls(&self) -> u64 {
        self.state.lock().scrolls
    }

    /// Returns `true` if it pays to find out whether a part of that height has scrolled.
    pub fn may_scroll(&self, lines: u32) -> bool {
        let mut state = self.state.lock();
        let copies = state.seats.values().any(|seat| seat.wishes.copies);
        copies && state.detector.is_worthwhile(lines as usize)
    }

    /// Moves the lines of a part up or down if the new ones, of four bytes a pixel, are the old ones further up or down. They are
    /// [put](Self::put) next, so that what is found need not be all that has changed.
    pub fn scroll(&self, part: Rectangle, lines: &[u8]) {
        let mut state = self.state.lock();
        let stride = state.width as usize;
        let width = (part.right - part.left) as usize;
        if part.common(Rectangle::of_size(state.width, state.height)) != Some(part) || state.pixels.is_empty() {
            return;
        }
        let old: Vec<u64> = (part.top..part.bottom)
            .map(|y| {
                let at = y as usize * stride + part.left as usize;
                hash(state.pixels.get(at..at + width).unwrap_or_default().iter().copied())
            })
            .collect();
        let new: Vec<u64> =
            lines.chunks_exact(width * 4).map(|line| hash(line.as_chunks().0.iter().map(pixel))).collect();
        let Some(by) = state.detector.find(&old, &new) else { return };
        // Whole tiles are sent, so the part that viewers copy begins and ends with its lines, not with tiles.
        let height = part.bottom - part.top;
        let kept = height.saturating_sub(by.unsigned_abs());
        if kept == 0 {
            return;
        }
        let (from, top) =
            if by > 0 { (part.top + by.unsigned_abs(), part.top) } else { (part.top, part.top + by.unsigned_abs()) };
        let scrolled = Scrolled { to: Rectangle { top, bottom: top + kept, ..part }, from };
        state.move_lines(scrolled);
        state.scrolls += 1;
        let (size, columns) = ((state.width, state.height), state.columns());
        state.seats.values_mut().for_each(|seat| seat.scroll(scrolled, size, columns));
        // Nothing else may have changed: the new lines can be as the old ones were.
        self.changed.notify_all();
    }

    /// Notes that a viewer's update has all its pixels.
    pub fn taken(&self, number: u64) {
        if let Some(seat) = self.state.lock().seats.get_mut(&number) {
            seat.serving = false;
        }
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

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
