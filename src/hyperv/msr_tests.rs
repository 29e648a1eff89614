use super::*;
use crate::hyperv::testing::everything;
use std::collections::HashSet;

#[test]
fn every_msr_of_the_interface_has_one_number_and_one_name() {
    let all: Vec<_> = Msr::all().collect();
    let names: HashSet<_> = all.iter().map(|(_, msr)| msr.to_string()).collect();
    // System, APIC, SynIC, timers, idle, crash, reenlightenment and TSC.
    assert_eq!(all.len(), 9 + 4 + 21 + 8 + 1 + 6 + 4);
    assert_eq!(names.len(), all.len());
    assert!(all.iter().all(|(_, msr)| msr.is_accessible(everything())));
    assert!(!all.iter().any(|(_, msr)| msr.is_accessible(Features::NONE)));
}

#[test]
fn msrs_of_a_numbered_group_have_their_numbers_in_their_names() {
    assert_eq!(Msr::decode(0x4000_009f).unwrap().to_string(), "SINT15");
    assert_eq!(Msr::decode(0x4000_00b6).unwrap().to_string(), "STIMER3_CONFIG");
    assert_eq!(Msr::decode(0x4000_00b7).unwrap().to_string(), "STIMER3_COUNT");
    assert_eq!(Msr::decode(0x4000_0104).unwrap().to_string(), "CRASH_P4");
    for number in [0x4000_0004, 0x4000_0085, 0x4000_00a0, 0x4000_00b8, 0x4000_0119, 0x3fff_ffff, 0x4000_1000] {
        assert_eq!(Msr::decode(number), None, "{number:#x}");
    }
}

#[test]
fn a_register_name_is_translated_to_its_msr() {
    let name = |name| Msr::from_register_name(name).map(|msr| msr.to_string());
    assert_eq!(name(0x0009_0002).as_deref(), Some("GUEST_OS_ID"));
    assert_eq!(name(0x000a_000f).as_deref(), Some("SINT15"));
    assert_eq!(name(0x000b_0007).as_deref(), Some("STIMER3_COUNT"));
    assert_eq!(name(0x0000_0214).as_deref(), Some("CRASH_P4"));
    // A guest may not name general registers or registers of the APIC.
    for other in [0x0002_0000, 0x0009_0010, 0x000a_0015, 0x000b_0008, 0x0000_0216] {
        assert_eq!(name(other), None, "{other:#x}");
    }
}
