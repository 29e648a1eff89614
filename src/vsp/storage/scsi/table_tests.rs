use super::super::testing::{MEDIUM, check, data, disk, dvd, unit};
use super::super::unit::Medium;
use super::*;

#[test]
fn the_command_table_is_sorted_and_has_no_duplicates() {
    let order = |definition: &Definition| (definition.opcode, definition.service_action);
    assert!(COMMANDS.windows(2).all(|pair| pair[0].opcode <= pair[1].opcode));
    for (index, command) in COMMANDS.iter().enumerate() {
        assert!(COMMANDS[..index].iter().all(|other| order(other) != order(command)), "{:?}", order(command));
    }
}

#[test]
fn every_command_has_the_length_of_its_group() {
    for command in COMMANDS {
        let length = match command.opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            _ => 12,
        };
        assert_eq!(command.length(), length, "{:#x}", command.opcode);
    }
}

#[test]
fn every_command_is_found_by_its_code() {
    let (disk, dvd) = (disk(), dvd(10));
    for command in COMMANDS {
        let unit = if command.on == On::Optical { &dvd } else { &disk };
        let found = find_by_code(unit, command.opcode, command.service_action.unwrap_or(0));
        assert!(matches!(found, Lookup::Found(found) if std::ptr::eq(found, command)), "{:#x}", command.opcode);
    }
    assert!(matches!(find_by_code(&disk, 0x5e, 4), Lookup::NoSuchServiceAction));
    assert!(matches!(find_by_code(&disk, 0xc1, 0), Lookup::NoSuchOpcode));
    assert!(matches!(find_by_code(&disk, 0x43, 0), Lookup::NoSuchOpcode));
}

#[test]
fn reserved_bits_of_a_command_are_refused() {
    let mut unit = disk();
    // NACA; a reserved byte; RDPROTECT; and a service action that does not exist.
    assert_eq!(check(&mut unit, &[0, 0, 0, 0, 0, 0x04]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check(&mut unit, &[0, 0, 1, 0, 0, 0]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check(&mut unit, &[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0]), Sense::INVALID_FIELD_IN_CDB);
    assert_eq!(check(&mut unit, &[0x9e, 0x11]), Sense::INVALID_FIELD_IN_CDB);
    // Vendor-specific bits of the CONTROL byte are ignored.
    data(&mut unit, &[0, 0, 0, 0, 0, 0xc0]);
}

#[test]
fn a_disk_without_provisioning_does_not_support_unmap() {
    let mut unit = unit(DeviceKind::Disk, Some(Medium { provisioning: false, ..MEDIUM }));
    assert_eq!(check(&mut unit, &[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Sense::INVALID_OPCODE);
}
