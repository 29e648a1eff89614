//! The port of a channel, for its handler and for threads that complete its I/O.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::link::Link;
use super::timer::Timer;
use crate::engine::Child;
use crate::host::bell::Bell;
use crate::host::event::EventFd;
use crate::host::limited;
use crate::host::lock::{Condvar, Mutex, MutexGuard};
use crate::hyperv::types::SintIndex;
use crate::kvm::gate::{Gate, Kick, Outside};
use crate::vmbus::ids::{ChannelId, GpadlId, VpIndex};
use crate::vmbus::ring::RingMemory;
use crate::vmbus::vsp::Port;

/// Time for the threads of channels that are [aside](Port::aside) when the machine ends. Hardly any takes as long, unless its host hangs.
pub(super) const ASIDE_PATIENCE: Duration = Duration::from_millis(200);

/// The port of one open channel. After the channel is closed, it has no effect.
pub(super) struct ChannelPort {
    channel: ChannelId,
    link: Weak<Link>,
    bell: Bell,
    /// Where the channel's thread stops when the machine pauses.
    gate: Arc<Gate>,
    closing: AtomicBool,
    /// Set when the device no longer uses the channel, nor memory of the guest for it.
    finished: AtomicBool,
    /// A signal that was to be sent during a pause.
    owed: AtomicBool,
    place: Mutex<Place>,
    /// The thread has returned, while the channel closes.
    returned: Condvar,
    /// GPADLs that the guest tears down.
    leaving: Mutex<Vec<GpadlId>>,
    timer: Mutex<Timer>,
    /// The channel's thread.
    thread: OnceLock<ThreadId>,
    target: Mutex<Target>,
}

/// The VP that signals interrupt. Locked while a signal is sent, so that none goes to the old VP after a change.
struct Target {
    /// `None` once the channel is closed, so that the port does not keep the child alive.
    child: Option<Arc<dyn Child>>,
    vp: Option<VpIndex>,
    /// The rings from and to the guest, for those who look on, from the opening of the channel to its end.
    rings: Option<(RingMemory, RingMemory)>,
}

/// Where the channel's thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the machine.
    Inside,
    /// In [code](Port::aside) that does not use the machine.
    Aside,
    /// Still there, and the machine has ended without it.
    Left,
}

/// The reason why a channel's thread was woken.
pub(super) enum Work {
    /// Release these GPADLs, then serve the rings.
    Serve(Vec<GpadlId>),
    /// Close the channel.
    Close,
}

impl ChannelPort {
    pub fn new(
        channel: ChannelId,
        link: Weak<Link>,
        gate: Arc<Gate>,
        child: Arc<dyn Child>,
        target: Option<VpIndex>,
    ) -> io::Result<Self> {
        Ok(Self {
            channel,
            link,
            bell: Bell::new()?,
            gate,
            owed: AtomicBool::new(false),
            place: Mutex::new(Place::Inside),
            returned: Condvar::new(),
            closing: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            leaving: Mutex::default(),
            timer: Mutex::new(Timer::new(Instant::now())),
            thread: OnceLock::new(),
            target: Mutex::new(Target { child: Some(child), vp: target, rings: None }),
        })
    }

    /// Returns an eventfd that wakes the channel's thread.
    pub fn eventfd(&self) -> io::Result<EventFd> {
        self.bell.eventfd()
    }

    /// Changes the VP that signals interrupt. When this returns, no signal goes to the old VP.
    pub fn retarget(&self, vp: VpIndex) {
        self.target().vp = Some(vp);
    }

    /// Returns the VP that signals interrupt, while the channel is open.
    pub fn vp(&self) -> Option<VpIndex> {
        self.target().vp
    }

    /// Shows the rings of the channel to those who look on.
    pub fn show_rings(&self, incoming: &RingMemory, outgoing: &RingMemory) {
        self.target().rings = Some((incoming.clone(), outgoing.clone()));
    }

    /// Returns how full the rings are, while the channel is open.
    pub fn rings(&self) -> Value {
        let target = self.target();
        target.rings.as_ref().map_or(Value::Null, |(incoming, outgoing)| {
            json!({
                "from-guest": incoming.fill(),
                "from-guest-size": incoming.size(),
                "to-guest": outgoing.fill(),
                "to-guest-size": outgoing.size(),
            })
        })
    }

    /// Makes the thread release a GPADL.
    pub fn release(&self, gpadl: GpadlId) {
        self.leaving().push(gpadl);
        self.wake();
    }

    /// Makes the thread close the channel.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Waits until the channel's thread is not [aside](Port::aside), at most until a time. If it still is then, it is left there and must not
    /// use the machine any more. Returns `true` if it has returned. The channel is closing.
    pub fn await_return(&self, until: Instant) -> bool {
        let mut place = self.place.lock();
        while *place == Place::Aside {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *place = Place::Left;
                drop(place);
                self.disconnect();
                return false;
            }
            place = self.returned.wait_timeout(place, left);
        }
        true
    }

    /// Returns `true` if the machine has ended without the channel's thread.
    pub fn is_left(&self) -> bool {
        *self.place.lock() == Place::Left
    }

    /// Waits until there is work.
    pub fn wait(&self) -> Work {
        loop {
            if self.is_closing() {
                return Work::Close;
            }
            let time = self.timer().left(Instant::now());
            let waited = self.bell.wait(time);
            self.timer().take_expired(Instant::now());
            match waited {
                Ok(()) if self.is_closing() => return Work::Close,
                Ok(()) => return Work::Serve(std::mem::take(&mut *self.leaving())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    limited::error!("channel {}: waiting for work failed: {error}", self.channel);
                    return Work::Close;
                }
            }
        }
    }

    /// Sleeps until the channel's thread is woken, even if there is nothing to serve.
    pub fn sleep(&self) {
        if let Err(error) = self.bell.wait(None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            limited::error!("channel {}: it cannot sleep: {error}", self.channel);
        }
    }

    /// Waits for a signal that another thread is sending. The machine is paused, and none is sent after this.
    pub fn settle(&self) {
        drop(self.target());
    }

    /// Sends the signal that had to wait for the end of a pause.
    pub fn send_owed(&self) {
        if self.owed.swap(false, Ordering::SeqCst) {
            self.signal_guest();
        }
    }

    /// Returns the gate at which the channel's thread stops.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Disables the port, because the channel is closed.
    pub fn disconnect(&self) {
        *self.target() = Target { child: None, vp: None, rings: None };
    }

    /// Records that the device no longer uses the channel, and wakes a VP that waits for that.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        self.gate.wake();
    }

    /// Returns `true` once the device no longer uses the channel.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock()
    }

    /// Records that the calling thread is the channel's.
    pub fn enter(&self) {
        let _ = self.thread.set(thread::current().id());
    }

    /// Stops the time of the timer, because the machine pauses.
    pub fn stop_timer(&self) {
        self.timer().stop(Instant::now());
    }

    /// Resumes the time of the timer.
    pub fn start_timer(&self) {
        self.timer().resume(Instant::now());
    }

    fn timer(&self) -> MutexGuard<'_, Timer> {
        self.timer.lock()
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<GpadlId>> {
        self.leaving.lock()
    }
}

/// Wakes the thread of a channel, so that it looks at the gate.
pub(super) struct WakeThread(pub Arc<ChannelPort>);

impl Kick for WakeThread {
    fn kick(&self) {
        self.0.wake();
    }
}

impl Port for ChannelPort {
    fn signal_guest(&self) {
        let target = self.target();
        if self.gate.is_pausing() && !self.gate.is_own_thread() {
            return self.owed.store(true, Ordering::SeqCst);
        }
        let Target { child: Some(child), vp: Some(vp), .. } = &*target else { return };
        // Channel ids are event flags: they are below 2048.
        if let Err(status) = child.signal_event(*vp, SintIndex::VMBUS, self.channel.0 as u16) {
            log::trace!("channel {}: {vp} takes no interrupt: {status}", self.channel);
        }
    }

    fn wake(&self) {
        self.bell.ring();
    }

    fn doorbell(&self) -> Option<OwnedFd> {
        self.eventfd().map(OwnedFd::from).inspect_err(|error| limited::warn!("no eventfd for a device: {error}")).ok()
    }

    fn wake_after(&self, time: Option<Duration>) {
        self.timer().set(time, Instant::now());
        // The channel's own thread looks at the timer before it waits again. From another thread, it must be told.
        if self.thread.get() != Some(&thread::current().id()) {
            self.wake();
        }
    }

    fn time(&self) -> Duration {
        self.timer().time(Instant::now())
    }

    fn reference_time(&self) -> Option<u64> {
        let child = self.target().child.clone();
        child.and_then(|child| child.reference_time())
    }

    fn wake_on(&self, source: BorrowedFd<'_>) -> io::Result<()> {
        self.bell.ring_on(source)
    }

    fn wake_when(&self, source: BorrowedFd<'_>, readable: bool, writable: bool) -> io::Result<()> {
        self.bell.ring_when(source, readable, writable)
    }

    fn should_return(&self) -> bool {
        self.is_closing() || self.gate.is_pausing()
    }

    fn aside(&self, code: &mut dyn FnMut()) {
        let mut place = self.place.lock();
        if *place == Place::Inside {
            *place = Place::Aside;
        }
        drop(place);
        let returns = Returns { port: self, outside: Some(self.gate.step_out()) };
        code();
        drop(returns);
    }

    fn is_guest_gone(&self) -> bool {
        self.link.upgrade().is_none_or(|link| link.is_closing())
    }

    fn offer_subchannels(&self, count: u16) {
        if let Some(link) = self.link.upgrade() {
            link.offer_subchannels(self.channel, count);
        }
    }
}

/// Brings the channel's thread back into the machine when it is dropped, also by a panic.
struct Returns<'a> {
    port: &'a ChannelPort,
    outside: Option<Outside<'a>>,
}

impl Drop for Returns<'_> {
    fn drop(&mut self) {
        drop(self.outside.take());
        let mut place = self.port.place.lock();
        if *place == Place::Aside {
            *place = Place::Inside;
        }
        drop(place);
        if self.port.is_closing() {
            self.port.returned.notify_all();
        }
    }
}
