use super::super::testing::{MEDIUM, check, check_with, data, disk, job, response, unit};
use super::super::{DeviceKind, Medium, Response};
use super::*;
use crate::block::request::RequestError;

fn extent(offset: u64, length: u64) -> Extent {
    Extent { offset, length }
}

#[test]
fn the_fields_of_all_read_and_write_commands_are_decoded() {
    let mut unit = disk();
    let at = extent(5 * 512, 2 * 512);
    let bytes = [0; 1024];
    for (read, write) in [
        (vec![0x08, 0, 0, 5, 2, 0], vec![0x0a, 0, 0, 5, 2, 0]),
        (vec![0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0], vec![0x2a, 0, 0, 0, 0, 5, 0, 0, 2, 0]),
        (vec![0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0], vec![0xaa, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]),
        (
            vec![0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0],
            vec![0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0],
        ),
    ] {
        assert_eq!(job(&mut unit, &read, &[]), Job::of(Operation::Read(at), false));
        assert_eq!(job(&mut unit, &write, &bytes), Job::of(Operation::Write(at), false));
    }
}

#[test]
fn a_length_of_0_means_256_blocks_in_read_6_and_none_in_longer_commands() {
    let mut unit = disk();
    let read = |operation| Job::of(operation, false);
    // The length is limited by the room of the tests, 64 KiB.
    assert_eq!(job(&mut unit, &[0x08, 0, 0, 0, 0, 0], &[]), read(Operation::Read(extent(0, 65536))));
    assert_eq!(response(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]), Response::GOOD);
}

#[test]
fn the_sense_for_a_command_beyond_the_medium_has_the_first_missing_block() {
    let mut unit = disk();
    let sense = response(&mut unit, &[0x28, 0, 0, 0, 0x03, 0xe7, 0, 0, 2, 0], &[]).sense.expect("sense data");
    assert_eq!(sense[..7], [0xf0, 0, 5, 0, 0, 0x03, 0xe8]);
    assert_eq!((sense[12], sense[13]), (0x21, 0));
    let last = [0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
    assert_eq!(check(&mut unit, &last), Sense::LBA_OUT_OF_RANGE);
    // The address must be valid even for a length of 0. The end of the medium is valid.
    assert_eq!(response(&mut unit, &[0x28, 0, 0, 0, 0x03, 0xe8, 0, 0, 0, 0], &[]), Response::GOOD);
    assert_eq!(check(&mut unit, &[0x28, 0, 0, 0, 0x03, 0xe9, 0, 0, 0, 0]), Sense::LBA_OUT_OF_RANGE);
}

#[test]
fn fua_and_a_disabled_write_cache_make_writes_durable() {
    let mut unit = disk();
    assert!(job(&mut unit, &[0x2a, 8, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]).request.durable);
    assert!(!job(&mut unit, &[0x2a, 0x10, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]).request.durable);
    let mut page = vec![0, 0, 0, 0, 8, 18];
    page.resize(24, 0);
    job(&mut unit, &[0x15, 0x10, 0, 0, 24, 0], &page);
    assert!(job(&mut unit, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]).request.durable);
}

#[test]
fn a_write_without_its_data_is_refused() {
    let mut unit = disk();
    assert_eq!(check_with(&mut unit, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0], &[0; 1023]), Sense::INVALID_FIELD_IN_CDB);
    let compare = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(check_with(&mut unit, &compare, &[0; 1023]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(job(&mut unit, &compare, &[0; 1024]).request.operation, Operation::CompareAndWrite(extent(0, 512)));
}

#[test]
fn a_read_only_disk_protects_its_data_from_every_command_that_writes() {
    let mut unit = unit(DeviceKind::Disk, Some(Medium { read_only: true, ..MEDIUM }));
    let bytes = [0; 1024];
    for cdb in [
        &[0x0a, 0, 0, 0, 1, 0][..],
        &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x2e, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
        &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    ] {
        assert_eq!(check_with(&mut unit, cdb, &bytes), Sense::WRITE_PROTECTED, "{cdb:02x?}");
    }
    job(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]);
}

#[test]
fn a_command_above_the_maximum_transfer_length_is_refused() {
    let mut unit = unit(DeviceKind::Disk, Some(Medium { blocks: 1 << 40, ..MEDIUM }));
    let read = |blocks: u16| [0x28, 0, 0, 0, 0, 0, 0, (blocks >> 8) as u8, blocks as u8, 0];
    assert_eq!(check(&mut unit, &read(2049)), Sense::INVALID_FIELD_IN_CDB);
    job(&mut unit, &read(2048), &[]);
}

#[test]
fn verify_checks_or_compares_depending_on_bytchk() {
    let mut unit = disk();
    let verify = |check: u8, blocks: u8| [0x2f, check << 1, 0, 0, 0, 0, 0, 0, blocks, 0];
    let one = extent(0, 1024);
    assert_eq!(job(&mut unit, &verify(0, 2), &[]).request.operation, Operation::Check(one));
    assert_eq!(
        job(&mut unit, &verify(1, 2), &[0; 1024]).request.operation,
        Operation::Compare { extent: one, repeat: None }
    );
    assert_eq!(
        job(&mut unit, &verify(3, 2), &[0; 512]).request.operation,
        Operation::Compare { extent: one, repeat: Some(512) }
    );
    assert_eq!(check(&mut unit, &verify(2, 2)), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check_with(&mut unit, &verify(1, 2), &[0; 512]), Sense::INVALID_FIELD_IN_CDB);
}

#[test]
fn read_capacity_10_reports_all_ones_if_the_capacity_needs_read_capacity_16() {
    let large = Medium { block_size: 4096, blocks: 1 << 33, ..MEDIUM };
    let mut unit = unit(DeviceKind::Disk, Some(large));
    assert_eq!(data(&mut unit, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]);
    let long = data(&mut unit, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(long[..16], [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0, 0, 0, 0xc0, 0]);
    assert_eq!(long.len(), 32);
    let mut small = disk();
    let long = data(&mut small, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0]);
    assert_eq!((long.len(), long[13]), (14, 3));
}

#[test]
fn synchronize_cache_flushes_whatever_blocks_it_names() {
    let mut unit = disk();
    let job = job(&mut unit, &[0x35, 2, 0, 0, 0, 7, 0, 0, 1, 0], &[]);
    assert_eq!(job, Job::of(Operation::Flush, true));
    assert_eq!(check(&mut unit, &[0x35, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]), Sense::LBA_OUT_OF_RANGE);
    let failed = unit.finish(&job, Err(RequestError::Write(0)));
    assert_eq!(failed.sense.expect("sense data")[2], 3);
}
