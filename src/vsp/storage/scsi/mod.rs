//! A SCSI target, as a pure state machine (SAM-5, SPC-4, SBC-3, MMC-6).
//!
//! A [`LogicalUnit`] takes a command with its parameter data, and returns either its response or a job to perform on
//! the medium. The result of the job goes back to the unit, which converts it to status and sense data. Nothing here
//! uses a file, a thread or a clock.
//!
//! - `table`: one list of all commands, used by the dispatcher, REPORT SUPPORTED OPERATION CODES, reservation conflicts
//!   and the check of reserved bits.
//! - `unit`: the unit, and the processing that all commands have in common.
//! - `inquiry`, `mode`, `blocks`, `provisioning`, `reservation`, `optical`, `report`: the commands.
//! - [`sense`]: sense data.

use crate::block;
use crate::block::request::Operation;

mod blocks;
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

pub use blocks::MAX_TRANSFER;
pub use inquiry::absent_unit_inquiry;
pub use report::report_luns;
pub use reservation::Nexus;
pub use sense::{Sense, SenseBytes};
pub use table::command_name;
pub use unit::{DeviceKind, Identity, LogicalUnit, Medium};

/// Maximum length of a CDB in storvsp.
pub const MAX_CDB_LENGTH: usize = 16;

/// Opcodes that the transport uses, because they are answered even if the unit does not exist.
pub mod opcode {
    /// INQUIRY.
    pub const INQUIRY: u8 = 0x12;
    /// REQUEST SENSE.
    pub const REQUEST_SENSE: u8 = 0x03;
    /// REPORT LUNS.
    pub const REPORT_LUNS: u8 = 0xa0;
}

/// The data that came with a command. The initiator can change it at any time, so each byte is read once.
pub trait DataOut {
    /// Returns the length in bytes.
    fn length(&self) -> usize;
    /// Copies bytes from `offset`. Returns `false` if there are too few.
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

/// A command from an initiator.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    /// The initiator.
    pub nexus: Nexus,
    /// The command descriptor block, with zeros after its end.
    pub cdb: &'a [u8; MAX_CDB_LENGTH],
    /// The data that came with it.
    pub data_out: &'a dyn DataOut,
    /// Size of the initiator's buffer, in bytes.
    pub room: usize,
}

impl Command<'_> {
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

    /// Returns the parameter list, whose length the CDB states.
    fn parameters(&self, length: usize) -> Result<Vec<u8>, Sense> {
        if length > self.data_out.length() {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let mut list = vec![0; length];
        if self.data_out.copy(0, &mut list) { Ok(list) } else { Err(Sense::PARAMETER_LIST_LENGTH_ERROR) }
    }
}

pub(super) use crate::wire::array;

/// A request to the medium, and what its response depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The request.
    pub request: block::Request,
    /// Maximum length of the data in the response, in bytes.
    pub allocation_length: usize,
}

impl Job {
    /// Returns a job whose response has no data.
    pub fn of(operation: Operation, durable: bool) -> Self {
        Self { request: block::Request { operation, durable }, allocation_length: 0 }
    }
}

/// The SCSI status of a command (SAM-5, 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The command succeeded.
    Good = 0x00,
    /// The command failed, or there is something to report: see the sense data.
    CheckCondition = 0x02,
    /// Another initiator has reserved the unit.
    ReservationConflict = 0x18,
}

/// The response to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: Status,
    /// Sense data, if any.
    pub sense: Option<SenseBytes>,
    /// Data for the initiator's buffer, as far as it has room.
    pub data: Vec<u8>,
}

impl Response {
    /// Success without data.
    pub const GOOD: Self = Self { status: Status::Good, sense: None, data: Vec::new() };

    /// Returns CHECK CONDITION with this sense, in the descriptor format or the fixed one.
    pub fn check(sense: &Sense, descriptor: bool) -> Self {
        Self { status: Status::CheckCondition, sense: Some(sense.encode(descriptor)), data: Vec::new() }
    }

    /// Returns success with this data.
    pub fn with_data(data: Vec<u8>) -> Self {
        Self { data, ..Self::GOOD }
    }
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The command is complete.
    Done(Response),
    /// The job must be performed and its result passed to [`LogicalUnit::finish`].
    Perform(Job),
}

/// The result of a command's function: like [`CommandOutcome`], before conversion to status and sense data.
enum Reply {
    Good,
    /// Data, already cut to the allocation length.
    Data(Vec<u8>),
    Conflict,
    Perform(Job),
}

/// Returns data, cut to the allocation length (SPC-4, 4.2.5.6).
fn answer(mut data: Vec<u8>, allocation_length: usize) -> Result<Reply, Sense> {
    data.truncate(allocation_length);
    Ok(Reply::Data(data))
}
