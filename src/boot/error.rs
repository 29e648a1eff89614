//! Errors that prevent a kernel from booting, with remedies.

use std::fmt;
use std::io;
use std::ops::Range;

/// A range of guest memory and its intended content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// A description with its article, such as "the kernel".
    pub what: String,
    /// The guest physical addresses.
    pub range: Range<u64>,
}

impl fmt::Display for Occupant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:#x}..{:#x})", self.what, self.range.start, self.range.end)
    }
}

/// The reason why a kernel cannot be booted. `file` is the path or the image's name.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file cannot be opened.
    #[error("cannot open {file}: {source}; {advice}")]
    Open {
        /// The file.
        file: String,
        /// A remedy.
        advice: &'static str,
        /// The error of the host.
        source: io::Error,
    },
    /// A file cannot be used, and this option names it.
    #[error("{option}: {source}")]
    Named {
        /// The option.
        option: &'static str,
        /// The reason.
        source: Box<BootError>,
    },
    /// Not a regular file: a directory, a pipe, or a device.
    #[error("{file} is {kind}; {advice}")]
    NotRegular {
        /// The file.
        file: String,
        /// The kind of file, with its article.
        kind: &'static str,
        /// A remedy.
        advice: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read {length} bytes at offset {offset} of {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// The offset of the read.
        offset: u64,
        /// The length of the read.
        length: u64,
        /// The error of the host.
        source: io::Error,
    },
    /// The file is empty.
    #[error("{file} is empty; {advice}")]
    Empty {
        /// The file.
        file: String,
        /// A remedy.
        advice: &'static str,
    },
    /// The file is truncated.
    #[error(
        "{file} is truncated: {part} reaches to byte {end}, but the file has only {length}; copy or build it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// The part that is incomplete or missing.
        part: String,
        /// The end of the part.
        end: u64,
        /// Length of the file.
        length: u64,
    },
    /// The file has a known format, but is inconsistent or has impossible requirements.
    #[error("{file} is not a valid {format}: {problem}")]
    Malformed {
        /// The file.
        file: String,
        /// The format.
        format: &'static str,
        /// The problem, with numbers.
        problem: String,
    },
    /// The file is not a kernel that can be booted here.
    #[error("{file} is {what}; {advice}")]
    NotAKernel {
        /// The file.
        file: String,
        /// The kind of file, with its article.
        what: String,
        /// A remedy.
        advice: String,
    },
    /// Two parts need the same guest memory.
    #[error("{first} and {second} overlap in guest memory; {advice}")]
    Overlap {
        /// The part that was placed later.
        first: Occupant,
        /// The part that was placed first.
        second: Occupant,
        /// A remedy.
        advice: &'static str,
    },
    /// A part is outside of the machine's memory.
    #[error("{what} is outside of the machine's {memory} bytes of memory; {}", remedy(*.needed))]
    OutsideMemory {
        /// The part and its range.
        what: Occupant,
        /// Size of the machine's memory.
        memory: u64,
        /// A sufficient memory size, if there is one.
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
        /// Length of the initrd.
        initrd: u64,
        /// The kernel.
        kernel: Occupant,
        /// Size of the machine's memory.
        memory: u64,
        /// The address below which the kernel requires the whole initrd.
        limit: u64,
        /// A sufficient memory size, if there is one.
        needed: Option<u64>,
    },
    /// A flat image cannot have an initrd.
    #[error("a flat image takes no initrd; leave out --initrd {file}")]
    InitrdForFlat {
        /// The initrd's file.
        file: String,
    },
    /// A flat image cannot have a command line.
    #[error("a flat image takes no command line; leave out --cmdline")]
    CommandLineForFlat,
    /// The command line is longer than the kernel accepts.
    #[error("the command line has {length} bytes, but {file} takes at most {limit}; shorten --cmdline")]
    CommandLineTooLong {
        /// The kernel's file.
        file: String,
        /// Length of the command line, in bytes.
        length: u64,
        /// Maximum length, in bytes.
        limit: u64,
    },
    /// The command line contains a NUL.
    #[error("the command line has a NUL at byte {position}, where the kernel would stop reading; remove it")]
    CommandLineNul {
        /// Offset of the NUL in the command line.
        position: usize,
    },
    /// The ACPI tables do not fit.
    #[error("ACPI tables for {processors} VPs do not fit in the {room} bytes below 1M; give --cpus {limit} or fewer")]
    TablesTooLarge {
        /// Number of VPs.
        processors: usize,
        /// Size of the available space.
        room: u64,
        /// Maximum number of VPs.
        limit: usize,
    },
    /// Guest memory cannot be written. Earlier checks should have found the reason.
    #[error("cannot write {what} to guest memory: {source}")]
    Write {
        /// The content.
        what: String,
        /// The error of the memory.
        source: vm_memory::GuestMemoryError,
    },
}

impl BootError {
    /// Adds the option that names the file, if it cannot be opened.
    pub(super) fn of(self, option: &'static str) -> Self {
        match self {
            Self::Open { .. } | Self::NotRegular { .. } | Self::Read { .. } => {
                Self::Named { option, source: Box::new(self) }
            }
            other => other,
        }
    }
}

fn remedy(needed: Option<u64>) -> String {
    match needed {
        Some(needed) => format!("give --memory {}M or more", needed >> 20),
        None => "no memory size provides memory there; link or place it at another address".into(),
    }
}

fn initrd_remedy(needed: Option<u64>, limit: u64) -> String {
    match needed {
        Some(needed) => format!("give --memory {}M or more", needed >> 20),
        None => format!("the kernel takes an initrd only below {limit:#x}; make the initrd smaller"),
    }
}
