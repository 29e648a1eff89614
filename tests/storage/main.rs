//! The storage provider under tools that check SCSI devices: libiscsi's conformance tests and sg3_utils.
//!
//! The tools use a Linux sg device. A preloaded library sends their commands to this process, where each becomes a storvsp packet
//! with guest pages, and takes the same path as a guest's command: protocol, SCSI target, I/O engine, file.

#[path = "../common/mod.rs"]
mod common;
mod speed;
mod target;
mod tools;
