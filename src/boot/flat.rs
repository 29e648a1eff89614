//! Flat images: files that are loaded unchanged and entered at their first byte.

use std::ops::Range;

use super::entry::BootProtocol;
use super::error::BootError;
use super::file::ImageFile;
use super::image::{Kernel, Segment};
use super::layout::STACKS;
use super::placement::Placement;
use super::source::FlatMode;

/// What real mode reaches with a segment base of 0, which limits IP.
const REAL_MODE_LIMIT: u64 = 0x1_0000;
/// What the other modes reach through a flat segment or the identity map.
const FLAT_LIMIT: u64 = 1 << 32;
const FORMAT: &str = "flat image";

/// Returns the kernel for a flat image.
pub(super) fn kernel(file: &ImageFile, address: u64, mode: FlatMode) -> Result<Kernel, BootError> {
    let (protocol, limit, advice) = match mode {
        FlatMode::Real16 => (BootProtocol::Flat16, REAL_MODE_LIMIT, "enter it lower, or in mode=32"),
        FlatMode::Protected32 => (BootProtocol::Flat32, FLAT_LIMIT, "enter it lower"),
        FlatMode::Long64 => (BootProtocol::Flat64, FLAT_LIMIT, "enter it lower"),
    };
    if address >= limit {
        let problem = format!("{address:#x} is beyond what mode={} reaches at entry; {advice}", mode.bits());
        return Err(BootError::Malformed { file: file.name().into(), format: FORMAT, problem });
    }
    let length = file.length();
    let what = "the flat image".into();
    let segment = Segment { what, offset: 0, file_length: length, address, memory_length: length };
    Ok(Kernel::new(protocol, address, vec![segment]))
}

/// Claims the image's initial stack. Returns its end, where the stack pointer starts.
pub(super) fn claim_stack(protocol: BootProtocol, placement: &mut Placement) -> Result<u64, BootError> {
    let reachable = |stack: &&Range<u64>| protocol != BootProtocol::Flat16 || stack.end <= REAL_MODE_LIMIT;
    let mut stacks = STACKS.iter().filter(reachable);
    let free = stacks.find(|stack| placement.occupant(stack).is_none());
    // If none is free, claiming the first returns an error that names the conflict.
    let stack = free.unwrap_or(&STACKS[0]);
    placement.claim("the initial stack", stack.start, stack.end - stack.start)?;
    Ok(stack.end)
}

#[cfg(test)]
#[path = "flat_tests.rs"]
mod tests;
