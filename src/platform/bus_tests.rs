use super::*;
use proptest::prelude::*;
use std::thread;

/// A device that reads as the offset and the length of the access, and records writes.
#[derive(Default)]
struct Recorder {
    writes: Vec<(u16, Vec<u8>)>,
}

impl PortDevice for Recorder {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let length = data.len() as u8;
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = if index == 0 { offset as u8 } else { length };
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        self.writes.push((offset, data.to_vec()));
        (data == [0xee]).then_some(PowerEvent::Reset)
    }
}

fn read<const N: usize>(bus: &PortBus, port: u16) -> [u8; N] {
    let mut data = [0; N];
    bus.read(port, &mut data);
    data
}

#[test]
fn an_access_reaches_the_device_with_its_offset() {
    let mut bus = PortBus::new();
    let device = Arc::new(Mutex::new(Recorder::default()));
    bus.attach(0x10..0x18, 0x10, device.clone()).unwrap();
    assert_eq!(read::<1>(&bus, 0x13), [3]);
    assert_eq!(read::<4>(&bus, 0x14), [4, 4, 4, 4]);
    assert_eq!(bus.write(0x16, &[1, 2]), None);
    assert_eq!(device.lock().writes, [(6, vec![1, 2])]);
}

#[test]
fn unassigned_ports_read_as_ones_and_ignore_writes() {
    let mut bus = PortBus::new();
    assert_eq!(read::<4>(&bus, 0x80), [0xff; 4]);
    assert_eq!(bus.write(0xffff, &[0xee]), None);
    bus.attach(0x10..0x18, 0x10, shared(Recorder::default())).unwrap();
    assert_eq!(read::<2>(&bus, 0x18), [0xff; 2]);
    assert_eq!(read::<2>(&bus, 0x0e), [0xff; 2]);
}

#[test]
fn an_access_past_the_end_of_a_range_is_truncated_there() {
    let mut bus = PortBus::new();
    let (low, high) = (Arc::new(Mutex::new(Recorder::default())), Arc::new(Mutex::new(Recorder::default())));
    bus.attach(0x10..0x18, 0x10, low.clone()).unwrap();
    bus.attach(0x18..0x20, 0x18, high.clone()).unwrap();
    assert_eq!(read::<4>(&bus, 0x16), [6, 2, 0xff, 0xff]);
    bus.write(0x15, &[1, 2, 3, 4]);
    assert_eq!(low.lock().writes, [(5, vec![1, 2, 3])]);
    assert_eq!(high.lock().writes, []);
}

#[test]
fn an_access_that_begins_below_a_range_does_not_reach_it() {
    let mut bus = PortBus::new();
    let device = Arc::new(Mutex::new(Recorder::default()));
    bus.attach(0xcf9..0xcfa, 0xcf9, device.clone()).unwrap();
    bus.write(0xcf8, &[0, 6, 0, 0x80]);
    assert_eq!(device.lock().writes, []);
}

#[test]
fn the_last_port_is_the_end_of_the_space() {
    let mut bus = PortBus::new();
    bus.attach(0xfff0..0xffff, 0xfff0, shared(Recorder::default())).unwrap();
    assert_eq!(read::<4>(&bus, 0xfffe), [14, 0xff, 0xff, 0xff]);
    assert_eq!(read::<4>(&bus, 0xffff), [0xff; 4]);
}

#[test]
fn two_ranges_of_a_device_can_share_one_origin() {
    let mut bus = PortBus::new();
    let device = shared(Recorder::default());
    bus.attach(0x60..0x61, 0x60, device.clone()).unwrap();
    bus.attach(0x64..0x65, 0x60, device).unwrap();
    assert_eq!(read::<1>(&bus, 0x60), [0]);
    assert_eq!(read::<1>(&bus, 0x64), [4]);
    assert_eq!(read::<1>(&bus, 0x61), [0xff]);
}

#[test]
fn overlapping_and_empty_ranges_are_refused_with_both_sides_named() {
    let mut bus = PortBus::new();
    bus.attach(0x10..0x18, 0x10, shared(Recorder::default())).unwrap();
    for wanted in [0x10..0x11, 0x17..0x20, 0x0..0x11, 0x0..0x40, 0x12..0x13] {
        let error = bus.attach(wanted.clone(), wanted.start, shared(Recorder::default())).unwrap_err();
        assert_eq!(error, PortRangeError::Overlap { wanted, taken: 0x10..0x18 });
        assert!(error.to_string().contains("0x10 to 0x17"), "{error}");
    }
    assert!(bus.attach(0x20..0x20, 0x20, shared(Recorder::default())).is_err());
    assert!(bus.attach(0x20..0x21, 0x21, shared(Recorder::default())).is_err());
    bus.attach(0x18..0x19, 0x18, shared(Recorder::default())).unwrap();
    bus.attach(0xf..0x10, 0xf, shared(Recorder::default())).unwrap();
}

#[test]
fn string_output_is_one_write_for_each_item_until_one_ends_the_run() {
    let mut bus = PortBus::new();
    let device = Arc::new(Mutex::new(Recorder::default()));
    bus.attach(0x10..0x18, 0x10, device.clone()).unwrap();
    assert_eq!(bus.write_repeated(0x11, &[1, 2, 3, 4], 2), None);
    assert_eq!(device.lock().writes, [(1, vec![1, 2]), (1, vec![3, 4])]);
    assert_eq!(bus.write_repeated(0x10, &[7, 0xee, 9], 1), Some(PowerEvent::Reset));
    assert_eq!(device.lock().writes.len(), 4);
    let mut data = [0; 6];
    bus.read_repeated(0x12, &mut data, 2);
    assert_eq!(data, [2, 2, 2, 2, 2, 2]);
    bus.read_repeated(0x12, &mut [], 0);
}

#[test]
fn a_busy_device_does_not_delay_another() {
    let mut bus = PortBus::new();
    let busy = Arc::new(Mutex::new(Recorder::default()));
    bus.attach(0x10..0x11, 0x10, busy.clone()).unwrap();
    bus.attach(0x11..0x12, 0x11, shared(Recorder::default())).unwrap();
    let held = busy.lock();
    assert_eq!(read::<1>(&bus, 0x11), [0]);
    drop(held);
}

#[test]
fn no_write_is_lost_between_threads() {
    let mut bus = PortBus::new();
    let devices: Vec<_> = (0..3).map(|_| Arc::new(Mutex::new(Recorder::default()))).collect();
    for (port, device) in (0x10..).zip(&devices) {
        bus.attach(port..port + 1, port, device.clone()).unwrap();
    }
    thread::scope(|scope| {
        for vp in 0..4 {
            let bus = &bus;
            scope.spawn(move || (0..300).for_each(|turn| _ = bus.write(0x10 + turn % 3, &[vp])));
        }
    });
    for device in &devices {
        let writes = &device.lock().writes;
        for vp in 0..4 {
            assert_eq!(writes.iter().filter(|(_, data)| data == &[vp]).count(), 100);
        }
    }
}

proptest! {
    /// Compares the sorted look-up with a table that has an entry for each port.
    #[test]
    fn the_look_up_agrees_with_a_simple_model(ranges in prop::collection::vec((0u16..200, 1u16..20), 0..20)) {
        let mut bus = PortBus::new();
        let mut table = [None; 256];
        for (start, length) in ranges {
            let taken = table[usize::from(start)..usize::from(start + length)].iter().any(Option::is_some);
            let attached = bus.attach(start..start + length, start, shared(Recorder::default()));
            prop_assert_eq!(attached.is_err(), taken);
            if !taken {
                (start..start + length).for_each(|port| table[usize::from(port)] = Some(port - start));
            }
        }
        for (port, entry) in (0..).zip(table) {
            prop_assert_eq!(read::<1>(&bus, port)[0], entry.map_or(0xff, |offset| offset as u8));
        }
    }
}
