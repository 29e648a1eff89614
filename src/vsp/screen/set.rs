//! The devices behind a machine's screen.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::config::{DisplayOptions, ScreenSize, Viewers};
use super::vnc::address::VncAddress;
use super::vnc::server::{VncServer, Wiring};
use super::vnc::show::MAX_VIEWERS;
use crate::device::{AddError, Devices, Registration};
use crate::host::limited;
use crate::host::lock::Mutex;
use crate::host::records::advice_on_opening;
use crate::kvm::Vm;
use crate::vmbus::bus::VmBus;
use crate::vmbus::connection::OfferError;
use crate::vsp::keyboard::device::KeyboardDevice;
use crate::vsp::keyboard::protocol::{Facts as KeyboardFacts, KeyError, Keyboard};
use crate::vsp::mouse::device::MouseDevice;
use crate::vsp::mouse::gesture::Gesture;
use crate::vsp::mouse::protocol::{Facts as MouseFacts, Mouse, MouseError, coordinate};
use crate::vsp::pipe::provider::Handle;
use crate::vsp::video::device::VideoDevice;
use crate::vsp::video::early::Early;
use crate::vsp::video::lookout::{Lookout, Missing, Seen, Sight};
use crate::vsp::video::picture::{Picture, PictureFile};
use crate::vsp::video::protocol::Video;
use crate::vsp::video::view::Mode;

/// Time limit for the guest to read what is typed, without any progress.
const PATIENCE: Duration = Duration::from_secs(30);

/// The screen, the keyboard and the mouse of a machine.
///
/// Commands of the devices `keyboard`, `mouse` and `screen` do more, such as reading the text that is there: see
/// [`Machine::command`](crate::Machine::command).
pub struct Screen {
    name: String,
    video: Option<(Handle<Video>, Registration)>,
    input: Option<Input>,
    /// The file for the last picture, and its path.
    at_end: Option<(PathBuf, PictureFile)>,
    /// There is a server from the start on if viewers can connect to an address, and otherwise from the first viewer on.
    vnc: Mutex<Option<(VncServer, Registration)>>,
    devices: Devices,
    /// The text of a viewer's clipboard is typed.
    pastes: bool,
    /// The size of the screen before there is a driver.
    early: (u32, u32),
    is_over: AtomicBool,
}

struct Input {
    keyboard: Handle<Keyboard>,
    mouse: Handle<Mouse>,
    _joined: Vec<Registration>,
}

/// The reason why something cannot be done with a screen, its keyboard or its mouse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScreenError {
    /// The machine has no keyboard and no mouse.
    #[error("the machine has no keyboard and no mouse; give it --display none,input=on")]
    NoInput,
    /// The machine has no screen.
    #[error("the machine has no screen; give it --display on")]
    NoScreen,
    /// There is no screen, and the last picture is wanted.
    #[error("--screenshot-at-end needs a screen; give --display on, too")]
    NothingAtEnd,
    /// There is no VNC server.
    #[error("--display: {0}")]
    Vnc(String),
    /// The file for the last picture cannot be written.
    #[error("--screenshot-at-end {}: {why}", path.display())]
    AtEnd {
        /// The path.
        path: PathBuf,
        /// The reason, with a remedy.
        why: String,
    },
    /// VMBus refuses the device.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// A device of the name exists.
    #[error(transparent)]
    Add(#[from] AddError),
    /// There are too many viewers.
    #[error("{MAX_VIEWERS} viewers look at the screen already")]
    Crowded,
    /// The screen has no picture.
    #[error("the guest shows nothing on its screen: it has no driver for it, or has not loaded it yet")]
    NoPicture,
    /// The screen does not show what was waited for, and the time is over, or the machine has ended.
    #[error("{why}: {missing}")]
    NotSeen {
        /// The reason why the wait is over.
        why: String,
        /// What the screen shows instead.
        missing: String,
        /// The shown picture, darker, with the pixels in red that differ from the wanted one.
        difference: Option<Picture>,
    },
    /// The wanted picture cannot be read.
    #[error("{0}")]
    File(String),
    /// The settings of the screen are wrong.
    #[error("--display: {0}")]
    Settings(String),
    /// The host lacks a descriptor.
    #[error("the screen cannot be watched: {0}")]
    Host(String),
    /// The keyboard does not take the key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The mouse does not take the report.
    #[error(transparent)]
    Mouse(#[from] MouseError),
}

impl Screen {
    /// Offers the devices that the settings ask for, which join `devices`.
    ///
    /// # Errors
    /// Returns an error if one cannot be offered.
    pub(crate) fn new(
        name: &str,
        bus: &VmBus,
        options: &DisplayOptions,
        at_end: Option<PathBuf>,
        devices: &Devices,
    ) -> Result<Self, ScreenError> {
        let name = name.to_owned();
        let vnc = options.vnc().map_err(|error| ScreenError::Settings(error.into()))?;
        let mut video = None;
        if let Some(size) = options.size() {
            let screen = Handle::new(Video::new(size.width, size.height).telling(devices.outlet().clone()));
            let joined = devices.add(Arc::new(VideoDevice(screen.clone())))?;
            bus.offer_provider(Box::new(screen.vsp()))?;
            video = Some((screen, joined));
        }
        let early =
            options.size().map(ScreenSize::early).map_or((0, 0), |size| (size.width.into(), size.height.into()));
        if video.is_none() && at_end.is_some() {
            return Err(ScreenError::NothingAtEnd);
        }
        let at_end = at_end.map(open).transpose()?;
        let (devices, pastes, is_over) = (devices.clone(), options.pastes(), AtomicBool::new(false));
        let mut screen =
            Self { name, video, input: None, at_end, vnc: Mutex::default(), devices, pastes, early, is_over };
        let devices = &screen.devices;
        if options.has_input() {
            let (keyboard, mouse) = (Handle::new(Keyboard::new(options.layout())), Handle::new(Mouse::default()));
            let joined = vec![
                devices.add(Arc::new(KeyboardDevice(keyboard.clone())))?,
                devices.add(Arc::new(MouseDevice { mouse: mouse.clone(), video: video_of(&screen.video) }))?,
            ];
            bus.offer_provider(Box::new(keyboard.vsp()))?;
            bus.offer_provider(Box::new(mouse.vsp()))?;
            screen.input = Some(Input { keyboard, mouse, _joined: joined });
        }
        if let Some(Viewers { address, password, tls }) = vnc {
            let server = screen.serve(Some(address), password, tls)?;
            screen.vnc = Mutex::new(Some(server));
        }
        Ok(screen)
    }

    /// Begins a life of the guest. Its kernel was told to draw into memory from `early` on, with pixels of 32 bits and the size of the
    /// screen, or was not.
    pub(crate) fn begin_life(&self, partition: &Arc<Vm>, early: Option<u64>) {
        let Some((video, _)) = &self.video else { return };
        video.change(|video| {
            let writes: Weak<Vm> = Arc::downgrade(partition);
            video.record_by(writes);
            let memory = partition.memory();
            let early = early.map(|first| Early { memory: memory.clone(), first, size: self.early });
            video.begin(early);
        });
    }

    /// Starts a VNC server.
    fn serve(
        &self,
        address: Option<VncAddress>,
        password: Option<PathBuf>,
        tls: Option<(PathBuf, PathBuf)>,
    ) -> Result<(VncServer, Registration), ScreenError> {
        let (video, _) = self.video.as_ref().ok_or(ScreenError::NoScreen)?;
        let input = self.input.as_ref().map(|input| (input.keyboard.clone(), input.mouse.clone()));
        let wiring = Wiring {
            name: self.name.clone(),
            address,
            password,
            tls,
            video: video.clone(),
            input,
            pastes: self.pastes,
        };
        let server = VncServer::start(wiring).map_err(ScreenError::Vnc)?;
        let joined = self.devices.add(Arc::new(server.device()))?;
        Ok((server, joined))
    }

    /// Shows the screen to a viewer, a client of the control socket that speaks RFB after it was sent this head. If it
    /// `only_watches`, its keys, buttons and texts are dropped.
    ///
    /// # Errors
    /// Returns an error if there is no screen, if there are too many viewers, or if the host lacks threads.
    pub(crate) fn show_to(&self, viewer: UnixStream, head: &[u8], only_watches: bool) -> Result<(), ScreenError> {
        let mut vnc = self.vnc.lock();
        if self.is_over.load(Ordering::Relaxed) {
            return Err(ScreenError::NoPicture);
        }
        let (server, _) = match &mut *vnc {
            Some(server) => server,
            none => none.insert(self.serve(None, None, None)?),
        };
        server.let_in(viewer, head, only_watches).then_some(()).ok_or(ScreenError::Crowded)
    }

    fn input(&self) -> Result<&Input, ScreenError> {
        self.input.as_ref().ok_or(ScreenError::NoInput)
    }

    /// Returns what the screen shows.
    ///
    /// # Errors
    /// Returns an error if there is no screen, or nothing on it.
    pub fn picture(&self) -> Result<Picture, ScreenError> {
        let (video, _) = self.video.as_ref().ok_or(ScreenError::NoScreen)?;
        Ok(video.read(Video::view).ok_or(ScreenError::NoPicture)?.picture())
    }

    /// Returns width and height of what the screen shows, in pixels.
    ///
    /// # Errors
    /// Returns an error if there is no screen, or nothing on it.
    pub fn size(&self) -> Result<(u32, u32), ScreenError> {
        let (video, _) = self.video.as_ref().ok_or(ScreenError::NoScreen)?;
        let Mode { width, height, .. } = video.read(|video| video.facts().mode).ok_or(ScreenError::NoPicture)?;
        Ok((width, height))
    }

    /// Waits until the screen has this width and height. Each change of them is also an event of the device `screen`.
    ///
    /// # Errors
    /// Returns an error with the size that it has if that takes longer than `limit`, or if the machine ends.
    pub fn wait_for_size(&self, (width, height): (u32, u32), limit: Duration) -> Result<(), ScreenError> {
        self.wait_for(&Sight::Size(width, height), limit)
    }

    /// Waits until the screen shows a text in a font of the guest's kernel: in a line, or broken at the right edge. Lines of a
    /// text of several are separated by `\n`.
    ///
    /// # Errors
    /// Returns an error with the text that is there if that takes longer than `limit`, or if the machine ends.
    pub fn wait_for_text(&self, text: &str, limit: Duration) -> Result<(), ScreenError> {
        self.wait_for(&Sight::Text(text.into()), limit)
    }

    /// Waits until the screen shows the picture of a PNG file: each colour of each pixel differs by at most `tolerance`.
    ///
    /// # Errors
    /// Returns an error with the difference if that takes longer than `limit`, or if the machine ends.
    pub fn wait_for_picture(&self, file: &Path, tolerance: u8, limit: Duration) -> Result<(), ScreenError> {
        let wanted = Picture::open(file).map_err(|error| ScreenError::File(format!("{}: {error}", file.display())))?;
        self.wait_for(&Sight::Picture(wanted, tolerance), limit)
    }

    fn wait_for(&self, sight: &Sight, limit: Duration) -> Result<(), ScreenError> {
        let host = |error: std::io::Error| ScreenError::Host(error.to_string());
        let until = Instant::now().checked_add(limit);
        match self.lookout()?.map_err(host)?.wait_for(sight, until, None).map_err(host)? {
            Seen::Yes => Ok(()),
            Seen::Over(missing) => Err(not_seen("the machine has ended".into(), missing)),
            Seen::Late(missing) => Err(not_seen(format!("{} seconds are over", limit.as_secs_f32()), missing)),
            Seen::Interrupted => Err(ScreenError::Host("the wait was interrupted".into())),
        }
    }

    /// Starts to look at the screen.
    pub(crate) fn lookout(&self) -> Result<std::io::Result<Lookout>, ScreenError> {
        let (video, _) = self.video.as_ref().ok_or(ScreenError::NoScreen)?;
        Ok(Lookout::new(video))
    }

    /// Disconnects all viewers, and writes the last picture to its file, if that is wanted. The machine has ended.
    pub(crate) fn finish(&self) {
        let vnc = {
            let mut vnc = self.vnc.lock();
            self.is_over.store(true, Ordering::Relaxed);
            vnc.take()
        };
        drop(vnc);
        self.video.iter().for_each(|(video, _)| video.change(Video::end));
        let Some((path, file)) = &self.at_end else { return };
        let failed = |error: &dyn std::fmt::Display| {
            let (name, path) = (&self.name, path.display());
            limited::warn!(of: name, "{name}: the last picture is not written to {path}: {error}");
        };
        match self.picture() {
            Ok(picture) => file.save(&picture).unwrap_or_else(|error| failed(&error)),
            Err(error) => failed(&error),
        }
    }

    /// Types a text in the layout of the machine, and returns when the guest was sent all of it.
    ///
    /// # Errors
    /// Returns an error, and types nothing, if the layout lacks a character. Returns an error if the guest has no driver for the
    /// keyboard, or does not read it.
    pub fn type_text(&self, text: &str) -> Result<(), ScreenError> {
        let Input { keyboard, .. } = self.input()?;
        for stroke in keyboard.read(|keyboard| keyboard.strokes(text))? {
            let typed = keyboard.change_until(PATIENCE, |keyboard| match keyboard.type_stroke(stroke) {
                Ok(false) => None,
                Ok(true) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            });
            typed.unwrap_or(Err(KeyError::Full))?;
        }
        keyboard.change_until(PATIENCE, |keyboard| keyboard.is_done().then_some(())).ok_or(KeyError::Full)?;
        Ok(())
    }

    /// Presses keys, given by name, one after the other, and releases them in reverse: `ctrl+alt+delete`.
    ///
    /// # Errors
    /// Returns an error if there is no such key, or as [`type_text`](Self::type_text).
    pub fn press(&self, keys: &str) -> Result<(), ScreenError> {
        let Input { keyboard, .. } = self.input()?;
        Ok(keyboard.change(|keyboard| keyboard.press_named(keys))?)
    }

    /// Moves the pointer to a pixel of the screen, presses buttons there, and releases them: the sum of 1 (left), 2 (right), 4
    /// (middle), 8 (back) and 16 (forward). With 0, the pointer only moves.
    ///
    /// # Errors
    /// Returns an error if the screen shows nothing, or if the guest has no driver for the mouse, or does not read it.
    pub fn click(&self, at: (u32, u32), buttons: u8) -> Result<(), ScreenError> {
        self.gesture(&Gesture::click(at, buttons))
    }

    /// Moves the pointer to a pixel of the screen, presses buttons as [`click`](Self::click) does, moves it to another pixel in
    /// eight steps, and releases them.
    ///
    /// # Errors
    /// As [`click`](Self::click).
    pub fn drag(&self, from: (u32, u32), to: (u32, u32), buttons: u8) -> Result<(), ScreenError> {
        self.gesture(&Gesture::drag(from, to, buttons))
    }

    /// Moves the pointer to a pixel of the screen.
    ///
    /// # Errors
    /// As [`click`](Self::click).
    pub fn move_to(&self, at: (u32, u32)) -> Result<(), ScreenError> {
        self.gesture(&Gesture::move_to(at))
    }

    /// Moves the pointer to a pixel of the screen, and turns the wheel there: by notches away from the user, or towards the user if
    /// they are negative.
    ///
    /// # Errors
    /// As [`click`](Self::click).
    pub fn scroll(&self, at: (u32, u32), notches: i8) -> Result<(), ScreenError> {
        let Input { mouse, .. } = self.input()?;
        let (width, height) = self.size()?;
        let (x, y) = (coordinate(at.0, width), coordinate(at.1, height));
        Ok(mouse.change(|mouse| mouse.report(x, y, 0, notches))?)
    }

    fn gesture(&self, gesture: &Gesture) -> Result<(), ScreenError> {
        let Input { mouse, .. } = self.input()?;
        let size = self.size()?;
        Ok(mouse.change(|mouse| gesture.make(mouse, size))?)
    }

    /// Returns the status of keyboard and mouse, for the package's own tests.
    #[doc(hidden)]
    pub fn facts(&self) -> Option<(KeyboardFacts, MouseFacts)> {
        let Input { keyboard, mouse, .. } = self.input.as_ref()?;
        Some((keyboard.read(Keyboard::facts), mouse.read(Mouse::facts)))
    }
}

/// Opens the file for the last picture, so that a mistake shows before the guest runs.
fn open(path: PathBuf) -> Result<(PathBuf, PictureFile), ScreenError> {
    match PictureFile::open(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => {
            let why = match Errno::from_io_error(&error) {
                Some(errno) => format!("{error}; {}", advice_on_opening(errno)),
                None => error.to_string(),
            };
            Err(ScreenError::AtEnd { path, why })
        }
    }
}

fn not_seen(why: String, missing: Missing) -> ScreenError {
    let words = missing.to_string();
    let difference = match missing {
        Missing::Picture(difference) => Some(difference.picture),
        _ => None,
    };
    ScreenError::NotSeen { why, missing: words, difference }
}

fn video_of(video: &Option<(Handle<Video>, Registration)>) -> Option<Handle<Video>> {
    video.as_ref().map(|(video, _)| video.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let screen = |input| {
            let (name, devices, is_over) = ("m".into(), Devices::default(), AtomicBool::new(false));
            Screen {
                name,
                video: None,
                input,
                at_end: None,
                vnc: Mutex::default(),
                devices,
                pastes: false,
                early: (0, 0),
                is_over,
            }
        };
        let without = screen(None);
        assert_eq!(without.picture(), Err(ScreenError::NoScreen));
        assert_eq!(without.wait_for_text("a", Duration::ZERO), Err(ScreenError::NoScreen));
        let error = without.type_text("a").unwrap_err().to_string();
        assert_eq!(error, "the machine has no keyboard and no mouse; give it --display none,input=on");
        let (keyboard, mouse) = (Handle::new(Keyboard::default()), Handle::new(Mouse::default()));
        let screen = screen(Some(Input { keyboard, mouse, _joined: Vec::new() }));
        let error = screen.type_text("aä").unwrap_err().to_string();
        assert!(error.starts_with("no key of the layout us types `\\u{e4}`"), "{error}");
        assert_eq!(screen.type_text("a"), Err(ScreenError::Key(KeyError::NotReady)));
        assert_eq!(screen.press("ctrl+c"), Err(ScreenError::Key(KeyError::NotReady)));
        assert_eq!(screen.press("ctl+c"), Err(ScreenError::Key(KeyError::NoKey("ctl".into()))));
        assert_eq!([screen.move_to((0, 0)), screen.scroll((0, 0), 1)], [const { Err(ScreenError::NoScreen) }; 2]);
        assert_eq!(screen.size(), Err(ScreenError::NoScreen));
    }
}
