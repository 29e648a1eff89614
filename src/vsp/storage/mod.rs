//! The storage service provider: SCSI controllers for Hyper-V's storage driver (hv_storvsc), whose disks are files of the host.
//!
//! From the guest's side inwards:
//!
//! - [`storvsp`]: the protocol in the channels, pure.
//! - [`scsi`]: the target behind it, pure.
//! - [`provider`]: the device on VMBus; [`worker`]: one channel's work; [`controller`], [`mod@unit`]: what channels share.
//! - [`block`](crate::block): disk images and how their I/O is done.
//! - [`config`]: what a user says of a disk; [`disks`]: a machine's disks, which may come and go.
//! - [`trace`]: any packet as one readable line.

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
