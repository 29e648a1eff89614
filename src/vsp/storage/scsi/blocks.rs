//! Commands that read and write blocks (SBC-3, chapter 5).

use super::sense::Sense;
use super::unit::{LogicalUnit, Medium};
use super::{Command, Job, Reply, answer};
use crate::block::request::{Extent, Operation};

/// Maximum number of bytes that a command transfers, as reported in VPD page B0. It limits the iovecs of a request to
/// fewer than the kernel's 1024, even if all pages are scattered.
pub const MAX_TRANSFER: u32 = 1 << 20;
/// Maximum number of blocks of COMPARE AND WRITE, whose field has eight bits.
pub(super) const MAX_COMPARE_AND_WRITE: u8 = 255;

/// The blocks of a command: the first block and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockRange {
    pub lba: u64,
    pub blocks: u64,
}

impl BlockRange {
    pub fn of_6(command: &Command<'_>) -> Self {
        let lba = command.be32(0) & 0x1f_ffff;
        let blocks = command.byte(4);
        // Only in the six-byte commands, 0 means 256.
        Self { lba: lba.into(), blocks: if blocks == 0 { 256 } else { blocks.into() } }
    }

    pub fn of_10(command: &Command<'_>) -> Self {
        Self { lba: command.be32(2).into(), blocks: command.be16(7).into() }
    }

    pub fn of_12(command: &Command<'_>) -> Self {
        Self { lba: command.be32(2).into(), blocks: command.be32(6).into() }
    }

    pub fn of_16(command: &Command<'_>) -> Self {
        Self { lba: command.be64(2), blocks: command.be32(10).into() }
    }

    /// Returns the byte range on the medium.
    pub fn extent(self, medium: &Medium) -> Result<Extent, Sense> {
        let end = self.lba.checked_add(self.blocks);
        if self.lba > medium.blocks || end.is_none_or(|end| end > medium.blocks) {
            // The first block that does not exist is reported.
            return Err(Sense::LBA_OUT_OF_RANGE.with_information(self.lba.max(medium.blocks)));
        }
        // No overflow: the medium has at most i64::MAX bytes.
        let size = u64::from(medium.block_size);
        Ok(Extent { offset: self.lba * size, length: self.blocks * size })
    }

    /// Returns the byte range for a command that transfers data.
    fn transfer(self, medium: &Medium) -> Result<Extent, Sense> {
        let extent = self.extent(medium)?;
        if extent.length > MAX_TRANSFER.into() { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(extent) }
    }
}

fn perform(operation: Operation, durable: bool) -> Result<Reply, Sense> {
    Ok(Reply::Perform(Job::of(operation, durable)))
}

/// Returns a job that flushes: for SYNCHRONIZE CACHE, and other commands that need it.
pub(super) fn flush() -> Reply {
    Reply::Perform(Job::of(Operation::Flush, true))
}

/// Returns FUA, bit 3 of byte 1 in all commands that have it. DPO, bit 4, is a hint without effect.
fn fua(command: &Command<'_>) -> bool {
    command.bit(1, 3)
}

/// Defines the commands of one kind, which differ only in the location of their fields.
macro_rules! sizes {
    ($( $(#[$doc:meta])* $name:ident = $common:ident($place:ident) )+) => {
        impl LogicalUnit {
            $( $(#[$doc])* pub(super) fn $name(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
                self.$common(command, BlockRange::$place(command))
            } )+
        }
    };
}

sizes! {
    read_6 = read_plain(of_6)
    read_10 = read(of_10)
    read_12 = read(of_12)
    read_16 = read(of_16)
    write_6 = write_plain(of_6)
    write_10 = write(of_10)
    write_12 = write(of_12)
    write_16 = write(of_16)
    or_write = or(of_16)
    verify_10 = verify(of_10)
    verify_12 = verify(of_12)
    verify_16 = verify(of_16)
    write_and_verify_10 = write_and_verify(of_10)
    write_and_verify_12 = write_and_verify(of_12)
    write_and_verify_16 = write_and_verify(of_16)
    prefetch_10 = prefetch(of_10)
    prefetch_16 = prefetch(of_16)
    synchronize_cache_10 = synchronize_cache(of_10)
    synchronize_cache_16 = synchronize_cache(of_16)
}

impl LogicalUnit {
    fn read_plain(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        self.read_blocks(command, place, false)
    }

    fn read(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        self.read_blocks(command, place, fua(command))
    }

    fn read_blocks(&mut self, command: &Command<'_>, place: BlockRange, durable: bool) -> Result<Reply, Sense> {
        let mut extent = place.transfer(&self.ready()?)?;
        // If the initiator's buffer is too small, it gets what fits.
        extent.length = extent.length.min(command.room as u64);
        if extent.length == 0 { Ok(Reply::Good) } else { perform(Operation::Read(extent), durable) }
    }

    fn write_plain(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        self.write_blocks(command, place, Operation::Write, false)
    }

    fn write(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        self.write_blocks(command, place, Operation::Write, fua(command))
    }

    fn or(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        self.write_blocks(command, place, Operation::Or, fua(command))
    }

    fn write_blocks(
        &mut self,
        command: &Command<'_>,
        place: BlockRange,
        operation: fn(Extent) -> Operation,
        durable: bool,
    ) -> Result<Reply, Sense> {
        let extent = place.transfer(&self.writable()?)?;
        buffer_holds(command, extent.length)?;
        if extent.length == 0 { Ok(Reply::Good) } else { perform(operation(extent), durable) }
    }

    /// WRITE AND VERIFY (SBC-3, 5.41 on): BYTCHK 01b asks for a comparison.
    fn write_and_verify(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        let extent = place.transfer(&self.writable()?)?;
        let compare = match byte_check(command) {
            0 => false,
            1 => true,
            _ => return Err(Sense::INVALID_FIELD_IN_CDB),
        };
        buffer_holds(command, extent.length)?;
        if extent.length == 0 {
            return Ok(Reply::Good);
        }
        perform(Operation::WriteAndVerify { extent, compare }, true)
    }

    /// VERIFY (SBC-3, 5.33 on): BYTCHK selects what the blocks are compared with.
    fn verify(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        let medium = self.ready()?;
        let repeat = match byte_check(command) {
            0 => {
                let extent = place.extent(&medium)?;
                return if extent.length == 0 { Ok(Reply::Good) } else { perform(Operation::Check(extent), true) };
            }
            1 => None,
            3 => Some(medium.block_size),
            _ => return Err(Sense::INVALID_FIELD_IN_CDB),
        };
        let extent = if repeat.is_some() { place.extent(&medium)? } else { place.transfer(&medium)? };
        if extent.length == 0 {
            return Ok(Reply::Good);
        }
        buffer_holds(command, repeat.map_or(extent.length, u64::from))?;
        perform(Operation::Compare { extent, repeat }, false)
    }

    /// COMPARE AND WRITE (SBC-3, 5.2).
    pub(super) fn compare_and_write(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let place = BlockRange { lba: command.be64(2), blocks: command.byte(13).into() };
        let extent = place.transfer(&self.writable()?)?;
        buffer_holds(command, extent.length * 2)?;
        if extent.length == 0 {
            return Ok(Reply::Good);
        }
        perform(Operation::CompareAndWrite(extent), fua(command))
    }

    /// PRE-FETCH (SBC-3, 5.9 and 5.10): 0 blocks mean all blocks up to the end.
    fn prefetch(&mut self, command: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        let medium = self.ready()?;
        let mut extent = place.extent(&medium)?;
        if extent.length == 0 {
            extent.length = medium.blocks * u64::from(medium.block_size) - extent.offset;
        }
        let _immediate = command.bit(1, 1);
        if extent.length == 0 { Ok(Reply::Good) } else { perform(Operation::Prefetch(extent), false) }
    }

    /// SYNCHRONIZE CACHE (SBC-3, 5.26 and 5.27): flushes the whole cache, whatever blocks are named. With IMMED, the
    /// reply still comes only at the end, which SBC-3 allows.
    fn synchronize_cache(&mut self, _: &Command<'_>, place: BlockRange) -> Result<Reply, Sense> {
        place.extent(&self.ready()?)?;
        Ok(flush())
    }

    /// SEEK (MMC-6, 6.37).
    pub(super) fn seek(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        BlockRange { lba: command.be32(2).into(), blocks: 1 }.extent(&self.ready()?)?;
        Ok(Reply::Good)
    }

    /// READ CAPACITY (10) (SBC-3, 5.15).
    pub(super) fn read_capacity_10(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let medium = self.ready()?;
        if command.be32(2) != 0 {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let last = u32::try_from(medium.last_block()).unwrap_or(u32::MAX);
        let mut data = last.to_be_bytes().to_vec();
        data.extend_from_slice(&medium.block_size.to_be_bytes());
        Ok(Reply::Data(data))
    }

    /// READ CAPACITY (16) (SBC-3, 5.16).
    pub(super) fn read_capacity_16(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let medium = self.ready()?;
        if command.be64(2) != 0 {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let mut data = vec![0; 32];
        data[0..8].copy_from_slice(&medium.last_block().to_be_bytes());
        data[8..12].copy_from_slice(&medium.block_size.to_be_bytes());
        data[13] = physical_exponent(medium.block_size);
        // LBPME: blocks can be released. LBPRZ: they then read as zeros.
        data[14] = if medium.provisioning { 0xc0 } else { 0 };
        answer(data, command.be32(10) as usize)
    }

    /// READ DEFECT DATA (10) (SBC-3, 5.17): there are no defects.
    pub(super) fn read_defect_data_10(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        self.ready()?;
        answer(vec![0, command.byte(2) & 0x1f, 0, 0], command.be16(7).into())
    }

    /// READ DEFECT DATA (12) (SBC-3, 5.18).
    pub(super) fn read_defect_data_12(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        self.ready()?;
        answer(vec![0, command.byte(1) & 0x1f, 0, 0, 0, 0, 0, 0], command.be32(6) as usize)
    }
}

fn byte_check(command: &Command<'_>) -> u8 {
    command.byte(1) >> 1 & 3
}

fn buffer_holds(command: &Command<'_>, length: u64) -> Result<(), Sense> {
    if (command.data_out.length() as u64) < length { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(()) }
}

/// Returns the logarithm of the number of logical blocks in 4096 bytes, the best unit for writes to host files.
pub(super) fn physical_exponent(block_size: u32) -> u8 {
    (4096 / block_size.clamp(512, 4096)).ilog2() as u8
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
