//! Viridian: a virtual machine monitor for Linux KVM that speaks Hyper-V to its guests.
//!
//! One process is the parent partition. Each KVM virtual machine in it is a child partition.
//!
//! ```no_run
//! use viridian::{Builder, End};
//!
//! let machine = Builder::new().kernel("my-kernel").cmdline("test=all").capture_console().start()?;
//! let console = machine.console().expect("it is captured");
//! console.wait_for("all tests passed", std::time::Duration::from_secs(60))?;
//! assert!(matches!(machine.wait(), End::PoweredOff));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`machine`]: one machine, from its configuration to its end. [`Builder`] makes one in a program.
//! - [`fleet`]: several machines, for example from one file.
//! - [`control`]: sockets on which other processes look at running machines, and change them.
//! - [`config`]: the settings of a machine. One definition gives the command line, its help and the TOML file.
//! - [`vmbus`]: devices of your own for the guest's VMBus: see [`vmbus::vsp`].
//! - [`hyperv`]: hypercalls of your own: see [`hyperv::hypercall`].
//! - [`platform`]: devices of your own on I/O ports, MMIO addresses and MSRs.
//! - [`vsp`]: disks and network adapters that come and go while a machine runs.
//! - [`process`]: signals and output of a program that runs machines.
//!
//! `examples/` has a program for each. `ARCHITECTURE.md` describes how the crate is built; what it does not list
//! here is private.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("Viridian runs on x86-64 Linux hosts only: it needs KVM and speaks the x64 interface of Hyper-V");

mod block;
mod boot;
pub mod config;
mod console;
pub mod control;
mod device;
mod engine;
pub mod fleet;
mod guest_images;
mod host;
pub mod hyperv;
#[cfg(feature = "_internals")]
#[doc(hidden)]
pub mod internals;
mod kvm;
pub mod machine;
mod memory;
#[cfg(test)]
#[path = "../tests/common/need.rs"]
mod need;
#[cfg(test)]
#[path = "../tests/common/need_tests.rs"]
mod need_tests;
mod net;
#[cfg(test)]
#[path = "../tests/common/patience.rs"]
mod patience;
#[cfg(test)]
#[path = "../tests/common/patience_tests.rs"]
mod patience_tests;
pub mod platform;
pub mod vmbus;
pub mod vsp;
mod wire;

pub use config::Config;
pub use fleet::Fleet;
pub use machine::{Builder, End, Machine, MachineError};

/// Helpers for the process of a program that runs machines: signals and limits.
pub mod process {
    // For the program of this package: it has other consoles than a machine's own.
    #[doc(hidden)]
    pub use crate::console::foreground::{Foreground, Interrupt};
    pub use crate::console::signals::{EndSignals, restore_terminal_on_signals};
    #[doc(hidden)]
    pub use crate::console::terminal::restore as restore_terminal;
    #[doc(hidden)]
    pub use crate::host::footprint::forget_start_up;
    #[doc(hidden)]
    pub use crate::host::limits::{is_reached as limit_is_reached, remedy as limit_remedy};
    #[doc(hidden)]
    pub use crate::host::paths::after as path_remedy;
    #[doc(hidden)]
    pub use crate::host::records::Records;
    #[doc(hidden)]
    pub use crate::wire::printable::Marked;

    /// Prepares the process: few heaps of the allocator, and an error instead of a signal where a file reaches the limit of
    /// its size (RLIMIT_FSIZE). To be called before the first thread is created.
    pub fn prepare() {
        crate::host::footprint::limit_heaps();
        crate::host::records::survive_file_size_limit();
    }
}
