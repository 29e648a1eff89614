//! Why a kernel cannot be started, in words for the person who named it.

use std::fmt;
use std::io;
use std::ops::Range;

/// A range of guest memory and what was to lie there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// What it is, with its article: "the kernel".
    pub what: String,
    /// The guest physical addresses.
    pub range: Range<u64>,
}

impl fmt::Display for Occupant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:#x}..{:#x})", self.what, self.range.start, self.range.end)
    }
}

/// Why a kernel cannot be started. `file` is the path or the image's name as the user knows it.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file cannot be opened.
    #[error("cannot open {file}: {source}; {advice}")]
    Open {
        /// The file.
        file: String,
        /// What to do about it.
        advice: &'static str,
        /// The host's answer.
        source: io::Error,
    },
    /// A directory, a pipe, a device: nothing that has a length and can be read at any place.
    #[error("{file} is {kind}; {advice}")]
    NotRegular {
        /// The file.
        file: String,
        /// What it is, with its article.
        kind: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read {length} bytes at offset {offset} of {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// The host's answer.
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("{file} is empty; {advice}")]
    Empty {
        /// The file.
        file: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The file ends before something that it announces.
    #[error(
        "{file} is truncated: {part} reaches to byte {end}, but the file has only {length}; copy or build it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// What is missing, wholly or in part.
        part: String,
        /// Where the part ends.
        end: u64,
        /// How long the file is.
        length: u64,
    },
    /// The file is of a known kind, but contradicts itself or asks for the impossible.
    #[error("{file} is not a sound {format}: {problem}")]
    Malformed {
        /// The file.
        file: String,
        /// What the file claims to be.
        format: &'static str,
        /// What is wrong, with which numbers.
        problem: String,
    },
    /// The file is something else than a kernel that can be started here.
    #[error("{file} is {what}; {advice}")]
    NotAKernel {
        /// The file.
        file: String,
        /// What it is, with its article.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// Two things want the same memory.
    #[error("{first} and {second} overlap in guest memory; {advice}")]
    Overlap {
        /// The one that came later.
        first: Occupant,
        /// The one that was there.
        second: Occupant,
        /// What to do about it.
        advice: &'static str,
    },
    /// Something lies where the machine has no memory.
    #[error("{what} lies outside of the machine's {memory} bytes of memory; {}", remedy(*.needed))]
    OutsideMemory {
        /// What, and where.
        what: Occupant,
        /// The memory that the machine has.
        memory: u64,
        /// The memory that would do, if any does.
        needed: Option<u64>,
    },
    /// The initrd does not fit beside the kernel.
    #[error(
        "the initrd {file} ({initrd} bytes) does not fit beside {kernel} in {memory} bytes of memory; {}",
        initrd_remedy(*.needed, *.limit)
    )]
    InitrdTooLarge {
        /// The initrd's file.
        file: String,
        /// The initrd's length.
        initrd: u64,
        /// The kernel.
        kernel: Occupant,
        /// The memory that the machine has.
        memory: u64,
        /// First address that the kernel does not accept for an initrd's last byte.
        limit: u64,
        /// The memory that would do, if any does.
        needed: Option<u64>,
    },
    /// A flat image has no way to find an initrd.
    #[error("a flat image takes no initrd; leave out --initrd {file}")]
    InitrdForFlat {
        /// The initrd's file.
        file: String,
    },
    /// A flat image has no way to find a command line.
    #[error("a flat image takes no command line; leave out --cmdline")]
    CommandLineForFlat,
    /// The command line is longer than the kernel accepts.
    #[error("the command line has {length} bytes, but {file} takes at most {limit}; shorten --cmdline")]
    CommandLineTooLong {
        /// The kernel's file.
        file: String,
        /// How long it is.
        length: u64,
        /// How long it may be.
        limit: u64,
    },
    /// The command line would end early.
    #[error("the command line has a NUL at byte {position}, where the kernel would see its end; leave it out")]
    CommandLineNul {
        /// Where.
        position: usize,
    },
    /// The ACPI tables have no room.
    #[error("ACPI tables for {processors} VPs do not fit in the {room} bytes below 1M; give --cpus {limit} or fewer")]
    TablesTooLarge {
        /// How many VPs there are.
        processors: usize,
        /// The room.
        room: u64,
        /// How many VPs there may be.
        limit: usize,
    },
    /// Guest memory cannot be written; the checks before should have found the reason.
    #[error("cannot write {what} to guest memory: {source}")]
    Write {
        /// What.
        what: String,
        /// The memory's answer.
        source: vm_memory::GuestMemoryError,
    },
}

fn remedy(needed: Option<u64>) -> String {
    match needed {
        Some(needed) => format!("give --memory {}M or more", needed >> 20),
        None => "no machine has memory there, so link or place it elsewhere".into(),
    }
}

fn initrd_remedy(needed: Option<u64>, limit: u64) -> String {
    match needed {
        Some(needed) => format!("give --memory {}M or more", needed >> 20),
        None => format!("the kernel takes an initrd only below {limit:#x}, so make it smaller"),
    }
}
