//! Services of the host: events, wake-ups, scheduling, file formats, output files.
//!
//! - `descriptors`: the budget of descriptors for what guests open.
//! - [`event`]: eventfds as descriptors.
//! - `bell`: wakes a channel's thread.
//! - `patience`, `scheduling`: decide whether a woken thread waits for its turn, and which threads give way to others.
//! - `magic`: the format of a file, by its first bytes.
//! - `limited`: rate limits for log lines that a guest can cause.
//! - `limits`: remedies for the limits of the host that an error names.
//! - `lock`: locks without errors.
//! - `panics`: calls code of others, and returns the message if it panics.
//! - `paths`: remedies for paths that the host refuses.
//! - [`records`]: output files other than the console, written in whole records.
//! - `signals`: the dispositions of signals.
//! - `stopwatch`: a clock that can stand still.
//! - `unix_socket`: a Unix socket that listens at a path.
//! - [`footprint`]: resident memory of the process.
#![allow(unsafe_code)]

pub(crate) mod bell;
pub(crate) mod descriptors;
pub mod event;
pub mod footprint;
pub(crate) mod limited;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod magic;
pub(crate) mod panics;
pub(crate) mod paths;
pub(crate) mod patience;
pub mod records;
pub(crate) mod scheduling;
pub(crate) mod signals;
pub(crate) mod stopwatch;
pub(crate) mod unix_socket;
