//! Commands that release blocks, or write many blocks at once (SBC-3, 4.7, 5.5, 5.28, 5.43 and 5.44).

use smallvec::SmallVec;

use super::blocks::BlockRange;
use super::sense::Sense;
use super::unit::{LogicalUnit, Medium};
use super::{Command, Job, Reply, array};
use crate::block::Request;
use crate::block::request::{Extent, Operation};

/// Maximum number of ranges of UNMAP, as reported in VPD page B0.
pub(super) const MAX_UNMAP_DESCRIPTORS: usize = 256;
/// Maximum number of blocks of WRITE SAME, in both forms, as reported in VPD page B0.
pub(super) const MAX_WRITE_SAME: u64 = 0xffff;
/// Maximum number of descriptors that GET LBA STATUS returns.
const MAX_STATUS_DESCRIPTORS: usize = 256;

const HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

impl LogicalUnit {
    /// UNMAP.
    pub(super) fn unmap(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let medium = self.writable()?;
        let list = command.parameters(command.be16(7).into())?;
        if list.is_empty() {
            return Ok(Reply::Good);
        }
        let Some((header, descriptors)) = list.split_first_chunk::<HEADER>() else {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        };
        let announced = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let descriptors = descriptors.get(..announced).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        if descriptors.len() / DESCRIPTOR > MAX_UNMAP_DESCRIPTORS {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
        }
        let mut extents = SmallVec::new();
        let mut blocks = 0;
        for descriptor in descriptors.chunks_exact(DESCRIPTOR) {
            let lba = u64::from_be_bytes(array(descriptor, 0));
            let place = BlockRange { lba, blocks: u32::from_be_bytes(array(descriptor, 8)).into() };
            let extent = place.extent(&medium)?;
            blocks += place.blocks;
            if extent.length > 0 {
                extents.push(extent);
            }
        }
        if blocks > u32::MAX.into() {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
        }
        if extents.is_empty() {
            return Ok(Reply::Good);
        }
        Ok(Reply::Perform(Job::of(Operation::Unmap(extents), false)))
    }

    /// WRITE SAME (10).
    pub(super) fn write_same_10(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        self.write_same(command, BlockRange::of_10(command), false)
    }

    /// WRITE SAME (16), which has NDOB: no data is sent, and zeros are written.
    pub(super) fn write_same_16(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        self.write_same(command, BlockRange::of_16(command), command.bit(1, 0))
    }

    fn write_same(&mut self, command: &Command<'_>, place: BlockRange, no_data: bool) -> Result<Reply, Sense> {
        let medium = self.writable()?;
        let deallocate = command.bit(1, 3);
        if deallocate && !medium.provisioning {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        // 0 blocks mean all blocks up to the end (WSNZ is 0).
        let rest = medium.blocks.saturating_sub(place.lba);
        let place = if place.blocks == 0 { BlockRange { blocks: rest, ..place } } else { place };
        let extent = place.extent(&medium)?;
        let data = if no_data { 0 } else { medium.block_size as usize };
        if place.blocks > MAX_WRITE_SAME || command.data_out.length() != data {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let pattern = command.parameters(data)?;
        if extent.length == 0 {
            return Ok(Reply::Good);
        }
        let operation = if pattern.iter().all(|byte| *byte == 0) {
            Operation::Zero { extent, deallocate }
        } else {
            Operation::Fill { extent, pattern }
        };
        Ok(Reply::Perform(Job::of(operation, false)))
    }

    /// GET LBA STATUS.
    pub(super) fn get_lba_status(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let medium = self.ready()?;
        let lba = command.be64(2);
        let place = BlockRange { lba, blocks: medium.blocks.saturating_sub(lba) };
        let extent = place.extent(&medium)?;
        if extent.length == 0 {
            return Err(Sense::LBA_OUT_OF_RANGE.with_information(lba));
        }
        let room = command.be32(10) as usize;
        // Even without room for a descriptor, one is determined, because the header counts it.
        let limit = (room.saturating_sub(HEADER) / DESCRIPTOR).clamp(1, MAX_STATUS_DESCRIPTORS);
        let request = Request { operation: Operation::Map { extent, limit }, durable: false };
        Ok(Reply::Perform(Job { request, allocation_length: room }))
    }
}

/// Returns the data of GET LBA STATUS: `map` as descriptors, from the extent's start on.
pub(super) fn lba_status(medium: &Medium, extent: Extent, map: &[(u64, bool)], limit: usize) -> Vec<u8> {
    let size = u64::from(medium.block_size);
    let mut data = vec![0; HEADER];
    let (mut start, mut end) = (extent.offset / size, extent.offset);
    for (length, allocated) in map.iter().take(limit) {
        end = end.saturating_add(*length);
        // A block that is partly allocated counts as allocated.
        let last = if *allocated { end.div_ceil(size) } else { end / size };
        let blocks = u32::try_from(last.saturating_sub(start)).unwrap_or(u32::MAX);
        if blocks == 0 {
            continue;
        }
        data.extend_from_slice(&start.to_be_bytes());
        data.extend_from_slice(&blocks.to_be_bytes());
        data.extend_from_slice(&[u8::from(!allocated), 0, 0, 0]);
        start += u64::from(blocks);
        if start < last {
            break;
        }
    }
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

#[cfg(test)]
#[path = "provisioning_tests.rs"]
mod tests;
