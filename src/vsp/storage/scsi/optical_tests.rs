use super::super::testing::{check, data, dvd, outcome};
use super::*;

fn toc(flags: u8, format: u8, from: u8) -> [u8; 10] {
    [0x43, flags, format, 0, 0, 0, from, 0, 255, 0]
}

fn event(unit: &mut LogicalUnit) -> Vec<u8> {
    data(unit, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0])
}

#[test]
fn a_disc_has_one_track_in_one_session() {
    let mut unit = dvd(10_000);
    let track = [0, 0x14, 1, 0, 0, 0, 0, 0];
    let lead_out = [0, 0x14, 0xaa, 0, 0, 0, 0x27, 0x10];
    assert_eq!(data(&mut unit, &toc(0, 0, 0)), [&[0, 18, 1, 1][..], &track, &lead_out].concat());
    assert_eq!(data(&mut unit, &toc(0, 0, 0xaa)), [&[0, 10, 1, 1][..], &lead_out].concat());
    assert_eq!(data(&mut unit, &toc(0, 1, 0)), [&[0, 10, 1, 1][..], &track].concat());
    assert_eq!(check(&mut unit, &toc(0, 0, 2)), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check(&mut unit, &toc(0, 2, 0)), Sense::INVALID_FIELD_IN_CDB);
    // Minutes, seconds, frames: the first block is at two seconds.
    let by_time = data(&mut unit, &toc(2, 0, 0));
    assert_eq!((&by_time[8..12], &by_time[16..20]), (&[0, 0, 2, 0][..], &[0, 2, 15, 25][..]));
}

#[test]
fn the_format_of_read_toc_in_the_control_byte_works_too() {
    let mut unit = dvd(100);
    assert_eq!(data(&mut unit, &[0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40]), data(&mut unit, &toc(0, 1, 0)));
}

#[test]
fn the_profile_depends_on_the_size_of_the_disc_and_an_empty_tray_has_none() {
    let profile = |unit: &mut LogicalUnit| data(unit, &[0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0])[6..8].to_vec();
    assert_eq!(profile(&mut dvd(1000)), [0, 0x08]);
    let mut unit = dvd(1_000_000);
    assert_eq!(profile(&mut unit), [0, 0x10]);
    outcome(&mut unit, 0, &[0x1b, 0, 0, 0, 2, 0], &[]);
    assert_eq!(profile(&mut unit), [0, 0]);
}

#[test]
fn get_configuration_returns_the_requested_features() {
    let mut unit = dvd(1_000_000);
    let codes = |unit: &mut LogicalUnit, wanted: u8, start: u8| {
        let data = data(unit, &[0x46, wanted, 0, start, 0, 0, 0, 1, 0, 0]);
        assert_eq!(u32::from_be_bytes([data[0], data[1], data[2], data[3]]) as usize, data.len() - 4);
        let (mut codes, mut rest) = (Vec::new(), &data[8..]);
        while let [_, code, _, length, after @ ..] = rest {
            codes.push(*code);
            rest = &after[usize::from(*length)..];
        }
        codes
    };
    assert_eq!(codes(&mut unit, 0, 0), [0, 1, 2, 3, 0x10, 0x1e, 0x1f]);
    assert_eq!(codes(&mut unit, 1, 3), [3, 0x10, 0x1f]);
    assert_eq!(codes(&mut unit, 2, 0x1e), [0x1e]);
    assert_eq!(check(&mut unit, &[0x46, 3, 0, 0, 0, 0, 0, 1, 0, 0]), Sense::INVALID_FIELD_IN_CDB);
}

#[test]
fn media_events_are_reported_once_and_only_when_polled() {
    let mut unit = dvd(100);
    assert_eq!(event(&mut unit), [0, 6, 4, 0x10, 0, 2, 0, 0]);
    outcome(&mut unit, 0, &[0x1b, 0, 0, 0, 2, 0], &[]);
    assert_eq!(event(&mut unit), [0, 6, 4, 0x10, 3, 1, 0, 0]);
    assert_eq!(event(&mut unit), [0, 6, 4, 0x10, 0, 1, 0, 0]);
    outcome(&mut unit, 0, &[0x1b, 0, 0, 0, 3, 0], &[]);
    assert_eq!(event(&mut unit), [0, 6, 4, 0x10, 2, 2, 0, 0]);
    assert_eq!(data(&mut unit, &[0x4a, 1, 0, 0, 0x40, 0, 0, 0, 8, 0]), [0, 2, 0x80, 0x10]);
    // The pending unit attention is for the next command that reports it.
    assert_eq!(check(&mut unit, &[0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check(&mut unit, &[0; 6]), Sense::MEDIUM_MAY_HAVE_CHANGED);
}

#[test]
fn disc_information_and_mechanism_status_describe_a_finalized_disc() {
    let mut unit = dvd(100);
    let disc = data(&mut unit, &[0x51, 0, 0, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!((disc.len(), &disc[..8]), (34, &[0, 32, 0x0e, 1, 1, 1, 1, 0x20][..]));
    assert_eq!(data(&mut unit, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]), [0, 0, 0, 0, 0, 1, 0, 0]);
}
