//! The storage service provider: SCSI controllers for Hyper-V's storage driver (hv_storvsc), whose disks are files of the host.
//!
//! From the guest's side to the host's:
//!
//! - `storvsp`: the protocol of the channels, pure.
//! - `scsi`: the SCSI target, pure. It makes requests to disks: see `block`.
//! - `provider`: the device on VMBus; `worker`: the requests of one channel; `controller`, `unit`: shared
//!   by channels.
//! - `config`: the settings of a disk; `disks`: a machine's disks, with hot plug.
//! - `trace`: packets as readable lines.

pub(crate) mod config;
pub(crate) mod controller;
mod device;
pub(crate) mod disks;
#[cfg(test)]
mod model_tests;
mod place;
pub(crate) mod provider;
pub(crate) mod scsi;
pub(crate) mod storvsp;
pub(crate) mod trace;
pub(crate) mod unit;
pub(crate) mod worker;

pub use crate::block::{BackingFiles, Cache, Format};
pub use config::{ConfigError, DiskConfig, Media};
pub use disks::{AttachDiskError, Disks};
pub use place::Place;
