//! The storage provider under the tools that judge SCSI devices: libiscsi's conformance tests and sg3_utils.
//!
//! The tools think that they have a Linux sg device. A preloaded library sends their commands here, each becomes a storvsp packet
//! with guest pages, and takes all of the way that a guest's command takes: protocol, SCSI target, I/O engine, file.

#[path = "../common/mod.rs"]
mod common;
mod speed;
mod target;
mod tools;
