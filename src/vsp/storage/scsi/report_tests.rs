use super::super::testing::{check, data, disk};
use super::*;

#[test]
fn the_list_of_luns_is_truncated_to_the_allocation_length() {
    let cdb = |select: u8, length: u8| {
        let mut cdb = [0; 16];
        (cdb[0], cdb[2], cdb[9]) = (0xa0, select, length);
        cdb
    };
    let luns = || [0, 5, 63].into_iter();
    let all = report_luns(&cdb(0, 255), luns()).expect("a list");
    assert_eq!(all[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
    assert_eq!((all.len(), all[17], all[25]), (32, 5, 63));
    let cut = report_luns(&cdb(2, 16), luns()).expect("a list");
    assert_eq!((cut.len(), cut[3]), (16, 24));
    assert_eq!(report_luns(&cdb(1, 16), luns()).expect("a list"), [0; 8]);
    assert_eq!(report_luns(&cdb(3, 16), luns()), None);
    assert_eq!(report_luns(&cdb(0, 15), luns()), None);
}

fn ask(option: u8, opcode: u8, action: u8) -> [u8; 12] {
    [0xa3, 0x0c, option, opcode, 0, action, 0, 0, 0xff, 0xff, 0, 0]
}

#[test]
fn the_list_of_all_commands_agrees_with_the_report_of_each() {
    let mut unit = disk();
    let all = data(&mut unit, &ask(0, 0, 0));
    assert_eq!(u32::from_be_bytes([all[0], all[1], all[2], all[3]]) as usize, all.len() - 4);
    for command in all[4..].chunks_exact(8) {
        let (opcode, action, with_action, length) = (command[0], command[3], command[5] & 1, command[7]);
        let one = data(&mut unit, &ask(1 + with_action, opcode, action));
        assert_eq!((one[1], one[3], one[4]), (3, length, opcode));
        assert_eq!(one.len(), 4 + usize::from(length));
        assert_eq!(check(&mut unit, &ask(2 - with_action, opcode, action)), Sense::INVALID_FIELD_IN_CDB);
        assert_eq!(data(&mut unit, &ask(3, opcode, action)), one);
    }
    assert!(all[4..].chunks_exact(8).any(|command| command[0] == 0x42));
}

#[test]
fn timeout_descriptors_are_returned_on_request() {
    let mut unit = disk();
    let all = data(&mut unit, &ask(0x80, 0, 0));
    assert!(all[4..].chunks_exact(20).all(|command| command[5] & 2 != 0 && command[8..10] == [0, 10]));
    let one = data(&mut unit, &ask(0x81, 0, 0));
    assert_eq!((one[1], one.len()), (0x83, 4 + 6 + 12));
}

#[test]
fn missing_commands_are_reported_as_unsupported() {
    let mut unit = disk();
    assert_eq!(data(&mut unit, &ask(1, 0xc1, 0)), [0, 1, 0, 0]);
    assert_eq!(data(&mut unit, &ask(2, 0x9e, 0x11)), [0, 1, 0, 0]);
    assert_eq!(check(&mut unit, &ask(4, 0, 0)), Sense::INVALID_FIELD_IN_CDB);
}
