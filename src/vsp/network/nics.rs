//! A machine's network adapters: those that it starts with, and those that come and go while it runs.
//!
//! ```no_run
//! # use viridian::machine::builder::Builder;
//! # use viridian::net::attachment::Attachment;
//! # use viridian::vsp::network::config::NetworkOptions;
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::config::{NetworkOptions, NetworkOptionsError, check_all};
use super::nic::Nic;
use super::nvsp::device::Device;
use super::provider::NetworkVsp;
use super::rndis::adapter::{Adapter, Settings};
use crate::net::attachment::Attachment;
use crate::net::mac::MacAddress;
use crate::net::open::{BackendError, Plug, open};
use crate::net::switch::Switches;
use crate::vmbus::bus::{DeviceId, VmBus};
use crate::vmbus::connection::OfferError;
use crate::vmbus::trace::Tracer;

/// How many adapters a machine has at most.
pub const MAX_NICS: u8 = 16;

/// Bits in a second, as guests are told: what a virtual switch of Hyper-V says.
const LINK_SPEED: u64 = 10_000_000_000;

/// Why an adapter cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// What is wrong with what was said.
    #[error(transparent)]
    Options(#[from] NetworkOptionsError),
    /// What it would be plugged into.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// There are too many.
    #[error("a machine has at most {MAX_NICS} network adapters")]
    TooMany,
    /// It cannot be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::Backend(error.into())
    }
}

impl AttachError {
    /// Returns `true` if it is the host that fails, and not what the user says or has.
    pub fn is_hosts(&self) -> bool {
        match self {
            Self::Backend(error) => error.is_hosts(),
            Self::Offer(_) => true,
            Self::Options(_) | Self::TooMany => false,
        }
    }
}

/// See the module's description. Any thread may use it.
pub struct Nics {
    bus: VmBus,
    partition: String,
    channels: u16,
    tracer: Option<Tracer>,
    /// By their numbers.
    nics: Mutex<BTreeMap<u8, Attached>>,
}

struct Attached {
    nic: Arc<Nic>,
    address: MacAddress,
    device: DeviceId,
}

impl Nics {
    /// No adapters yet. Theirs will be offered on `bus`, each with up to `channels`, and their messages printed by the tracer.
    pub fn new(bus: VmBus, partition: &str, channels: u16, tracer: Option<Tracer>) -> Self {
        Self { bus, partition: partition.to_string(), channels: channels.max(1), tracer, nics: Mutex::default() }
    }

    /// Attaches all of a configuration's adapters.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn attach_all(&self, all: &[NetworkOptions]) -> Result<(), AttachError> {
        check_all(all.iter().enumerate().map(|(index, options)| (&*self.partition, index, options)))?;
        all.iter().try_for_each(|options| self.attach(options).map(drop))
    }

    /// Attaches an adapter under the lowest number that is free, and returns that. A guest that runs finds it.
    ///
    /// # Errors
    /// What is wrong with it, or with what it is plugged into.
    pub fn attach(&self, options: &NetworkOptions) -> Result<u8, AttachError> {
        options.check()?;
        let mut nics = self.lock();
        let number = (0..MAX_NICS).find(|number| !nics.contains_key(number)).ok_or(AttachError::TooMany)?;
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
        let device = Device::new(options.nvsp, Adapter::new(settings, Arc::default()));
        let nic = Nic::new(device, backend);
        // Nothing is plugged in, and the guest is to see that: it waits for nobody then.
        nic.set_link(options.attachment != Attachment::None);
        let vsp = NetworkVsp::numbered(nic.clone(), number).traced(self.tracer.clone());
        let device = self.bus.offer(Box::new(vsp))?;
        nics.insert(number, Attached { nic, address, device });
        Ok(number)
    }

    /// Takes an adapter away, whatever the guest is doing with it. Returns `false` if there is none.
    ///
    /// What it was plugged into is free when this returns. Linux waits for the answers to all that it has sent before it lets go of
    /// an adapter, but from the moment that it hears of the end on, it listens to none. So its cable is pulled first, and it is told when it
    /// sends no more: that takes a quarter of a second, or three where a guest goes on.
    pub fn detach(&self, number: u8) -> bool {
        let Some(Attached { nic, device, .. }) = self.lock().remove(&number) else { return false };
        nic.unplug();
        nic.quiet_down();
        self.bus.retire(device)
    }

    /// Returns an adapter, to plug its cable in or out and to read its counters.
    pub fn get(&self, number: u8) -> Option<Arc<Nic>> {
        self.lock().get(&number).map(|attached| attached.nic.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u8, Attached>> {
        self.nics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "nics_tests.rs"]
mod tests;
