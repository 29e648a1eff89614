//! What can go wrong with a machine.

use std::path::PathBuf;

use super::end::code;
use crate::boot::BootError;
use crate::config::cpus::CpusError;
use crate::console::ConsoleError;
use crate::engine::SetupError;
use crate::kvm::host::HostError;
use crate::kvm::vp::VpError;
use crate::memory::MemoryError;
use crate::vmbus::bus::ConnectError;
use crate::vmbus::connection::OfferError;
use crate::vsp::network::nics::AttachNicError;
use crate::vsp::services::config::ServiceOptionsError;
use crate::vsp::storage::disks::AttachDiskError;

/// Why a machine cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The processors that were asked for.
    #[error(transparent)]
    Cpus(#[from] CpusError),
    /// This host's KVM cannot run that many.
    #[error("--cpus {count}: this host's KVM runs at most {max} virtual processors in one machine")]
    TooManyVps {
        /// How many were asked for.
        count: u32,
        /// How many KVM can run.
        max: usize,
    },
    /// A VP cannot be bound to its host processor.
    #[error("--cpus affinity: VP {vp} cannot be bound to host processor {processor}: {source}")]
    Affinity {
        /// The VP's index.
        vp: u32,
        /// The host processor's number.
        processor: usize,
        /// The host's answer.
        source: std::io::Error,
    },
    /// Guest memory.
    #[error("--memory: {0}")]
    Memory(#[from] MemoryError),
    /// Kernel, initrd or command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The console.
    #[error("--console: {0}")]
    Console(#[from] ConsoleError),
    /// KVM.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No engine can run here.
    #[error("no Hyper-V engine can run on this host: {refusals}; {remedy}")]
    NoEngine {
        /// What each engine lacks.
        refusals: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The engine cannot be set up.
    #[error(transparent)]
    Engine(#[from] SetupError),
    /// The trace has nowhere to go.
    #[error("--trace: cannot write {path}: {source}; {advice}")]
    Trace {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        source: std::io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// The disks that were asked for.
    #[error("--disk: {0}")]
    Disk(#[from] AttachDiskError),
    /// The network adapters that were asked for.
    #[error("--net: {0}")]
    Network(#[from] AttachNicError),
    /// The integration services that were asked for.
    #[error("--services: {0}")]
    Services(#[from] ServiceOptionsError),
    /// A device cannot be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// VMBus cannot be had.
    #[error(transparent)]
    VmBus(#[from] ConnectError),
    /// A VP cannot go on.
    #[error("VP {vp}: {source}{place}")]
    Vp {
        /// The VP's index.
        vp: u32,
        /// What it was to execute, in words: follows a sentence.
        place: String,
        /// Why.
        source: VpError,
    },
    /// The host has no thread for us.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A file descriptor that the machine needs.
    #[error("the host refuses {what}: {source}")]
    Descriptor {
        /// What for.
        what: &'static str,
        /// The host's answer.
        source: std::io::Error,
    },
    /// A device or hypercall of the library's user cannot be had.
    #[error("{what}: {problem}")]
    Own {
        /// Which, by where it is.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Viridian's own fault.
    #[error("a defect in Viridian: {0}; please report it")]
    Defect(String),
}

impl MachineError {
    /// The exit code of a process that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Disk(error) if error.is_hosts() => code::FAILED,
            Self::Network(error) if error.is_hosts() => code::FAILED,
            Self::Cpus(_)
            | Self::Boot(_)
            | Self::Disk(_)
            | Self::Network(_)
            | Self::Services(_)
            | Self::Console(ConsoleError::Open { .. } | ConsoleError::SocketInUse { .. })
            | Self::Trace { .. }
            | Self::Engine(SetupError::Switch(_))
            | Self::Memory(MemoryError::Size { .. }) => code::USAGE,
            Self::NoEngine { .. }
            | Self::Host(
                HostError::Missing
                | HostError::Forbidden { .. }
                | HostError::NotKvm { .. }
                | HostError::Open(_)
                | HostError::Version(_)
                | HostError::Lacks { .. },
            ) => code::NO_KVM,
            _ => code::FAILED,
        }
    }
}
