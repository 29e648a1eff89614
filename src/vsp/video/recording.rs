//! What has changed on a screen where nothing reports it, by the pages that the guest has written.

use std::ops::Range;
use std::sync::Weak;

use super::damage::Rectangle;
use super::view::View;
use super::writes::Writes;
use crate::host::limited;

/// The size of a page.
const PAGE: u64 = 4096;

/// A recording, until it is dropped. It does not keep the machine.
pub struct Recording(Weak<dyn Writes>);

impl Recording {
    /// Begins to record what is written from now on. Returns `None` if the view's memory is not the screen's own, or if it is not
    /// possible.
    pub fn start(view: &View) -> Option<Self> {
        let writes = view.writes.as_ref()?;
        let recorder = writes.upgrade().filter(|recorder| lies_in(view, &recorder.memory()))?;
        match recorder.record(true) {
            Ok(()) => Some(Self(writes.clone())),
            Err(error) => {
                limited::warn!("what the guest draws is not recorded, and so seen later: {error}");
                None
            }
        }
    }

    /// Returns the lines of the view that were written since the last call. Returns `None` if that is not known.
    pub fn lines(&self, view: &View) -> Option<Vec<Rectangle>> {
        let recorder = self.0.upgrade()?;
        let memory = recorder.memory();
        if !lies_in(view, &memory) {
            return None;
        }
        let pages = recorder.take().ok()?;
        Some(lines(view, memory.start, &pages))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(recorder) = self.0.upgrade() {
            // If it goes on, that costs the guest some time, and nothing else.
            let _ = recorder.record(false);
        }
    }
}

/// Returns the number of bytes of a line.
fn length(view: &View) -> u64 {
    4 * u64::from(view.mode.width)
}

/// Returns the address of a line.
fn start(view: &View, line: u32) -> u64 {
    view.first.saturating_add(u64::from(line) * u64::from(view.mode.pitch))
}

/// Returns `true` if each pixel of a view is in this memory.
fn lies_in(view: &View, memory: &Range<u64>) -> bool {
    let last = start(view, view.mode.height.saturating_sub(1));
    view.first >= memory.start && last.saturating_add(length(view)) <= memory.end
}

/// Returns the lines of a view that have a part in written pages of the memory that begins at `origin`.
fn lines(view: &View, origin: u64, pages: &[u64]) -> Vec<Rectangle> {
    let is_written = |page: u64| pages.get((page / 64) as usize).is_some_and(|bits| bits >> (page % 64) & 1 != 0);
    let mut parts: Vec<Rectangle> = Vec::new();
    for y in 0..view.mode.height {
        let offset = start(view, y).saturating_sub(origin);
        let last = offset + length(view).saturating_sub(1);
        if !(offset / PAGE..=last / PAGE).any(is_written) {
            continue;
        }
        match parts.last_mut().filter(|last| last.bottom == y) {
            Some(last) => last.bottom = y + 1,
            None => parts.push(Rectangle { left: 0, top: y, right: view.mode.width, bottom: y + 1 }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::lock::Mutex;
    use crate::vsp::video::protocol::Video;
    use crate::vsp::video::testing::{HEIGHT, VRAM, WIDTH, showing};

    /// A recorder of this memory, with the pages that are written next, and whether it records.
    struct Recorder(Range<u64>, Mutex<(Vec<u64>, bool)>);

    impl Writes for Recorder {
        fn memory(&self) -> Range<u64> {
            self.0.clone()
        }

        fn record(&self, on: bool) -> Result<(), String> {
            self.1.lock().1 = on;
            Ok(())
        }

        fn take(&self) -> Result<Vec<u64>, String> {
            Ok(std::mem::take(&mut self.1.lock().0))
        }
    }

    fn view_with(memory: Range<u64>) -> (View, Arc<Recorder>) {
        let recorder = Arc::new(Recorder(memory, Mutex::default()));
        let writes: Arc<dyn Writes> = recorder.clone();
        let (video, _memory) = showing();
        video.change(|video| video.record_by(Arc::downgrade(&writes)));
        (video.update(Video::look).unwrap(), recorder)
    }

    #[test]
    fn written_lines_are_found_once_and_the_recording_ends() {
        let (view, recorder) = view_with(VRAM - PAGE..VRAM + 16 * PAGE);
        let recording = Recording::start(&view).unwrap();
        assert!(recorder.1.lock().1);
        assert_eq!(recording.lines(&view), Some(vec![]));
        recorder.1.lock().0 = vec![1];
        assert_eq!(recording.lines(&view), Some(vec![]), "the page before the picture");
        recorder.1.lock().0 = vec![u64::MAX];
        assert_eq!(recording.lines(&view), Some(vec![Rectangle::of_size(WIDTH, HEIGHT)]));
        assert_eq!(recording.lines(&view), Some(vec![]));
        drop(recording);
        assert!(!recorder.1.lock().1);
    }

    #[test]
    fn a_page_is_the_lines_that_begin_end_or_lie_in_it() {
        let (mut view, _recorder) = view_with(0..1 << 40);
        (view.first, view.mode.width, view.mode.height, view.mode.pitch) = (2 * PAGE + 96, 256, 12, 1024);
        let lines_of = |page: u64| lines(&view, 0, &[1 << page]);
        let part = |top, bottom| vec![Rectangle { left: 0, top, right: 256, bottom }];
        assert_eq!([lines_of(2), lines_of(3), lines_of(5)], [part(0, 4), part(3, 8), part(11, 12)]);
        assert_eq!([lines_of(1), lines_of(6)], [vec![], vec![]]);
    }

    #[test]
    fn other_memory_is_not_recorded() {
        let (view, recorder) = view_with(VRAM + PAGE..VRAM + 16 * PAGE);
        assert!(Recording::start(&view).is_none() && !recorder.1.lock().1);
        let (mut view, recorder) = view_with(VRAM..VRAM + 16 * PAGE);
        let recording = Recording::start(&view).unwrap();
        view.first = u64::MAX - 10;
        assert_eq!(recording.lines(&view), None);
        view.first = VRAM;
        drop(recorder);
        assert_eq!(recording.lines(&view), None, "the machine is gone");
    }
}
