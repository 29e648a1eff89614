//! The thread that reads what the guest draws while somebody looks.

use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use super::stage::Stage;
use super::turn::TILE;
use crate::host::lock::{Condvar, Mutex};
use crate::vsp::pipe::provider::Handle;
use crate::vsp::video::damage::Rectangle;
use crate::vsp::video::protocol::{Reports, Video, View};

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

/// Wakes the scanner.
#[derive(Default)]
pub struct Signal {
    state: Mutex<Raised>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Raised {
    signalled: bool,
    over: bool,
}

impl Signal {
    /// There is something to read.
    pub fn raise(&self) {
        self.state.lock().signalled = true;
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.state.lock().over = true;
        self.changed.notify_all();
    }

    /// Waits until a time, or for a signal if `signals`. Returns `false` at the end.
    fn wait(&self, until: Option<Instant>, signals: bool) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.over {
                return false;
            }
            if signals && std::mem::take(&mut state.signalled) {
                return true;
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state),
                Some(Duration::ZERO) => return true,
                Some(left) => self.changed.wait_timeout(state, left),
            };
        }
    }
}

/// Reads the guest's picture until the end. Without viewers, the thread sleeps.
pub fn run(video: &Handle<Video>, stage: &Stage, signal: &Signal) {
    let (mut situation, mut looks, mut late_looks) = (None, 0_u32, 0_u32);
    // When the whole picture is read again, reported or not.
    let mut whole: Option<Instant> = None;
    while signal.wait(whole, true) {
        let begun = Instant::now();
        let view = if stage.is_empty() { None } else { video.update(Video::look) };
        let Some(view) = view else {
            // There is only the last picture, or none, or a kernel that does not say when it draws.
            let is_awaited = !stage.is_empty() && video.read(Video::is_early);
            whole = begun.checked_add(LOOK_UNASKED).filter(|_| is_awaited);
            stage.complete();
            continue;
        };
        if situation != Some(view.situation) {
            (situation, whole) = (Some(view.situation), Some(begun));
            (looks, late_looks) = (LOOKS, LATE_LOOKS);
        }
        stage.resize(view.mode.width, view.mode.height);
        stage.point(view.pointer.clone());
        let screen = Rectangle::of_size(view.mode.width, view.mode.height);
        if whole.is_some_and(|whole| whole <= begun) {
            late_looks = if looks == 0 { late_looks.saturating_sub(1) } else { late_looks };
            looks = looks.saturating_sub(1);
            whole = None;
            read(&view, screen, stage);
        } else {
            parts(&view.damage, screen).into_iter().for_each(|part| read(&view, part, stage));
        }
        stage.complete();
        let next = match view.reports {
            _ if looks > 0 => Some(LOOK_AGAIN),
            Reports::No => Some(LOOK_UNASKED),
            Reports::Promised => (late_looks > 0).then_some(LOOK_UNASKED),
            Reports::Made => None,
        };
        whole = whole.or_else(|| begun.checked_add(next?));
        if !signal.wait(begun.checked_add(FRAME), false) {
            return;
        }
    }
}

/// Returns what is to be read: what was drawn, or the whole screen if that is less than the parts together.
fn parts(damage: &[Rectangle], screen: Rectangle) -> Vec<Rectangle> {
    let parts: Vec<_> = damage.iter().filter_map(|part| part.common(screen)).collect();
    if parts.iter().map(|part| part.area()).sum::<u64>() >= screen.area() { vec![screen] } else { parts }
}

/// Reads a part of the guest's picture: at once if it may have scrolled, else one line of tiles at a time.
fn read(view: &View, part: Rectangle, stage: &Stage) {
    let width = part.right - part.left;
    let whole = stage.may_scroll(part.bottom - part.top);
    let mut top = part.top;
    while top < part.bottom {
        let bottom = if whole { part.bottom } else { (top / TILE * TILE + TILE).min(part.bottom) };
        let lines = lines(view, Rectangle { top, bottom, ..part });
        if whole {
            stage.scroll(Rectangle { top, bottom, ..part }, &lines);
        }
        stage.put(part.left, top, width, &lines);
        top = bottom;
    }
}

/// Reads lines of the guest's picture. What is not memory is black.
fn lines(view: &View, part: Rectangle) -> Vec<u8> {
    let width = part.right - part.left;
    let mut lines = vec![0; (part.bottom - part.top) as usize * width as usize * 4];
    for (y, line) in (part.top..part.bottom).zip(lines.chunks_exact_mut(width as usize * 4)) {
        let offset = u64::from(y) * u64::from(view.mode.pitch) + u64::from(part.left) * 4;
        let address = view.first.checked_add(offset);
        if address.is_none_or(|address| view.memory.read_slice(line, GuestAddress(address)).is_err()) {
            line.fill(0);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_of_a_hostile_guest_cost_no_more_than_the_screen() {
        let screen = Rectangle::of_size(100, 100);
        let part = Rectangle { left: 10, top: 10, right: 20, bottom: 20 };
        assert_eq!(parts(&[part, part], screen), [part, part]);
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
        assert!(signal.wait(None, true));
        assert!(signal.wait(Some(Instant::now()), true));
        signal.end();
        assert!(!signal.wait(None, true) && !signal.wait(None, false));
    }
}
