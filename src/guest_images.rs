//! The guest that a machine starts when it is given no kernel.
//!
//! It is one of the small test kernels that the build script compiles from `guest-images/`. The others are for the
//! crate's own tests and benches, which find them in the folder `env!("VIRIDIAN_GUEST_IMAGES")`.

/// The embedded guest image: an ELF kernel for PVH and for the 64-bit Linux boot protocol, which
/// reports on its console what machine it finds, uses what VMBus offers, and turns the machine off.
///
/// It writes to disks that [say of themselves](crate::vsp::storage::scsi::Identity::scratch) that they are scratch, and to no
/// others.
pub const EMBEDDED: &[u8] = include_bytes!(concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/vsc"));
