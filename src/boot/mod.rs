//! A kernel file into guest memory, the first VP's state, and the ACPI tables.
//!
//! [`load`] takes what a user named as kernel ([`KernelSource`]), finds out what it is, puts it into memory with its initrd,
//! command line and boot information, and describes as data how VP 0 enters it ([`Entry`]). What it is, is
//! found out from the file; a file that is no kernel is refused with what it is and what to do ([`BootError`]).
//!
//! | file | entered by |
//! | --- | --- |
//! | Linux bzImage | the 64-bit Linux boot protocol, or the 32-bit one where it has no 64-bit entry |
//! | ELF with a PVH note | PVH |
//! | ELF with a multiboot header, or any file with one that has addresses | multiboot |
//! | ELF of 64 bits with neither | the 64-bit Linux boot protocol, at `e_entry` |
//! | `flat:PATH@ADDRESS,mode=…` | as it says |
//!
//! [`layout`] is the machine's address map; [`acpi`] tells the guest about it. Nothing here runs a guest.

pub mod acpi;
mod bzimage;
mod dsdt;
mod elf;
mod entry;
mod error;
mod file;
mod firmware;
#[cfg(test)]
mod fixtures;
mod flat;
mod foreign;
mod image;
pub mod layout;
mod linux;
mod loader;
mod multiboot;
mod notes;
mod placement;
mod pvh;
mod source;
pub mod symbols;

pub use entry::{Entry, Protocol};
pub use error::{BootError, Occupant};
pub use loader::load;
pub use source::{DEFAULT_FLAT_ADDRESS, FlatMode, KernelSource, SourceError};
