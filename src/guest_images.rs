//! The guest images that are part of this program.
//!
//! They are small test kernels that the build script compiles from `guest-images/`. The others are for the
//! crate's own tests and benches, which find them in the folder `env!("VIRIDIAN_GUEST_IMAGES")`.

/// What a machine starts when it is given no kernel: an ELF kernel for PVH and for the 64-bit Linux boot protocol, which
/// reports on its console what machine it finds, uses what VMBus offers, and turns the machine off.
///
/// It writes to disks that [say of themselves](crate::vsp::storage::scsi::Identity::scratch) that they are scratch, and to no
/// others.
pub const EMBEDDED: &[u8] = include_bytes!(concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/vsc"));

/// Somebody to talk to on a network, who answers or asks as the command line says: see `guest-images/peer`.
pub const PEER: &[u8] = include_bytes!(concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/peer"));

/// All of them by their names, which `--kernel embedded:NAME` takes.
pub const ALL: [(&str, &[u8]); 2] = [("vsc", EMBEDDED), ("peer", PEER)];
