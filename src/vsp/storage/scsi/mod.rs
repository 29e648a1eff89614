//! A SCSI target, as a pure state machine (SAM-5, SPC-4, SBC-3, MMC-6).
//!
//! A [`LogicalUnit`] takes a command with its parameter data and says either how it ends or what is to be
//! done on the medium. Whoever does that reports back, and the unit turns the result into status and sense
//! data. Nothing here touches a file, a thread or a clock.
//!
//! - `table`: every command there is, in one list: the dispatcher, REPORT SUPPORTED OPERATION CODES,
//!   reservation conflicts and the check of reserved bits all read it.
//! - `unit`: the unit and the way that every command takes through it.
//! - `inquiry`, `mode`, `block`, `provisioning`, `reservation`, `optical`, `report`: the commands.
//! - [`sense`]: what went wrong.

use smallvec::SmallVec;

mod block;
mod inquiry;
mod mode;
mod optical;
mod provisioning;
mod report;
mod reservation;
pub mod sense;
mod table;
#[cfg(test)]
mod testing;
mod unit;

pub use block::MAX_TRANSFER;
pub use inquiry::absent_unit_inquiry;
pub use report::report_luns;
pub use reservation::Nexus;
pub use sense::{Sense, SenseBytes, SenseKey};
pub use table::command_name;
pub use unit::{DeviceKind, Identity, LogicalUnit, Medium};

/// The longest CDB that storvsp carries.
pub const MAX_CDB_LENGTH: usize = 16;

/// Opcodes that the transport must know itself, since they are answered for units that do not exist.
pub mod opcode {
    /// INQUIRY.
    pub const INQUIRY: u8 = 0x12;
    /// REQUEST SENSE.
    pub const REQUEST_SENSE: u8 = 0x03;
    /// REPORT LUNS.
    pub const REPORT_LUNS: u8 = 0xa0;
}

/// The bytes that came with a command. The initiator can change them at any time: each is read once.
pub trait DataOut {
    /// Returns how many there are.
    fn length(&self) -> usize;
    /// Copies those from `offset`. Returns `false` if they are not all there.
    fn copy(&self, offset: usize, into: &mut [u8]) -> bool;
}

impl DataOut for [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn copy(&self, offset: usize, into: &mut [u8]) -> bool {
        let from = offset.checked_add(into.len()).and_then(|end| self.get(offset..end));
        if let Some(from) = from {
            into.copy_from_slice(from);
        }
        from.is_some()
    }
}

/// A command as it comes from an initiator.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub nexus: Nexus,
    /// The command descriptor block, with zeros after its end.
    pub cdb: &'a [u8; MAX_CDB_LENGTH],
    /// What came with it.
    pub data_out: &'a dyn DataOut,
    /// How many bytes the initiator has room for.
    pub room: usize,
}

impl Request<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.cdb[at]
    }

    fn bit(&self, at: usize, bit: u8) -> bool {
        self.cdb[at] & (1 << bit) != 0
    }

    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(array(self.cdb, at))
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(array(self.cdb, at))
    }

    fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(array(self.cdb, at))
    }

    /// Returns the parameter list of `length` bytes, as the CDB announces it.
    fn parameters(&self, length: usize) -> Result<Vec<u8>, Sense> {
        if length > self.data_out.length() {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let mut list = vec![0; length];
        if self.data_out.copy(0, &mut list) { Ok(list) } else { Err(Sense::PARAMETER_LIST_LENGTH_ERROR) }
    }
}

pub(super) use crate::wire::array;

/// A range of the medium, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// What is to be done on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read into the initiator's buffer.
    Read(Extent),
    /// Write from the initiator's buffer.
    Write(Extent),
    /// Make all that was written durable. The job's own durability says nothing here.
    Flush,
    /// See whether the blocks can be read.
    Check(Extent),
    /// Compare the blocks with the initiator's buffer; with `repeat`, each with the same `repeat` bytes.
    Compare {
        /// The blocks.
        extent: Extent,
        /// How many bytes of the buffer go with each block, if not all of the buffer with all of them.
        repeat: Option<u32>,
    },
    /// Write from the buffer, then see that the medium has it: by comparing, or else by reading.
    WriteAndVerify {
        /// The blocks.
        extent: Extent,
        /// Whether to compare.
        compare: bool,
    },
    /// Compare the blocks with the first half of the buffer, and if they are equal write the second; at one stroke.
    CompareAndWrite(Extent),
    /// Replace the blocks by their OR with the buffer, at one stroke.
    Or(Extent),
    /// Write the same pattern over and over.
    WriteSame {
        /// The blocks.
        extent: Extent,
        /// A block's worth of bytes.
        pattern: Vec<u8>,
    },
    /// Write zeros; with `deallocate`, giving space back to the host if that can be done.
    Zero {
        /// The blocks.
        extent: Extent,
        /// Whether they may take no space afterwards.
        deallocate: bool,
    },
    /// Give space back to the host; the blocks read as zeros.
    Unmap(SmallVec<[Extent; 1]>),
    /// The blocks will be read soon.
    Prefetch(Extent),
    /// Tell which parts of the extent take space: [`Finished::Allocation`].
    Allocation {
        /// The blocks.
        extent: Extent,
        /// How many parts are wanted at most, from the first on.
        limit: usize,
        /// How many bytes of answer the initiator takes.
        room: usize,
    },
}

impl Action {
    /// Returns the number of bytes that the host may have to go through although the initiator sent or gets none of them.
    pub fn amplified(&self) -> u64 {
        match self {
            Self::Check(extent)
            | Self::Compare { extent, repeat: Some(_) }
            | Self::WriteSame { extent, .. }
            | Self::Zero { extent, .. }
            | Self::Allocation { extent, .. } => extent.length,
            Self::Unmap(extents) => extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.length)),
            _ => 0,
        }
    }
}

/// An action, and whether it must be durable before the command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What to do.
    pub action: Action,
    /// A write is on stable storage before the command ends (FUA, or the write cache is off); a read comes from there.
    pub durable: bool,
}

/// How a job ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is done.
    Done,
    /// What [`Action::Allocation`] found: lengths in bytes from the extent's start on, and whether they take space.
    Allocation(Vec<(u64, bool)>),
}

/// How a job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host cannot read the medium at this byte.
    Read(u64),
    /// The host cannot write the medium at this byte.
    Write(u64),
    /// The host has no room for this byte.
    NoSpace(u64),
    /// The medium differs from the buffer, first at this byte of the buffer.
    Miscompare(u64),
    /// The initiator's buffer does not hold what the command needs.
    Buffer,
    /// The host cannot do such a thing to this medium.
    Unsupported,
    /// The job was cancelled: its unit was reset or removed, or its channel closed.
    Aborted,
    /// What holds the medium has failed as a whole.
    Broken,
}

/// The SCSI status that a command ends with (SAM-5, 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It is done.
    Good = 0x00,
    /// It is not, or not only: see the sense data.
    CheckCondition = 0x02,
    /// It may not be done: another initiator has reserved the unit.
    ReservationConflict = 0x18,
}

/// How a command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: Status,
    /// Sense data, if there is any.
    pub sense: Option<SenseBytes>,
    /// What goes into the initiator's buffer, as far as there is room.
    pub data: Vec<u8>,
}

impl Response {
    /// All is well, and there is nothing to tell.
    pub const GOOD: Self = Self { status: Status::Good, sense: None, data: Vec::new() };

    /// CHECK CONDITION with that sense, in the descriptor format or the fixed one.
    pub fn check(sense: &Sense, descriptor: bool) -> Self {
        Self { status: Status::CheckCondition, sense: Some(sense.encode(descriptor)), data: Vec::new() }
    }

    /// All is well, and this is the answer.
    pub fn with_data(data: Vec<u8>) -> Self {
        Self { data, ..Self::GOOD }
    }
}

/// What is to become of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended.
    Done(Response),
    /// Do this, then ask [`LogicalUnit::finish`].
    Perform(Job),
}

/// What a command's function says: like [`Outcome`], before status and sense data are made of it.
enum Reply {
    Good,
    /// An answer, cut to the allocation length already.
    Data(Vec<u8>),
    Conflict,
    Perform(Job),
}

/// Returns an answer, cut to the allocation length (SPC-4, 4.2.5.6).
fn answer(mut data: Vec<u8>, allocation_length: usize) -> Result<Reply, Sense> {
    data.truncate(allocation_length);
    Ok(Reply::Data(data))
}
