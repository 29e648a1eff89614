use super::*;

/// A device that reads as its number and the VP's index, and accepts even values.
struct Numbers;

impl MsrDevice for Numbers {
    fn read(&mut self, vp: u32, number: u32) -> Option<u64> {
        (number != 0x1001).then_some(u64::from(number) << 32 | u64::from(vp))
    }

    fn write(&mut self, _vp: u32, _number: u32, value: u64) -> bool {
        value.is_multiple_of(2)
    }
}

#[test]
fn a_device_answers_its_msrs_and_no_others() {
    let mut bus = MsrBus::default();
    bus.attach(0x1000..0x1002, Box::new(Numbers)).unwrap();
    assert_eq!(bus.read(3, 0x1000), Some(Some(0x1000 << 32 | 3)));
    assert_eq!(bus.read(3, 0x1001), Some(None));
    assert_eq!(bus.write(0, 0x1001, 2), Some(true));
    assert_eq!(bus.write(0, 0x1001, 3), Some(false));
    assert_eq!((bus.read(0, 0x0fff), bus.read(0, 0x1002), bus.write(0, 0x1002, 0)), (None, None, None));
    assert_eq!(bus.filtered(), [(0x1000, 2)]);
}

#[test]
fn ranges_that_kvm_cannot_hand_over_are_refused() {
    let mut bus = MsrBus::default();
    bus.attach(0x1000..0x1002, Box::new(Numbers)).unwrap();
    for (range, problem) in [
        (0x1001..0x1005, "another device"),
        (0..0x1001, "local APIC"),
        (0x8ff..0x900, "local APIC"),
        (5..5, "no MSR"),
        (0x1_0000..0x2_0000, "12,288"),
        (0..u32::MAX, "12,288"),
    ] {
        let error = bus.attach(range.clone(), Box::new(Numbers)).unwrap_err();
        assert!(error.to_string().contains(problem), "{range:?}: {error}");
    }
    for first in 0..9 {
        bus.attach(0x2000 + first..0x2001 + first, Box::new(Numbers)).unwrap();
    }
    let error = bus.attach(0x3000..0x3001, Box::new(Numbers)).unwrap_err();
    assert!(error.to_string().contains("10 ranges"), "{error}");
}
