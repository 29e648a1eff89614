//! Builds machines from Rust, with one method per setting.

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
use crate::config::text;
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
use crate::vsp::screen::set::ScreenError;
use crate::vsp::services::config::ServiceOptions;
use crate::vsp::storage::config::DiskConfig;
use crate::wire::size::Size;

/// Builds a machine. The defaults are those of the command line, except that the console is not connected.
#[derive(Clone)]
pub struct Builder {
    config: Config,
    console: ConsoleUse,
    devices: Vec<Arc<dyn Fn() -> Box<dyn Vsp> + Send + Sync>>,
    calls: Vec<CallSetup>,
    own: OwnDevices,
    end_on_failure: bool,
    /// A mistake in the settings of the screen.
    display: Result<(), ScreenError>,
}

/// Adds hypercalls to those that are handled.
pub(super) type CallSetup = Arc<dyn Fn(&mut Hypercalls, &Guest) + Send + Sync>;

/// The destination of the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ConsoleUse {
    /// As in the settings.
    #[default]
    Configured,
    /// As in the settings. On standard output, each line begins with the name of the partition.
    Labelled,
    /// A buffer in memory.
    Captured,
}

/// The parts of a machine that are not settings.
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
            display: Ok(()),
        }
    }
}

impl Builder {
    /// Creates a builder for the embedded guest image, with a scratch disk, one VP and 256 MiB of memory.
    pub fn new() -> Self {
        Self::from(Config { console: ConsoleConfig::None, ..Config::default() })
    }

    /// Sets the partition's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Sets the kernel file. Its format is detected.
    pub fn kernel(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.kernel = Some(KernelSource::File(path.into()));
        self
    }

    /// Sets a kernel that is a flat image or in this process's memory.
    pub fn kernel_source(mut self, kernel: KernelSource) -> Self {
        self.config.kernel = Some(kernel);
        self
    }

    /// Sets the initial RAM disk.
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.initrd = Some(path.into());
        self
    }

    /// Sets the kernel's command line.
    pub fn cmdline(mut self, cmdline: impl Into<String>) -> Self {
        self.config.cmdline = cmdline.into();
        self
    }

    /// Sets the size of guest memory, in bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.config.memory.size = Size(bytes);
        self
    }

    /// Sets the number of VPs, all in one package.
    pub fn cpus(mut self, count: u32) -> Self {
        self.config.cpus.count = count;
        self
    }

    /// Sets the time after which the run ends, whatever the guest does. Zero ends it at once.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.config.timeout = Some(time.into());
        self
    }

    /// Sets the destination of the console.
    pub fn console(mut self, console: ConsoleConfig) -> Self {
        (self.config.console, self.console) = (console, ConsoleUse::Configured);
        self
    }

    /// Keeps the console in memory: see [`Machine::console`].
    pub fn capture_console(mut self) -> Self {
        self.console = ConsoleUse::Captured;
        self
    }

    /// Makes a console on standard output, and a trace on standard error, print whole lines that begin with the partition's
    /// name. For several machines in one process. Such a console has no input.
    pub fn label_console(mut self) -> Self {
        self.console = ConsoleUse::Labelled;
        self
    }

    /// Sets the implementation of the Hyper-V interface.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.config.engine = engine;
        self
    }

    /// Sets the Hyper-V features that the guest is offered.
    pub fn hv(mut self, hv: Hv) -> Self {
        self.config.hv = hv;
        self
    }

    /// Sets the newest version of VMBus that the guest gets.
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

    /// Adds the Unix socket for connections to the guest (`--vsock`). [`Machine::sockets`] needs none.
    pub fn vsock(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.vsock = Some(path.into());
        self
    }

    /// Sets which integration services the guest has, for the package's own tests.
    #[doc(hidden)]
    pub fn services(mut self, services: ServiceOptions) -> Self {
        self.config.services = services;
        self
    }

    /// Sets the guest's screen, keyboard and mouse, as after `--display`: `on,size=1920x1080` or `vnc=:0`. A mistake is reported
    /// when the machine starts.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use viridian::Builder;
    /// let machine = Builder::new().kernel("my-kernel").display("on,size=1024x768").start()?;
    /// machine.screen().wait_for_text("login:", Duration::from_secs(60))?;
    /// machine.screen().type_text("root\n")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn display(mut self, options: &str) -> Self {
        self.display = text::parse(options).map_err(|error| ScreenError::Settings(error.to_string())).map(|display| {
            self.config.display = display;
        });
        self
    }

    /// Adds a VMBus device, which `make` creates for each machine that this builder starts. See [`vsp`](crate::vmbus::vsp) for
    /// how to write a device, and [`Machine::vmbus`] for adding and removing devices of a running machine.
    pub fn device<V: Vsp + 'static>(mut self, make: impl Fn() -> V + Send + Sync + 'static) -> Self {
        self.devices.push(Arc::new(move || Box::new(make())));
        self
    }

    /// Handles or watches hypercalls: `add` registers handlers and watchers, once for each boot of the guest. See
    /// [`hypercall`](crate::hyperv::hypercall) for how to write them, [`Guest`] for access to the guest, and [`Hypercalls::watch`]
    /// for calls that a watcher does not see.
    ///
    /// If a handler panics, its call fails with HV_STATUS_OPERATION_FAILED, and the machine's [events](Machine::events) report it.
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

    /// Adds a device with I/O ports. As with [`mmio`](Self::mmio) and [`msrs`](Self::msrs), `make` creates it once for each boot of
    /// the guest. A device that panics is not called again during that boot, and the machine's [events](Machine::events) report it.
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

    /// Adds a device with a range of guest physical addresses. The range must not contain memory or the machine's own devices: it
    /// must be between 0xc0000000 and 0xfec00000, or above all memory.
    pub fn mmio<D: MmioDevice + 'static>(
        mut self,
        range: Range<u64>,
        make: impl Fn(&Guest) -> D + Send + Sync + 'static,
    ) -> Self {
        self.own.mmio.push((range, Arc::new(move |guest| Box::new(make(guest)))));
        self
    }

    /// Adds a device with MSRs, which may be MSRs that KVM handles otherwise, but not those of Hyper-V or the local APIC.
    pub fn msrs<D: MsrDevice + 'static>(
        mut self,
        range: Range<u32>,
        make: impl Fn(&Guest) -> D + Send + Sync + 'static,
    ) -> Self {
        self.own.msrs.push((range, Arc::new(move |guest| Box::new(make(guest)))));
        self
    }

    /// Ends the machine with [`End::DeviceFailed`](super::End::DeviceFailed) at the first failure. A failure is a VMBus channel that
    /// is no longer served, because its device returned an error or panicked or because the guest violated the protocol, or a
    /// panic of another device, hypercall handler or watcher. Otherwise the machine continues, and its
    /// [events](Machine::events) report the failure.
    pub fn end_on_failure(mut self) -> Self {
        self.end_on_failure = true;
        self
    }

    /// Sets the reaction to a reset by the guest.
    pub fn on_reset(mut self, what: OnReset) -> Self {
        self.config.on_reset = what;
        self
    }

    /// Returns the current settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// Returns the same errors as [`Machine::start`].
    pub fn start(&self) -> Result<Machine, MachineError> {
        self.display.clone()?;
        Machine::build(&self.config, self.extras(), Gate::new())?.watched()
    }

    /// Prepares the machine: opens, loads and checks everything, so that only the guest does not run yet.
    ///
    /// # Errors
    /// Returns the same errors as [`Machine::start`].
    pub fn prepare(&self) -> Result<Prepared, MachineError> {
        self.display.clone()?;
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
