//! The state of a network adapter that its channels share: the path of frames, the sections, and the queues of the
//! backend.
//!
//! Each channel has a `Lane`: a queue to send on, and frames that wait for it. The lanes exist independently of the
//! channels, which a guest can close and open at any time. If a backend distributes connections over its queues itself,
//! each channel gets the frames of its own queue. Otherwise the primary channel fetches all frames and passes them to
//! the channels that the guest's indirection table selects.
//!
//! # Locks
//! A channel holds the read lock of `Shared` while it moves a batch of frames. The primary channel takes the write lock
//! to change the path, so no channel uses the old path afterwards. Inside this lock come a lane's queue, then sections
//! or a lane's inbox, then a lane's port.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::nvsp::device::NvspDevice;
use super::nvsp::path::Path;
use super::nvsp::sections::Sections;
use super::nvsp::wire::Version;
use crate::host::lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use crate::net::counters::{NetCounters, NetCounts};
use crate::net::frame::FrameBuffer;
use crate::net::none::Nowhere;
use crate::net::switch::uplink::Cable;
use crate::net::{Backend, Queue};
use crate::vmbus::vsp::Port;
use inbox::Inbox;

pub(super) mod device;
mod inbox;

/// A guest that has sent nothing for this long has stopped sending: its TCP would have retransmitted after 200 ms.
const QUIET: Duration = Duration::from_millis(250);
/// Maximum time to wait for the guest to stop. Linux checks the link at most every other second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Maximum number of frames that one channel passes to others at a time, because the supply can be endless.
const HANDED_OVER: usize = 256;
/// More frames than a backend keeps. Those that come while these are dropped are new.
const MOST_WAITING: usize = 1 << 15;

/// The state that all channels of an adapter use.
#[derive(Default)]
pub(super) struct Shared {
    pub path: Arc<Path>,
    sections: Mutex<Option<Sections>>,
}

impl Shared {
    /// Locks and returns the sections of the path's receive buffer, if there is one.
    pub fn sections(&self) -> MutexGuard<'_, Option<Sections>> {
        self.sections.lock()
    }
}

/// One channel's share of an adapter.
pub(super) struct Lane {
    queue: Mutex<Box<dyn Queue>>,
    inbox: Mutex<Inbox>,
    port: Mutex<Option<Arc<dyn Port>>>,
    /// Whether there is a port.
    open: AtomicBool,
    /// Number of the queue's dropped frames that have been counted.
    dropped: Mutex<u64>,
    /// Number of batches of packets that the guest has sent.
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

    /// Locks and returns the queue of the backend.
    pub fn queue(&self) -> MutexGuard<'_, Box<dyn Queue>> {
        self.queue.lock()
    }

    /// Counts a batch from the guest.
    pub fn count_batch(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    fn wake(&self) {
        let port = self.port.lock().clone();
        port.inspect(|port| port.wake());
    }

    fn set_port(&self, port: Option<Arc<dyn Port>>) {
        let mut place = self.port.lock();
        self.open.store(port.is_some(), Ordering::SeqCst);
        *place = port;
    }
}

/// A network adapter; see the module's description.
pub struct Nic {
    counters: Arc<NetCounters>,
    shared: RwLock<Shared>,
    device: Mutex<NvspDevice>,
    lanes: Box<[Lane]>,
    spreads: bool,
    link_up: AtomicBool,
    /// The link or the number of channels may differ from what the device knows.
    attention: AtomicBool,
    /// Kept for as long as the backend.
    uplink: Mutex<Option<Arc<Cable>>>,
}

impl Nic {
    /// Creates an adapter on this backend.
    pub(crate) fn new(device: NvspDevice, backend: Backend) -> Arc<Self> {
        Arc::new(Self {
            counters: device.adapter().counters().clone(),
            shared: RwLock::default(),
            device: Mutex::new(device),
            lanes: backend.queues.into_iter().map(Lane::new).collect(),
            spreads: backend.spreads,
            link_up: AtomicBool::new(true),
            attention: AtomicBool::new(false),
            uplink: Mutex::new(backend.uplink),
        })
    }

    /// Returns the adapter's counters as they are now.
    pub fn counters(&self) -> NetCounts {
        self.counters.snapshot()
    }

    /// Returns the counters, to be counted on.
    pub(super) fn live_counters(&self) -> &NetCounters {
        &self.counters
    }

    /// Sets the link up or down. A guest that has initialised the adapter is notified.
    pub fn set_link(&self, up: bool) {
        self.link_up.store(up, Ordering::SeqCst);
        self.ask_attention();
    }

    /// Disconnects from the backend permanently. Its resources on the host are free when this returns, and frames are
    /// dropped from now on.
    pub(crate) fn unplug(&self) {
        self.lanes.iter().for_each(|lane| *lane.queue() = Box::new(Nowhere));
        *self.uplink.lock() = None;
    }

    /// Sets the link down, and returns when the guest has stopped sending, or after a time limit.
    pub(crate) fn quiet_down(&self) {
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

    /// Returns `true` if the link is up.
    pub fn is_link_up(&self) -> bool {
        self.link_up.load(Ordering::SeqCst)
    }

    /// Returns the negotiated version of NVSP.
    pub(crate) fn nvsp_version(&self) -> Option<Version> {
        self.device().version()
    }

    fn ask_attention(&self) {
        self.attention.store(true, Ordering::SeqCst);
        if let Some(primary) = self.lanes.first() {
            primary.wake();
        }
    }

    /// Returns `true` if the device must be updated with the link and the number of channels.
    pub(super) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// Returns the same, and clears it.
    pub(super) fn take_attention(&self) -> bool {
        self.attention.swap(false, Ordering::SeqCst)
    }

    /// Locks and returns the state machine of the primary channel.
    pub(super) fn device(&self) -> MutexGuard<'_, NvspDevice> {
        self.device.lock()
    }

    /// Locks the shared state for reading. It does not change while the lock is held.
    pub(super) fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read()
    }

    /// Changes the path of all channels. When this returns, no channel uses the old one.
    pub(super) fn update_path(&self, path: &Arc<Path>) {
        let mut shared = self.shared.write();
        let generation = |path: &Path| path.receive.as_ref().map(|buffer| buffer.generation);
        if generation(&shared.path) != generation(path) {
            let count = path.receive.as_ref().map(|buffer| buffer.section_count);
            shared.sections = Mutex::new(count.map(Sections::new));
        }
        shared.path = path.clone();
    }

    /// Returns the lane of a channel, if the channel can exist.
    pub(super) fn lane(&self, channel: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(channel))
    }

    /// Returns the number of open channels.
    pub(super) fn open_channels(&self) -> u16 {
        self.lanes.iter().filter(|lane| lane.is_open()).count() as u16
    }

    /// Handles the opening of a channel. Opening the primary channel restarts the device, and drops the frames that came
    /// while no driver used the adapter, or for the guest before a reset.
    pub(super) fn open(&self, channel: u16, port: Arc<dyn Port>) {
        if channel == 0 {
            self.restart();
            self.lanes.iter().for_each(|lane| self.drop_waiting(lane));
        }
        if let Some(lane) = self.lane(channel) {
            lane.set_port(Some(port));
        }
        self.ask_attention();
    }

    /// Handles the closing of a channel: its sections return to the host, and the primary channel serves its queue.
    pub(super) fn close(&self, channel: u16) {
        if let Some(lane) = self.lane(channel) {
            lane.set_port(None);
            lane.inbox.lock().clear();
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

    fn drop_waiting(&self, lane: &Lane) {
        lane.inbox.lock().clear();
        let mut frame = FrameBuffer::default();
        let dropped = (0..MOST_WAITING).take_while(|_| self.receive(lane, &mut frame)).count();
        self.counters.receive.count_dropped(dropped as u64);
    }

    /// Fetches a frame for a channel, with its hash. Returns `None` if there is none.
    ///
    /// Frames for other channels are passed on to them. If there are too many at a time, the rest waits for the [next
    /// wake-up](Self::wake_on_frames).
    pub(super) fn fetch(&self, channel: u16, path: &Path, frame: &mut FrameBuffer) -> Option<Option<u32>> {
        let lane = self.lane(channel)?;
        if let Some((waiting, hash)) = lane.inbox.lock().pop() {
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

    /// Passes waiting frames on to their channels while the primary channel cannot accept its own. Returns `false` if
    /// this channel fetches none for others.
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

    /// Wakes the channel's thread when there are more frames that it must fetch.
    pub(super) fn wake_on_frames(&self, channel: u16, port: &dyn Port) -> io::Result<()> {
        self.sources(channel)
            .try_for_each(|lane| lane.queue().readiness().map_or(Ok(()), |source| port.wake_on(source)))
    }

    /// Returns the lanes from whose queues a channel fetches frames. The primary channel also serves those of closed
    /// channels.
    fn sources(&self, channel: u16) -> impl Iterator<Item = &Lane> {
        let all = if self.spreads { self.lanes.len() } else { 1 };
        let is_source =
            move |(number, lane): &(usize, &Lane)| *number == usize::from(channel) || (channel == 0 && !lane.is_open());
        self.lanes.iter().take(all).enumerate().filter(is_source).map(|(_, lane)| lane)
    }

    /// Returns the lane of another channel that a frame is for, unless that is the primary one, and the frame's hash.
    fn route(&self, path: &Path, frame: &FrameBuffer) -> (Option<&Lane>, Option<u32>) {
        let (to, hash) = path.channel(&frame.bytes);
        (self.lane(to).filter(|other| to != 0 && other.is_open()), hash)
    }

    fn hand_over(&self, lane: &Lane, frame: &mut FrameBuffer, hash: Option<u32>) {
        let mut inbox = lane.inbox.lock();
        let was_empty = inbox.is_empty();
        if !inbox.push(std::mem::take(frame), hash) {
            self.counters.receive.count_dropped(1);
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
            let before = std::mem::replace(&mut *lane.dropped.lock(), dropped);
            self.counters.receive.count_dropped(dropped.saturating_sub(before));
        }
        received
    }
}

impl std::fmt::Debug for Nic {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Nic").field("counters", &self.counters).finish_non_exhaustive()
    }
}
