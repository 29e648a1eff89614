//! Helpers of the SCSI target's tests.

use super::{
    Command, CommandOutcome, DataOut, DeviceKind, Identity, Job, LogicalUnit, MAX_CDB_LENGTH, Medium, Nexus, Response,
    Sense, SenseBytes, Status,
};

pub(super) const MEDIUM: Medium = Medium { block_size: 512, blocks: 1000, read_only: false, provisioning: true };

/// A unit that has already reported its power-on unit attention.
pub(super) fn unit(kind: DeviceKind, medium: Option<Medium>) -> LogicalUnit {
    let identity = Identity { serial: "serial".into(), unique: 0x1234, scratch: false };
    let mut unit = LogicalUnit::new(kind, identity, medium);
    assert_eq!(check(&mut unit, &[0; 6]), Sense::POWER_ON);
    unit
}

pub(super) fn disk() -> LogicalUnit {
    unit(DeviceKind::Disk, Some(MEDIUM))
}

pub(super) fn dvd(blocks: u64) -> LogicalUnit {
    let medium = Medium { block_size: 2048, blocks, read_only: true, provisioning: false };
    unit(DeviceKind::Optical, Some(medium))
}

/// Executes a command with `data` from the initiator and room for 64 KiB of data in return.
pub(super) fn outcome(unit: &mut LogicalUnit, nexus: u16, cdb: &[u8], data: &[u8]) -> CommandOutcome {
    let mut padded = [0; MAX_CDB_LENGTH];
    padded[..cdb.len()].copy_from_slice(cdb);
    struct Bytes<'a>(&'a [u8]);
    impl DataOut for Bytes<'_> {
        fn length(&self) -> usize {
            self.0.length()
        }
        fn copy(&self, offset: usize, into: &mut [u8]) -> bool {
            self.0.copy(offset, into)
        }
    }
    unit.execute(&Command { nexus: Nexus(nexus), cdb: &padded, data_out: &Bytes(data), room: 65536 })
}

/// Returns the response of a command that completes without a job.
pub(super) fn response(unit: &mut LogicalUnit, cdb: &[u8], data: &[u8]) -> Response {
    match outcome(unit, 0, cdb, data) {
        CommandOutcome::Done(response) => response,
        CommandOutcome::Perform(job) => panic!("{cdb:02x?} needs {job:?}"),
    }
}

/// Returns the data of a command that succeeds without a job.
pub(super) fn data(unit: &mut LogicalUnit, cdb: &[u8]) -> Vec<u8> {
    let response = response(unit, cdb, &[]);
    assert_eq!((response.status, response.sense), (Status::Good, None), "{cdb:02x?}");
    response.data
}

/// Returns the job of a command.
pub(super) fn job(unit: &mut LogicalUnit, cdb: &[u8], data: &[u8]) -> Job {
    match outcome(unit, 0, cdb, data) {
        CommandOutcome::Perform(job) => job,
        CommandOutcome::Done(response) => panic!("{cdb:02x?} ends with {response:?}"),
    }
}

/// Returns the sense of a command that fails without a job. Its information field is ignored.
pub(super) fn check(unit: &mut LogicalUnit, cdb: &[u8]) -> Sense {
    check_with(unit, cdb, &[])
}

pub(super) fn check_with(unit: &mut LogicalUnit, cdb: &[u8], data: &[u8]) -> Sense {
    let response = response(unit, cdb, data);
    assert_eq!(response.status, Status::CheckCondition, "{cdb:02x?}");
    decode(&response.sense.expect("sense data"))
}

/// Decodes sense data in fixed format.
pub(super) fn decode(sense: &SenseBytes) -> Sense {
    let of = |known: &Sense| (known.key as u8, known.code, known.qualifier) == (sense[2], sense[12], sense[13]);
    let all = [
        Sense::NONE,
        Sense::INITIALIZING_COMMAND_REQUIRED,
        Sense::MEDIUM_NOT_PRESENT,
        Sense::MEDIUM_NOT_PRESENT_TRAY_OPEN,
        Sense::WRITE_ERROR,
        Sense::UNRECOVERED_READ_ERROR,
        Sense::PARAMETER_LIST_LENGTH_ERROR,
        Sense::INVALID_OPCODE,
        Sense::LBA_OUT_OF_RANGE,
        Sense::INVALID_FIELD_IN_CDB,
        Sense::INVALID_FIELD_IN_PARAMETER_LIST,
        Sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION,
        Sense::SAVING_PARAMETERS_NOT_SUPPORTED,
        Sense::MEDIUM_REMOVAL_PREVENTED,
        Sense::INSUFFICIENT_REGISTRATION_RESOURCES,
        Sense::MEDIUM_MAY_HAVE_CHANGED,
        Sense::POWER_ON,
        Sense::BUS_RESET,
        Sense::MODE_PARAMETERS_CHANGED,
        Sense::RESERVATIONS_PREEMPTED,
        Sense::RESERVATIONS_RELEASED,
        Sense::REGISTRATIONS_PREEMPTED,
        Sense::CAPACITY_CHANGED,
        Sense::REPORTED_LUNS_CHANGED,
        Sense::WRITE_PROTECTED,
        Sense::SPACE_ALLOCATION_FAILED,
        Sense::MISCOMPARE,
    ];
    *all.iter().find(|known| of(known)).unwrap_or_else(|| panic!("unknown sense {sense:02x?}"))
}
