//! A network adapter as its channels share it: the path of frames, the sections, and the queues into the backend.
//!
//! Each channel has a `Lane`: a queue that it sends by, and frames that wait for it. The lanes outlive the channels: a guest may close and open them as it
//! likes. A backend that spreads connections over its queues itself gives each channel the frames of its queue; for others the primary channel
//! fetches all frames and hands them to the channels that the guest's indirection table names.
//!
//! # Locks
//! A channel holds the `Shared` for reading while it moves a batch of frames, and the primary channel takes it for writing to change the path: then
//! no channel uses the old one. In it go a lane's queue, then sections or a lane's inbox, then a lane's port.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::nvsp::device::Device;
use super::nvsp::path::Path;
use super::nvsp::sections::Sections;
use super::nvsp::wire::Version;
use super::rndis::statistics::Statistics;
use crate::net::frame::FrameBuffer;
use crate::net::none::Nowhere;
use crate::net::switch::uplink::Cable;
use crate::net::{Backend, Queue};
use crate::vmbus::vsp::Port;
use inbox::Inbox;

mod inbox;

/// A guest that has sent nothing for so long has done with sending: its TCP would have sent once more after 200 ms.
const QUIET: Duration = Duration::from_millis(250);
/// Linux looks at the cable every other second at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many frames one channel hands to others at a time: there may be no end of them.
const HANDED_OVER: usize = 256;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all channels of an adapter go by.
#[derive(Default)]
pub(super) struct Shared {
    pub path: Arc<Path>,
    sections: Mutex<Option<Sections>>,
}

impl Shared {
    /// Returns the sections of the path's receive buffer, if there is one.
    pub fn sections(&self) -> MutexGuard<'_, Option<Sections>> {
        lock(&self.sections)
    }
}

/// One channel's share of an adapter.
pub(super) struct Lane {
    queue: Mutex<Box<dyn Queue>>,
    inbox: Mutex<Inbox>,
    port: Mutex<Option<Arc<dyn Port>>>,
    /// Whether there is a port.
    open: AtomicBool,
    /// How many of the queue's dropped frames have been counted.
    dropped: Mutex<u64>,
    /// How many batches of packets the guest has sent.
    batches: AtomicU64,
}

impl Lane {
    fn new(queue: Box<dyn Queue>) -> Self {
        Self {
            queue: Mutex::new(queue),
            inbox: Mutex::default(),
            port: Mutex::default(),
            open: AtomicBool::new(false),
            dropped: Mutex::default(),
            batches: AtomicU64::new(0),
        }
    }

    /// Returns `true` if the channel is open.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Returns the way into the backend.
    pub fn queue(&self) -> MutexGuard<'_, Box<dyn Queue>> {
        lock(&self.queue)
    }

    /// The guest has sent something.
    pub fn count_batch(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    fn wake(&self) {
        let port = lock(&self.port).clone();
        port.inspect(|port| port.wake());
    }

    fn set_port(&self, port: Option<Arc<dyn Port>>) {
        let mut place = lock(&self.port);
        self.open.store(port.is_some(), Ordering::SeqCst);
        *place = port;
    }
}

/// See the module's description.
pub struct Nic {
    statistics: Arc<Statistics>,
    shared: RwLock<Shared>,
    device: Mutex<Device>,
    lanes: Box<[Lane]>,
    spreads: bool,
    link_up: AtomicBool,
    /// The link or the number of channels may be another than the device knows.
    attention: AtomicBool,
    /// What goes with the backend.
    uplink: Mutex<Option<Arc<Cable>>>,
}

impl Nic {
    /// Creates an adapter on that backend.
    pub fn new(device: Device, backend: Backend) -> Arc<Self> {
        Arc::new(Self {
            statistics: device.adapter().statistics().clone(),
            shared: RwLock::default(),
            device: Mutex::new(device),
            lanes: backend.queues.into_iter().map(Lane::new).collect(),
            spreads: backend.spreads,
            link_up: AtomicBool::new(true),
            attention: AtomicBool::new(false),
            uplink: Mutex::new(backend.uplink),
        })
    }

    /// Returns what the adapter has counted.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Plugs the cable in or pulls it out. A guest that has set up the adapter is told.
    pub fn set_link(&self, up: bool) {
        self.link_up.store(up, Ordering::SeqCst);
        self.ask_attention();
    }

    /// Lets go of the backend for good, whose place with the host is free when this returns. Frames go nowhere from now on.
    pub fn unplug(&self) {
        self.lanes.iter().for_each(|lane| *lane.queue() = Box::new(Nowhere));
        *lock(&self.uplink) = None;
    }

    /// Pulls the cable, and returns when the guest has stopped sending, or seems not to do so.
    pub fn quiet_down(&self) {
        if !self.lanes.first().is_some_and(Lane::is_open) {
            return;
        }
        self.set_link(false);
        let sent = || self.lanes.iter().map(|lane| lane.batches.load(Ordering::Relaxed)).sum::<u64>();
        let (begin, mut before) = (Instant::now(), None);
        while before != Some(sent()) && begin.elapsed() < PATIENCE {
            before = Some(sent());
            thread::sleep(QUIET);
        }
    }

    /// Returns `true` if the cable is plugged in.
    pub fn is_link_up(&self) -> bool {
        self.link_up.load(Ordering::SeqCst)
    }

    /// Returns the version of NVSP that the guest's driver and this host have agreed upon, if they have.
    pub fn nvsp_version(&self) -> Option<Version> {
        self.device().version()
    }

    fn ask_attention(&self) {
        self.attention.store(true, Ordering::SeqCst);
        if let Some(primary) = self.lanes.first() {
            primary.wake();
        }
    }

    /// Returns `true` if the device has to be told of the link and the number of channels.
    pub(super) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// Returns the same, once.
    pub(super) fn take_attention(&self) -> bool {
        self.attention.swap(false, Ordering::SeqCst)
    }

    /// Returns the state machine of the primary channel.
    pub(super) fn device(&self) -> MutexGuard<'_, Device> {
        lock(&self.device)
    }

    /// Returns what frames go by now. While it is held, it does not change.
    pub(super) fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all channels go by a new path. When this returns, none uses the old one.
    pub(super) fn update_path(&self, path: &Arc<Path>) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let generation = |path: &Path| path.receive.as_ref().map(|buffer| buffer.generation);
        if generation(&shared.path) != generation(path) {
            let count = path.receive.as_ref().map(|buffer| buffer.section_count);
            shared.sections = Mutex::new(count.map(Sections::new));
        }
        shared.path = path.clone();
    }

    /// Returns the lane of a channel, if there may be such a channel.
    pub(super) fn lane(&self, channel: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(channel))
    }

    /// Returns how many channels are open.
    pub(super) fn open_channels(&self) -> u16 {
        self.lanes.iter().filter(|lane| lane.is_open()).count() as u16
    }

    /// A channel is open. The primary one begins anew.
    pub(super) fn open(&self, channel: u16, port: Arc<dyn Port>) {
        if channel == 0 {
            self.restart();
        }
        if let Some(lane) = self.lane(channel) {
            lane.set_port(Some(port));
        }
        self.ask_attention();
    }

    /// A channel is closed: what it had of the guest's is the guest's again, and its queue is the primary channel's.
    pub(super) fn close(&self, channel: u16) {
        if let Some(lane) = self.lane(channel) {
            lane.set_port(None);
            lock(&lane.inbox).clear();
        }
        if channel == 0 {
            return self.restart();
        }
        if let Some(sections) = self.shared().sections().as_mut() {
            sections.give_back_all(channel);
        }
        self.ask_attention();
    }

    fn restart(&self) {
        let mut device = self.device();
        device.restart();
        self.update_path(device.path());
    }

    /// Fetches a frame that is for a channel, with its hash. Returns `None` if none waits.
    ///
    /// Frames that turn out to be for other channels are handed to those on the way; if that are too many at a time, the rest waits for the
    /// [next wake](Self::wake_on_frames).
    pub(super) fn fetch(&self, channel: u16, path: &Path, frame: &mut FrameBuffer) -> Option<Option<u32>> {
        let lane = self.lane(channel)?;
        if let Some((waiting, hash)) = lock(&lane.inbox).pop() {
            *frame = waiting;
            return Some(hash);
        }
        if self.spreads {
            let found = self.sources(channel).any(|lane| self.receive(lane, frame));
            return found.then(|| path.channel(&frame.bytes).1);
        }
        for _ in 0..HANDED_OVER {
            if channel != 0 || !self.receive(lane, frame) {
                break;
            }
            match self.route(path, frame) {
                (Some(other), hash) => self.hand_over(other, frame, hash),
                (None, hash) => return Some(hash),
            }
        }
        None
    }

    /// Hands frames that wait to the channels that they are for, while the primary one cannot take its own.
    /// Returns `false` if it need not fetch any for others.
    pub(super) fn distribute(&self, channel: u16, path: &Path, frame: &mut FrameBuffer) -> bool {
        let Some(lane) = self.lane(channel).filter(|_| channel == 0 && !self.spreads && self.open_channels() > 1)
        else {
            return false;
        };
        for _ in 0..HANDED_OVER {
            if !self.receive(lane, frame) {
                break;
            }
            let (other, hash) = self.route(path, frame);
            self.hand_over(other.unwrap_or(lane), frame, hash);
        }
        true
    }

    /// Has the channel's thread woken when more frames come that it is to fetch.
    pub(super) fn wake_on_frames(&self, channel: u16, port: &dyn Port) -> io::Result<()> {
        self.sources(channel)
            .try_for_each(|lane| lane.queue().readiness().map_or(Ok(()), |source| port.wake_on(source)))
    }

    /// Returns the lanes out of whose queues a channel fetches frames: the primary channel looks after those of channels that are closed.
    fn sources(&self, channel: u16) -> impl Iterator<Item = &Lane> {
        let all = if self.spreads { self.lanes.len() } else { 1 };
        let is_source =
            move |(number, lane): &(usize, &Lane)| *number == usize::from(channel) || (channel == 0 && !lane.is_open());
        self.lanes.iter().take(all).enumerate().filter(is_source).map(|(_, lane)| lane)
    }

    /// Returns the lane of another channel that a frame is for, if it is not the primary one, and the frame's hash.
    fn route(&self, path: &Path, frame: &FrameBuffer) -> (Option<&Lane>, Option<u32>) {
        let (to, hash) = path.channel(&frame.bytes);
        (self.lane(to).filter(|other| to != 0 && other.is_open()), hash)
    }

    fn hand_over(&self, lane: &Lane, frame: &mut FrameBuffer, hash: Option<u32>) {
        let mut inbox = lock(&lane.inbox);
        let was_empty = inbox.is_empty();
        if !inbox.push(std::mem::take(frame), hash) {
            self.statistics.receive.count_dropped(1);
        }
        drop(inbox);
        if was_empty {
            lane.wake();
        }
    }

    fn receive(&self, lane: &Lane, frame: &mut FrameBuffer) -> bool {
        let mut queue = lane.queue();
        let received = queue.receive(frame);
        if !received {
            let dropped = queue.dropped();
            let before = std::mem::replace(&mut *lock(&lane.dropped), dropped);
            self.statistics.receive.count_dropped(dropped.saturating_sub(before));
        }
        received
    }
}

impl std::fmt::Debug for Nic {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Nic").field("statistics", &self.statistics).finish_non_exhaustive()
    }
}
