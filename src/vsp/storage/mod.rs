//! The storage service provider: SCSI controllers for Hyper-V's storage driver (hv_storvsc), whose disks are files of the host.
//!
//! From the guest's side to the host's:
//!
//! - [`storvsp`]: the protocol of the channels, pure.
//! - [`scsi`]: the SCSI target, pure.
//! - [`provider`]: the device on VMBus; [`worker`]: the requests of one channel; [`controller`], [`mod@unit`]: shared
//!   by channels.
//! - [`block`](crate::block): disk images and their I/O.
//! - [`config`]: the settings of a disk; [`disks`]: a machine's disks, with hot plug.
//! - [`trace`]: packets as readable lines.

pub mod config;
pub mod controller;
pub mod disks;
pub(crate) mod perform;
pub mod provider;
pub mod scsi;
pub mod storvsp;
pub mod trace;
pub mod unit;
pub mod worker;
