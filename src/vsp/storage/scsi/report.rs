//! Commands that report units and commands (SPC-4, 6.33 and 6.35).

use super::sense::Sense;
use super::table::{self, Definition, Lookup};
use super::unit::LogicalUnit;
use super::{Command, MAX_CDB_LENGTH, Reply, answer, array};

/// Returns the data of REPORT LUNS for a target with these units, or `None` if the CDB is invalid.
pub fn report_luns(cdb: &[u8; MAX_CDB_LENGTH], luns: impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let allocation_length = u32::from_be_bytes(array(cdb, 6)) as usize;
    let well_known_only = match cdb[2] {
        0 | 2 => false,
        1 => true, // there are none
        _ => return None,
    };
    if allocation_length < 16 {
        return None;
    }
    let mut data = vec![0; 8];
    for lun in luns.filter(|_| !well_known_only) {
        data.extend_from_slice(&[0, lun, 0, 0, 0, 0, 0, 0]);
    }
    let length = (data.len() - 8) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data.truncate(allocation_length);
    Some(data)
}

impl LogicalUnit {
    /// REPORT LUNS of a target with only this unit. If there are more, the controller answers.
    pub(super) fn report_own_lun(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        report_luns(command.cdb, [0].into_iter()).map(Reply::Data).ok_or(Sense::INVALID_FIELD_IN_CDB)
    }

    /// REPORT SUPPORTED OPERATION CODES.
    pub(super) fn report_supported_operation_codes(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let timeouts = command.bit(2, 7);
        let (opcode, service_action) = (command.byte(3), command.be16(4));
        let data = match command.byte(2) & 7 {
            0 => self.all_commands(timeouts),
            option @ 1..=3 => self.one_command(option, opcode, service_action, timeouts)?,
            _ => return Err(Sense::INVALID_FIELD_IN_CDB),
        };
        answer(data, command.be32(6) as usize)
    }

    fn all_commands(&self, timeouts: bool) -> Vec<u8> {
        let mut data = vec![0; 4];
        for definition in table::known_to(self) {
            let with_action = u8::from(definition.service_action.is_some());
            let flags = with_action | if timeouts { 2 } else { 0 };
            let action = definition.service_action.unwrap_or(0);
            data.extend_from_slice(&[definition.opcode, 0, 0, action, 0, flags, 0, definition.length() as u8]);
            if timeouts {
                data.extend_from_slice(&NO_TIMEOUTS);
            }
        }
        let length = (data.len() - 4) as u32;
        data[..4].copy_from_slice(&length.to_be_bytes());
        data
    }

    /// Options 1 and 2 require an opcode without and with service actions; 3 accepts both.
    fn one_command(&self, option: u8, opcode: u8, service_action: u16, timeouts: bool) -> Result<Vec<u8>, Sense> {
        let has_actions = table::known_to(self)
            .find(|definition| definition.opcode == opcode)
            .map(|definition| definition.service_action.is_some());
        match (option, has_actions) {
            (1, Some(true)) | (2, Some(false)) => return Err(Sense::INVALID_FIELD_IN_CDB),
            _ => {}
        }
        let found = match u8::try_from(service_action) {
            Ok(action) if has_actions == Some(true) => table::find_by_code(self, opcode, action),
            Ok(_) | Err(_) if has_actions == Some(false) && (option == 1 || service_action == 0) => {
                table::find_by_code(self, opcode, 0)
            }
            _ => Lookup::NoSuchOpcode,
        };
        Ok(match found {
            Lookup::Found(definition) => supported(definition, timeouts),
            _ => vec![0, 1, 0, 0],
        })
    }
}

fn supported(definition: &Definition, timeouts: bool) -> Vec<u8> {
    let mut data = vec![0, 3 | if timeouts { 0x80 } else { 0 }, 0, definition.length() as u8];
    data.extend(definition.usage_map());
    if timeouts {
        data.extend_from_slice(&NO_TIMEOUTS);
    }
    data
}

/// A timeouts descriptor (SPC-4, 6.35.4) without recommendations.
const NO_TIMEOUTS: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
