//! VMBus as a running machine has it: the devices that are offered, and the guest that they are offered to.
//!
//! A [`VmBus`] outlives the guest. Devices come and go at any time, [offered](VmBus::offer) and
//! [rescinded](VmBus::rescind) by whoever has the bus; [`attach`](VmBus::attach) joins it to a child partition, and dropping the
//! [`Attachment`] takes it off again, so that the devices of a machine are there for the guest that comes after a reset.
//!
//! # Threads
//! The guest's control messages are taken on the VP's thread that posts them; all they do there is change
//! the [`Connection`] under a lock. Each open channel has a thread, on which alone its [`Handler`] is made, runs
//! and is dropped. One thread more, the bus's own, goes on sending when the guest has made room for messages, and
//! buries the threads of channels that were closed. Nothing polls.
//!
//! # Locks
//! The bus's devices first, then an attachment's state, then a channel's target, then whatever the child
//! locks to post or to signal. No device's code is called under any of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::connection::{Actions, Connection, MAX_CHANNELS, OfferError};
use super::ids::{ChannelId, Version};
use super::trace::Tracer;
use super::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use crate::engine::{Child, PortError};
use crate::host::limited;
use crate::host::panics::caught;
use crate::wire::guid::Guid;

mod channel;
mod failure;
mod link;
mod port;

pub use failure::{ChannelFailure, FailureSink};

use link::Link;

/// What a bus is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the names of threads, and for logs.
    pub name: String,
    /// The newest version that the guest gets (`--vmbus-max-version`).
    pub max_version: Version,
    /// Where control messages and packets are printed (`--trace vmbus`).
    pub tracer: Option<Tracer>,
    /// Who is told of the failures of devices.
    pub failures: FailureSink,
}

impl Default for Settings {
    fn default() -> Self {
        Self { name: "guest".into(), max_version: Version::NEWEST, tracer: None, failures: FailureSink::default() }
    }
}

/// Why a bus cannot be attached to a child.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is attached to another.
    #[error("this VMBus serves another machine; make one for each")]
    InUse,
    /// The child has no ports for it.
    #[error("VMBus cannot be reached by the guest: {0}")]
    Port(#[from] PortError),
    /// The host has no descriptor for it.
    #[error("VMBus needs an eventfd: {0}")]
    Descriptor(std::io::Error),
    /// The host has no thread for it.
    #[error("VMBus cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// One device of a bus. No other ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u64);

/// A device, shared by the bus and the threads of its open channels.
struct Device {
    id: DeviceId,
    offer: Offer,
    /// There until the device is dropped.
    vsp: Mutex<Option<Box<dyn Vsp>>>,
    failures: FailureSink,
}

impl Device {
    fn open(&self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        match &mut *self.vsp.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(vsp) => vsp.open(channel),
            None => Err(ServiceError::Host("the device is gone".into())),
        }
    }
}

impl Drop for Device {
    /// Drops the device's code, which is not always ours. A panic of it ends nobody else.
    fn drop(&mut self) {
        let vsp = self.vsp.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Err(message) = caught(move || drop(vsp)) {
            let error = ServiceError::Panicked(message);
            let failure = ChannelFailure::new(&self.offer, None, "is gone, and fails", error);
            limited::error!("{failure}");
            self.failures.take(failure);
        }
    }
}

/// See the module's description. Clones are the same bus.
#[derive(Clone, Default)]
pub struct VmBus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<DeviceId, Arc<Device>>,
    next_device: u64,
    link: Option<Arc<Link>>,
}

impl VmBus {
    /// A bus without devices and without a guest.
    #[doc(hidden)]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, state: Mutex::default() }))
    }

    /// Offers a device: at once to a guest that runs, and to those that come after it.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn offer(&self, vsp: Box<dyn Vsp>) -> Result<DeviceId, OfferError> {
        let offer = vsp.offer().subchannel(0);
        let mut state = self.lock();
        let Offer { interface, instance, subchannel_index, .. } = offer;
        if state.devices.values().any(|device| device.offer.is_of(interface, instance)) {
            return Err(OfferError::Duplicate { interface, instance, subchannel_index });
        }
        if state.devices.len() >= MAX_CHANNELS {
            return Err(OfferError::TooMany);
        }
        let id = DeviceId(state.next_device);
        let failures = self.0.settings.failures.clone();
        let device = Arc::new(Device { id, offer, vsp: Mutex::new(Some(vsp)), failures });
        if let Some(link) = &state.link
            && let Err(error) = link.offer(&device)
        {
            // A device is not dropped under a lock.
            drop(state);
            return Err(error);
        }
        state.next_device += 1;
        state.devices.insert(id, device);
        Ok(id)
    }

    /// Takes a device away, whatever the guest is doing with it. False if it is gone already.
    ///
    /// Its handlers end without regard to the guest; the device itself is dropped when the last has ended, soon after this.
    pub fn rescind(&self, device: DeviceId) -> bool {
        self.take_back(device, Connection::rescind)
    }

    /// Takes a device away from a guest that may be waiting for it. False if it is gone already.
    ///
    /// The guest is told, and channels that are open are served until it lets go of them: Linux's network driver, for one, waits
    /// for the answers to all that it has sent before it does, for as long as it takes. [`rescind`](Self::rescind) ends that.
    pub fn retire(&self, device: DeviceId) -> bool {
        self.take_back(device, Connection::retire)
    }

    fn take_back(&self, device: DeviceId, take_back: fn(&mut Connection, ChannelId) -> Actions) -> bool {
        let mut state = self.lock();
        let found = state.devices.remove(&device);
        let shares = state.link.as_ref().map(|link| link.take_back(device, take_back));
        // Dropping a device may take its time, and may use the bus.
        drop(state);
        drop(shares);
        found.is_some()
    }

    /// The device with these GUIDs, if it is offered.
    pub fn device(&self, interface: Guid, instance: Guid) -> Option<DeviceId> {
        let state = self.lock();
        let mut devices = state.devices.values();
        devices.find(|device| device.offer.is_of(interface, instance)).map(|device| device.id)
    }

    /// How many devices there are.
    pub fn device_count(&self) -> usize {
        self.lock().devices.len()
    }

    /// The version that host and guest speak, if they do.
    pub fn version(&self) -> Option<Version> {
        self.lock().link.as_ref().and_then(|link| link.version())
    }

    /// Offers the devices to a guest, until the attachment is dropped.
    ///
    /// # Errors
    /// See [`AttachError`].
    #[doc(hidden)]
    pub fn attach(&self, child: Arc<dyn Child>) -> Result<Attachment, AttachError> {
        let mut state = self.lock();
        if state.link.is_some() {
            return Err(AttachError::InUse);
        }
        let link = Link::new(&self.0.settings, child).map_err(AttachError::Descriptor)?;
        for device in state.devices.values() {
            // A link without a guest has room for as many devices as a bus.
            if let Err(error) = link.offer(device) {
                log::warn!("{}: {error}", self.0.settings.name);
            }
        }
        let run = {
            let link = link.clone();
            move || link.run()
        };
        let thread = thread_named(&self.0.settings.name, "vmbus").spawn(run).map_err(AttachError::Thread)?;
        let attachment = Attachment { bus: self.clone(), link: link.clone(), thread: Some(thread) };
        state.link = Some(link.clone());
        // Outside of the lock: an attachment that is dropped takes it.
        drop(state);
        link.connect()?;
        Ok(attachment)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for VmBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("VmBus").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// A bus in use by a child partition.
///
/// Drop it when no VP runs any more and before the partition: all channels are closed then, no thread is left, and nobody uses the
/// guest's memory.
pub struct Attachment {
    bus: VmBus,
    link: Arc<Link>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.bus.lock().link = None;
        self.link.disconnect();
        // It ends now, and a panic of its own changes nothing about that.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Thread names have 15 bytes; what the thread is for matters more than the end of the partition's name.
fn thread_named(partition: &str, purpose: &str) -> thread::Builder {
    let room = 14_usize.saturating_sub(purpose.len());
    let partition: String = partition.chars().filter(char::is_ascii_graphic).take(room).collect();
    thread::Builder::new().name(format!("{partition}/{purpose}"))
}
