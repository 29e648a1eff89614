//! What the process asks of its host: events, sleeping threads, scheduling, the kinds of files.
//!
//! - [`event`]: eventfds as descriptors.
//! - `bell`: what a channel's thread sleeps on.
//! - `patience`, `scheduling`: when a woken thread waits for its turn.
//! - `magic`: the kind of a file, by its first bytes.
//! - `limited`: log lines that a guest can cause, limited in number.
//! - `panics`: calls code that is not ours, and returns what it panicked with.
//! - [`records`]: files written beside the console, whole records at a time.
//! - [`footprint`]: resident memory of the process.
#![allow(unsafe_code)]

pub(crate) mod bell;
pub mod event;
pub mod footprint;
pub(crate) mod limited;
pub(crate) mod magic;
pub(crate) mod panics;
pub(crate) mod patience;
pub mod records;
pub(crate) mod scheduling;
