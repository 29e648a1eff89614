//! The thread that reads what the guest draws while somebody looks.

use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use super::missing::TILE;
use super::stage::{CELL, Stage};
use crate::host::lock::{Condvar, Mutex};
use crate::vsp::pipe::provider::Handle;
use crate::vsp::video::damage::Rectangle;
use crate::vsp::video::protocol::Video;
use crate::vsp::video::recording::Recording;
use crate::vsp::video::view::{Reports, View};

/// The minimum time between two looks at the guest's picture.
const FRAME: Duration = Duration::from_millis(30);
/// Number of times that the whole picture is read after a new situation: drivers draw after it without a report.
const LOOKS: u32 = 4;
/// The time between them.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// Number of times that it is read after these, in longer intervals, even if the guest has promised reports: it may be slow.
const LATE_LOOKS: u32 = 10;
/// The time between looks at a guest that does not report what it draws.
const LOOK_UNASKED: Duration = Duration::from_millis(500);
/// The same, after a change, if its writes are recorded: that costs little. Without further changes, the time doubles.
const LOOK_RECORDED: Duration = Duration::from_millis(50);

/// Wakes the scanner.
#[derive(Default)]
pub struct Signal {
    state: Mutex<Raised>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Raised {
    signalled: bool,
    /// There is something to look at, which nobody awaits.
    held: bool,
    /// The next look has its time.
    paused: bool,
    over: bool,
}

impl Signal {
    /// There is something to read.
    pub fn raise(&self) {
        let mut state = self.state.lock();
        state.signalled = true;
        if !state.held && !state.paused {
            self.changed.notify_all();
        }
    }

    /// Somebody awaits what there is to read.
    pub fn release(&self) {
        if std::mem::take(&mut self.state.lock().held) {
            self.changed.notify_all();
        }
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.state.lock().over = true;
        self.changed.notify_all();
    }

    /// Waits for a signal or a time, and then until it is awaited. Returns `false` at the end.
    fn wait(&self, until: Option<Instant>, is_awaited: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state.held = false;
            if state.over {
                return false;
            }
            state = if state.signalled || left == Some(Duration::ZERO) {
                if is_awaited() {
                    state.signalled = false;
                    return true;
                }
                state.held = true;
                self.changed.wait(state)
            } else {
                match left {
                    None => self.changed.wait(state),
                    Some(left) => self.changed.wait_timeout(state, left),
                }
            };
        }
    }

    /// Waits until a time. Returns `false` at the end.
    fn pause(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        loop {
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            state.paused = !state.over && !left.is_zero();
            if !state.paused {
                return !state.over;
            }
            state = self.changed.wait_timeout(state, left);
        }
    }
}

/// Reads the guest's picture until the end, as often as viewers ask for it. Without viewers, the thread sleeps.
pub fn run(video: &Handle<Video>, stage: &Stage, signal: &Signal) {
    let (mut situation, mut looks, mut late_looks) = (None, 0_u32, 0_u32);
    // When the whole picture is read again, reported or not.
    let mut whole: Option<Instant> = None;
    // What the guest writes, as long as nothing reports it, and the time until the next look at that.
    let (mut recording, mut patience) = (None, LOOK_RECORDED);
    let mut buffer = Vec::new();
    while signal.wait(whole, || stage.is_awaited()) {
        let begun = Instant::now();
        if stage.is_empty() {
            (whole, buffer, recording) = (None, Vec::new(), None);
            continue;
        }
        let Some(view) = video.update(Video::look) else {
            // There is only the last picture, or none, or a kernel that does not say when it draws.
            whole = begun.checked_add(LOOK_UNASKED).filter(|_| video.read(Video::is_early));
            stage.complete();
            continue;
        };
        if situation != Some(view.situation) {
            (situation, whole) = (Some(view.situation), Some(begun));
            (looks, late_looks, recording) = (LOOKS, LATE_LOOKS, None);
        }
        stage.resize(view.mode.width, view.mode.height);
        stage.point(view.pointer.clone());
        let screen = Rectangle::of_size(view.mode.width, view.mode.height);
        let written = recording.as_ref().and_then(|recording: &Recording| recording.lines(&view));
        if view.reports != Reports::No {
            recording = None;
        } else if written.is_none() {
            recording = Recording::start(&view);
            // What was written before is not recorded.
            whole = if recording.is_some() { Some(begun) } else { whole };
        }
        let changed = written.as_ref().is_some_and(|lines| !lines.is_empty());
        patience = if changed { LOOK_RECORDED } else { (2 * patience).min(LOOK_UNASKED) };
        let is_due = whole.is_some_and(|whole| whole <= begun);
        whole = whole.filter(|_| !is_due);
        let parts = if is_due && (looks > 0 || written.is_none()) {
            late_looks = if looks == 0 { late_looks.saturating_sub(1) } else { late_looks };
            looks = looks.saturating_sub(1);
            vec![screen]
        } else {
            parts(&[view.damage.as_slice(), &written.unwrap_or_default()].concat(), screen)
        };
        for part in parts {
            read(&view, part, stage, &mut buffer);
        }
        stage.complete();
        let next = match view.reports {
            _ if looks > 0 => Some(LOOK_AGAIN),
            Reports::No if recording.is_some() => Some(patience),
            Reports::No => Some(LOOK_UNASKED),
            Reports::Promised => (late_looks > 0).then_some(LOOK_UNASKED),
            Reports::Made => None,
        };
        whole = whole.or_else(|| begun.checked_add(next?));
        if !signal.pause(begun.checked_add(FRAME)) {
            return;
        }
    }
}

/// Returns what is to be read: what was drawn, or the whole screen if that is less than the parts together.
fn parts(damage: &[Rectangle], screen: Rectangle) -> Vec<Rectangle> {
    let cell = CELL as u32;
    // The stage compares cells of a line, so a part begins and ends with a cell.
    let aligned = |part: Rectangle| Rectangle {
        left: part.left / cell * cell,
        right: part.right.next_multiple_of(cell).min(screen.right),
        ..part
    };
    let parts: Vec<_> = damage.iter().filter_map(|part| part.common(screen)).map(aligned).collect();
    if parts.iter().map(|part| part.area()).sum::<u64>() >= screen.area() { vec![screen] } else { parts }
}

/// Reads a part of the guest's picture: at once if it may have scrolled, else one line of tiles at a time.
fn read(view: &View, part: Rectangle, stage: &Stage, buffer: &mut Vec<u8>) {
    let whole = stage.may_scroll(part.bottom - part.top);
    let mut top = part.top;
    while top < part.bottom {
        let bottom = if whole { part.bottom } else { (top / TILE * TILE + TILE).min(part.bottom) };
        let part = Rectangle { top, bottom, ..part };
        read_lines(view, part, buffer);
        if whole {
            stage.scroll(part, buffer);
        } else {
            stage.put(part, buffer);
        }
        top = bottom;
    }
}

/// Reads lines of the guest's picture. What is not memory is black.
fn read_lines(view: &View, part: Rectangle, lines: &mut Vec<u8>) {
    let length = (part.right - part.left) as usize * 4;
    lines.resize((part.bottom - part.top) as usize * length, 0);
    for (y, line) in (part.top..part.bottom).zip(lines.chunks_exact_mut(length)) {
        let offset = u64::from(y) * u64::from(view.mode.pitch) + u64::from(part.left) * 4;
        let address = view.first.checked_add(offset);
        if address.is_none_or(|address| view.memory.read_slice(line, GuestAddress(address)).is_err()) {
            line.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn rectangles_of_a_hostile_guest_cost_no_more_than_the_screen() {
        let screen = Rectangle::of_size(100, 100);
        let part = Rectangle { left: 17, top: 10, right: 20, bottom: 20 };
        let read = Rectangle { left: 16, right: 32, ..part };
        assert_eq!(parts(&[part, part], screen), [read, read]);
        let last = Rectangle { left: 96, right: 100, ..part };
        assert_eq!(parts(&[last], screen), [last]);
        let huge = Rectangle { left: 0, top: 0, right: u32::MAX, bottom: u32::MAX };
        assert_eq!(parts(&[huge; 64], screen), [screen]);
        let outside = Rectangle { left: 100, ..huge };
        let reversed = Rectangle { left: 50, top: 50, right: 40, bottom: 40 };
        assert_eq!(parts(&[outside, reversed], screen), []);
    }

    #[test]
    fn the_end_is_noticed_at_once() {
        let signal = Signal::default();
        signal.raise();
        assert!(signal.wait(None, || true));
        assert!(signal.wait(Some(Instant::now()), || true));
        assert!(signal.pause(Some(Instant::now())) && signal.pause(None));
        signal.end();
        assert!(!signal.wait(None, || true) && !signal.pause(Instant::now().checked_add(FRAME)));
    }

    #[test]
    fn nothing_is_read_before_somebody_awaits_it() {
        let (signal, is_awaited) = (Signal::default(), AtomicBool::new(false));
        signal.raise();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| signal.wait(None, || is_awaited.load(Ordering::Relaxed)));
            while !signal.state.lock().held {
                std::thread::yield_now();
            }
            signal.raise();
            assert!(!waits.is_finished());
            is_awaited.store(true, Ordering::Relaxed);
            signal.release();
            assert!(waits.join().unwrap());
        });
    }
}
