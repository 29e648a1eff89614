//! ORC, Linux's tables for finding the caller of any instruction (Linux, Documentation/arch/x86/orc-unwinder.rst).
//!
//! `.orc_unwind_ip` is a sorted list of places, each relative to its own address. `.orc_unwind` has for each place an
//! entry of six bytes, which is valid up to the next place. It describes the stack pointer and the frame pointer of the
//! caller.

use super::stack::{Registers, View, read_word};

const ENTRY_SIZE: usize = 6;

// Numbers of registers in entries.
const UNDEFINED: u8 = 0;
const PREVIOUS_STACK: u8 = 1;
const FRAME: u8 = 4;
const STACK: u8 = 5;
const FRAME_INDIRECT: u8 = 8;
const STACK_INDIRECT: u8 = 9;

/// Offsets in `struct pt_regs`.
const SAVED_FRAME: u64 = 32;
const SAVED_INSTRUCTION: u64 = 128;
const SAVED_STACK: u64 = 152;

/// The kind of code that an entry describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The outermost code, or code without information.
    End,
    /// Code that was called.
    Call,
    /// Code that was entered by an interrupt or exception; the previous registers are on the stack.
    Interrupted,
    /// The same, with only some of the registers on the stack.
    InterruptedPartly,
}

/// The tables of one kernel.
#[derive(Debug)]
pub(super) struct Orc {
    /// Address of the list of places.
    first: u64,
    places: Vec<u8>,
    entries: Vec<u8>,
    /// Whether the kinds are numbered as in Linux 6.4 and later.
    renumbered: bool,
}

impl Orc {
    /// Creates the tables, from the content of their sections. Linux 6.4 and later has a third section, `.orc_header`.
    pub fn new(first: u64, places: Vec<u8>, entries: Vec<u8>, has_header: bool) -> Self {
        Self { first, places, entries, renumbered: has_header }
    }

    /// Returns the entry for the code at `address`, which is an address in the file.
    fn entry(&self, address: u64) -> Option<&[u8]> {
        let count = (self.places.len() / 4).min(self.entries.len() / ENTRY_SIZE);
        let place = |index: usize| {
            let bytes = self.places[index * 4..].first_chunk().copied().unwrap_or_default();
            self.first.wrapping_add(index as u64 * 4).wrapping_add_signed(i32::from_le_bytes(bytes).into())
        };
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            if place(middle) <= address { low = middle + 1 } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        self.entries.get(index * ENTRY_SIZE..(index + 1) * ENTRY_SIZE)
    }

    fn kind(&self, number: u8) -> Kind {
        match (self.renumbered, number) {
            (true, 2) | (false, 0) => Kind::Call,
            (true, 3) | (false, 1) => Kind::Interrupted,
            (true, 4) | (false, 2) => Kind::InterruptedPartly,
            _ => Kind::End,
        }
    }

    /// Returns the registers in the caller of the code at `address` in the file, or `None` if they are unknown.
    pub fn caller(&self, address: u64, registers: Registers, view: &dyn View) -> Option<Registers> {
        let entry = self.entry(address)?;
        let offset = |at: usize| i64::from(i16::from_le_bytes([entry[at], entry[at + 1]]));
        let (stack_offset, frame_offset) = (offset(0), offset(2));
        let (stack_register, frame_register) = (entry[4] & 0xf, entry[4] >> 4);
        let kind = self.kind(entry[5] & if self.renumbered { 7 } else { 3 });
        let word = |address: u64| read_word(view, address, registers.width);
        let base = match stack_register {
            STACK => registers.stack.wrapping_add_signed(stack_offset),
            FRAME => registers.frame.wrapping_add_signed(stack_offset),
            FRAME_INDIRECT => word(registers.frame.wrapping_add_signed(stack_offset))?,
            STACK_INDIRECT => word(registers.stack)?.wrapping_add_signed(stack_offset),
            _ => return None,
        };
        match kind {
            Kind::End => None,
            Kind::Call => Some(Registers {
                instruction: word(base.wrapping_sub(8))?,
                stack: base,
                frame: match frame_register {
                    UNDEFINED => registers.frame,
                    PREVIOUS_STACK => word(base.wrapping_add_signed(frame_offset))?,
                    FRAME => word(registers.frame.wrapping_add_signed(frame_offset))?,
                    _ => return None,
                },
                ..registers
            }),
            Kind::Interrupted => Some(Registers {
                instruction: word(base.wrapping_add(SAVED_INSTRUCTION))?,
                stack: word(base.wrapping_add(SAVED_STACK))?,
                frame: word(base.wrapping_add(SAVED_FRAME))?,
                ..registers
            }),
            // The base is where the instruction pointer was saved.
            Kind::InterruptedPartly => Some(Registers {
                instruction: word(base)?,
                stack: word(base.wrapping_add(SAVED_STACK - SAVED_INSTRUCTION))?,
                ..registers
            }),
        }
    }
}
