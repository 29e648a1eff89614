//! The callers of the code that a VP executes, as far as its stack shows.
//!
//! The guest can write anything to its stack. A walk reads a bounded number of words and always ends.

use std::fmt;

use super::{SymbolOffset, Symbols};

/// Maximum number of callers.
const MAX_CALLERS: usize = 16;
/// Without tables and frame pointers: maximum number of words that are examined, and of names that are reported.
const MAX_WORDS: u64 = 512;
const MAX_FOUND: usize = 8;
/// Maximum distance between two frames.
const MAX_FRAME: u64 = 64 << 10;

/// Access to a guest's memory by linear addresses.
pub trait View {
    /// Fills `bytes` from `address`. Returns `false` if not all of it is mapped.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;
}

/// The registers at which a walk starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// RIP.
    pub instruction: u64,
    /// RSP.
    pub stack: u64,
    /// RBP.
    pub frame: u64,
    /// Size of a word on the stack in bytes: 4 or 8.
    pub width: u64,
}

/// The result of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    /// The callers, innermost first.
    Callers(Vec<SymbolOffset>),
    /// Return addresses that were found on the stack, innermost first. Some may be from calls that have returned.
    Found(Vec<SymbolOffset>),
}

impl Stack {
    /// Walks the stack by the most reliable method that the kernel supports.
    pub fn walk(symbols: &Symbols, registers: Registers, view: &dyn View) -> Self {
        let by_tables = by_tables(symbols, registers, view);
        let by_frames = by_frames(symbols, registers, view);
        let callers = if by_tables.len() >= by_frames.len() { by_tables } else { by_frames };
        match callers.is_empty() {
            false => Self::Callers(callers),
            true => Self::Found(on_the_stack(symbols, registers, view)),
        }
    }
}

impl fmt::Display for Stack {
    /// Formats the text that follows a sentence; empty if nothing was found.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, places) = match self {
            Self::Callers(places) => (", called from", places),
            Self::Found(places) => (", on its stack (perhaps left behind)", places),
        };
        for (index, place) in places.iter().enumerate() {
            let separator = if index == 0 { words } else { "," };
            write!(formatter, "{separator} {place}")?;
        }
        Ok(())
    }
}

/// Reads a word of the stack.
pub(super) fn read_word(view: &dyn View, address: u64, width: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    let length = (width as usize).min(8);
    view.read(address, &mut bytes[..length]).then(|| u64::from_le_bytes(bytes))
}

/// Returns the symbol of the code before a return address, because a call can be a function's last instruction.
fn caller(symbols: &Symbols, return_address: u64) -> Option<SymbolOffset> {
    let mut place = symbols.name(return_address.checked_sub(1)?)?;
    place.offset += 1;
    Some(place)
}

fn by_tables(symbols: &Symbols, start: Registers, view: &dyn View) -> Vec<SymbolOffset> {
    let (Some(orc), 8) = (&symbols.orc, start.width) else { return Vec::new() };
    let (mut callers, mut registers) = (Vec::new(), start);
    while callers.len() < MAX_CALLERS {
        let inner = u64::from(!callers.is_empty());
        let Some(address) = symbols.in_file(registers.instruction.wrapping_sub(inner)) else { break };
        let Some(next) = orc.caller(address, registers, view) else { break };
        let Some(place) = caller(symbols, next.instruction) else { break };
        // A kernel can switch stacks, but two calls on the same stack do not share a frame.
        if next.stack == registers.stack {
            break;
        }
        callers.push(place);
        registers = next;
    }
    callers
}

/// Follows the frame pointers: each points to the previous one, with the return address above it.
fn by_frames(symbols: &Symbols, registers: Registers, view: &dyn View) -> Vec<SymbolOffset> {
    let (width, mut frame, mut below) = (registers.width, registers.frame, registers.stack);
    let mut callers = Vec::new();
    while callers.len() < MAX_CALLERS && frame.is_multiple_of(width) {
        if frame.checked_sub(below).is_none_or(|size| size > MAX_FRAME) {
            break;
        }
        let above = frame.checked_add(width);
        let Some(return_address) = above.and_then(|address| read_word(view, address, width)) else { break };
        let Some(place) = caller(symbols, return_address) else { break };
        callers.push(place);
        // A frame must be above the previous one, so the chain ends.
        below = frame.saturating_add(width);
        let Some(next) = read_word(view, frame, width) else { break };
        frame = next;
    }
    callers
}

/// Searches for return addresses: words that point behind a call in the kernel's code.
fn on_the_stack(symbols: &Symbols, registers: Registers, view: &dyn View) -> Vec<SymbolOffset> {
    let (width, mut found) = (registers.width, Vec::new());
    let first = registers.stack / width * width;
    for index in 0..MAX_WORDS {
        let Some(address) = first.checked_add(index * width) else { break };
        let Some(word) = read_word(view, address, width) else { break };
        if symbols.is_code(word) && follows_a_call(view, word) {
            found.extend(caller(symbols, word));
        }
        if found.len() == MAX_FOUND {
            break;
        }
    }
    found
}

/// Returns `true` if the instruction before `address` may be a CALL (Intel SDM volume 2A, "CALL").
fn follows_a_call(view: &dyn View, address: u64) -> bool {
    let mut bytes = [0; 7];
    let Some(start) = address.checked_sub(bytes.len() as u64) else { return false };
    if !view.read(start, &mut bytes) {
        return false;
    }
    const NEAR_RELATIVE: u8 = 0xe8;
    const INDIRECT: u8 = 0xff;
    // Opcode 0xff with 2 in the middle of its second byte, in all possible lengths.
    let indirect = |length: usize| bytes[7 - length] == INDIRECT && bytes[8 - length] >> 3 & 7 == 2;
    bytes[2] == NEAR_RELATIVE || [2, 3, 4, 6, 7].into_iter().any(indirect)
}

#[cfg(test)]
#[path = "stack_tests.rs"]
mod tests;
