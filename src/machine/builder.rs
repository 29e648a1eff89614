//! A machine in a Rust test: the same settings, a call each.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::guest::Guest;
use super::own::OwnDevices;
use super::{Machine, MachineError, Prepared};
use crate::boot::KernelSource;
use crate::config::hyperv::Hv;
use crate::config::{Config, Engine, OnReset};
use crate::console::ConsoleConfig;
use crate::hyperv::hypercall::Hypercalls;
use crate::kvm::gate::Gate;
use crate::platform::PortDevice;
use crate::platform::mmio::MmioDevice;
use crate::platform::msrs::MsrDevice;
use crate::vmbus::ids::Version;
use crate::vmbus::vsp::Vsp;
use crate::vsp::network::config::NetworkOptions;
use crate::vsp::services::config::ServiceOptions;
use crate::vsp::storage::config::DiskConfig;
use crate::wire::size::Size;

/// Builds a machine. What is not said is as on the command line, but for the console: it goes nowhere.
#[derive(Clone)]
pub struct Builder {
    config: Config,
    console: ConsoleUse,
    devices: Vec<Arc<dyn Fn() -> Box<dyn Vsp> + Send + Sync>>,
    calls: Vec<CallSetup>,
    own: OwnDevices,
    end_on_failure: bool,
}

/// Adds to the hypercalls that are answered.
pub(super) type CallSetup = Arc<dyn Fn(&mut Hypercalls, &Guest) + Send + Sync>;

/// What becomes of the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ConsoleUse {
    /// It is where the settings have it.
    #[default]
    Configured,
    /// The same, but on standard output it shares that with others.
    Labelled,
    /// It is kept in memory.
    Captured,
}

/// What a machine has beside its settings.
#[derive(Default)]
pub(super) struct Extras {
    pub console: ConsoleUse,
    pub devices: Vec<Box<dyn Vsp>>,
    pub calls: Vec<CallSetup>,
    pub own: OwnDevices,
    pub end_on_failure: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Config> for Builder {
    fn from(config: Config) -> Self {
        Self {
            config,
            console: ConsoleUse::default(),
            devices: Vec::new(),
            calls: Vec::new(),
            own: OwnDevices::default(),
            end_on_failure: false,
        }
    }
}

impl Builder {
    /// The embedded guest image with a scratch disk of its own, one VP, 256 MiB.
    pub fn new() -> Self {
        Self::from(Config { console: ConsoleConfig::None, ..Config::default() })
    }

    /// The partition's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// The kernel file. What it is, is found out from the file.
    pub fn kernel(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.kernel = Some(KernelSource::File(path.into()));
        self
    }

    /// A kernel from elsewhere: a flat image, or one in this process's memory.
    pub fn kernel_source(mut self, kernel: KernelSource) -> Self {
        self.config.kernel = Some(kernel);
        self
    }

    /// The initial RAM disk.
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.initrd = Some(path.into());
        self
    }

    /// The kernel's command line.
    pub fn cmdline(mut self, cmdline: impl Into<String>) -> Self {
        self.config.cmdline = cmdline.into();
        self
    }

    /// Guest memory, in bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.config.memory.size = Size(bytes);
        self
    }

    /// How many VPs, all in one package.
    pub fn cpus(mut self, count: u32) -> Self {
        self.config.cpus.count = count;
        self
    }

    /// When to end the run whatever the guest does; zero ends it at once.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.config.timeout = Some(time.into());
        self
    }

    /// Where the console goes.
    pub fn console(mut self, console: ConsoleConfig) -> Self {
        (self.config.console, self.console) = (console, ConsoleUse::Configured);
        self
    }

    /// Keeps the console in memory: see [`Machine::console`].
    pub fn capture_console(mut self) -> Self {
        self.console = ConsoleUse::Captured;
        self
    }

    /// Has a console on standard output print whole lines, each with the partition's name before it, and so a trace on
    /// standard error: for several machines in one process. Nothing is typed to such a console.
    pub fn label_console(mut self) -> Self {
        self.console = ConsoleUse::Labelled;
        self
    }

    /// Who implements the Hyper-V interface.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.config.engine = engine;
        self
    }

    /// What the guest is offered of Hyper-V.
    pub fn hv(mut self, hv: Hv) -> Self {
        self.config.hv = hv;
        self
    }

    /// The newest version of VMBus that the guest gets.
    pub fn vmbus_max_version(mut self, version: Version) -> Self {
        self.config.vmbus_max_version = version;
        self
    }

    /// Adds a disk.
    pub fn disk(mut self, disk: DiskConfig) -> Self {
        self.config.disks.push(disk);
        self
    }

    /// Adds a network adapter.
    pub fn net(mut self, network: NetworkOptions) -> Self {
        self.config.networks.push(network);
        self
    }

    /// Sets which integration services the guest has, for the package's own tests.
    #[doc(hidden)]
    pub fn services(mut self, services: ServiceOptions) -> Self {
        self.config.services = services;
        self
    }

    /// Offers a device on VMBus: each machine that this builder starts gets one that `make` makes. See [`vsp`](crate::vmbus::vsp) for
    /// what a device is, and [`Machine::vmbus`] for devices that come and go later.
    pub fn device<V: Vsp + 'static>(mut self, make: impl Fn() -> V + Send + Sync + 'static) -> Self {
        self.devices.push(Arc::new(move || Box::new(make())));
        self
    }

    /// Answers or watches hypercalls: `add` registers handlers and watchers, once for each life of a guest. See
    /// [`hypercall`](crate::hyperv::hypercall) for how, [`Guest`] for what a handler can do to the guest, and [`Hypercalls::watch`]
    /// for what a watcher does not see.
    ///
    /// A handler that panics fails its call with HV_STATUS_OPERATION_FAILED, and the machine's [events](Machine::events) say so.
    ///
    /// ```no_run
    /// use viridian::hyperv::hypercall::CallCode;
    /// use viridian::hyperv::HvStatus;
    /// use viridian::Builder;
    ///
    /// let builder = Builder::new().kernel("my-kernel").hypercalls(|calls, guest| {
    ///     let guest = guest.clone();
    ///     // Takes the address of a page, and fills the page.
    ///     calls.simple(CallCode(0x7f00), "Fill", None, move |_call, address: u64| {
    ///         guest.write(address, &[0xaa; 4096]).map_err(|_| HvStatus::INVALID_PARAMETER)
    ///     });
    /// });
    /// # Ok::<(), viridian::machine::MachineError>(())
    /// ```
    pub fn hypercalls(mut self, add: impl Fn(&mut Hypercalls, &Guest) + Send + Sync + 'static) -> Self {
        self.calls.push(Arc::new(add));
        self
    }

    /// Has a device answer I/O ports. As with [`mmio`](Self::mmio) and [`msrs`](Self::msrs), `make` makes it once for each life of a
    /// guest; a device that panics is out of order for the rest of that life, and the machine's [events](Machine::events) say so.
    ///
    /// ```no_run
    /// use viridian::Builder;
    /// use viridian::machine::Guest;
    /// use viridian::platform::{PortDevice, PowerEvent};
    ///
    /// /// Copies the byte that is written to it to address 0x9000, and reads as the last one. 0xff ends the machine with 0.
    /// struct Latch(Guest, u8);
    ///
    /// impl PortDevice for Latch {
    ///     fn read(&mut self, _offset: u16, data: &mut [u8]) {
    ///         data.fill(self.1);
    ///     }
    ///
    ///     fn write(&mut self, _offset: u16, data: &[u8]) -> Option<PowerEvent> {
    ///         self.1 = data[0];
    ///         self.0.write(0x9000, &data[..1]).expect("the guest has memory there");
    ///         (self.1 == 0xff).then_some(PowerEvent::Exit(0))
    ///     }
    /// }
    ///
    /// let builder = Builder::new().kernel("my-kernel").ports(0x300..0x301, |guest| Latch(guest.clone(), 0));
    /// ```
    pub fn ports<D: PortDevice + 'static>(
        mut self,
        ports: Range<u16>,
        make: impl Fn(&Guest) -> D + Send + Sync + 'static,
    ) -> Self {
        self.own.ports.push((ports, Arc::new(move |guest| Box::new(make(guest)))));
        self
    }

    /// Has a device answer a range of guest physical addresses, which must lie outside of memory and of what the machine has there
    /// itself: from 0xc0000000 to 0xfec00000, or above all memory.
    pub fn mmio<D: MmioDevice + 'static>(
        mut self,
        range: Range<u64>,
        make: impl Fn(&Guest) -> D + Send + Sync + 'static,
    ) -> Self {
        self.own.mmio.push((range, Arc::new(move |guest| Box::new(make(guest)))));
        self
    }

    /// Has a device answer MSRs, also those that KVM would answer itself. Hyper-V's and the local APIC's are not to be had.
    pub fn msrs<D: MsrDevice + 'static>(
        mut self,
        range: Range<u32>,
        make: impl Fn(&Guest) -> D + Send + Sync + 'static,
    ) -> Self {
        self.own.msrs.push((range, Arc::new(move |guest| Box::new(make(guest)))));
        self
    }

    /// Ends the machine with [`End::DeviceFailed`](super::End::DeviceFailed) at the first failure: a VMBus channel that is not served
    /// any more, because its device says so or panics or because the guest broke the rules, or another device, hypercall handler
    /// or watcher that panics. Without it, the machine goes on and its [events](Machine::events) say so.
    pub fn end_on_failure(mut self) -> Self {
        self.end_on_failure = true;
        self
    }

    /// What a guest's request for a reset does.
    pub fn on_reset(mut self, what: OnReset) -> Self {
        self.config.on_reset = what;
        self
    }

    /// The settings so far.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start(&self) -> Result<Machine, MachineError> {
        Machine::build(&self.config, self.extras(), Gate::new())?.watched()
    }

    /// Does all that a start does but the last step: everything is opened, loaded and checked, and the guest does not run yet.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn prepare(&self) -> Result<Prepared, MachineError> {
        let gate = Gate::new();
        gate.close();
        Machine::build(&self.config, self.extras(), gate).map(Prepared::new)
    }

    fn extras(&self) -> Extras {
        let devices = self.devices.iter().map(|make| make()).collect();
        Extras {
            console: self.console,
            devices,
            calls: self.calls.clone(),
            own: self.own.clone(),
            end_on_failure: self.end_on_failure,
        }
    }
}
