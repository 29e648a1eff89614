//! Synthetic video as a state machine.
//!
//! The guest chooses an address for the screen's memory, then a situation: size, depth and place of the picture. The host reads the
//! picture from guest memory on request. No message of the guest causes a write, and addresses without memory are black.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use zerocopy::IntoBytes;

use super::damage::{Damage, Rectangle};
use super::early::Early;
use super::pointer::{Look, Pointer};
use super::sizes::Sizes;
use super::text::Fonts;
use super::view::{Mode, Reports, View};
use super::wire::{
    BiosInfo, Capabilities, Dirt, EDID, FeatureChange, Header, MessageType, Resolution, SituationUpdate,
    VersionResponse, VideoVersion, VramLocation, read,
};
use super::writes::Writes;
use crate::boot::layout::{LARGE_VIDEO_MEMORY, VIDEO_MEMORY};
use crate::device::Outlet;
use crate::memory::GuestMemory;
use crate::vmbus::vsp::Offer;
use crate::vsp::pipe::State;
use crate::vsp::pipe::provider::Protocol;
use crate::vsp::pipe::wire::{unwrap, wrap};
use crate::wire::guid::{Guid, interface};

/// Maximum number of answers that wait for room in the ring. A driver that keeps the protocol awaits one at a time.
const MAX_ANSWERS: usize = 16;
/// The status of the screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The state of the channel.
    pub state: State,
    /// The version, as `MAJOR.MINOR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The address of the screen's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram_address: Option<u64>,
    /// The picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Number of times that the screen has become another one, or may have: of situations, and of kernels that began.
    pub situations: u64,
    /// Number of situations that the host does not show: wrong depth, size or pitch.
    pub refused_modes: u64,
    /// There is a viewer, so the guest reports what it draws.
    pub watched: bool,
    /// Number of rectangles that the guest has drawn.
    pub drawn: u64,
    /// Number of invalid messages of the guest.
    pub unknown: u64,
}

/// The screen.
pub struct Video {
    sizes: Sizes,
    state: State,
    version: Option<VideoVersion>,
    vram: Option<u64>,
    mode: Option<Mode>,
    /// The number of situations so far: a new one may be another picture.
    situations: u64,
    /// The driver that negotiated has set one.
    has_situation: bool,
    damage: Damage,
    reports: Reports,
    /// The last FEATURE_CHANGE to the driver.
    told_features: Option<(FeatureChange, Resolution)>,
    /// Those who look, by number.
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
    /// The machine has ended.
    over: bool,
    pointer: Pointer,
    answers: Vec<Vec<u8>>,
    memory: Option<GuestMemory>,
    /// The screen of a kernel without a driver, until a driver sets a situation.
    early: Option<Early>,
    fonts: Arc<Fonts>,
    /// Of this life of the guest.
    writes: Option<Weak<dyn Writes>>,
    /// Takes the events of the screen.
    outlet: Outlet,
    /// The size in the last event, and when the next may be.
    told: Option<(u32, u32)>,
    next_told: Duration,
    refused_modes: u64,
    drawn: u64,
    unknown: u64,
}

/// The outcome for a size that a viewer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preferred {
    /// The guest has been told.
    Told,
    /// The screen is never as large.
    TooLarge,
    /// The guest has no driver that can be told.
    Deaf,
}

/// Called when there is something new to see.
type Watcher = Box<dyn Fn() + Send>;

impl Video {
    /// Creates a screen of this size.
    pub fn new(width: u16, height: u16) -> Self {
        Self {
            sizes: Sizes::new(width, height),
            state: State::Closed,
            version: None,
            vram: None,
            mode: None,
            situations: 0,
            has_situation: false,
            damage: Damage::default(),
            reports: Reports::No,
            told_features: None,
            watchers: BTreeMap::new(),
            next_watcher: 0,
            over: false,
            pointer: Pointer::default(),
            answers: Vec::new(),
            memory: None,
            early: None,
            fonts: Arc::default(),
            writes: None,
            outlet: Outlet::default(),
            told: None,
            next_told: Duration::ZERO,
            refused_modes: 0,
            drawn: 0,
            unknown: 0,
        }
    }

    /// Returns it with an outlet, which takes its events.
    pub fn telling(self, outlet: Outlet) -> Self {
        Self { outlet, ..self }
    }

    /// Returns the size that a driver has set, unless there has been an event of it.
    fn untold(&self) -> Option<(u32, u32)> {
        let size = self.mode.map(|mode| (mode.width, mode.height));
        size.filter(|size| self.told != Some(*size))
    }

    /// Returns the status.
    pub fn facts(&self) -> Facts {
        let Self { state, vram, situations, refused_modes, drawn, unknown, .. } = *self;
        let mode = self.mode.or_else(|| self.drawn_early().map(Mode::of_early));
        let version = self.version.map(|version| format!("{}.{}", version.major(), version.minor()));
        let watched = !self.watchers.is_empty();
        Facts { state, version, vram_address: vram, mode, situations, refused_modes, watched, drawn, unknown }
    }

    /// Returns the size of the settings, which is the largest.
    pub fn size(&self) -> (u32, u32) {
        (self.sizes.largest.width.into(), self.sizes.largest.height.into())
    }

    /// Begins a life of the guest, whose kernel can draw a picture before it has a driver, or cannot.
    pub fn begin(&mut self, early: Option<Early>) {
        self.early = early;
        self.situations += 1;
        self.reports = Reports::No;
        self.announce();
    }

    /// Sets what records the writes of this life of the guest.
    pub fn record_by(&mut self, writes: Weak<dyn Writes>) {
        self.writes = Some(writes);
    }

    /// Returns `true` if the guest may draw without a message, so that only looking again shows it.
    pub fn is_early(&self) -> bool {
        self.mode.is_none() && self.early.is_some()
    }

    fn drawn_early(&self) -> Option<&Early> {
        self.early.as_ref().filter(|early| self.mode.is_none() && early.is_drawn())
    }

    /// Requests reports of what the guest draws, and calls `watcher` after each, until [`unwatch`](Self::unwatch) with the number
    /// that this returns.
    pub fn watch(&mut self, watcher: Watcher) -> u64 {
        let is_first = self.watchers.is_empty();
        self.next_watcher += 1;
        self.watchers.insert(self.next_watcher, watcher);
        self.watchers_changed(is_first);
        self.next_watcher
    }

    /// Ends a [`watch`](Self::watch).
    pub fn unwatch(&mut self, number: u64) {
        let was_there = self.watchers.remove(&number).is_some();
        self.watchers_changed(was_there && self.watchers.is_empty());
    }

    /// Tells the guest whether it is to report what it draws, if that has changed.
    fn watchers_changed(&mut self, changed: bool) {
        if let Some(mode) = self.mode {
            self.damage.set(Rectangle::of_size(mode.width, mode.height));
        }
        if changed {
            self.features_changed();
        }
    }

    /// Tells the guest what the host wants now.
    fn features_changed(&mut self) {
        // If too many answers wait for room in the ring, the guest is told after its next situation.
        if self.has_situation && self.answers.len() < MAX_ANSWERS / 2 {
            let _ = self.tell_features();
        }
    }

    /// Tells the guest that a viewer wants this size.
    pub fn prefer(&mut self, width: u16, height: u16) -> Preferred {
        if !self.sizes.has(width, height) {
            return Preferred::TooLarge;
        }
        if !self.has_situation || !self.version.is_some_and(VideoVersion::has_preferred_size) {
            return Preferred::Deaf;
        }
        self.sizes.preferred = Resolution { width, height };
        self.features_changed();
        Preferred::Told
    }

    /// Notes that the machine has ended: the picture does not change any more.
    pub fn end(&mut self) {
        self.over = true;
        self.announce();
    }

    /// Returns `true` if the machine has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Returns the visible picture, and clears the damage. Returns `None` if the guest shows nothing.
    pub fn look(&mut self) -> Option<View> {
        let mut view = self.view()?;
        view.damage = self.damage.take();
        Some(view)
    }

    /// Returns the visible picture without its damage. Returns `None` if the guest shows nothing.
    pub fn view(&self) -> Option<View> {
        let (memory, first, mode) = match self.mode {
            Some(mode) => (self.memory.clone()?, self.vram?.checked_add(mode.offset.into())?, mode),
            None => self.drawn_early().map(|early| (early.memory.clone(), early.first, Mode::of_early(early)))?,
        };
        let (situation, reports) = (self.situations, self.reports);
        let (pointer, writes, fonts) = (self.pointer.look(), self.writes.clone(), self.fonts.clone());
        Some(View { memory, first, mode, situation, reports, damage: Vec::new(), pointer, writes, fonts })
    }

    fn announce(&self) {
        self.watchers.values().for_each(|watcher| watcher());
    }

    fn answer(&mut self, message_type: MessageType, parts: &[&[u8]]) -> Result<(), String> {
        if self.answers.len() >= MAX_ANSWERS {
            return Err("the guest asks much and reads no answers".into());
        }
        let length = size_of::<Header>() + parts.iter().map(|part| part.len()).sum::<usize>();
        let header = Header { message_type, length: length as u32 };
        self.answers.push(wrap(&[&[header.as_bytes()][..], parts].concat()));
        Ok(())
    }

    fn negotiate(&mut self, version: u32) -> Result<(), String> {
        let version = VideoVersion(version);
        self.start_over(if version.is_known() { State::Ready } else { State::Negotiating });
        self.version = version.is_known().then_some(version);
        let accepted = match version.minor() {
            _ if !version.is_known() => VersionResponse::REFUSED,
            0 | 1 => VersionResponse::ACCEPTED,
            _ => VersionResponse::ACCEPTED_WITH_EXCHANGE,
        };
        let response = VersionResponse { version: version.0.into(), accepted, outputs: 1 };
        self.answer(MessageType::VERSION_RESPONSE, &[response.as_bytes()])
    }

    fn set_situation(&mut self, update: &SituationUpdate) -> Result<(), String> {
        let SituationUpdate { context, outputs, output } = *update;
        self.mode = if outputs == 0 || output.active == 0 { None } else { Mode::new(&output) };
        self.refused_modes += u64::from(outputs != 0 && output.active != 0 && self.mode.is_none());
        self.answer(MessageType::SITUATION_UPDATE_ACK, &[context.as_bytes()])?;
        self.situations += 1;
        self.has_situation = true;
        self.early = None;
        // A driver that has been asked for reports goes on with them, but draws the first picture without one.
        self.reports = if self.reports == Reports::No { Reports::No } else { Reports::Promised };
        if let Some(mode) = self.mode {
            self.damage.set(Rectangle::of_size(mode.width, mode.height));
        }
        self.announce();
        // hyperv_fb answers each FEATURE_CHANGE with a situation, and would do so without end.
        if self.told_features == Some(self.features()) { Ok(()) } else { self.tell_features() }
    }

    /// Returns what the host wants: reports of what the guest draws, and of its pointer, if somebody looks. Screenshots need none.
    fn features(&self) -> (FeatureChange, Resolution) {
        let watched = (!self.watchers.is_empty()).into();
        let features = FeatureChange { dirt: watched, pointer_position: watched, pointer_shape: watched, situation: 1 };
        (features, self.sizes.preferred)
    }

    /// Sends `FEATURE_CHANGE`. Newer guests are also sent the size that a viewer wants.
    fn tell_features(&mut self) -> Result<(), String> {
        let (features, preferred) = self.features();
        let edid = self.sizes.edid();
        let has_size = self.version.is_some_and(VideoVersion::has_preferred_size);
        self.answer(MessageType::FEATURE_CHANGE, &[features.as_bytes(), if has_size { &edid } else { &[] }])?;
        self.told_features = Some((features, preferred));
        Ok(())
    }

    /// Notes what the guest has drawn.
    fn take_dirt(&mut self, dirt: &[u8]) {
        for at in dirt.chunks_exact(size_of::<Dirt>()) {
            let Some(Dirt { left, top, right, bottom }) = read(at) else { continue };
            let from_zero = |at: i32| u32::try_from(at).unwrap_or(0);
            let (left, top, right, bottom) = (from_zero(left), from_zero(top), from_zero(right), from_zero(bottom));
            self.damage.add(Rectangle { left, top, right, bottom });
            self.drawn += 1;
        }
        self.reports = Reports::Made;
        self.announce();
    }

    /// Notes a message about the pointer, and announces a pointer that looks otherwise.
    fn point(&mut self, before: &Look) {
        // Linux sends one when it is asked for reports. So it will report what it draws, which may be nothing for a long time.
        if self.reports == Reports::No && self.has_situation && !self.watchers.is_empty() {
            self.reports = Reports::Promised;
        }
        if self.pointer.look() != *before {
            self.announce();
        }
    }

    fn start_over(&mut self, state: State) {
        self.state = state;
        self.pointer = Pointer::default();
        // It may be another kernel.
        self.fonts = Arc::default();
        (self.version, self.vram, self.mode) = (None, None, None);
        self.sizes.preferred = self.sizes.largest;
        self.has_situation = false;
        (self.reports, self.told_features) = (Reports::No, None);
        self.answers.clear();
        self.announce();
    }
}

impl Protocol for Video {
    const NAME: &'static str = "the screen";
    /// That of a list of all resolutions.
    const MAX_PACKET: usize = 16 + EDID + 3 + 4 * 16;

    fn offer(&self) -> Offer {
        let offer = Offer::pipe(interface::VIDEO, Guid::new(0x5620e0c7_8062_4dce_aeb7_520c7ef76171));
        let (width, height) = self.size();
        let needed = 4 * u64::from(width) * u64::from(height);
        let memory = if needed > SMALL { LARGE_VIDEO_MEMORY } else { needed.next_multiple_of(1 << 20).max(LEAST) };
        Offer { mmio_megabytes: (memory >> 20) as u16, ..offer }
    }

    fn attach(&mut self, memory: &GuestMemory) {
        self.memory = Some(memory.clone());
    }

    fn opened(&mut self) {
        self.start_over(State::Negotiating);
    }

    /// The picture stays to be seen: a guest that powers off closes its channel first. The next kernel (kexec) may draw there before it
    /// has a driver, and does not report it.
    fn closed(&mut self) {
        self.state = State::Closed;
        self.has_situation = false;
        self.reports = Reports::No;
        self.announce();
        self.answers.clear();
    }

    fn reset(&mut self) {
        self.start_over(State::Closed);
        self.memory = None;
    }

    fn receive(&mut self, payload: &[u8]) -> Result<(), String> {
        let received = unwrap(payload).map_err(|error| error.to_string())?;
        let short = || format!("a message to the screen has only {} bytes", received.len());
        let header: Header = read(received).ok_or_else(short)?;
        let body = &received[size_of::<Header>()..];
        let ready = self.state == State::Ready;
        match header.message_type {
            MessageType::VERSION_REQUEST => self.negotiate(read(body).ok_or_else(short)?)?,
            MessageType::VRAM_LOCATION if ready => {
                let location: VramLocation = read(body).ok_or_else(short)?;
                self.vram = (location.specified != 0).then_some(location.address.get());
                self.answer(MessageType::VRAM_LOCATION_ACK, &[location.context.as_bytes()])?;
            }
            MessageType::SITUATION_UPDATE if ready => {
                self.set_situation(&read(body).ok_or_else(short)?)?;
            }
            MessageType::RESOLUTION_REQUEST if ready => {
                let most = read::<u8>(body).ok_or_else(short)?;
                let mut list = self.sizes.list();
                list.truncate(usize::from(most.max(1)));
                let head = [list.len() as u8, 0, 0];
                let edid = self.sizes.edid();
                self.answer(MessageType::RESOLUTION_RESPONSE, &[&edid, &head, list.as_bytes()])?;
            }
            MessageType::BIOS_INFO_REQUEST if ready => {
                self.answer(MessageType::BIOS_INFO_RESPONSE, &[BiosInfo::default().as_bytes()])?;
            }
            MessageType::CAPABILITY_REQUEST if ready && self.version.is_some_and(VideoVersion::has_capabilities) => {
                self.answer(MessageType::CAPABILITY_RESPONSE, &[Capabilities::default().as_bytes()])?;
            }
            MessageType::DIRT if ready => {
                let [_, count] = read::<[u8; 2]>(body).ok_or_else(short)?;
                let length = usize::from(count) * size_of::<Dirt>();
                self.take_dirt(body.get(2..2 + length).ok_or_else(short)?);
            }
            // Where it is matters to nobody: viewers have their own.
            MessageType::POINTER_POSITION if ready => {
                let before = self.pointer.look();
                self.pointer.take_position(body).ok_or_else(short)?;
                self.point(&before);
            }
            MessageType::POINTER_SHAPE if ready => {
                let before = self.pointer.look();
                self.pointer.take_shape(body).ok_or_else(short)?;
                self.point(&before);
            }
            _ => self.unknown += 1,
        }
        Ok(())
    }

    fn next(&mut self, now: Duration) -> Option<Vec<u8>> {
        if let Some((width, height)) = self.untold().filter(|_| now >= self.next_told) {
            let details = json!({ "width": width, "height": height });
            self.outlet.tell("screen", format!("the screen has {width}x{height} pixels"), details);
            (self.told, self.next_told) = (Some((width, height)), now + TELLING);
        }
        (!self.answers.is_empty()).then(|| self.answers.remove(0))
    }

    fn deadline(&self) -> Option<Duration> {
        self.untold().map(|_| self.next_told)
    }
}

/// The minimum time between two events of the screen: a guest could make very many.
const TELLING: Duration = Duration::from_secs(1);

/// Size of the memory of the video function on the PCI bus. The guest is told to set aside only what the picture needs, because
/// `hyperv_fb` takes the screen over only if it finds room for its own picture beside the early framebuffer.
const SMALL: u64 = (VIDEO_MEMORY.end - VIDEO_MEMORY.start) as u64;

/// The least memory, in which the default size of older drivers fits: 1152x864.
const LEAST: u64 = 4 << 20;

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
