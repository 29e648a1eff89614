//! The location of a call's parameters, and its checks (TLFS, "Alignment Requirements" and "XMM Fast Hypercall Input").

use smallvec::SmallVec;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::HypercallInput;
use super::registers::{FAST_BYTES, GENERAL_BYTES, Registers};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{PAGE_SIZE, PAGE_SIZE_64};
use crate::memory::GuestMemory;

/// The parameters that a call takes. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The fixed part of the input header.
    pub header: usize,
    /// Whether a variable part can follow.
    pub variable: bool,
    /// The output of a simple call.
    pub output: usize,
    /// The input and output elements of a rep call.
    pub rep: Option<(usize, usize)>,
}

/// The sizes of the parameter blocks of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The fixed header, padded.
    pub header: usize,
    /// The variable header.
    pub variable: usize,
    /// All input: header, variable header and list, padded.
    pub input: usize,
    /// All output, padded.
    pub output: usize,
}

const fn padded(size: usize) -> usize {
    size.next_multiple_of(8)
}

impl Shape {
    /// Checks the input value's rep fields and header size for this call.
    pub fn sizes(self, input: HypercallInput) -> HvResult<Sizes> {
        let (count, start) = (input.rep_count(), input.rep_start());
        let reps_fit = match self.rep {
            Some(_) => count > start,
            None => count == 0 && start == 0,
        };
        if !reps_fit || input.variable_header() > 0 && !self.variable {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        let (element_in, element_out) = self.rep.unwrap_or((0, 0));
        let header = padded(self.header);
        let variable = input.variable_header() * 8;
        // There are at most 4095 reps with elements of at most a page, so nothing overflows.
        Ok(Sizes {
            header,
            variable,
            input: padded(header + variable + count * element_in),
            output: padded(self.output + count * element_out),
        })
    }
}

/// A copy of a call's input. It is copied only once.
pub(super) type Block = SmallVec<[u8; 256]>;

/// The destination of the output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    /// Memory at this GPA, which has been checked.
    Memory(u64),
    /// The registers' block at this offset.
    Fast(usize),
}

/// The parameters of a call: the input, and the destination of the output.
pub(super) struct Parameters {
    pub sizes: Sizes,
    pub input: Block,
    pub output: Output,
}

/// Copies a call's input out of memory.
pub(super) fn read_memory(memory: &GuestMemory, registers: &Registers, sizes: Sizes) -> HvResult<Parameters> {
    check(memory, registers.first(), sizes.input)?;
    check(memory, registers.second(), sizes.output)?;
    let mut input = Block::from_elem(0, sizes.input);
    if sizes.input > 0 {
        memory.read_slice(&mut input, GuestAddress(registers.first())).map_err(|_| HvStatus::INVALID_ALIGNMENT)?;
    }
    Ok(Parameters { sizes, input, output: Output::Memory(registers.second()) })
}

/// Copies a call's input out of registers. The caller has checked that this is allowed.
pub(super) fn read_fast(registers: &Registers, sizes: Sizes) -> HvResult<Parameters> {
    let offset = fast_output_offset(sizes);
    if sizes.input > FAST_BYTES || offset + sizes.output > FAST_BYTES {
        return Err(HvStatus::INVALID_HYPERCALL_INPUT);
    }
    let input = Block::from_slice(&registers.fast_block()[..sizes.input]);
    Ok(Parameters { sizes, input, output: Output::Fast(offset) })
}

/// Output begins at the first 16-byte boundary after the input.
fn fast_output_offset(sizes: Sizes) -> usize {
    sizes.input.next_multiple_of(16)
}

/// Returns `true` if fast input of this size needs XMM registers.
pub(super) const fn input_needs_xmm(sizes: Sizes) -> bool {
    sizes.input > GENERAL_BYTES
}

/// Checks that a parameter list is aligned to 8 bytes, is in RAM, and does not cross a page. The address of an empty
/// list is ignored.
fn check(memory: &GuestMemory, gpa: u64, size: usize) -> HvResult<()> {
    if size == 0 {
        return Ok(());
    }
    let offset = (gpa % PAGE_SIZE_64) as usize;
    if gpa.is_multiple_of(8) && offset + size <= PAGE_SIZE && memory.check_range(GuestAddress(gpa), size) {
        Ok(())
    } else {
        Err(HvStatus::INVALID_ALIGNMENT)
    }
}
