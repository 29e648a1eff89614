use super::super::Response;
use super::super::testing::{MEDIUM, check_with, decode, disk, job, outcome, response, unit};
use super::super::unit::DeviceKind;
use super::*;
use crate::block::request::{RequestError, Success};

fn extent(offset: u64, length: u64) -> Extent {
    Extent { offset, length }
}

/// Returns an UNMAP list of these ranges.
fn list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = (ranges.len() * 16) as u16;
    let mut list = [(descriptors + 6).to_be_bytes(), descriptors.to_be_bytes(), [0; 2], [0; 2]].concat();
    for (lba, blocks) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

fn unmap(length: usize) -> [u8; 10] {
    [0x42, 0, 0, 0, 0, 0, 0, (length >> 8) as u8, length as u8, 0]
}

#[test]
fn unmap_accepts_many_ranges_and_skips_empty_ones() {
    let mut unit = disk();
    let list = list(&[(0, 8), (1000, 0), (992, 8)]);
    let job = job(&mut unit, &unmap(list.len()), &list);
    assert_eq!(
        job.request.operation,
        Operation::Unmap([extent(0, 4096), extent(992 * 512, 4096)].into_iter().collect())
    );
}

#[test]
fn unmap_refuses_ranges_outside_of_the_medium_and_too_many_of_them() {
    let mut unit = disk();
    for ranges in [vec![(0, 8), (993, 8)], vec![(u64::MAX, 1)], vec![(1001, 0)]] {
        let list = list(&ranges);
        assert_eq!(check_with(&mut unit, &unmap(list.len()), &list), Sense::LBA_OUT_OF_RANGE);
    }
    let list = list(&[(0, 1); 257]);
    assert_eq!(check_with(&mut unit, &unmap(list.len()), &list), Sense::INVALID_FIELD_IN_PARAMETER_LIST);
}

#[test]
fn a_truncated_unmap_list_is_refused_and_an_empty_one_is_accepted() {
    let mut unit = disk();
    let list = list(&[(0, 8)]);
    assert_eq!(check_with(&mut unit, &unmap(23), &list), Sense::PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(check_with(&mut unit, &unmap(7), &list), Sense::PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(check_with(&mut unit, &unmap(25), &list), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(response(&mut unit, &unmap(0), &[]), Response::GOOD);
}

#[test]
fn write_same_of_zeros_becomes_a_request_to_zero() {
    let mut unit = disk();
    let ten = |flags: u8| [0x41, flags, 0, 0, 0, 8, 0, 0, 8, 0];
    let place = extent(4096, 4096);
    let zeros = |deallocate| Operation::Zero { extent: place, deallocate };
    assert_eq!(job(&mut unit, &ten(8), &[0; 512]).request.operation, zeros(true));
    assert_eq!(job(&mut unit, &ten(0), &[0; 512]).request.operation, zeros(false));
    let pattern = vec![7; 512];
    let same = Operation::Fill { extent: place, pattern: pattern.clone() };
    assert_eq!(job(&mut unit, &ten(0), &pattern).request.operation, same);
    // Data other than zeros is written, with and without UNMAP (SBC-3, 5.43).
    assert_eq!(job(&mut unit, &ten(8), &pattern).request.operation, same);
    // NDOB: there is no data.
    let sixteen = [0x93, 9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0];
    assert_eq!(job(&mut unit, &sixteen, &[]).request.operation, zeros(true));
    assert_eq!(check_with(&mut unit, &sixteen, &[0; 512]), Sense::INVALID_FIELD_IN_CDB);
}

#[test]
fn write_same_requires_one_block_of_data_and_has_a_limit() {
    let mut unit = disk();
    for wrong in [0, 256, 1024] {
        let sense = check_with(&mut unit, &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], &vec![0; wrong]);
        assert_eq!(sense, Sense::INVALID_FIELD_IN_CDB, "{wrong}");
    }
    // A length of 0 means all blocks up to the end.
    let rest = job(&mut unit, &[0x41, 0, 0, 0, 0x03, 0xe0, 0, 0, 0, 0], &[0; 512]);
    assert_eq!(rest.request.operation, Operation::Zero { extent: extent(992 * 512, 8 * 512), deallocate: false });
    let mut large = super::super::testing::unit(DeviceKind::Disk, Some(Medium { blocks: 1 << 20, ..MEDIUM }));
    let sixteen = |blocks: u32| {
        let mut cdb = [0; 16];
        cdb[0] = 0x93;
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        cdb
    };
    assert_eq!(check_with(&mut large, &sixteen(0x1_0000), &[0; 512]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check_with(&mut large, &sixteen(0), &[0; 512]), Sense::INVALID_FIELD_IN_CDB);
    job(&mut large, &sixteen(0xffff), &[0; 512]);
}

#[test]
fn a_thick_disk_does_not_deallocate() {
    let mut unit = unit(DeviceKind::Disk, Some(Medium { provisioning: false, ..MEDIUM }));
    assert_eq!(check_with(&mut unit, &[0x41, 8, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]), Sense::INVALID_FIELD_IN_CDB);
    job(&mut unit, &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]);
}

#[test]
fn lba_status_starts_at_the_requested_block() {
    let mut unit = disk();
    let mut cdb = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 56, 0, 0];
    let asked = job(&mut unit, &cdb, &[]);
    assert_eq!(asked.request.operation, Operation::Map { extent: extent(5120, 990 * 512), limit: 3 });
    assert_eq!(asked.allocation_length, 56);
    // The second part ends in the middle of a block, which then counts as allocated.
    let map = vec![(1024, false), (700, true), (10_000, false)];
    let response = unit.finish(&asked, Ok(Success::Map(map)));
    let descriptor = |at: usize| {
        let data = &response.data[8 + 16 * at..24 + 16 * at];
        (data[7], data[11], data[12])
    };
    assert_eq!(response.data[..4], 52_u32.to_be_bytes());
    assert_eq!([descriptor(0), descriptor(1), descriptor(2)], [(10, 2, 1), (12, 2, 0), (14, 18, 1)]);
    cdb[8..10].copy_from_slice(&1000_u16.to_be_bytes());
    assert_eq!(check_with(&mut unit, &cdb, &[]), Sense::LBA_OUT_OF_RANGE);
}

#[test]
fn a_failed_unmap_is_a_write_error() {
    let mut unit = disk();
    let list = list(&[(0, 8)]);
    let job = job(&mut unit, &unmap(list.len()), &list);
    let response = unit.finish(&job, Err(RequestError::Write(0)));
    assert_eq!(decode(&response.sense.expect("sense data")), Sense::WRITE_ERROR);
    assert!(matches!(outcome(&mut unit, 0, &unmap(0), &[]), super::super::CommandOutcome::Done(_)));
}
