//! Errors of a machine.

use std::path::PathBuf;

use super::end::code;
use crate::boot::BootError;
use crate::config::conflicts::Conflict;
use crate::config::cpus::CpusError;
use crate::console::ConsoleError;
use crate::engine::SetupError;
use crate::host::limits;
use crate::kvm::host::HostError;
use crate::kvm::vp::VpError;
use crate::memory::MemoryError;
use crate::vmbus::bus::ConnectError;
use crate::vmbus::connection::OfferError;
use crate::vsp::memory::config::MemorySettingsError;
use crate::vsp::network::nics::AttachNicError;
use crate::vsp::screen::set::ScreenError;
use crate::vsp::services::config::ServiceOptionsError;
use crate::vsp::sockets::SocketsError;
use crate::vsp::storage::disks::AttachDiskError;

/// The reason why a machine cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The settings of the processors are invalid.
    #[error(transparent)]
    Cpus(#[from] CpusError),
    /// The machine has more VPs than the host's KVM can run.
    #[error("--cpus {count}: this host's KVM runs at most {max} virtual processors in one machine")]
    TooManyVps {
        /// The requested number.
        count: u32,
        /// The maximum of KVM.
        max: usize,
    },
    /// A VP cannot be bound to its host processor.
    #[error("--cpus affinity: VP {vp} cannot be bound to host processor {processor}: {source}")]
    Affinity {
        /// The VP's index.
        vp: u32,
        /// The host processor's number.
        processor: usize,
        /// The error of the host.
        source: std::io::Error,
    },
    /// Guest memory cannot be allocated.
    #[error("--memory: {0}")]
    Memory(#[from] MemoryError),
    /// The sizes of guest memory do not fit together.
    #[error("--memory: {0}")]
    MemorySettings(#[from] MemorySettingsError),
    /// The guest cannot hibernate with memory whose size changes.
    #[error(
        "--hibernation and memory whose size changes exclude each other: leave out min, max and cold-discard of --memory, or --hibernation"
    )]
    Hibernation,
    /// The guest's screen, keyboard and mouse cannot be offered.
    #[error(transparent)]
    Display(#[from] ScreenError),
    /// The kernel, the initrd or the command line cannot be used.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The console cannot be opened.
    #[error("--console: {0}")]
    Console(#[from] ConsoleError),
    /// The file for the console's newest output cannot be opened.
    #[error("--console-at-end: {0}")]
    ConsoleAtEnd(#[source] ConsoleError),
    /// KVM refuses.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No engine can run here.
    #[error("no Hyper-V engine can run on this host: {refusals}; {remedy}")]
    NoEngine {
        /// The missing capabilities of each engine.
        refusals: String,
        /// A remedy.
        remedy: &'static str,
    },
    /// The engine cannot be set up.
    #[error(transparent)]
    Engine(#[from] SetupError),
    /// The output of the trace cannot be opened.
    #[error("--trace: cannot write {path}: {source}; {advice}")]
    Trace {
        /// The file.
        path: PathBuf,
        /// The error of the host.
        source: std::io::Error,
        /// A remedy.
        advice: &'static str,
    },
    /// A disk cannot be attached.
    #[error("--disk: {0}")]
    Disk(#[from] AttachDiskError),
    /// A network adapter cannot be attached.
    #[error("--net: {0}")]
    Network(#[from] AttachNicError),
    /// The settings of the integration services are invalid.
    #[error("--services: {0}")]
    Services(#[from] ServiceOptionsError),
    /// The sockets cannot be made.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// A setting has no effect beside another one.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A device cannot be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// VMBus cannot connect to the engine.
    #[error(transparent)]
    VmBus(#[from] ConnectError),
    /// A VP cannot continue.
    #[error("VP {vp}: {source}{place}")]
    Vp {
        /// The VP's index.
        vp: u32,
        /// A description of the code that the VP was executing. It follows a sentence.
        place: String,
        /// The reason.
        source: VpError,
    },
    /// The host cannot start a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The host refuses a file descriptor that the machine needs.
    #[error("the host refuses {what}: {source}")]
    Descriptor {
        /// The purpose of the descriptor.
        what: &'static str,
        /// The error of the host.
        source: std::io::Error,
    },
    /// A device or hypercall of the library's user cannot be added.
    #[error("{what}: {problem}")]
    Own {
        /// The device or hypercall, identified by its address or code.
        what: String,
        /// The problem.
        problem: String,
    },
    /// A defect in Viridian.
    #[error("a defect in Viridian: {0}; please report it")]
    Defect(String),
}

impl MachineError {
    /// Returns the exit code of a process that ends with this error.
    pub fn exit_code(&self) -> u8 {
        // Whatever needed it, the settings may be right.
        if limits::is_reached(&self.to_string()) {
            return code::FAILED;
        }
        match self {
            Self::Disk(error) if error.is_hosts() => code::FAILED,
            Self::Network(error) if error.is_hosts() => code::FAILED,
            Self::Cpus(_)
            | Self::Boot(_)
            | Self::Disk(_)
            | Self::Network(_)
            | Self::Services(_)
            | Self::Sockets(SocketsError::InUse(_) | SocketsError::Refused { .. })
            | Self::MemorySettings(_)
            | Self::Hibernation
            | Self::Conflict(_)
            | Self::Display(
                ScreenError::NothingAtEnd | ScreenError::AtEnd { .. } | ScreenError::Settings(_) | ScreenError::Vnc(_),
            )
            | Self::Console(ConsoleError::Open { .. } | ConsoleError::SocketInUse { .. })
            | Self::ConsoleAtEnd(_)
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
