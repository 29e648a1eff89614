//! Storage packets as readable lines, for `--trace storage`.

use std::fmt;

use zerocopy::FromBytes;

use super::scsi::{self, MAX_CDB_LENGTH};
use super::storvsp::wire::{DataDirection, Operation, PacketHeader, ScsiRequest, SrbStatus};
use crate::engine::TraceKind;

/// Requests and their completions.
pub(crate) const KIND: TraceKind = TraceKind::named("storage");

/// A packet of either side, for printing.
#[derive(Clone, Copy, Debug)]
pub struct PacketLine<'a>(pub &'a [u8]);

impl fmt::Display for PacketLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok((header, body)) = PacketHeader::read_from_prefix(self.0) else {
            return write!(out, "no packet: {} bytes", self.0.len());
        };
        // Guests for old hosts send a request without its last fields.
        let mut bytes = [0; size_of::<ScsiRequest>()];
        let length = body.len().min(bytes.len());
        bytes[..length].copy_from_slice(&body[..length]);
        match (header.operation, ScsiRequest::read_from_bytes(&bytes)) {
            (Operation::EXECUTE_SRB, Ok(request)) => self::request(&request, out),
            // Only replies to commands contain a structure of this length.
            (Operation::COMPLETE_IO, Ok(request)) if usize::from(request.length) == bytes.len() => end(&request, out),
            (Operation::COMPLETE_IO, _) => write!(out, "{:?}", header.status),
            (operation, _) => write!(out, "{operation:?}"),
        }
    }
}

/// Prints a request.
fn request(request: &ScsiRequest, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ScsiRequest { path_id, target_id, lun, cdb_length, .. } = *request;
    let mut cdb = [0; MAX_CDB_LENGTH];
    let length = usize::from(cdb_length).min(cdb.len());
    cdb[..length].copy_from_slice(&request.cdb[..length]);
    match (path_id, target_id) {
        (0, 0) => write!(out, "LUN {lun} ")?,
        _ => write!(out, "bus {path_id} target {target_id} LUN {lun} ")?,
    }
    out.write_str(scsi::command_name(&cdb).unwrap_or("unknown"))?;
    match blocks(&cdb) {
        Some((first, count)) => write!(out, " of {count} blocks at {first:#x}")?,
        None => cdb[..length].iter().try_for_each(|byte| write!(out, " {byte:02x}"))?,
    }
    match (request.data_in, request.data_transfer_length) {
        (_, 0) | (DataDirection::NONE, _) => Ok(()),
        (direction, bytes) => write!(out, ", {bytes} bytes {direction:?}"),
    }
}

/// Prints the result of a request.
fn end(request: &ScsiRequest, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let status = SrbStatus(request.srb_status.0 & !SrbStatus::AUTOSENSE_VALID);
    write!(out, "LUN {} {status:?}", request.lun)?;
    let sense = &request.cdb[..usize::from(request.sense_length).min(request.cdb.len())];
    let sense = match *sense {
        [0x72 | 0x73, key, code, qualifier, ..] => Some((key & 0xf, code, qualifier)),
        [_, _, key, _, _, _, _, _, _, _, _, _, code, qualifier, ..] => Some((key & 0xf, code, qualifier)),
        _ => None,
    };
    if let Some((key, code, qualifier)) = sense {
        write!(out, ", sense {key:x}/{code:02x}/{qualifier:02x}")?;
    }
    match request.data_transfer_length {
        0 => Ok(()),
        bytes => write!(out, ", {bytes} bytes"),
    }
}

/// Returns the first block and the number of blocks, for commands that name blocks (SBC-3, chapter 5).
fn blocks(cdb: &[u8; MAX_CDB_LENGTH]) -> Option<(u64, u64)> {
    let number = |from: usize, to: usize| cdb[from..to].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some(match cdb[0] {
        0x08 | 0x0a => (number(1, 4) & 0x1f_ffff, if cdb[4] == 0 { 256 } else { cdb[4].into() }),
        0x28 | 0x2a | 0x2e | 0x2f | 0x34 | 0x35 | 0x41 => (number(2, 6), number(7, 9)),
        0xa8 | 0xaa | 0xae | 0xaf => (number(2, 6), number(6, 10)),
        0x89 => (number(2, 10), cdb[13].into()),
        0x88 | 0x8a..=0x93 => (number(2, 10), number(10, 14)),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
