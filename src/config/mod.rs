//! The settings of a machine: one definition for the command line, its help, and the TOML file.
//!
//! ```
//! use viridian::Config;
//! use viridian::vsp::storage::DiskConfig;
//!
//! let mut config = Config { cmdline: "quiet".into(), ..Config::default() };
//! config.disks.push(DiskConfig::of("memory:64M"));
//! assert!(config.to_toml()?.contains("cmdline = \"quiet\""));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) mod conflicts;
pub(crate) mod cpus;
pub(crate) mod file;
pub(crate) mod hyperv;
pub(crate) mod text;
pub(crate) mod trace;

pub use crate::boot::{FlatMode, KernelSource};
pub use crate::console::ConsoleConfig;
pub use crate::engine::{TraceFormat, TraceKind};
pub use crate::hyperv::cpuid::Version as HypervisorVersion;
pub use crate::hyperv::features::{Feature, Switches};
pub use crate::vmbus::Version as VmBusVersion;
pub use crate::vsp::memory::config::Memory;
pub use crate::vsp::network::NetworkOptions;
pub use crate::vsp::storage::DiskConfig;
#[doc(hidden)]
pub use crate::wire::entries::split as split_entries;
pub use crate::wire::size::Size;
pub use cpus::Cpus;
pub use file::FileError;
pub use hyperv::Hv;
pub use trace::Trace;

use crate::net::attachment::Attachment;
use crate::vsp::screen::config::DisplayOptions;
use crate::vsp::services::config::ServiceOptions;

/// The settings of a machine. The keys of the TOML file are the names of the options, without the dashes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Name of the partition, for logs and thread names [default: guest]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub name: String,

    /// Kernel to boot: a Linux bzImage or vmlinux, a PVH or multiboot ELF, flat:PATH@ADDR,mode=16|32|64 (by default
    /// mode 16 at 0x7c00), or an embedded guest, embedded:vsc|peer. Without this option, embedded:vsc boots, with a
    /// scratch disk unless --disk is given, and with --net user unless --net is given
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelSource>,

    /// Initial RAM disk, or the module of a multiboot kernel
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,

    /// Command line of the kernel
    #[cfg_attr(feature = "cli", arg(long, value_name = "STRING", allow_hyphen_values = true))]
    pub cmdline: String,

    /// ELF file or System.map with the kernel's symbols, for reports of where a VP was [default: the kernel itself]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbols: Option<PathBuf>,

    /// Guest memory: SIZE[,hugepages=on|,shared=on] [default: 256M], or startup=SIZE,min=SIZE,max=SIZE for a size that
    /// changes while the machine runs; cold-discard=on|off lets the guest tell which pages are free [default: on if the
    /// size changes]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE", value_parser = text::parse::<Memory>))]
    #[serde(deserialize_with = "text::or_table")]
    pub memory: Memory,

    /// Virtual processors, 1 to 64: N[,sockets=N,cores=N,threads=N,affinity=LIST] [default: 1]; LIST has a host
    /// processor for each VP, such as 0-3 or 0:2:4:6
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", allow_negative_numbers = true, value_parser = text::parse::<Cpus>))]
    #[serde(deserialize_with = "text::or_table")]
    pub cpus: Cpus,

    /// End the run with exit code 124 after this time; fractions are allowed
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", allow_negative_numbers = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Seconds>,

    /// Destination of the guest's serial console: stdio, none, file:PATH, pty or unix:PATH [default: stdio]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHERE"))]
    pub console: ConsoleConfig,

    /// Write the last 64 KiB of the guest's console to this file when the machine ends, wherever else they go
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_at_end: Option<PathBuf>,

    /// Implementation of the Hyper-V interface [default: auto]
    #[cfg_attr(feature = "cli", arg(long, value_name = "ENGINE"))]
    pub engine: Engine,

    /// Hyper-V features that the guest is offered: on, off (plain KVM, with KVM's clock), or +NAME,-NAME for privileges
    /// and hints by their TLFS names (viridian hv lists them) [default: on]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHAT", allow_hyphen_values = true))]
    pub hv: Hv,

    /// Hypervisor version that the guest finds: MAJOR.MINOR.BUILD [default: 10.0.20348]
    #[cfg_attr(feature = "cli", arg(long, value_name = "VERSION"))]
    #[serde(with = "text::plain")]
    pub hv_version: HypervisorVersion,

    /// Disk or DVD; repeat for more: a file, a block device, or memory:SIZE for scratch space, as
    /// PATH[,readonly=on,cache=writeback|none,serial=TEXT,sector=512|4096,discard=off,format=auto|raw|qcow2,
    /// backing=any,media=disk|dvd,controller=N,lun=N]. Write a comma in a value as two commas
    #[cfg_attr(feature = "cli", arg(long = "disk", value_name = "PATH", value_parser = text::parse::<DiskConfig>))]
    #[serde(rename = "disk", deserialize_with = "text::or_tables", skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskConfig>,

    /// Network adapter; repeat for more: user (NAT without privileges), tap=NAME, switch=NAME (shared by the machines
    /// of one process) or none, with [,mac=ADDRESS,mtu=576..9000,queues=N,pcap=FILE,nvsp=1|2|4|5|6|6.1] (nvsp limits
    /// the protocol version). user, and switch with uplink=user, also take fwd=tcp|udp:PORT:GUESTPORT (or
    /// ADDRESS:PORT:GUESTPORT), any number of times
    #[cfg_attr(feature = "cli", arg(long = "net", value_name = "WHERE", value_parser = text::parse::<NetworkOptions>))]
    #[serde(rename = "net", deserialize_with = "text::or_tables", skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkOptions>,

    /// Newest VMBus version that the guest gets: 2.4, 3.0, 4.0, 4.1, 5.0, 5.1, 5.2 or 5.3 [default: 5.3]
    #[cfg_attr(feature = "cli", arg(long, value_name = "VERSION"))]
    #[serde(with = "text::plain")]
    pub vmbus_max_version: VmBusVersion,

    /// Unix socket for connections to the guest's AF_VSOCK ports: a client writes CONNECT and a port, and a line end. The
    /// guest's connections to port N of the host go to the socket PATH_N
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsock: Option<PathBuf>,

    /// Integration services, all on by default: NAME=on|off|VERSION,... for shutdown, time, heartbeat, kvp, vss and
    /// file-copy; a version, such as time=3.0, is the only one that is offered. off alone turns off all that are not
    /// set; framework=1.0|3.0 limits the framework's version
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME=WHAT,...", value_parser = text::parse::<ServiceOptions>))]
    #[serde(deserialize_with = "text::or_table", skip_serializing_if = "is_default")]
    pub services: ServiceOptions,

    /// Screen, keyboard and mouse of the guest: none, on for a screen, or unix:PATH or vnc=:N|ADDRESS:PORT for one that VNC
    /// viewers can use, with [,password-file=PATH,tls-cert=PATH,tls-key=PATH,clipboard=type,size=WIDTHxHEIGHT,
    /// input=on|off,layout=us|de|fr|...]. Keyboard and mouse come with the screen, or with input=on; size is the
    /// largest size, layout that of the guest's keyboard [default: none]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHERE", value_parser = text::parse::<DisplayOptions>))]
    #[serde(deserialize_with = "text::or_table", skip_serializing_if = "is_default")]
    pub display: DisplayOptions,

    /// Write the guest's last picture to this PNG file when the machine ends
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screenshot_at_end: Option<PathBuf>,

    /// Print a line for each event: hypercall, msr, synic, vmbus, storage, network, a list of them, or all. =FILE
    /// prints to a file; start the reader of a named pipe first
    #[cfg_attr(feature = "cli", arg(long, value_name = "KIND,...[=FILE]"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,

    /// Format of trace lines [default: text]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FORMAT"))]
    #[serde(skip_serializing_if = "is_default")]
    pub trace_format: TraceFormat,

    /// Interrupt controllers: local APICs and an IOAPIC, or also a PC's 8259s and 8254 timer [default: apic]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHICH"))]
    pub irqchip: IrqchipKind,

    /// Add devices compatible with QEMU's hyperv-testdev and pc-testdev, for kvm-unit-tests
    #[cfg_attr(feature = "cli", arg(long))]
    pub test_device: bool,

    /// Offer the guest ACPI's S4, so that it can hibernate (viridian stop --hibernate) and resume in a new run with the
    /// same disks; not with memory whose size changes
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "is_default")]
    pub hibernation: bool,

    /// On a reset by the guest: exit with code 100, or restart the guest [default: exit]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHAT"))]
    pub on_reset: OnReset,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "guest".into(),
            kernel: None,
            initrd: None,
            cmdline: String::new(),
            symbols: None,
            memory: Memory::default(),
            cpus: Cpus::default(),
            timeout: None,
            console: ConsoleConfig::Stdio,
            console_at_end: None,
            engine: Engine::Auto,
            hv: Hv::default(),
            hv_version: HypervisorVersion::default(),
            disks: Vec::new(),
            networks: Vec::new(),
            vmbus_max_version: VmBusVersion::NEWEST,
            services: ServiceOptions::default(),
            vsock: None,
            display: DisplayOptions::default(),
            screenshot_at_end: None,
            trace: None,
            trace_format: TraceFormat::Text,
            irqchip: IrqchipKind::Apic,
            test_device: false,
            hibernation: false,
            on_reset: OnReset::Exit,
        }
    }
}

/// For `#[serde(skip_serializing_if)]`.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Implementation of the Hyper-V interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The kernel engine if the host's KVM implements it completely, otherwise the user engine
    Auto,
    /// KVM's emulation
    Kernel,
    /// Viridian's own code on plain KVM
    User,
}

/// Interrupt controllers of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum IrqchipKind {
    /// Local APICs and an IOAPIC, as in a Hyper-V Generation 2 virtual machine
    Apic,
    /// A PC's full set, emulated by KVM: for guests that need 8259s and an 8254; the machine takes longer to end
    Pc,
}

/// Reaction to a reset by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum OnReset {
    /// Exit with code 100
    Exit,
    /// Restart the guest
    Restart,
}

/// A time in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds(f64);

impl Seconds {
    /// Returns the time as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

/// Converts a duration to a valid time limit: more than zero, and at most a century.
impl From<Duration> for Seconds {
    fn from(time: Duration) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        Self(time.clamp(Duration::from_nanos(1), CENTURY).as_secs_f64())
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if !time.is_zero() => Ok(Self(seconds)),
            // {:?} prints 1e300 as written, and not with 300 digits.
            _ if seconds > 0.0 => Err(format!("{seconds:?} seconds are longer than any run; leave the time out")),
            _ => Err(format!("{seconds:?} is not a time; write seconds above 0, such as 30 or 0.5")),
        }
    }
}

impl std::str::FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse::<f64>();
        seconds.map_err(|_| format!("`{text}` is not a time; write seconds, such as 30 or 0.5"))?.try_into()
    }
}

/// The disk of the embedded guest.
const SCRATCH_DISK: &str = "memory:64M";

impl Config {
    /// Returns the machine's disks: those that are configured, or a scratch disk for the embedded guest.
    pub(crate) fn machine_disks(&self) -> Vec<DiskConfig> {
        match self.kernel {
            None if self.disks.is_empty() => vec![DiskConfig::of(SCRATCH_DISK)],
            _ => self.disks.clone(),
        }
    }

    /// Returns the most memory of the host that the guest can use: its own, and that of its memory: disks.
    pub(crate) fn memory_demand(&self) -> u64 {
        let disks = self.machine_disks().iter().filter_map(DiskConfig::memory_size).fold(0, u64::saturating_add);
        self.memory.maximum().saturating_add(disks)
    }

    /// Returns the start of a sentence about its [`memory_demand`](Self::memory_demand).
    pub(crate) fn memory_owner(&self) -> &'static str {
        match (self.memory.maximum() > self.memory.size.0, self.memory_demand() > self.memory.maximum()) {
            (false, false) => "the guest has",
            (true, false) => "the guest can get",
            (_, true) => "the guest and its memory: disks can use",
        }
    }

    /// Returns the machine's network adapters: those that are configured, or one on the user network for the embedded
    /// guest.
    pub(crate) fn machine_networks(&self) -> Vec<NetworkOptions> {
        match self.kernel {
            None if self.networks.is_empty() => vec![NetworkOptions::new(Attachment::User)],
            _ => self.networks.clone(),
        }
    }

    /// Returns the files that the machine creates or truncates: for its console, sockets, traces, captures, and at its end.
    pub(crate) fn written_files(&self) -> impl Iterator<Item = &Path> {
        let console = match &self.console {
            ConsoleConfig::File(path) | ConsoleConfig::Unix(path) => Some(path),
            _ => None,
        };
        let trace = self.trace.as_ref().and_then(|trace| trace.file.as_ref());
        let captures = self.networks.iter().filter_map(|network| network.pcap.as_ref());
        let sockets = self.vsock.as_ref().into_iter().chain(self.display.socket());
        let at_end = self.screenshot_at_end.iter().chain(&self.console_at_end);
        let files = console.into_iter().chain(sockets).chain(trace).chain(captures).chain(at_end);
        files.map(PathBuf::as_path)
    }

    /// Makes relative paths relative to `folder`. Paths in a settings file are relative to the file.
    pub(crate) fn rebase(&mut self, folder: &Path) {
        if let Some(KernelSource::File(path) | KernelSource::Flat { path, .. }) = &mut self.kernel {
            *path = folder.join(&*path);
        }
        self.disks.iter_mut().for_each(|disk| disk.rebase(folder));
        self.networks.iter_mut().for_each(|network| network.rebase(folder));
        if let Some(symbols) = &mut self.symbols {
            *symbols = folder.join(&*symbols);
        }
        if let Some(initrd) = &mut self.initrd {
            *initrd = folder.join(&*initrd);
        }
        if let Some(Trace { file: Some(file), .. }) = &mut self.trace {
            *file = folder.join(&*file);
        }
        if let Some(vsock) = &mut self.vsock {
            *vsock = folder.join(&*vsock);
        }
        self.display.rebase(folder);
        for file in self.screenshot_at_end.iter_mut().chain(&mut self.console_at_end) {
            *file = folder.join(&*file);
        }
        if let ConsoleConfig::File(path) | ConsoleConfig::Unix(path) = &mut self.console {
            *path = folder.join(&*path);
        }
    }
}

#[cfg(all(test, feature = "cli"))]
#[path = "config_tests.rs"]
mod tests;
