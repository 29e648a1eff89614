//! The guest images that are part of this program.
//!
//! They are small test kernels that the build script compiles from `guest-images/`. The others are for the
//! crate's own tests and benches, which find them in the folder `env!("VIRIDIAN_GUEST_IMAGES")`.

/// The kernel of a machine without a configured one: an ELF kernel for PVH and for the 64-bit Linux boot protocol, which
/// describes the machine on its console, uses the devices that VMBus offers, and powers off.
///
/// It writes only to disks that are [marked as scratch](crate::vsp::storage::scsi::Identity::scratch).
pub const EMBEDDED: &[u8] = include_bytes!(concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/vsc"));

/// Somebody to talk to on a network, who answers or asks as the command line says: see `guest-images/peer`.
pub const PEER: &[u8] = include_bytes!(concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/peer"));

/// All embedded images, with their names for `--kernel embedded:NAME`.
pub const ALL: [(&str, &[u8]); 2] = [("vsc", EMBEDDED), ("peer", PEER)];
