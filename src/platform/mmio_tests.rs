use super::*;

/// Offset and bytes of a write.
type Writes = Vec<(u64, Vec<u8>)>;

/// A device that records writes, and reads as the offset of each byte.
#[derive(Default)]
struct Latch(Arc<Mutex<Writes>>);

impl MmioDevice for Latch {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.iter_mut().zip(offset..).for_each(|(byte, offset)| *byte = offset as u8);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<PowerEvent> {
        self.0.lock().push((offset, data.to_vec()));
        (data == [0x77]).then_some(PowerEvent::PowerOff)
    }
}

fn bus() -> MmioBus {
    MmioBus::new(vec![(0..0x1000, "memory"), (0xfee0_0000..0xfee0_1000, "the local APIC's")])
}

#[test]
fn a_device_sees_offsets_and_accesses_truncated_at_the_end_of_its_range() {
    let (mut bus, written) = (bus(), Arc::<Mutex<Writes>>::default());
    bus.attach(0x2000..0x2006, "a latch's", Latch(Arc::clone(&written))).unwrap();
    let mut data = [0; 4];
    bus.read(0x2001, &mut data);
    assert_eq!(data, [1, 2, 3, 4]);
    bus.read(0x2004, &mut data);
    assert_eq!(data, [4, 5, 0xff, 0xff]);
    assert_eq!(bus.write(0x2004, &[9, 8, 7, 6]), None);
    assert_eq!(bus.write(0x2000, &[0x77]), Some(PowerEvent::PowerOff));
    assert_eq!(*written.lock(), [(4, vec![9, 8]), (0, vec![0x77])]);
}

#[test]
fn addresses_outside_of_all_ranges_are_not_answered() {
    let mut bus = bus();
    bus.attach(0x2000..0x3000, "a latch's", Latch::default()).unwrap();
    for address in [0x1fff, 0x3000, u64::MAX] {
        let mut data = [0; 8];
        bus.read(address, &mut data);
        assert_eq!(data, [0xff; 8], "{address:#x}");
        assert_eq!(bus.write(address, &[0x77]), None, "{address:#x}");
    }
}

#[test]
fn overlapping_empty_and_overflowing_ranges_are_refused() {
    let mut bus = bus();
    bus.attach(0x2000..0x3000, "a latch's", Latch::default()).unwrap();
    for (range, by) in [
        (0xfff..0x1001, "memory"),
        (0..1 << 52, "memory"),
        (0xfee0_0fff..0xfee0_2000, "the local APIC's"),
        (0x2fff..0x3001, "a latch's"),
        (0x1fff..0x3001, "a latch's"),
        (0x2000..0x2001, "a latch's"),
    ] {
        let error = bus.attach(range.clone(), "mine", Latch::default()).unwrap_err();
        assert!(matches!(error, MmioError::Overlap { by: other, .. } if other == by), "{range:?}: {error}");
    }
    assert_eq!(bus.attach(0x5000..0x5000, "mine", Latch::default()), Err(MmioError::Empty(0x5000..0x5000)));
    let beyond = (1 << 52) - 0x1000..(1 << 52) + 1;
    assert_eq!(bus.attach(beyond.clone(), "mine", Latch::default()), Err(MmioError::Beyond(beyond)));
    bus.attach(0x1000..0x2000, "mine", Latch::default()).unwrap();
    bus.attach(0x3000..0x3001, "mine", Latch::default()).unwrap();
}
