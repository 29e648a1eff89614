//! Waiting for what a screen shows.
//!
//! While somebody waits, the guest reports what it draws, as for viewers: the picture is read when it may have changed.

use std::cell::OnceCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::picture::{Difference, Picture};
use super::protocol::Video;
use super::text::Text;
use super::view::{Reports, View};
use crate::host::event::EventFd;
use crate::vsp::pipe::provider::Handle;

/// The minimum time between two looks.
const PACE: Duration = Duration::from_millis(100);
/// The time between looks at a guest that does not report what it draws.
const LOOK_UNASKED: Duration = Duration::from_millis(500);
/// The same for one that does: drivers draw without a report now and then.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A text in a font of the guest's kernel.
    Text(String),
    /// A picture. Each colour of each pixel differs by at most that.
    Picture(Picture, u8),
    /// A picture of this width and height.
    Size(u32, u32),
}

/// Picture of a screen. The pixels are read when they are needed.
struct Shown {
    view: View,
    picture: OnceCell<Picture>,
}

impl Shown {
    fn picture(&self) -> &Picture {
        self.picture.get_or_init(|| self.view.picture())
    }

    fn text(&self) -> Option<Text> {
        self.view.text(self.picture())
    }

    fn size(&self) -> (u32, u32) {
        (self.view.mode.width, self.view.mode.height)
    }
}

impl Sight {
    /// Returns `true` if the screen shows it.
    fn is_in(&self, shown: &Shown) -> bool {
        match self {
            Self::Text(wanted) => shown.text().is_some_and(|text| text.contains(wanted)),
            Self::Picture(wanted, tolerance) => shown.picture().resembles(wanted, *tolerance),
            Self::Size(width, height) => shown.size() == (*width, *height),
        }
    }

    /// Returns how what is shown differs from it.
    fn missing(&self, shown: Option<&Shown>) -> Missing {
        let Some(shown) = shown else { return Missing::Nothing };
        match self {
            Self::Text(wanted) => match shown.text() {
                Some(text) => Missing::Text { text: wanted.clone(), lines: text.lines() },
                None => Missing::Font { text: wanted.clone() },
            },
            Self::Picture(wanted, tolerance) => Missing::Picture(shown.picture().difference(wanted, *tolerance)),
            Self::Size(..) => Missing::Size(shown.size().0, shown.size().1),
        }
    }
}

/// What a screen shows instead of what was waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nothing at all.
    #[error("the guest shows nothing on its screen: it has no driver for it, or has not loaded it yet")]
    Nothing,
    /// Another text.
    #[error("the screen does not show `{text}`, but: {}", shortened(.lines))]
    Text {
        /// The expected text.
        text: String,
        /// The lines on the screen.
        lines: Vec<String>,
    },
    /// A text that cannot be read.
    #[error("the screen's text cannot be read, so `{text}` is not found: {NO_FONT}")]
    Font {
        /// The expected text.
        text: String,
    },
    /// Another picture.
    #[error("the screen does not show the picture: {0}")]
    Picture(Difference),
    /// A picture of another size.
    #[error("the screen has {0}x{1} pixels")]
    Size(u32, u32),
}

/// Why no text can be read.
pub const NO_FONT: &str = "the guest's memory has no font of Linux's console; wait for a picture instead";

/// Maximum number of lines in a message: the last ones.
const MAX_LINES: usize = 8;

fn shortened(lines: &[String]) -> String {
    match lines {
        [] => "no text".into(),
        [.., _] => lines[lines.len().saturating_sub(MAX_LINES)..].join("\n"),
    }
}

/// The end of a wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The screen shows it.
    Yes,
    /// The time is over.
    Late(Missing),
    /// The machine has ended, and its last picture does not show it.
    Over(Missing),
    /// The other descriptor has something to read.
    Interrupted,
}

/// Looks at a screen each time that it may have changed.
pub struct Lookout {
    video: Handle<Video>,
    number: u64,
    changed: Arc<EventFd>,
}

impl Lookout {
    /// Starts to look.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn new(video: &Handle<Video>) -> io::Result<Self> {
        let changed = Arc::new(EventFd::new()?);
        let signalled = changed.clone();
        let number = video.change(|video| video.watch(Box::new(move || signalled.signal())));
        Ok(Self { video: video.clone(), number, changed })
    }

    /// Waits until the screen shows it, until a time, or until there is something to read from `other`.
    ///
    /// # Errors
    /// Returns the error of a system call.
    pub fn wait_for(&self, sight: &Sight, until: Option<Instant>, other: Option<BorrowedFd<'_>>) -> io::Result<Seen> {
        loop {
            let begun = Instant::now();
            self.changed.take();
            // In this order: what is over does not change any more.
            let (is_over, is_early, view) = self.video.read(|video| (video.is_over(), video.is_early(), video.view()));
            let shown = view.map(|view| Shown { view, picture: OnceCell::new() });
            if shown.as_ref().is_some_and(|shown| sight.is_in(shown)) {
                return Ok(Seen::Yes);
            }
            if is_over {
                return Ok(Seen::Over(sight.missing(shown.as_ref())));
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(Seen::Late(sight.missing(shown.as_ref())));
            }
            // A guest that shows nothing says when it does, unless it has no driver.
            let again = shown.map(|shown| if shown.view.reports == Reports::No { LOOK_UNASKED } else { LOOK_AGAIN });
            let again = again.or(is_early.then_some(LOOK_UNASKED));
            let again = again.and_then(|again| begun.checked_add(again));
            let wakes = [again, until].into_iter().flatten().min();
            let pause = begun.checked_add(PACE).into_iter().chain(until).min();
            if sleep(pause, None, other)? || sleep(wakes, Some(&self.changed), other)? {
                return Ok(Seen::Interrupted);
            }
        }
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.video.change(|video| video.unwatch(self.number));
    }
}

/// Sleeps until a time or a signal. Returns `true` if there is something to read from the other descriptor.
fn sleep(until: Option<Instant>, signal: Option<&EventFd>, other: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut polled: Vec<_> = other.iter().map(|other| PollFd::new(other, PollFlags::IN)).collect();
        polled.extend(signal.map(|signal| PollFd::new(signal, PollFlags::IN)));
        match poll(&mut polled, left.as_ref()) {
            Ok(_) => return Ok(other.is_some() && polled.first().is_some_and(|first| !first.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::GuestMemory;
    use crate::vsp::video::early::Early;
    use crate::vsp::video::testing::{HEIGHT, VRAM, WIDTH, showing};

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(60))
    }

    fn black() -> Picture {
        Picture::of(WIDTH, HEIGHT, |_, _| [0; 3])
    }

    fn white_dot(memory: &GuestMemory) {
        memory.write_slice(&[0xff; 4], GuestAddress(VRAM)).unwrap();
    }

    #[test]
    fn what_is_there_is_seen_at_once_and_what_comes_when_it_comes() {
        let (video, memory) = showing();
        let lookout = Lookout::new(&video).unwrap();
        assert!(video.read(Video::facts).watched);
        assert_eq!(lookout.wait_for(&Sight::Picture(black(), 0), None, None).unwrap(), Seen::Yes);
        let dotted = Picture::of(WIDTH, HEIGHT, |x, y| if (x, y) == (0, 0) { [0xff; 3] } else { [0; 3] });
        let seen = thread::scope(|scope| {
            let waits = scope.spawn(|| lookout.wait_for(&Sight::Picture(dotted, 0), soon(), None).unwrap());
            white_dot(&memory);
            waits.join().unwrap()
        });
        assert_eq!(seen, Seen::Yes);
        drop(lookout);
        assert!(!video.read(Video::facts).watched);
    }

    #[test]
    fn what_a_kernel_draws_without_a_driver_is_found_by_looking_again() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(VRAM), 0x1_0000)]).unwrap();
        let video = Handle::new(Video::new(64, 64));
        video.change(|video| video.begin(Some(Early { memory: memory.clone(), first: VRAM, size: (64, 64) })));
        let lookout = Lookout::new(&video).unwrap();
        let dotted = Picture::of(64, 64, |x, y| if (x, y) == (0, 0) { [0xff; 3] } else { [0; 3] });
        let seen = thread::scope(|scope| {
            let waits = scope.spawn(|| lookout.wait_for(&Sight::Picture(dotted, 0), soon(), None).unwrap());
            white_dot(&memory);
            waits.join().unwrap()
        });
        assert_eq!(seen, Seen::Yes);
    }

    #[test]
    fn who_waits_in_vain_learns_what_there_is_instead() {
        let (video, memory) = showing();
        white_dot(&memory);
        let lookout = Lookout::new(&video).unwrap();
        let now = Some(Instant::now());
        let Seen::Late(missing) = lookout.wait_for(&Sight::Picture(black(), 254), now, None).unwrap() else { panic!() };
        assert_eq!(missing.to_string(), "the screen does not show the picture: 1 pixels differ, the first at 0, 0");
        let Seen::Late(missing) = lookout.wait_for(&Sight::Text("login:".into()), now, None).unwrap() else { panic!() };
        let why = missing.to_string();
        assert!(
            why.starts_with("the screen's text cannot be read, so `login:` is not found: ") && why.ends_with(NO_FONT),
            "{why}"
        );
        assert_eq!(lookout.wait_for(&Sight::Size(WIDTH, HEIGHT), now, None).unwrap(), Seen::Yes);
        let other = lookout.wait_for(&Sight::Size(WIDTH, HEIGHT + 1), now, None).unwrap();
        assert_eq!(other, Seen::Late(Missing::Size(WIDTH, HEIGHT)));
        let nothing = Handle::new(Video::new(64, 64));
        let lookout = Lookout::new(&nothing).unwrap();
        assert_eq!(lookout.wait_for(&Sight::Text("a".into()), now, None).unwrap(), Seen::Late(Missing::Nothing));
    }

    #[test]
    fn the_end_of_the_machine_and_a_client_that_leaves_end_the_wait() {
        let (video, _memory) = showing();
        let lookout = Lookout::new(&video).unwrap();
        let sight = Sight::Text("login:".into());
        let (client, other) = UnixStream::pair().unwrap();
        drop(client);
        assert_eq!(lookout.wait_for(&sight, None, Some(other.as_fd())).unwrap(), Seen::Interrupted);
        let seen = thread::scope(|scope| {
            let waits = scope.spawn(|| lookout.wait_for(&sight, None, None).unwrap());
            video.change(Video::end);
            waits.join().unwrap()
        });
        assert!(matches!(seen, Seen::Over(Missing::Font { .. })), "{seen:?}");
        assert_eq!(lookout.wait_for(&Sight::Picture(black(), 0), None, None).unwrap(), Seen::Yes, "it is still there");
    }
}
