use super::super::testing::{MEDIUM, check, check_with, data, disk, dvd, job, outcome, response, unit};
use super::super::unit::Medium;
use super::super::{CommandOutcome, Response};
use super::*;
use crate::block::request::Operation;

/// Executes MODE SELECT (6) with these pages.
fn select(unit: &mut LogicalUnit, pages: &[u8]) -> CommandOutcome {
    let list = [&[0, 0, 0, 0], pages].concat();
    outcome(unit, 0, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)
}

fn control(format: u8, protect: u8) -> Vec<u8> {
    vec![0x0a, 10, format, 0x10, protect, 0, 0, 0, 0xff, 0xff, 0, 0]
}

#[test]
fn all_mode_pages_are_returned_by_both_commands_with_and_without_a_block_descriptor() {
    let mut unit = disk();
    let six = data(&mut unit, &[0x1a, 0, 0x3f, 0, 255, 0]);
    assert_eq!(six[..12], [67, 0, 0x10, 8, 0, 0, 0x03, 0xe8, 0, 0, 2, 0]);
    assert_eq!(six.len(), 68);
    let ten = data(&mut unit, &[0x5a, 0x08, 0x3f, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!(ten[..8], [0, 62, 0, 0x10, 0, 0, 0, 0]);
    assert_eq!(ten[8..], six[12..]);
    let long = data(&mut unit, &[0x5a, 0x10, 0x08, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!(long[..8], [0, 42, 0, 0x10, 1, 0, 0, 16]);
    assert_eq!(long[8..24], [0, 0, 0, 0, 0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0, 0, 2, 0]);
}

#[test]
fn changeable_values_are_reported_and_saving_is_refused() {
    let mut unit = disk();
    let caching = |unit: &mut _, control: u8| data(unit, &[0x1a, 8, control << 6 | 8, 0, 255, 0])[6];
    assert_eq!((caching(&mut unit, 0), caching(&mut unit, 1), caching(&mut unit, 2)), (4, 4, 4));
    assert!(matches!(select(&mut unit, &[&[8, 18][..], &[0; 18]].concat()), CommandOutcome::Perform(_)));
    assert_eq!((caching(&mut unit, 0), caching(&mut unit, 1), caching(&mut unit, 2)), (0, 4, 4));
    assert_eq!(check(&mut unit, &[0x1a, 8, 0xc8, 0, 255, 0]), Sense::SAVING_PARAMETERS_NOT_SUPPORTED);
    assert_eq!(check(&mut unit, &[0x15, 0x11, 0, 0, 0, 0]), check(&mut disk(), &[0x1a, 8, 0x33, 0, 255, 0]));
}

#[test]
fn switching_the_cache_off_flushes_it() {
    let mut unit = disk();
    let list = [&[0, 0, 0, 0, 8, 18][..], &[0; 18]].concat();
    assert_eq!(job(&mut unit, &[0x15, 0x10, 0, 0, 24, 0], &list).request.operation, Operation::Flush);
}

#[test]
fn descriptor_sense_is_used_once_it_was_selected() {
    let mut unit = disk();
    assert_eq!(select(&mut unit, &control(4, 0)), CommandOutcome::Done(Response::GOOD));
    assert_eq!(response(&mut unit, &[0xff], &[]).sense.expect("sense data")[..4], [0x72, 5, 0x20, 0]);
}

#[test]
fn software_write_protection_is_enforced_and_shown_in_the_header() {
    let mut unit = disk();
    assert_eq!(select(&mut unit, &control(0, 8)), CommandOutcome::Done(Response::GOOD));
    assert_eq!(check_with(&mut unit, &[0x0a, 0, 0, 0, 1, 0], &[0; 512]), Sense::WRITE_PROTECTED);
    assert_eq!(data(&mut unit, &[0x1a, 0, 0x3f, 0, 4, 0])[2], 0x90);
    assert_eq!(select(&mut unit, &control(0, 0)), CommandOutcome::Done(Response::GOOD));
    job(&mut unit, &[0x0a, 0, 0, 0, 1, 0], &[0; 512]);
}

#[test]
fn a_read_only_medium_is_shown_in_the_header() {
    let mut unit = unit(DeviceKind::Disk, Some(Medium { read_only: true, ..MEDIUM }));
    assert_eq!(data(&mut unit, &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 8, 0])[3], 0x90);
}

#[test]
fn an_invalid_parameter_list_changes_nothing() {
    let mut unit = disk();
    let wrong = [
        (control(0, 1), Sense::INVALID_FIELD_IN_PARAMETER_LIST), // a bit that cannot be changed
        (vec![0x0a, 9, 4, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0], Sense::INVALID_FIELD_IN_PARAMETER_LIST),
        (vec![0x0b, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Sense::INVALID_FIELD_IN_PARAMETER_LIST),
        (vec![0x4a, 1, 0, 6], Sense::INVALID_FIELD_IN_PARAMETER_LIST), // a subpage
        (vec![0x0a, 10, 4], Sense::PARAMETER_LIST_LENGTH_ERROR),
        (vec![0x0a], Sense::PARAMETER_LIST_LENGTH_ERROR),
    ];
    for (page, sense) in wrong {
        let list = [&[0, 0, 0, 0], &control(4, 8)[..], &page].concat();
        assert_eq!(check_with(&mut unit, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list), sense, "{page:02x?}");
        assert_eq!(unit.mode, ModePages::default());
    }
    assert_eq!(check_with(&mut unit, &[0x15, 0x10, 0, 0, 3, 0], &[0; 3]), Sense::PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(check_with(&mut unit, &[0x15, 0x10, 0, 0, 16, 0], &[0; 4]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(response(&mut unit, &[0x15, 0x10, 0, 0, 0, 0], &[]), Response::GOOD);
}

#[test]
fn a_block_descriptor_must_match_the_medium() {
    let mut unit = disk();
    let list = |blocks: u32, size: u32| [&[0, 0, 0, 8][..], &blocks.to_be_bytes(), &size.to_be_bytes()].concat();
    let cdb = [0x15, 0x10, 0, 0, 12, 0];
    for blocks in [0, 1000, u32::MAX] {
        assert_eq!(response(&mut unit, &cdb, &list(blocks, 512)), Response::GOOD);
    }
    for (blocks, size) in [(999, 512), (0, 4096)] {
        assert_eq!(check_with(&mut unit, &cdb, &list(blocks, size)), Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    }
}

#[test]
fn mode_select_accepts_the_pages_of_mode_sense() {
    let mut unit = disk();
    let mut list = data(&mut unit, &[0x1a, 0, 0x3f, 0, 255, 0]);
    list[0] = 0;
    assert_eq!(response(&mut unit, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list), Response::GOOD);
    let mut list = data(&mut unit, &[0x5a, 0x10, 0x3f, 0, 0, 0, 0, 0, 255, 0]);
    list[1] = 0;
    assert_eq!(response(&mut unit, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list), Response::GOOD);
}

#[test]
fn the_capabilities_page_of_a_drive_shows_whether_its_tray_is_locked() {
    let mut unit = dvd(10);
    let page = |unit: &mut _| data(unit, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255, 0]);
    let free = page(&mut unit);
    assert_eq!((free[7], &free[8..11], free[14]), (0, &[0x2a, 20, 0x3f][..], 0x29));
    data(&mut unit, &[0x1e, 0, 0, 0, 1, 0]);
    assert_eq!(page(&mut unit)[14], 0x2b);
}
