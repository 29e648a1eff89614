//! The host's KVM: opening it, and what it offers.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm};

/// Where Linux puts KVM.
const DEVICE: &CStr = c"/dev/kvm";

/// Why KVM cannot be used on this host, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such device.
    #[error(
        "/dev/kvm: not found; load KVM (modprobe kvm-intel or kvm-amd), enable virtualization in the firmware, \
         or, in a virtual machine, enable nesting on its host"
    )]
    Missing,
    /// The device exists but this user may not open it.
    #[error("/dev/kvm: permission denied; join the group {group}: sudo usermod -aG {group} $USER, then log in again")]
    Forbidden {
        /// The group that the device belongs to.
        group: String,
    },
    /// Something else is at that path.
    #[error("/dev/kvm: this is not KVM's device ({what}); load KVM (modprobe kvm-intel or kvm-amd)")]
    NotKvm {
        /// What was found there.
        what: String,
    },
    /// It cannot be opened for another reason.
    #[error("/dev/kvm: cannot be opened: {0}")]
    Open(io::Error),
    /// KVM's interface is not the one we speak.
    #[error("/dev/kvm: its API is version {0}, Viridian needs {KVM_API_VERSION}; update the host's kernel")]
    Version(i32),
    /// KVM lacks something without which no machine can run.
    #[error("this host's KVM lacks {name}, {purpose}; Linux 5.10 or later has it")]
    Lacks {
        /// The capability's name in the kernel's headers.
        name: &'static str,
        /// What it is needed for.
        purpose: &'static str,
    },
    /// Guest memory has no address in this process.
    #[error("the guest's memory is not mapped in this process")]
    UnmappedMemory,
    /// A KVM call failed.
    #[error("KVM refused {call}: {source}")]
    Call {
        /// What was asked.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl HostError {
    /// An error of the KVM call `call`, for `map_err`.
    pub(crate) fn call(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Call { call, source: error.into() }
    }
}

/// One capability that Viridian asks KVM about.
pub struct Capability {
    /// Its name in the kernel's headers.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether no machine runs without it.
    pub required: bool,
    cap: Cap,
}

impl Capability {
    const fn required(cap: Cap, name: &'static str, purpose: &'static str) -> Self {
        Self { name, purpose, required: true, cap }
    }

    const fn optional(cap: Cap, name: &'static str, purpose: &'static str) -> Self {
        Self { name, purpose, required: false, cap }
    }
}

/// The capabilities that a machine itself wants; the engines have theirs beside them.
pub const CAPABILITIES: &[Capability] = &[
    Capability::required(Cap::UserMemory, "KVM_CAP_USER_MEMORY", "which gives guests memory"),
    Capability::required(Cap::ExtCpuid, "KVM_CAP_EXT_CPUID", "which sets what CPUID tells guests"),
    Capability::required(Cap::MpState, "KVM_CAP_MP_STATE", "which starts processors"),
    Capability::required(Cap::Irqchip, "KVM_CAP_IRQCHIP", "the local APICs"),
    Capability::required(Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "which stops processors promptly"),
    Capability::optional(Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP", "local APICs without PIC and IOAPIC"),
    Capability::optional(Cap::Pit2, "KVM_CAP_PIT2", "the PC's interval timer"),
    Capability::optional(Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING", "interrupt routing"),
    Capability::optional(Cap::Irqfd, "KVM_CAP_IRQFD", "interrupts by eventfd"),
    Capability::optional(Cap::Ioeventfd, "KVM_CAP_IOEVENTFD", "doorbells by eventfd"),
    Capability::optional(Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI", "interrupts by message"),
    Capability::optional(Cap::SyncRegs, "KVM_CAP_SYNC_REGS", "registers that come with an exit"),
    Capability::optional(Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER", "the local APIC's TSC deadline"),
    Capability::optional(Cap::X86UserSpaceMsr, "KVM_CAP_X86_USER_SPACE_MSR", "MSR exits, for the user engine"),
    Capability::optional(Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER", "MSR filters, for the user engine"),
    Capability::optional(Cap::Hyperv, "KVM_CAP_HYPERV", "Hyper-V MSRs, for the kernel engine"),
    Capability::optional(Cap::HypervSynic2, "KVM_CAP_HYPERV_SYNIC2", "Hyper-V's SynIC, for the kernel engine"),
];

/// An open `/dev/kvm`.
#[derive(Debug)]
pub struct Host {
    kvm: Kvm,
}

impl Host {
    /// Opens KVM and makes sure that it can run a machine at all.
    ///
    /// # Errors
    /// What stands in the way, and the remedy.
    pub fn open() -> Result<Self, HostError> {
        let host = Self::open_unchecked()?;
        match CAPABILITIES.iter().find(|wanted| wanted.required && !host.has(wanted)) {
            Some(lacking) => Err(HostError::Lacks { name: lacking.name, purpose: lacking.purpose }),
            None => Ok(host),
        }
    }

    /// Opens KVM without asking for more than its API version, to report what it offers.
    ///
    /// # Errors
    /// What stands in the way, and the remedy.
    pub fn open_unchecked() -> Result<Self, HostError> {
        let kvm = Kvm::new_with_path(DEVICE).map_err(|error| explain(error.into()))?;
        match kvm.get_api_version() {
            version if version == KVM_API_VERSION as i32 => Ok(Self { kvm }),
            -1 => Err(HostError::NotKvm { what: describe(Path::new("/dev/kvm")) }),
            version => Err(HostError::Version(version)),
        }
    }

    /// Whether KVM has a capability.
    pub fn has(&self, capability: &Capability) -> bool {
        self.kvm.check_extension(capability.cap)
    }

    /// The most virtual processors that one machine can have here.
    pub fn max_vps(&self) -> usize {
        self.kvm.get_max_vcpus()
    }

    /// The processor features that KVM can give a guest.
    ///
    /// # Errors
    /// KVM's own.
    pub fn supported_cpuid(&self) -> Result<CpuId, HostError> {
        self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(HostError::call("the list of CPUID features"))
    }

    pub(crate) fn kvm(&self) -> &Kvm {
        &self.kvm
    }
}

fn explain(error: io::Error) -> HostError {
    match error.kind() {
        io::ErrorKind::NotFound => HostError::Missing,
        io::ErrorKind::PermissionDenied => HostError::Forbidden { group: device_group() },
        // ENXIO and ENODEV: a device node without a driver behind it.
        _ if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) => HostError::Missing,
        io::ErrorKind::IsADirectory => HostError::NotKvm { what: "a directory".into() },
        _ => HostError::Open(error),
    }
}

/// The name of the group that may open KVM's device; "kvm" where that helps nobody.
fn device_group() -> String {
    let gid = std::fs::metadata("/dev/kvm").map_or(0, |device| device.gid());
    let name_of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (gid != 0 && fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    groups.lines().find_map(name_of).unwrap_or_else(|| "kvm".into())
}

fn describe(path: &Path) -> String {
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.file_type().is_char_device() => "another character device".into(),
        Ok(found) if found.is_file() => "a regular file".into(),
        _ => "something else".into(),
    }
}
