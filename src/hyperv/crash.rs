//! The crash report of a guest (TLFS, "Partition Crash Enlightenment").
//!
//! A guest writes details to CRASH_P0 to CRASH_P4, then writes CRASH_CTL. Linux either sets the registers (the error,
//! its OS id, RIP, RAX, RSP), or passes the end of its log: the address in P3, the length in P4.

use std::fmt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::msr::CRASH_PARAMETERS;
use super::registers::CrashControl;
use super::types::PAGE_SIZE;
use crate::memory::GuestMemory;
use crate::wire::printable::{CONTINUATION, Escaped};

/// Maximum length of the text: the TLFS allows one page.
pub const MAX_TEXT: usize = PAGE_SIZE;

/// A crash report from the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// CRASH_CTL as written.
    pub control: CrashControl,
    /// CRASH_P0 to CRASH_P4.
    pub parameters: [u64; CRASH_PARAMETERS],
    /// The guest's text, safe for a terminal: its only control characters are line breaks and tabs. `None` if the guest
    /// passed no text, or an address outside of RAM.
    pub text: Option<String>,
}

impl CrashReport {
    /// Reads the report that a write of `control` announces, or returns `None` if it announces none.
    pub fn take(control: CrashControl, parameters: [u64; CRASH_PARAMETERS], memory: &GuestMemory) -> Option<Self> {
        control.notify().then(|| {
            let text = control.message().then(|| text(memory, parameters[3], parameters[4])).flatten();
            Self { control, parameters, text }
        })
    }
}

fn text(memory: &GuestMemory, gpa: u64, length: u64) -> Option<String> {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_TEXT);
    let mut bytes = vec![0; length];
    if !memory.check_range(GuestAddress(gpa), length) {
        return None;
    }
    memory.read_slice(&mut bytes, GuestAddress(gpa)).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', "");
    let lines: Vec<String> = text.trim_end().lines().map(|line| Escaped(line).to_string()).collect();
    Some(lines.join("\n")).filter(|text| !text.is_empty())
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p0, p1, p2, p3, p4] = self.parameters;
        write!(f, "the guest reported a crash: P0 {p0:#x}, P1 {p1:#x}, P2 {p2:#x}, P3 {p3:#x}, P4 {p4:#x}")?;
        match &self.text {
            // A line from the guest must not look like one from Viridian.
            Some(text) => text.lines().try_for_each(|line| write!(f, "\n{CONTINUATION}{line}")),
            None if self.control.message() => write!(f, " (P3 and P4 name no text in memory)"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "crash_tests.rs"]
mod tests;
