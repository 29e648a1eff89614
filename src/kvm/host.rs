//! The host's KVM: opens it, and reports what it offers.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Kvm;
use vmm_sys_util::ioctl::ioctl_with_mut_ptr;

mod requests {
    #![allow(missing_docs)]
    vmm_sys_util::ioctl_iowr_nr!(KVM_GET_SUPPORTED_HV_CPUID, kvm_bindings::KVMIO, 0xc1, kvm_bindings::kvm_cpuid2);
}
use requests::KVM_GET_SUPPORTED_HV_CPUID;

/// The path of KVM's device.
const DEVICE: &CStr = c"/dev/kvm";

/// The reason why KVM cannot be used on this host, with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The device does not exist.
    #[error(
        "/dev/kvm: not found; load KVM (modprobe kvm-intel or kvm-amd), enable virtualization in the firmware, \
         or, in a virtual machine, enable nesting on its host"
    )]
    Missing,
    /// The device exists, but this user may not open it.
    #[error(
        "/dev/kvm: permission denied; {opening}join the group {group}: sudo usermod -aG {group} $USER, then log in again"
    )]
    Forbidden {
        /// The group that owns the device, or should own it.
        group: String,
        /// The command that gives access to that group, if it has none.
        opening: &'static str,
    },
    /// Something else is at that path.
    #[error("/dev/kvm: this is not KVM's device ({what}); load KVM (modprobe kvm-intel or kvm-amd)")]
    NotKvm {
        /// What was found there.
        what: String,
    },
    /// Opening it failed for another reason.
    #[error("/dev/kvm: cannot be opened: {0}")]
    Open(io::Error),
    /// The version of KVM's API is not the one that Viridian uses.
    #[error("/dev/kvm: its API is version {0}, Viridian needs {KVM_API_VERSION}; update the host's kernel")]
    Version(i32),
    /// KVM lacks a capability that every machine needs.
    #[error("this host's KVM lacks {name} ({purpose}); Linux 5.10 or later has it")]
    Lacks {
        /// The capability's name in the kernel's headers.
        name: &'static str,
        /// The purpose of the capability.
        purpose: &'static str,
    },
    /// Guest memory has no address in this process.
    #[error("the guest's memory is not mapped in this process")]
    UnmappedMemory,
    /// A KVM call failed.
    #[error("KVM refused {call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
}

impl HostError {
    /// Returns a conversion of errors of the KVM call `call`, for `map_err`.
    pub(crate) fn call(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Call { call, source: error.into() }
    }
}

/// What a capability is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Any machine.
    Machine,
    /// The kernel engine.
    KernelEngine,
    /// The user engine.
    UserEngine,
    /// A feature that a guest can do without.
    Comfort,
}

/// One capability that Viridian asks KVM about.
#[derive(Debug)]
pub struct Capability {
    /// What the capability is needed for.
    pub need: Need,
    /// Its name in the kernel's headers.
    pub name: &'static str,
    /// Its purpose.
    pub purpose: &'static str,
    number: u32,
}

macro_rules! capabilities {
    ($($need:ident $cap:ident $purpose:literal)*) => {
        &[$(Capability { need: Need::$need, name: stringify!($cap), purpose: $purpose, number: kvm_bindings::$cap }),*]
    };
}

/// All capabilities that Viridian uses.
pub const CAPABILITIES: &[Capability] = capabilities! {
    Machine KVM_CAP_USER_MEMORY "guest memory"
    Machine KVM_CAP_EXT_CPUID "what CPUID tells guests"
    Machine KVM_CAP_MP_STATE "starting processors"
    Machine KVM_CAP_IRQCHIP "local APICs"
    Machine KVM_CAP_IMMEDIATE_EXIT "stopping processors promptly"
    Machine KVM_CAP_IOEVENTFD "doorbells by eventfd"
    Machine KVM_CAP_IRQFD "interrupts by eventfd"
    Machine KVM_CAP_IRQ_ROUTING "interrupt routing"
    Machine KVM_CAP_SIGNAL_MSI "interrupts by message"
    Machine KVM_CAP_SYNC_REGS "registers that come with an exit"
    UserEngine KVM_CAP_X86_USER_SPACE_MSR "MSR exits"
    UserEngine KVM_CAP_X86_MSR_FILTER "choosing which MSRs exit"
    KernelEngine KVM_CAP_HYPERV "Hyper-V's MSRs"
    KernelEngine KVM_CAP_HYPERV_TIME "Hyper-V's reference time"
    KernelEngine KVM_CAP_HYPERV_SYNIC2 "Hyper-V's interrupt controller"
    KernelEngine KVM_CAP_HYPERV_VP_INDEX "numbering processors as Hyper-V does"
    KernelEngine KVM_CAP_HYPERV_CPUID "what KVM can emulate of Hyper-V"
    KernelEngine KVM_CAP_HYPERV_ENFORCE_CPUID "holding guests to what CPUID offers"
    Comfort KVM_CAP_SPLIT_IRQCHIP "local APICs without PIC and IOAPIC"
    Comfort KVM_CAP_PIT2 "the PC's interval timer"
    Comfort KVM_CAP_TSC_DEADLINE_TIMER "the local APIC's TSC deadline"
    Comfort KVM_CAP_TSC_CONTROL "guests with a TSC frequency of their own"
};

/// An open `/dev/kvm`.
#[derive(Debug)]
pub struct Host {
    kvm: Kvm,
}

impl Host {
    /// Opens KVM and checks that it can run a machine.
    ///
    /// # Errors
    /// Returns the obstacle, with a remedy.
    pub fn open() -> Result<Self, HostError> {
        let host = Self::open_unchecked()?;
        let lacking = host.lacks(Need::Machine).next();
        match lacking {
            Some(Capability { name, purpose, .. }) => Err(HostError::Lacks { name, purpose }),
            None => Ok(host),
        }
    }

    /// Opens KVM and checks only its API version, to report what it offers.
    ///
    /// # Errors
    /// Returns the obstacle, with a remedy.
    pub fn open_unchecked() -> Result<Self, HostError> {
        let kvm = Kvm::new_with_path(DEVICE).map_err(|error| explain(error.into()))?;
        match kvm.get_api_version() {
            version if version == KVM_API_VERSION as i32 => Ok(Self { kvm }),
            -1 => Err(HostError::NotKvm { what: describe(Path::new("/dev/kvm")) }),
            version => Err(HostError::Version(version)),
        }
    }

    /// Returns `true` if KVM has a capability.
    pub fn has(&self, capability: &Capability) -> bool {
        self.kvm.check_extension_raw(capability.number.into()) > 0
    }

    /// Returns the capabilities that are required for `need` and missing in KVM.
    pub fn lacks(&self, need: Need) -> impl Iterator<Item = &'static Capability> {
        CAPABILITIES.iter().filter(move |wanted| wanted.need == need && !self.has(wanted))
    }

    /// Returns the maximum number of VPs of a machine on this host.
    pub fn max_vps(&self) -> usize {
        self.kvm.get_max_vcpus()
    }

    /// Returns the processor features that KVM can give a guest.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn supported_cpuid(&self) -> Result<CpuId, HostError> {
        self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(HostError::call("the list of CPUID features"))
    }

    /// Returns `true` if KVM can save the exits of EOIs: see [`Vp::set_eoi_field`](super::vp::Vp::set_eoi_field). It cannot
    /// where the processor virtualizes the APIC; there, most EOIs cause no exit anyway.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn skips_eois(&self) -> Result<bool, HostError> {
        const KVM_FEATURES: u32 = 0x4000_0001;
        const PV_EOI: u32 = 1 << 6;
        const VIRTUALIZES: [&str; 2] =
            ["/sys/module/kvm_intel/parameters/enable_apicv", "/sys/module/kvm_amd/parameters/avic"];
        let uses_apic_virtualization =
            |file| std::fs::read_to_string(file).ok().map(|on| !matches!(on.trim(), "N" | "0"));
        let answers: Vec<bool> = VIRTUALIZES.into_iter().filter_map(uses_apic_virtualization).collect();
        if answers.is_empty() || answers.contains(&true) {
            return Ok(false);
        }
        let cpuid = self.supported_cpuid()?;
        Ok(cpuid.as_slice().iter().any(|entry| entry.function == KVM_FEATURES && entry.eax & PV_EOI != 0))
    }

    /// Returns the Hyper-V leaves that KVM can emulate.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn supported_hyperv_cpuid(&self) -> Result<CpuId, HostError> {
        let failed = HostError::call("the list of Hyper-V features");
        let mut leaves = CpuId::new(KVM_MAX_CPUID_ENTRIES).map_err(|_| HostError::UnmappedMemory)?;
        // SAFETY: the structure has room for the number of entries that it states.
        let result =
            unsafe { ioctl_with_mut_ptr(&self.kvm, KVM_GET_SUPPORTED_HV_CPUID(), leaves.as_mut_fam_struct_ptr()) };
        if result == 0 { Ok(leaves) } else { Err(failed(kvm_ioctls::Error::last())) }
    }

    pub(crate) fn kvm(&self) -> &Kvm {
        &self.kvm
    }
}

fn explain(error: io::Error) -> HostError {
    match error.kind() {
        io::ErrorKind::NotFound => HostError::Missing,
        io::ErrorKind::PermissionDenied => forbidden(),
        // ENXIO and ENODEV: a device node without a driver behind it.
        _ if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) => HostError::Missing,
        io::ErrorKind::IsADirectory => HostError::NotKvm { what: "a directory".into() },
        _ => HostError::Open(error),
    }
}

/// Returns an error that says who may open KVM's device, and how to get access.
fn forbidden() -> HostError {
    const GROUP_MAY: u32 = 0o060;
    let device = std::fs::metadata("/dev/kvm").ok().filter(|device| device.gid() != 0);
    let name_of = |line: &str, gid: u32| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let group = device.as_ref().and_then(|device| groups.lines().find_map(|line| name_of(line, device.gid())));
    let is_open = device.is_some_and(|device| device.mode() & GROUP_MAY == GROUP_MAY);
    match group {
        Some(group) if is_open => HostError::Forbidden { group, opening: "" },
        // Only root has access, as on hosts without a udev rule for it.
        _ => HostError::Forbidden {
            group: "kvm".into(),
            opening: "let a group in: sudo chgrp kvm /dev/kvm && sudo chmod g+rw /dev/kvm; and ",
        },
    }
}

fn describe(path: &Path) -> String {
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.file_type().is_char_device() => "another character device".into(),
        Ok(found) if found.is_file() => "a regular file".into(),
        _ => "something else".into(),
    }
}
