//! Viridian: a virtual machine monitor for Linux KVM that speaks Hyper-V to its guests.
//!
//! One process is the parent partition. Each KVM virtual machine in it is a child partition.
//!
//! The modules are floors, from the top down. Each uses only modules that stand below it:
//!
//! - [`fleet`]: several machines from one file.
//! - [`machine`]: one machine, from its configuration to its end.
//! - [`config`]: the settings of a machine. One definition gives the command line, its help and the TOML file.
//! - [`vsp`]: the service providers behind VMBus devices: storage and network.
//! - [`vmbus`]: offers, channels, rings.
//! - [`engine`]: the two implementations of the Hyper-V interface.
//! - [`hyperv`]: the protocol of the TLFS, without threads and ioctls.
//! - [`platform`]: ports, MMIO, interrupt lines and the few classic devices of a small machine.
//! - [`console`]: where the serial console of a machine goes.
//! - [`boot`]: loads a kernel file, sets the first VP's state, writes the ACPI tables.
//! - [`block`]: disk images, and the threads and rings that do their I/O.
//! - [`net`]: Ethernet frames, offloads, and the networks that adapters are plugged into.
//! - [`kvm`]: KVM's virtual machines and virtual processors.
//! - [`memory`]: guest memory and buffers in it.
//! - [`host`]: what the process asks of its host.
//! - [`wire`]: wire types, and sizes and words as text.
//!
//! [`guest_images`] holds the guest that a machine starts when it is given no kernel.
//! Only [`host`], [`kvm`] and [`memory`] contain `unsafe` code, and the few files in other modules that
//! `tests/architecture.rs` names.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("Viridian runs on x86-64 Linux hosts only: it needs KVM and speaks the x64 interface of Hyper-V");

pub mod block;
pub mod boot;
pub mod config;
pub mod console;
pub mod engine;
pub mod fleet;
pub mod guest_images;
pub mod host;
pub mod hyperv;
pub mod kvm;
pub mod machine;
pub mod memory;
#[cfg(test)]
#[path = "../tests/common/need.rs"]
mod need;
#[cfg(test)]
#[path = "../tests/common/need_tests.rs"]
mod need_tests;
pub mod net;
#[cfg(test)]
#[path = "../tests/common/patience.rs"]
mod patience;
#[cfg(test)]
#[path = "../tests/common/patience_tests.rs"]
mod patience_tests;
pub mod platform;
pub mod vmbus;
pub mod vsp;
pub mod wire;
