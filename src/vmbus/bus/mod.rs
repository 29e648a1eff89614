//! The VMBus of a running machine: the offered devices, and the guest.
//!
//! A [`VmBus`] exists independently of the guest. Devices can be [offered](VmBus::offer) and
//! [rescinded](VmBus::rescind) at any time. [`attach`](VmBus::attach) connects it to a child partition, and dropping
//! the [`Attachment`] disconnects it. So a machine's devices stay for the guest that starts after a reset.
//!
//! # Threads
//! The guest's control messages are processed on the VP's thread that posts them; that only changes the [`Connection`]
//! under a lock. Each open channel has a thread, on which its [`Handler`] is created, called and dropped. The bus's own
//! thread sends further messages when the guest has made room for them, and joins the threads of closed channels.
//! Nothing polls.
//!
//! # Locks
//! The order is: the bus's devices, an attachment's state, a channel's target, and the locks that the child takes to
//! post or to signal. No device's code is called under any of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::connection::{BusActions, Connection, MAX_CHANNELS, OfferError};
use super::ids::{ChannelId, Version};
use super::trace::Tracer;
use super::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use crate::device::{Devices, Registration};
use crate::engine::{Child, PortError};
use crate::host::limited;
use crate::host::lock::{Mutex, MutexGuard};
use crate::host::panics::caught;
use crate::kvm::gate::Gate;

mod channel;
mod connects;
mod failure;
mod link;
mod offered;
mod port;
mod sockets;
mod timer;

pub use connects::{Asked, ConnectSink};
pub use failure::{ChannelFailure, FailureSink};

use link::Link;
use offered::Offered;

/// The settings of a bus.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Used in the names of threads, and in logs.
    pub name: String,
    /// The newest version that the guest can use (`--vmbus-max-version`).
    pub max_version: Version,
    /// Traces control messages and packets (`--trace vmbus`).
    pub tracer: Option<Tracer>,
    /// Receives the failures of devices.
    pub failures: FailureSink,
    /// Decides requests of the guest to connect a socket.
    pub connects: ConnectSink,
    /// The gate at which the threads of channels park while the machine is paused.
    pub gate: Arc<Gate>,
    /// The devices of the machine, which those of the bus join.
    pub devices: Devices,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "guest".into(),
            max_version: Version::NEWEST,
            tracer: None,
            failures: FailureSink::default(),
            connects: ConnectSink::default(),
            gate: Arc::default(),
            devices: Devices::default(),
        }
    }
}

/// The reason why a bus cannot be attached to a child.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The bus is attached to another child partition.
    #[error("this VMBus is used by another machine; create one for each machine")]
    InUse,
    /// A port cannot be opened.
    #[error("VMBus cannot be reached by the guest: {0}")]
    Port(#[from] PortError),
    /// The host lacks a descriptor.
    #[error("VMBus needs an eventfd: {0}")]
    Descriptor(std::io::Error),
    /// The host lacks a thread.
    #[error("VMBus cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Identifies a device of a bus. Ids are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u64);

/// A device, shared by the bus and the threads of its open channels.
struct BusDevice {
    id: DeviceId,
    offer: Offer,
    /// `Some` until the device is dropped.
    vsp: Mutex<Option<Box<dyn Vsp>>>,
    failures: FailureSink,
}

impl BusDevice {
    fn open(&self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        match &mut *self.vsp.lock() {
            Some(vsp) => vsp.open(channel),
            None => Err(ServiceError::Host("the device is gone".into())),
        }
    }
}

impl Drop for BusDevice {
    /// Drops the device's code, which may be a library user's. If it panics, nothing else is affected.
    fn drop(&mut self) {
        let vsp = self.vsp.get_mut().take();
        if let Err(message) = caught(move || drop(vsp)) {
            let error = ServiceError::Panicked(message);
            let failure = ChannelFailure::new(&self.offer, None, "is gone, and fails", error);
            limited::error!("{failure}");
            self.failures.take(failure);
        }
    }
}

/// The VMBus of a machine; see the module's description. Clones refer to the same bus.
#[derive(Clone, Default)]
pub struct VmBus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<DeviceId, Arc<BusDevice>>,
    /// The devices of the machine that stand for devices of the bus.
    joined: BTreeMap<DeviceId, Registration>,
    next_device: u64,
    next_link: u64,
    link: Option<Arc<Link>>,
}

impl VmBus {
    /// Creates a bus without devices and without a guest.
    #[doc(hidden)]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, state: Mutex::default() }))
    }

    /// Offers a device: to the running guest at once, and to later guests. It joins the devices of the machine under its
    /// [name](Vsp::name).
    ///
    /// # Errors
    /// Returns an [`OfferError`].
    pub fn offer(&self, vsp: Box<dyn Vsp>) -> Result<DeviceId, OfferError> {
        let (name, id, part) = self.offer_part(vsp)?;
        // Without the lock: a machine that pauses calls its devices, of which the bus is one.
        match self.0.settings.devices.add(Arc::new(Offered { name, part })) {
            Ok(joined) => {
                let mut state = self.lock();
                // It may have been rescinded meanwhile.
                let outlived = match state.devices.contains_key(&id) {
                    true => state.joined.insert(id, joined),
                    false => Some(joined),
                };
                drop(state);
                drop(outlived);
                Ok(id)
            }
            Err(error) => {
                self.rescind(id);
                Err(error.into())
            }
        }
    }

    /// Offers a device that is a part of others, which join the devices of the machine themselves.
    pub(crate) fn offer_provider(&self, vsp: Box<dyn Vsp>) -> Result<DeviceId, OfferError> {
        self.offer_part(vsp).map(|(_, id, _)| id)
    }

    /// Returns the device's name, number and part of the bus.
    fn offer_part(&self, vsp: Box<dyn Vsp>) -> Result<(String, DeviceId, Arc<BusDevice>), OfferError> {
        let (name, offer) = match caught(|| (vsp.name(), vsp.offer().subchannel(0))) {
            Ok(described) => described,
            Err(message) => {
                // It may panic again.
                let _ = caught(move || drop(vsp));
                return Err(OfferError::Panicked(message));
            }
        };
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
        let device = Arc::new(BusDevice { id, offer, vsp: Mutex::new(Some(vsp)), failures });
        if let Some(link) = &state.link
            && let Err(error) = link.offer(&device)
        {
            // A device is not dropped under a lock.
            drop(state);
            return Err(error);
        }
        state.next_device += 1;
        state.devices.insert(id, device.clone());
        Ok((name, id, device))
    }

    /// Removes a device at once, even if the guest uses it. Returns `false` if it is already gone.
    ///
    /// Its handlers end without waiting for the guest. The device itself is dropped soon afterwards, when the last one
    /// has ended.
    pub fn rescind(&self, device: DeviceId) -> bool {
        self.take_back(device, Connection::rescind)
    }

    /// Removes a device from a guest that may wait for it. Returns `false` if it is already gone.
    ///
    /// The guest is notified, and open channels are served until it closes them. Linux's network driver, for example,
    /// first waits for the completions of everything that it has sent, without a time limit. [`rescind`](Self::rescind)
    /// ends that.
    pub fn retire(&self, device: DeviceId) -> bool {
        self.take_back(device, Connection::retire)
    }

    fn take_back(&self, device: DeviceId, take_back: fn(&mut Connection, ChannelId) -> BusActions) -> bool {
        let mut state = self.lock();
        let found = state.devices.remove(&device);
        let joined = state.joined.remove(&device);
        let shares = state.link.as_ref().map(|link| link.take_back(device, take_back));
        // Dropping a device may take long, and may use the bus.
        drop(state);
        drop((joined, shares));
        found.is_some()
    }

    /// Returns the device with these GUIDs, if it is offered.
    #[doc(hidden)]
    pub fn device(&self, interface: crate::wire::guid::Guid, instance: crate::wire::guid::Guid) -> Option<DeviceId> {
        let state = self.lock();
        let mut devices = state.devices.values();
        devices.find(|device| device.offer.is_of(interface, instance)).map(|device| device.id)
    }

    /// Returns the number of devices.
    pub fn device_count(&self) -> usize {
        self.lock().devices.len()
    }

    /// Returns the version that host and guest have agreed on.
    pub fn version(&self) -> Option<Version> {
        self.lock().link.as_ref().and_then(|link| link.version())
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.lock().link.clone()
    }

    /// Offers the devices to a guest, until the attachment is dropped.
    ///
    /// # Errors
    /// Returns a [`ConnectError`].
    #[doc(hidden)]
    pub fn attach(&self, child: Arc<dyn Child>) -> Result<Attachment, ConnectError> {
        let mut state = self.lock();
        if state.link.is_some() {
            return Err(ConnectError::InUse);
        }
        let link = Link::new(&self.0.settings, state.next_link, child).map_err(ConnectError::Descriptor)?;
        state.next_link += 1;
        for device in state.devices.values() {
            // Without a guest, a link has room for as many devices as a bus.
            if let Err(error) = link.offer(device) {
                log::warn!("{}: {error}", self.0.settings.name);
            }
        }
        let run = {
            let link = link.clone();
            move || link.run()
        };
        let thread = thread_named(&self.0.settings.name, "vmbus").spawn(run).map_err(ConnectError::Thread)?;
        let attachment = Attachment { bus: self.clone(), link: link.clone(), thread: Some(thread) };
        state.link = Some(link.clone());
        // Without the lock, because dropping an attachment takes it.
        drop(state);
        link.connect()?;
        Ok(attachment)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl fmt::Debug for VmBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("VmBus").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// A bus in use by a child partition.
///
/// Drop it when no VP is running, and before the partition. All channels are then closed, no thread is left, and guest
/// memory is no longer used.
pub struct Attachment {
    bus: VmBus,
    link: Arc<Link>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.bus.lock().link = None;
        self.link.disconnect();
        // It ends now. A panic in it does not change that.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Thread names have 15 bytes; the purpose is more important than the end of the partition's name.
fn thread_named(partition: &str, purpose: &str) -> thread::Builder {
    let room = 14_usize.saturating_sub(purpose.len());
    let partition: String = partition.chars().filter(char::is_ascii_graphic).take(room).collect();
    thread::Builder::new().name(format!("{partition}/{purpose}"))
}
