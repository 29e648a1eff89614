//! A machine's network adapters: those that it starts with, and those that are attached and detached while it runs.
//!
//! ```no_run
//! # use viridian::Builder;
//! # use viridian::vsp::network::Attachment;
//! # use viridian::vsp::network::NetworkOptions;
//! let machine = Builder::new().kernel("vmlinuz").net(NetworkOptions::new(Attachment::User)).start()?;
//! if let Some(nic) = machine.nics().get(0) {
//!     nic.set_link(false); // pulls the cable out
//! }
//! let second = machine.nics().attach(&NetworkOptions::new(Attachment::None))?;
//! machine.nics().detach(second);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::config::{NetworkOptions, NetworkOptionsError, check_all};
use super::nic::Nic;
use super::nic::device::NicDevice;
use super::nvsp::device::NvspDevice;
use super::provider::NetworkVsp;
use super::rndis::adapter::{Adapter, Settings};
use crate::device::{Devices, Registration};
use crate::host::lock::Mutex;
use crate::net::attachment::Attachment;
use crate::net::mac::MacAddress;
use crate::net::open::{BackendError, Plug, open};
use crate::net::switch::Switches;
use crate::vmbus::bus::{DeviceId, VmBus};
use crate::vmbus::connection::OfferError;
use crate::vmbus::trace::Tracer;

/// Maximum number of adapters of a machine.
pub const MAX_NICS: u8 = 16;

/// Link speed that the guest sees, in bits per second; the same as for a virtual switch of Hyper-V.
const LINK_SPEED: u64 = 10_000_000_000;

/// The reason why an adapter cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachNicError {
    /// The settings are wrong.
    #[error(transparent)]
    Options(#[from] NetworkOptionsError),
    /// The backend cannot be opened.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// There are too many.
    #[error("a machine has at most {MAX_NICS} network adapters")]
    TooMany,
    /// The device cannot be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
}

impl From<io::Error> for AttachNicError {
    fn from(error: io::Error) -> Self {
        Self::Backend(error.into())
    }
}

impl AttachNicError {
    /// Returns `true` if the host failed, and `false` if the settings are wrong.
    pub(crate) fn is_hosts(&self) -> bool {
        match self {
            Self::Backend(error) => error.is_hosts(),
            Self::Offer(_) => true,
            Self::Options(_) | Self::TooMany => false,
        }
    }
}

/// The network adapters of a machine; see the module's description. Any thread may use it.
pub struct Nics {
    bus: VmBus,
    partition: String,
    channels: u16,
    tracer: Option<Tracer>,
    /// The devices of the machine, which the adapters join.
    devices: Devices,
    /// The adapters by number.
    nics: Mutex<BTreeMap<u8, Attached>>,
}

struct Attached {
    nic: Arc<Nic>,
    address: MacAddress,
    device: DeviceId,
    joined: Registration,
}

impl Nics {
    /// Creates an empty set. Adapters will be offered on `bus`, each with up to `channels` channels, and `tracer` will
    /// trace their messages, and they will join `devices`.
    pub(crate) fn new(bus: VmBus, partition: &str, channels: u16, tracer: Option<Tracer>, devices: Devices) -> Self {
        let (partition, channels) = (partition.to_string(), channels.max(1));
        Self { bus, partition, channels, tracer, devices, nics: Mutex::default() }
    }

    /// Attaches all configured adapters.
    ///
    /// # Errors
    /// Returns the first error.
    pub(crate) fn attach_all(&self, all: &[NetworkOptions]) -> Result<(), AttachNicError> {
        check_all(all.iter().enumerate().map(|(index, options)| (&*self.partition, index, options)))?;
        all.iter().try_for_each(|options| self.attach(options).map(drop))
    }

    /// Attaches an adapter with the lowest free number, and returns the number. A running guest is notified.
    ///
    /// # Errors
    /// Returns an error if the settings are wrong, or if the backend cannot be opened.
    pub fn attach(&self, options: &NetworkOptions) -> Result<u8, AttachNicError> {
        options.check()?;
        let mut nics = self.nics.lock();
        let number = (0..MAX_NICS).find(|number| !nics.contains_key(number)).ok_or(AttachNicError::TooMany)?;
        let address = options.address(&self.partition, number.into());
        if let Some((other, _)) = nics.iter().find(|(_, other)| other.address == address) {
            let who = |number: u8| format!("adapter {number} of {}", self.partition);
            let (first, second) = (who(*other), who(number));
            return Err(NetworkOptionsError::DuplicateMac { first, second, mac: address }.into());
        }
        let queues = options.queues.min(self.channels);
        let name = format!("{}/net{number}", self.partition);
        let plug = Plug {
            attachment: &options.attachment,
            forwards: &options.forwards,
            address,
            mtu: options.mtu,
            queues,
            pcap: options.pcap.as_deref(),
            name: &name,
        };
        let backend = open(&plug, Switches::of_process())?;
        let settings = Settings { address, mtu: options.mtu, queues, link_speed: LINK_SPEED, name: name.clone() };
        let device = NvspDevice::new(options.nvsp, Adapter::new(settings, Arc::default()));
        let nic = Nic::new(device, backend);
        // There is no network, and a guest that sees the link down does not wait for one.
        nic.set_link(options.attachment != Attachment::None);
        let vsp = NetworkVsp::numbered(nic.clone(), number).traced(self.tracer.clone());
        let joined = self.devices.add(Arc::new(NicDevice { number, nic: nic.clone() })).map_err(OfferError::from)?;
        let device = self.bus.offer_provider(Box::new(vsp))?;
        nics.insert(number, Attached { nic, address, device, joined });
        Ok(number)
    }

    /// Detaches an adapter even if the guest uses it. Returns `false` if there is none.
    ///
    /// Its backend is free when this returns. Linux waits for the completions of everything that it has sent before it
    /// releases an adapter, but after a rescind it no longer receives them. So the link is set down first, and the
    /// adapter is rescinded when the guest has stopped sending. That takes a quarter of a second, or three seconds if
    /// the guest continues.
    pub fn detach(&self, number: u8) -> bool {
        let Some(Attached { nic, device, joined, .. }) = self.nics.lock().remove(&number) else { return false };
        drop(joined);
        nic.unplug();
        nic.quiet_down();
        self.bus.retire(device)
    }

    /// Returns an adapter, to set its link or read its counters.
    pub fn get(&self, number: u8) -> Option<Arc<Nic>> {
        self.nics.lock().get(&number).map(|attached| attached.nic.clone())
    }
}

#[cfg(test)]
#[path = "nics_tests.rs"]
mod tests;
