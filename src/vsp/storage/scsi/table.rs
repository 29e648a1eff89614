//! One list of all commands, from which everything about them is derived.

use super::sense::Sense;
use super::unit::{DeviceKind, LogicalUnit};
use super::{Command, MAX_CDB_LENGTH, Reply};

/// How a command interacts with reservations and unit attentions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Always allowed; leaves unit attentions pending (SAM-5, 5.14).
    Patient,
    /// Always allowed (SPC-4, table 65, "Allowed" throughout).
    Free,
    /// PERSISTENT RESERVE OUT, which has its own checks.
    Reserving,
    /// Reads: conflicts only with exclusive access.
    Read,
    /// Writes or changes the unit: conflicts with every reservation.
    Write,
}

/// The devices that support a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    All,
    Disk,
    Optical,
    /// Disks that can release blocks.
    ThinDisk,
}

impl On {
    fn includes(self, unit: &LogicalUnit) -> bool {
        match self {
            Self::All => true,
            Self::Disk => unit.kind == DeviceKind::Disk,
            Self::Optical => unit.kind == DeviceKind::Optical,
            Self::ThinDisk => unit.kind == DeviceKind::Disk && unit.medium.is_some_and(|medium| medium.provisioning),
        }
    }
}

/// The definition of a command.
pub(super) struct Definition {
    /// Its name in this module, such as `read_10`.
    pub name: &'static str,
    pub opcode: u8,
    pub service_action: Option<u8>,
    pub on: On,
    pub access: Access,
    /// The bits of the CDB that are evaluated, from the second byte on. All others must be 0.
    pub usage: &'static [u8],
    pub run: fn(&mut LogicalUnit, &Command<'_>) -> Result<Reply, Sense>,
}

impl Definition {
    /// Refuses bits that this command does not support.
    pub fn check(&self, kind: DeviceKind, command: &Command<'_>) -> Result<(), Sense> {
        // Early MMC drives had a format in the CONTROL byte and a LUN in byte 1.
        let lenient = kind == DeviceKind::Optical;
        let last = self.usage.len();
        for (index, (byte, usage)) in command.cdb[1..].iter().zip(self.usage).enumerate() {
            let usage = match index + 1 {
                1 if self.service_action.is_some() => usage | 0x1f,
                1 if lenient => usage | 0xe0,
                at if at == last => usage | 0xc0,
                _ => *usage,
            };
            if byte & !usage != 0 {
                return Err(Sense::INVALID_FIELD_IN_CDB);
            }
        }
        Ok(())
    }

    /// Length of the CDB in bytes.
    pub fn length(&self) -> usize {
        1 + self.usage.len()
    }

    /// Returns the CDB usage map (SPC-4, 6.35.3).
    pub fn usage_map(&self) -> impl Iterator<Item = u8> + '_ {
        let service_action = self.service_action.unwrap_or(0);
        let first = self.usage.first().map(|byte| byte | service_action);
        [self.opcode].into_iter().chain(first).chain(self.usage.iter().skip(1).copied())
    }
}

/// The result of [`find`].
pub(super) enum Lookup {
    Found(&'static Definition),
    NoSuchServiceAction,
    NoSuchOpcode,
}

/// Returns the unit's command for a CDB.
pub(super) fn find(unit: &LogicalUnit, command: &Command<'_>) -> Lookup {
    find_by_code(unit, command.byte(0), command.byte(1) & 0x1f)
}

pub(super) fn find_by_code(unit: &LogicalUnit, opcode: u8, service_action: u8) -> Lookup {
    let start = usize::from(FIRST[usize::from(opcode)]);
    let mut missing = Lookup::NoSuchOpcode;
    for definition in COMMANDS[start..].iter().take_while(|definition| definition.opcode == opcode) {
        if !definition.on.includes(unit) {
            continue;
        }
        if definition.service_action.is_none_or(|action| action == service_action) {
            return Lookup::Found(definition);
        }
        missing = Lookup::NoSuchServiceAction;
    }
    missing
}

/// Returns the name of a command, for any unit.
pub fn command_name(cdb: &[u8; MAX_CDB_LENGTH]) -> Option<&'static str> {
    let action = cdb[1] & 0x1f;
    let is_it = |definition: &&Definition| {
        definition.opcode == cdb[0] && definition.service_action.is_none_or(|own| own == action)
    };
    COMMANDS.iter().find(is_it).map(|definition| definition.name)
}

/// Returns all commands that a unit supports, ordered by opcode.
pub(super) fn known_to(unit: &LogicalUnit) -> impl Iterator<Item = &'static Definition> {
    COMMANDS.iter().filter(|definition| definition.on.includes(unit))
}

/// Index in [`COMMANDS`] of each opcode's first command, or its length for unknown opcodes.
static FIRST: [u8; 256] = {
    let mut first = [COMMANDS.len() as u8; 256];
    let mut index = COMMANDS.len();
    while index > 0 {
        index -= 1;
        first[COMMANDS[index].opcode as usize] = index as u8;
    }
    first
};

macro_rules! commands {
    ($( $opcode:literal $(/ $service_action:literal)? $on:ident $access:ident $run:ident [$($usage:literal)+] )+) => {
        /// Sorted by opcode.
        static COMMANDS: &[Definition] = &[$(Definition {
            name: stringify!($run),
            opcode: $opcode,
            service_action: commands!(@action $($service_action)?),
            on: On::$on,
            access: Access::$access,
            usage: &[$($usage),+],
            run: LogicalUnit::$run,
        }),+];
    };
    (@action) => { None };
    (@action $service_action:literal) => { Some($service_action) };
}

commands! {
    0x00 All Free test_unit_ready [0 0 0 0 0]
    0x03 All Patient request_sense [0x01 0 0 0xff 0]
    0x08 Disk Read read_6 [0x1f 0xff 0xff 0xff 0]
    0x0a Disk Write write_6 [0x1f 0xff 0xff 0xff 0]
    0x12 All Patient inquiry [0x01 0xff 0xff 0xff 0]
    0x15 All Write mode_select_6 [0x11 0 0 0xff 0]
    0x16 Disk Reserving reserve [0 0 0 0 0]
    0x17 Disk Reserving release [0 0 0 0 0]
    0x1a All Read mode_sense_6 [0x08 0xff 0xff 0xff 0]
    0x1b All Read start_stop [0x01 0 0x0f 0xf7 0]
    0x1e All Free prevent_allow [0 0 0 0x01 0]
    0x25 All Free read_capacity_10 [0 0xff 0xff 0xff 0xff 0 0 0 0]
    0x28 All Read read_10 [0x18 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0]
    0x2a Disk Write write_10 [0x18 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0]
    0x2b Optical Read seek [0 0xff 0xff 0xff 0xff 0 0 0 0]
    0x2e Disk Write write_and_verify_10 [0x16 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0]
    0x2f Disk Read verify_10 [0x16 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0]
    0x34 Disk Read prefetch_10 [0x02 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0]
    0x35 All Write synchronize_cache_10 [0x02 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0]
    0x37 Disk Read read_defect_data_10 [0 0x1f 0 0 0 0 0xff 0xff 0]
    0x41 Disk Write write_same_10 [0x08 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0]
    0x42 ThinDisk Write unmap [0 0 0 0 0 0x1f 0xff 0xff 0]
    0x43 Optical Read read_toc [0x02 0x0f 0 0 0 0xff 0xff 0xff 0]
    0x46 Optical Patient get_configuration [0x03 0xff 0xff 0 0 0 0xff 0xff 0]
    0x4a Optical Patient get_event_status [0x01 0 0 0xff 0 0 0xff 0xff 0]
    0x51 Optical Read read_disc_information [0x07 0 0 0 0 0 0xff 0xff 0]
    0x55 All Write mode_select_10 [0x11 0 0 0 0 0 0xff 0xff 0]
    0x56 Disk Reserving reserve [0 0 0 0 0 0 0 0 0]
    0x57 Disk Reserving release [0 0 0 0 0 0 0 0 0]
    0x5a All Read mode_sense_10 [0x18 0xff 0xff 0 0 0 0xff 0xff 0]
    0x5e/0x00 Disk Free read_keys [0 0 0 0 0 0 0xff 0xff 0]
    0x5e/0x01 Disk Free read_reservation [0 0 0 0 0 0 0xff 0xff 0]
    0x5e/0x02 Disk Free report_capabilities [0 0 0 0 0 0 0xff 0xff 0]
    0x5e/0x03 Disk Free read_full_status [0 0 0 0 0 0 0xff 0xff 0]
    0x5f/0x00 Disk Reserving persistent_reserve_out [0 0xff 0 0 0xff 0xff 0xff 0xff 0]
    0x5f/0x01 Disk Reserving persistent_reserve_out [0 0xff 0 0 0xff 0xff 0xff 0xff 0]
    0x5f/0x02 Disk Reserving persistent_reserve_out [0 0xff 0 0 0xff 0xff 0xff 0xff 0]
    0x5f/0x03 Disk Reserving persistent_reserve_out [0 0xff 0 0 0xff 0xff 0xff 0xff 0]
    0x5f/0x04 Disk Reserving persistent_reserve_out [0 0xff 0 0 0xff 0xff 0xff 0xff 0]
    0x5f/0x05 Disk Reserving persistent_reserve_out [0 0xff 0 0 0xff 0xff 0xff 0xff 0]
    0x5f/0x06 Disk Reserving persistent_reserve_out [0 0xff 0 0 0xff 0xff 0xff 0xff 0]
    0x88 Disk Read read_16 [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x89 Disk Write compare_and_write [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0 0 0xff 0x1f 0]
    0x8a Disk Write write_16 [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x8b Disk Write or_write [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x8e Disk Write write_and_verify_16 [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x8f Disk Read verify_16 [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x90 Disk Read prefetch_16 [0x02 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x91 Disk Write synchronize_cache_16 [0x02 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x93 Disk Write write_same_16 [0x09 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0x9e/0x10 Disk Free read_capacity_16 [0 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0]
    0x9e/0x12 ThinDisk Read get_lba_status [0 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0]
    0xa0 All Patient report_own_lun [0 0xff 0 0 0 0xff 0xff 0xff 0xff 0 0]
    0xa3/0x0c All Free report_supported_operation_codes [0 0x87 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0]
    0xa8 All Read read_12 [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0xaa Disk Write write_12 [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0xae Disk Write write_and_verify_12 [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0xaf Disk Read verify_12 [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0]
    0xb7 Disk Read read_defect_data_12 [0x1f 0 0 0 0 0xff 0xff 0xff 0xff 0 0]
    0xbd Optical Patient mechanism_status [0 0 0 0 0 0 0 0xff 0xff 0 0]
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
