use super::super::testing::{MEDIUM, check, data, disk, dvd, unit};
use super::super::unit::Medium;
use super::*;

fn page(unit: &mut LogicalUnit, page: u8) -> Vec<u8> {
    let data = data(unit, &[0x12, 1, page, 1, 0, 0]);
    assert_eq!(data[1], page);
    assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4);
    data
}

#[test]
fn inquiry_identifies_disks_and_dvd_drives() {
    let disk = data(&mut disk(), &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(disk[..8], [0, 0, 6, 0x12, 91, 0, 0, 2]);
    assert_eq!(&disk[8..36], b"Msft    Virtual Disk    1.0 ");
    assert_eq!(disk[36..56], [0; 20]);
    assert_eq!(disk[58..64], [0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0]);
    let dvd = data(&mut dvd(10), &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(dvd[..2], [5, 0x80]);
}

#[test]
fn scratch_disks_are_marked_in_the_vendor_specific_bytes() {
    let mut unit = disk();
    unit.identity.scratch = true;
    let inquiry = data(&mut unit, &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(&inquiry[8..44], b"Msft    Virtual Disk    1.0 scratch\0");
}

#[test]
fn the_data_is_truncated_to_the_allocation_length_but_its_length_field_is_not() {
    let mut unit = disk();
    let short = data(&mut unit, &[0x12, 0, 0, 0, 5, 0]);
    assert_eq!((short.len(), short[4]), (5, 91));
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 0, 0]), [0u8; 0]);
}

#[test]
fn a_page_code_without_evpd_or_of_an_unsupported_page_is_refused() {
    let mut unit = disk();
    assert_eq!(check(&mut unit, &[0x12, 0, 0x80, 0, 96, 0]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check(&mut unit, &[0x12, 1, 0x81, 0, 96, 0]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check(&mut dvd(10), &[0x12, 1, 0xb0, 0, 96, 0]), Sense::INVALID_FIELD_IN_CDB);
}

#[test]
fn every_listed_vpd_page_exists() {
    for mut unit in [disk(), dvd(10)] {
        let list = page(&mut unit, 0)[4..].to_vec();
        assert!(list.is_sorted());
        for code in list {
            page(&mut unit, code);
        }
    }
}

#[test]
fn serial_number_and_designators_name_the_unit() {
    let mut unit = disk();
    assert_eq!(page(&mut unit, 0x80)[4..], *b"serial");
    let designators = page(&mut unit, 0x83);
    assert_eq!(designators[4..16], [1, 3, 0, 8, 0x30, 0, 0, 0, 0, 0, 0x12, 0x34]);
    assert_eq!(designators[16..20], [2, 1, 0, 14]);
    assert_eq!(&designators[20..], b"Msft    serial");
}

#[test]
fn block_limits_are_in_blocks_and_unmap_is_not_offered_without_provisioning() {
    let mut thin = disk();
    let limits = page(&mut thin, 0xb0);
    assert_eq!(limits.len(), 64);
    assert_eq!(limits[4..12], [0, 255, 0, 8, 0, 0, 0x08, 0]);
    assert_eq!(limits[20..36], [0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0]);
    assert_eq!(page(&mut thin, 0xb2)[4..], [0, 0xe4, 2, 0]);
    assert_eq!(page(&mut thin, 0xb1)[5], 1);
    let mut thick = unit(DeviceKind::Disk, Some(Medium { provisioning: false, block_size: 4096, ..MEDIUM }));
    let limits = page(&mut thick, 0xb0);
    assert_eq!(limits[4..12], [0, 255, 0, 1, 0, 0, 1, 0]);
    assert_eq!(limits[20..36], [0; 16]);
    assert_eq!(page(&mut thick, 0xb2)[4..], [0; 4]);
}
