//! The state that the threads of a server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::address::VncAddress;
use super::password::Password;
use super::scanner::Signal;
use super::stage::Stage;
use super::tls::Tls;
use super::turn::SizeAnswer;
use crate::host::limited;
use crate::host::lock::Mutex;
use crate::vsp::keyboard::protocol::Keyboard;
use crate::vsp::mouse::protocol::Mouse;
use crate::vsp::pipe::provider::Handle;
use crate::vsp::video::protocol::{Preferred, Video};

/// Maximum number of viewers at the same time. Others are refused.
pub const MAX_VIEWERS: usize = 16;

/// The screen and the input devices, as viewers use them.
pub struct Show {
    /// Name of the machine.
    pub name: String,
    /// The address of the server, if it listens.
    pub address: Option<VncAddress>,
    /// The password that viewers need.
    pub password: Option<Password>,
    /// The encryption of their connections.
    pub tls: Option<Tls>,
    /// The picture.
    pub stage: Stage,
    /// The guest's keyboard and mouse, if it has them.
    pub input: Option<(Handle<Keyboard>, Handle<Mouse>)>,
    /// The text of a viewer's clipboard is typed.
    pub pastes: bool,
    /// Number of viewers that were refused: too many, or a wrong password.
    pub refused: AtomicU64,
    /// The screen.
    pub video: Handle<Video>,
    /// Wakes the scanner.
    pub signal: Arc<Signal>,
    /// The number of the watch of the screen while there is a viewer. Held while viewers come and go, so that the guest is told in
    /// the right order.
    pub watch: Mutex<Option<u64>>,
}

/// A viewer's place. It leaves when this is dropped.
pub struct Seat<'a> {
    show: &'a Show,
    /// Its number.
    pub number: u64,
    /// The size of the screen when it came.
    pub size: (u32, u32),
}

impl Show {
    /// Adds a viewer. The guest reports what it draws while there is one. Returns `None` if there are too many.
    pub fn enter(&self) -> Option<Seat<'_>> {
        let mut watch = self.watch.lock();
        if self.stage.viewers() >= MAX_VIEWERS {
            return None;
        }
        let is_first = self.stage.is_empty();
        // Without viewers, the guest's changes were not followed.
        if let Some(mode) = self.video.read(|video| video.facts().mode).filter(|_| is_first) {
            self.stage.resize(mode.width, mode.height);
        }
        // The scanner finds the whole picture drawn when it finds the viewer.
        if is_first {
            let signal = self.signal.clone();
            *watch = Some(self.video.change(|video| video.watch(Box::new(move || signal.raise()))));
        }
        let (number, size) = self.stage.enter();
        self.signal.raise();
        Some(Seat { show: self, number, size })
    }

    /// Tells the guest that a viewer wants this size, if that is possible. Returns the answer to the viewer.
    pub fn ask_for_size(&self, width: u16, height: u16, screens: u8) -> SizeAnswer {
        if screens != 1 || width == 0 || height == 0 {
            return SizeAnswer::WrongLayout;
        }
        match self.video.change(|video| video.prefer(width, height)) {
            _ if self.stage.size() == (width.into(), height.into()) => SizeAnswer::Done,
            Preferred::Told => SizeAnswer::Forwarded,
            Preferred::TooLarge => SizeAnswer::TooLarge,
            Preferred::Deaf => SizeAnswer::Prohibited,
        }
    }

    /// Counts and reports a viewer that is refused.
    pub fn refuse(&self, why: &str) {
        let name = &self.name;
        self.refused.fetch_add(1, Ordering::Relaxed);
        limited::warn!(of: name, "{name}: a viewer of the screen is refused: {why}");
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut watch = self.show.watch.lock();
        if self.show.stage.leave(self.number)
            && let Some(number) = watch.take()
        {
            self.show.video.change(|video| video.unwatch(number));
            // The scanner's memory is no longer needed.
            self.show.signal.raise();
            self.show.signal.release();
        }
    }
}
