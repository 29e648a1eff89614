//! The picture that all viewers see, and for each of them what it lacks of it.

use std::collections::BTreeMap;

use zerocopy::IntoBytes;

use super::missing::TILE;
use super::scroll::{Detector, Moved, hash};
use super::seat::Seat;
use super::turn::{Scrolled, Turn, Wishes};
use crate::host::lock::{Condvar, Mutex};
use crate::vsp::keyboard::protocol::Leds;
use crate::vsp::video::damage::Rectangle;
use crate::vsp::video::pointer::Look;

/// Number of pixels of a line that are compared at once, and sent together if one of them has changed.
pub const CELL: usize = 16;

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
    /// Viewers have not been told of the last changes.
    has_news: bool,
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

/// Replaces pixels. Returns `true` if they were others.
fn replace(old: &mut [u32], new: &[[u8; 4]]) -> bool {
    // Without branches. Most are the same as before.
    let differs = old.iter().zip(new).fold(0, |difference, (old, new)| difference | (*old ^ pixel(new))) != 0;
    if differs {
        old.iter_mut().zip(new).for_each(|(old, new)| *old = pixel(new));
    }
    differs
}

impl State {
    /// Returns what a viewer is to be sent now, `None` if there is no such viewer.
    fn turn(&mut self, number: u64) -> Option<Option<Turn>> {
        let (size, incomplete) = ((self.width, self.height), self.incomplete);
        let seat = self.seats.get_mut(&number)?;
        let announced = seat.announcement(size, &self.pointer, self.lights);
        let turn = announced.or_else(|| if incomplete { None } else { seat.picture(size) });
        seat.idle = turn.is_none();
        Some(turn)
    }

    /// Replaces a part of the picture. What changes is missing to the viewers.
    fn put(&mut self, part: Rectangle, lines: &[u8]) {
        let stride = self.width as usize;
        let (left, right) = (part.left as usize, part.right.min(self.width) as usize);
        let width = part.right.saturating_sub(part.left) as usize;
        if left >= right {
            return;
        }
        // What has changed in each tile of a line of tiles.
        let mut changed = vec![None; right.div_ceil(TILE as usize)];
        for (y, line) in (part.top..part.bottom.min(self.height)).zip(lines.chunks_exact(width * 4)) {
            if y % TILE == 0 {
                self.note(&mut changed);
            }
            let at = y as usize * stride;
            let Some(old) = self.pixels.get_mut(at + left..at + right) else { return };
            let (cells, rest) = old.as_chunks_mut::<CELL>();
            let (new_cells, new_rest) = line.as_chunks().0.as_chunks::<CELL>();
            let mut note = |x: usize, length: usize| {
                let here = Rectangle { left: x as u32, top: y, right: (x + length) as u32, bottom: y + 1 };
                if let Some(changed) = changed.get_mut(x / TILE as usize) {
                    *changed = Some(changed.map_or(here, |changed: Rectangle| changed.around(here)));
                }
            };
            let mut x = left;
            for (old, new) in cells.iter_mut().zip(new_cells) {
                if replace(old, new) {
                    note(x, CELL);
                }
                x += CELL;
            }
            // The last ones of a line. The new line may be longer.
            let new = new_cells.get(cells.len()).map_or(new_rest, |cell| &cell[..]);
            if replace(rest, new) {
                note(x, rest.len());
            }
        }
        self.note(&mut changed);
    }

    /// Notes what has changed, and forgets it.
    fn note(&mut self, changed: &mut [Option<Rectangle>]) {
        for part in changed.iter_mut().filter_map(Option::take) {
            self.has_news = true;
            self.seats.values_mut().for_each(|seat| seat.missing.add(part));
        }
    }

    /// Returns what has moved up or down in a part.
    fn find_scroll(&mut self, part: Rectangle, lines: &[u8]) -> Option<Scrolled> {
        let stride = self.width as usize;
        let width = (part.right - part.left) as usize;
        if part.common(Rectangle::of_size(self.width, self.height)) != Some(part) || self.pixels.is_empty() {
            return None;
        }
        let old = |y: u32| {
            let at = y as usize * stride + part.left as usize;
            hash(self.pixels.get(at..at + width).unwrap_or_default().as_bytes())
        };
        let old: Vec<u64> = (part.top..part.bottom).map(old).collect();
        let new: Vec<u64> = lines.chunks_exact(width * 4).map(hash).collect();
        let Moved { by, lines } = self.detector.find(&old, &new)?;
        // These are lines of the part, and so are those that they were before.
        let (top, bottom) = (part.top + lines.start as u32, part.top + lines.end as u32);
        Some(Scrolled { to: Rectangle { top, bottom, ..part }, from: top.checked_add_signed(by)? })
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
        let size = (self.width, self.height);
        self.seats.values_mut().for_each(|seat| seat.start_over(size));
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
            has_news: false,
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
        state.seats.insert(number, Seat::new(size));
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

    /// Returns `true` if a viewer waits for a change of the picture, or if there is no viewer.
    pub fn is_awaited(&self) -> bool {
        let state = self.state.lock();
        state.seats.is_empty() || state.seats.values().any(Seat::is_ready)
    }

    /// Notes that all that is known of the picture has been put. Viewers are told.
    pub fn complete(&self) {
        let mut state = self.state.lock();
        let has_news = std::mem::take(&mut state.has_news);
        if std::mem::take(&mut state.incomplete) || has_news {
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

    /// Replaces a part of the picture by lines of pixels of four bytes. What changes is sent to the viewers when it is
    /// [complete](Self::complete).
    pub fn put(&self, part: Rectangle, lines: &[u8]) {
        self.state.lock().put(part, lines);
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

    /// Does the same as [`put`](Self::put). If the lines are those that were there before, further up or down, viewers that can copy them
    /// are told so.
    pub fn scroll(&self, part: Rectangle, lines: &[u8]) {
        let mut state = self.state.lock();
        if let Some(scrolled) = state.find_scroll(part, lines) {
            state.move_lines(scrolled);
            state.scrolls += 1;
            // Nothing else may have changed: the new lines can be as the old ones were.
            state.has_news = true;
            let size = (state.width, state.height);
            state.seats.values_mut().for_each(|seat| seat.scroll(scrolled, size));
        }
        state.put(part, lines);
    }

    /// Notes that a viewer's update has all its pixels.
    pub fn taken(&self, number: u64) {
        if let Some(seat) = self.state.lock().seats.get_mut(&number) {
            seat.serving = false;
        }
    }

    /// Waits until a viewer is to be sent something. Returns `None` when it has left. Calls `idle` before it waits, if the viewer has
    /// asked for changes.
    pub fn turn(&self, number: u64, idle: impl Fn()) -> Option<Turn> {
        let mut state = self.state.lock();
        let mut is_told = false;
        loop {
            if let Some(turn) = state.turn(number)? {
                return Some(turn);
            }
            if !is_told && state.seats.get(&number).is_some_and(Seat::is_ready) {
                is_told = true;
                drop(state);
                idle();
                state = self.state.lock();
            } else {
                state = self.changed.wait(state);
            }
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
