use proptest::prelude::*;

use super::super::testing::{MEDIUM, check, data, decode, disk, dvd, job, outcome, response, unit};
use super::super::{CommandOutcome, MAX_TRANSFER, Response, Sense, Status};
use super::*;
use crate::block::request::Extent;

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REQUEST_SENSE: [u8; 6] = [3, 0, 0, 0, 252, 0];
const READ_CAPACITY: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn start_stop(unit: &mut LogicalUnit, bits: u8) -> CommandOutcome {
    outcome(unit, 0, &[0x1b, 0, 0, 0, bits, 0], &[])
}

#[test]
fn power_on_is_reported_once() {
    let mut unit = disk();
    assert_eq!(response(&mut unit, &TEST_UNIT_READY, &[]), Response::GOOD);
}

#[test]
fn inquiry_and_report_luns_leave_an_attention_pending_and_request_sense_takes_it() {
    let mut unit = disk();
    unit.resize(2000);
    data(&mut unit, &[0x12, 0, 0, 0, 36, 0]);
    data(&mut unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0]);
    let sense = data(&mut unit, &REQUEST_SENSE);
    assert_eq!((sense[2], sense[12], sense[13]), (6, 0x2a, 0x09));
    assert_eq!(response(&mut unit, &TEST_UNIT_READY, &[]), Response::GOOD);
}

#[test]
fn a_resize_is_reported_once_and_takes_effect() {
    let mut unit = disk();
    unit.resize(2000);
    unit.resize(2000);
    assert_eq!(check(&mut unit, &READ_CAPACITY), Sense::CAPACITY_CHANGED);
    assert_eq!(data(&mut unit, &READ_CAPACITY)[..4], 1999_u32.to_be_bytes());
}

#[test]
fn a_reset_replaces_pending_unit_attentions() {
    let mut unit = disk();
    unit.resize(2000);
    unit.reset(Sense::BUS_RESET);
    assert_eq!(check(&mut unit, &TEST_UNIT_READY), Sense::BUS_RESET);
    assert_eq!(response(&mut unit, &TEST_UNIT_READY, &[]), Response::GOOD);
}

#[test]
fn an_attention_comes_before_an_unknown_opcode() {
    let mut unit = disk();
    unit.luns_changed();
    assert_eq!(check(&mut unit, &[0xff]), Sense::REPORTED_LUNS_CHANGED);
    assert_eq!(check(&mut unit, &[0xff]), Sense::INVALID_OPCODE);
}

#[test]
fn reporting_luns_clears_the_attention_for_changed_luns() {
    let mut unit = disk();
    unit.luns_changed();
    unit.luns_reported(Nexus::GUEST);
    assert_eq!(response(&mut unit, &TEST_UNIT_READY, &[]), Response::GOOD);
}

#[test]
fn a_stopped_disk_is_not_ready_until_it_is_started() {
    let mut unit = disk();
    assert!(
        matches!(start_stop(&mut unit, 0), CommandOutcome::Perform(job) if job.request.operation == Operation::Flush)
    );
    assert_eq!(check(&mut unit, &TEST_UNIT_READY), Sense::INITIALIZING_COMMAND_REQUIRED);
    assert_eq!(check(&mut unit, &READ_CAPACITY), Sense::INITIALIZING_COMMAND_REQUIRED);
    assert_eq!(start_stop(&mut unit, 1), CommandOutcome::Done(Response::GOOD));
    assert_eq!(response(&mut unit, &TEST_UNIT_READY, &[]), Response::GOOD);
}

#[test]
fn a_disk_does_not_eject() {
    let mut unit = disk();
    assert_eq!(check(&mut unit, &[0x1b, 0, 0, 0, 2, 0]), Sense::INVALID_FIELD_IN_CDB);
}

#[test]
fn closing_the_tray_reports_that_the_medium_may_have_changed() {
    let mut unit = dvd(100);
    assert_eq!(start_stop(&mut unit, 2), CommandOutcome::Done(Response::GOOD));
    assert_eq!(check(&mut unit, &TEST_UNIT_READY), Sense::MEDIUM_NOT_PRESENT_TRAY_OPEN);
    assert_eq!(start_stop(&mut unit, 3), CommandOutcome::Done(Response::GOOD));
    assert_eq!(check(&mut unit, &TEST_UNIT_READY), Sense::MEDIUM_MAY_HAVE_CHANGED);
    assert_eq!(response(&mut unit, &TEST_UNIT_READY, &[]), Response::GOOD);
}

#[test]
fn a_locked_tray_stays_in_until_it_is_unlocked_or_reset() {
    let mut unit = dvd(100);
    data(&mut unit, &[0x1e, 0, 0, 0, 1, 0]);
    assert_eq!(check(&mut unit, &[0x1b, 0, 0, 0, 2, 0]), Sense::MEDIUM_REMOVAL_PREVENTED);
    unit.reset(Sense::BUS_RESET);
    assert_eq!(check(&mut unit, &TEST_UNIT_READY), Sense::BUS_RESET);
    assert_eq!(start_stop(&mut unit, 2), CommandOutcome::Done(Response::GOOD));
}

#[test]
fn an_empty_drive_has_no_medium_and_an_inserted_one_is_reported() {
    let mut unit = unit(DeviceKind::Optical, None);
    assert_eq!(check(&mut unit, &TEST_UNIT_READY), Sense::MEDIUM_NOT_PRESENT);
    unit.change_medium(Some(Medium { block_size: 2048, blocks: 10, read_only: true, provisioning: false }));
    assert_eq!(check(&mut unit, &READ_CAPACITY), Sense::MEDIUM_MAY_HAVE_CHANGED);
    assert_eq!(data(&mut unit, &READ_CAPACITY), [0, 0, 0, 9, 0, 0, 8, 0]);
}

#[test]
fn the_sense_for_a_failure_has_its_kind_and_its_block() {
    let mut unit = disk();
    let job = job(&mut unit, &[0x28, 0, 0, 0, 0, 8, 0, 0, 1, 0], &[]);
    for (failure, sense, information) in [
        (RequestError::Read(4096), Sense::UNRECOVERED_READ_ERROR, 8),
        (RequestError::Write(1023), Sense::WRITE_ERROR, 1),
        (RequestError::Protected(512), Sense::WRITE_PROTECTED, 1),
        (RequestError::NoSpace(512), Sense::SPACE_ALLOCATION_FAILED, 1),
        (RequestError::Miscompare(77), Sense::MISCOMPARE, 77),
    ] {
        let response = unit.finish(&job, Err(failure));
        let bytes = response.sense.expect("sense data");
        assert_eq!((response.status, decode(&bytes)), (Status::CheckCondition, sense));
        assert_eq!((bytes[0], bytes[6]), (0xf0, information));
    }
    assert_eq!(unit.finish(&job, Ok(Success::Done)), Response::GOOD);
}

/// Returns the extents of an operation, and the number of bytes that it needs from the initiator.
fn reach(operation: &Operation) -> (Vec<Extent>, u64) {
    match operation {
        Operation::Read(extent) | Operation::Check(extent) | Operation::Prefetch(extent) => (vec![*extent], 0),
        Operation::Zero { extent, .. } | Operation::Map { extent, .. } => (vec![*extent], 0),
        Operation::Fill { extent, pattern } => {
            assert_eq!(pattern.len(), 512);
            (vec![*extent], 0)
        }
        Operation::Write(extent) | Operation::Or(extent) | Operation::WriteAndVerify { extent, .. } => {
            (vec![*extent], extent.length)
        }
        Operation::Compare { extent, repeat } => (vec![*extent], repeat.map_or(extent.length, u64::from)),
        Operation::CompareAndWrite(extent) => (vec![*extent], 2 * extent.length),
        Operation::Unmap(extents) => (extents.to_vec(), 0),
        Operation::Flush => (Vec::new(), 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn random_commands_stay_within_the_medium_and_the_buffers(
        commands in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 16]>(), any::<[u8; 16]>(), 0_usize..3000), 1..8),
        optical in any::<bool>(),
        room in 0_usize..5000,
    ) {
        let mut unit = if optical { dvd(1000) } else { disk() };
        let opcodes: Vec<u8> = (0..=255).collect();
        for (opcode, random, mask, length) in commands {
            let mut cdb = random;
            // Half of all bits are 0, so that more commands pass the first checks.
            cdb.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
            cdb[0] = opcodes[opcode.index(256)];
            let bytes: Vec<u8> = random.iter().copied().cycle().take(length).collect();
            struct Bytes(Vec<u8>);
            impl super::super::DataOut for Bytes {
                fn length(&self) -> usize { self.0.len() }
                fn copy(&self, offset: usize, into: &mut [u8]) -> bool { self.0[..].copy(offset, into) }
            }
            let data_out = Bytes(bytes);
            let command = Command { nexus: Nexus(u16::from(mask[0] % 3)), cdb: &cdb, data_out: &data_out, room };
            match unit.execute(&command) {
                CommandOutcome::Done(response) => {
                    prop_assert_eq!(response.sense.is_some(), response.status == Status::CheckCondition);
                    prop_assert!(response.sense.is_none_or(|sense| sense.len() <= 20));
                    prop_assert!(response.data.len() <= 65536);
                }
                CommandOutcome::Perform(job) => {
                    let block = u64::from(unit.medium().expect("a medium").block_size);
                    let (extents, wanted) = reach(&job.request.operation);
                    for extent in extents {
                        prop_assert!(extent.length > 0 && extent.offset + extent.length <= 1000 * block);
                        prop_assert_eq!(extent.offset % block, 0);
                    }
                    prop_assert!(wanted <= length as u64);
                    if let Operation::Read(extent) = job.request.operation {
                        prop_assert!(extent.length <= room as u64 && extent.length <= u64::from(MAX_TRANSFER));
                    }
                }
            }
        }
    }
}

#[test]
fn a_medium_that_has_grown_can_be_written_up_to_its_new_end() {
    let mut unit = disk();
    let cdb = [0x2a, 0, 0, 0, 0x03, 0xe8, 0, 0, 1, 0];
    let response = response(&mut unit, &cdb, &[0; 512]);
    assert_eq!(decode(&response.sense.expect("sense data")), Sense::LBA_OUT_OF_RANGE);
    unit.change_medium(Some(Medium { blocks: 1001, ..MEDIUM }));
    assert_eq!(check(&mut unit, &TEST_UNIT_READY), Sense::MEDIUM_MAY_HAVE_CHANGED);
    let extent = Extent { offset: 512_000, length: 512 };
    assert_eq!(job(&mut unit, &cdb, &[0; 512]).request.operation, Operation::Write(extent));
}
