//! The devices of a machine: how its settings make them, and how its user reaches them.

use std::sync::Arc;

use serde_json::json;

use super::{Machine, MachineError, Shared, services, trace};
use crate::config::Config;
use crate::device::{AddError, CommandError, Device, Devices, Registration, Value};
use crate::engine::{TraceKind, TraceWriter};
use crate::vmbus::bus::VmBus;
use crate::vsp::memory::set::DynamicMemory;
use crate::vsp::network::nics::Nics;
use crate::vsp::screen::set::Screen;
use crate::vsp::services::set::Services;
use crate::vsp::sockets::Sockets;
use crate::vsp::storage::disks::Disks;
use crate::{vmbus, vsp};

/// The inputs from which the providers of a machine are made.
pub(super) struct Setup<'a> {
    pub config: &'a Config,
    pub vmbus: &'a VmBus,
    pub devices: &'a Devices,
    pub tracer: &'a Arc<TraceWriter>,
    pub vps: u32,
}

impl Setup<'_> {
    /// Returns the tracer of events of that kind.
    fn tracer(&self, kind: TraceKind) -> Option<vmbus::trace::Tracer> {
        Some(trace::lines(self.tracer, kind))
    }

    /// Returns how many channels a device can have beside its primary channel. That one is one VP's.
    fn subchannels(&self) -> u16 {
        self.vps.saturating_sub(1) as u16
    }
}

/// The table of providers: what a machine calls each set of devices, and how its settings make it.
macro_rules! providers {
    ($($(#[$attribute:meta])* $name:ident: $type:ty = |$setup:ident| $make:expr;)*) => {
        /// The providers of a machine's VMBus devices.
        pub(super) struct Providers {
            $(pub(super) $name: $type,)*
        }

        impl Providers {
            /// Makes the providers that the settings ask for.
            pub fn new(setup: &Setup<'_>) -> Result<Self, MachineError> {
                Ok(Self { $($name: (|$setup: &Setup<'_>| -> Result<$type, MachineError> { $make })(setup)?,)* })
            }
        }

        impl Machine {
            $($(#[$attribute])* pub fn $name(&self) -> &$type {
                &self.shared.providers.$name
            })*
        }
    };
}

providers! {
    /// The machine's disks, to attach and detach some while it runs, and to have the guest notice new sizes.
    disks: Disks = |setup| disks(setup);
    /// The machine's network adapters, to plug and unplug cables, and to attach and detach some while it runs.
    nics: Nics = |setup| nics(setup);
    /// The machine's memory, for the package's own tests.
    #[doc(hidden)]
    memory: DynamicMemory = |setup| dynamic_memory(setup);
    /// The guest's screen, keyboard and mouse, to look at and to type. [`Builder::display`](super::Builder::display) gives the
    /// machine some.
    screen: Screen = |setup| screen(setup);
    /// The integration services, for the package's own tests.
    #[doc(hidden)]
    services: Services = |setup| services::offer(setup.vmbus, setup.devices, setup.config);
    /// The machine's sockets, to connect to listeners in the guest, and to listen for it. They need no `--vsock`.
    sockets: Sockets = |setup| sockets(setup);
}

fn dynamic_memory(setup: &Setup<'_>) -> Result<DynamicMemory, MachineError> {
    let limits = setup.config.memory.limits()?;
    // A guest that hibernates would write pages that it has released. Linux uses no dynamic memory where it finds S4.
    if setup.config.hibernation && limits.is_some() {
        return Err(MachineError::Hibernation);
    }
    Ok(DynamicMemory::new(setup.vmbus, setup.devices, limits)?)
}

fn disks(setup: &Setup<'_>) -> Result<Disks, MachineError> {
    let tracer = setup.tracer(vsp::storage::trace::KIND);
    let disks = Disks::new(setup.vmbus.clone(), setup.subchannels(), tracer, setup.devices.clone());
    disks.attach_all(&setup.config.machine_disks())?;
    Ok(disks)
}

fn nics(setup: &Setup<'_>) -> Result<Nics, MachineError> {
    let tracer = setup.tracer(vsp::network::trace::KIND);
    let channels = setup.subchannels().saturating_add(1);
    let nics = Nics::new(setup.vmbus.clone(), &setup.config.name, channels, tracer, setup.devices.clone());
    nics.attach_all(&setup.config.machine_networks())?;
    Ok(nics)
}

fn sockets(setup: &Setup<'_>) -> Result<Sockets, MachineError> {
    let Config { name, vsock, .. } = setup.config;
    Ok(Sockets::new(name, setup.vmbus.clone(), vsock.as_deref(), setup.devices)?)
}

fn screen(setup: &Setup<'_>) -> Result<Screen, MachineError> {
    let Config { name, display, screenshot_at_end, .. } = setup.config;
    Ok(Screen::new(name, setup.vmbus, display, screenshot_at_end.clone(), setup.devices)?)
}

impl Providers {
    /// Ends what waits for the guest, because the machine has ended.
    pub fn finish(&self) {
        self.sockets.finish();
        self.screen.finish();
    }
}

impl From<AddError> for MachineError {
    fn from(error: AddError) -> Self {
        Self::Defect(error.to_string())
    }
}

/// Makes devices join those of a machine.
pub(super) fn join(
    devices: &Devices,
    joining: impl IntoIterator<Item = Arc<dyn Device>>,
) -> Result<Vec<Registration>, MachineError> {
    Ok(joining.into_iter().map(|device| devices.add(device)).collect::<Result<_, _>>()?)
}

impl Machine {
    /// Returns the state of the machine and its devices, as a tree of names and values. Each device is an
    /// object in `devices`, with its kind and state, and what else it tells; units are part of the names.
    ///
    /// ```no_run
    /// # use viridian::Builder;
    /// # use viridian::vsp::storage::DiskConfig;
    /// let machine = Builder::new().kernel("my-kernel").disk(DiskConfig::of("memory:64M")).start()?;
    /// assert_eq!(machine.inspect()["devices"]["disk0.0"]["medium"]["size-bytes"], 64 << 20);
    /// # Ok::<(), viridian::machine::MachineError>(())
    /// ```
    pub fn inspect(&self) -> Value {
        self.shared.inspect()
    }

    /// Executes a command on a device. Devices are named as in [`inspect`](Self::inspect).
    ///
    /// ```no_run
    /// # use viridian::Builder;
    /// let machine = Builder::new().start()?;
    /// machine.command("net0", "link", &"down".into())?; // pulls the cable out
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if there is no such device or command, if the arguments are wrong, or if the command fails.
    pub fn command(&self, device: &str, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        self.shared.devices.command(device, name, arguments)
    }
}

impl Machine {
    /// Returns the names of the devices of this kind.
    pub(crate) fn device_names(&self, kind: &str) -> Vec<String> {
        self.shared.devices.of_kind(kind)
    }
}

impl Shared {
    fn inspect(&self) -> Value {
        let (state, engine, restarts) = {
            let state = self.state();
            let word = match (&state.end, state.paused) {
                (Some(_), _) => "ending",
                (None, true) => "paused",
                (None, false) => "running",
            };
            (word, state.engine_kind.map(|kind| kind.to_string()), state.restarted)
        };
        json!({
            "name": self.config.name,
            "state": state,
            "engine": engine,
            "vps": self.exits.len(),
            "restarts": restarts,
            "memory-bytes": self.config.memory.size.0,
            "exits": super::exits::sum(&self.exits),
            "devices": self.devices.inspect(),
        })
    }
}
