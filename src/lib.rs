//! Viridian: a virtual machine monitor for Linux KVM that speaks Hyper-V to its guests.
//!
//! One process is the parent partition; every KVM virtual machine in it is a child partition.
//! The modules are floors, and each uses only what stands below it:
//!
//! - [`machine`]: one machine from a configuration to its end.
//! - [`vsp`]: service providers for storage and network, and the backends they drive.
//! - [`vmbus`]: the transport under them: offers, channels, rings.
//! - [`hyperv`]: the guest interface of the TLFS, on two engines.
//! - [`platform`]: the few classic devices a small guest wants.
//! - [`boot`]: a kernel file into memory, the first VP's state, the ACPI tables.
//! - `records`: files that are written beside the console: traces and captures.
//! - `magic`: what a file is by its bytes, for kernels and disks alike.
//! - [`size`]: sizes as people write them, for memory and disks alike.
//! - [`guest_images`]: the guest that a machine starts when it is given no kernel.
//! - `limited`: log lines that a guest can cause, limited in number.
//! - [`printable`]: text of guests, images and peers, made fit for a terminal.
//! - [`partition`]: KVM itself. Unsafe code lives there.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("Viridian runs on x86-64 Linux hosts only: it needs KVM and speaks the x64 interface of Hyper-V");

pub mod boot;
pub mod guest_images;
pub mod hyperv;
mod limited;
pub mod machine;
mod magic;
#[cfg(test)]
#[path = "../tests/common/need.rs"]
mod need;
#[cfg(test)]
#[path = "../tests/common/need_tests.rs"]
mod need_tests;
mod panics;
pub mod partition;
#[cfg(test)]
#[path = "../tests/common/patience.rs"]
mod patience;
#[cfg(test)]
#[path = "../tests/common/patience_tests.rs"]
mod patience_tests;
pub mod platform;
pub mod printable;
pub mod records;
pub mod size;
pub mod vmbus;
pub mod vsp;
