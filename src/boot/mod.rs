//! Loads a kernel file into guest memory, and creates the first VP's state and the ACPI tables.
//!
//! [`load`] takes the kernel that the user named ([`KernelSource`]), determines its format, loads it with its initrd,
//! command line and boot information, and returns the state in which VP 0 enters it ([`Entry`]). A file that is not a
//! kernel is refused with an error that names its kind and a remedy ([`BootError`]).
//!
//! | file | boot protocol |
//! | --- | --- |
//! | Linux bzImage | the 64-bit Linux boot protocol, or the 32-bit one if it has no 64-bit entry |
//! | ELF with a PVH note | PVH |
//! | ELF with a multiboot header, or any file with one that has addresses | multiboot |
//! | 64-bit ELF with neither | the 64-bit Linux boot protocol, at `e_entry` |
//! | `flat:PATH@ADDRESS,mode=…` | none |
//!
//! [`layout`] is the machine's address map, which [`acpi`] describes to the guest. Nothing here runs a guest.

pub mod acpi;
mod bzimage;
mod description;
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
mod handover;
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

pub use entry::Entry;
pub use error::BootError;
pub use handover::Framebuffer;
pub use loader::load;
pub use source::{FlatMode, KernelSource};
