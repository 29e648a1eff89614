use super::*;

fn table(processors: u32) -> Vec<u8> {
    dsdt(&Description { apic_ids: (0..processors).collect(), ..Description::default() }).as_slice().to_vec()
}

fn position(table: &[u8], needle: &[u8]) -> Option<usize> {
    table.windows(needle.len()).position(|window| window == needle)
}

/// Returns the definition of the device with this name, by its package length (ACPI 6.5, 20.2.4).
fn device<'a>(table: &'a [u8], name: &[u8; 4]) -> &'a [u8] {
    let mut from = 0;
    loop {
        let start = from + position(&table[from..], b"\x5b\x82").expect("no such device");
        let extra = usize::from(table[start + 2] >> 6);
        let low = if extra == 0 { table[start + 2] & 0x3f } else { table[start + 2] & 0xf };
        let high =
            table[start + 3..start + 3 + extra].iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let body = start + 2 + extra + 1;
        if &table[body..body + 4] == name {
            return &table[body..start + 2 + (usize::from(low) | high << 4)];
        }
        from = body;
    }
}

#[test]
fn each_processor_has_the_uid_of_its_index() {
    let table = table(64);
    assert!(position(device(&table, b"C03F"), b"\x08_UID\x0a\x3f").is_some());
    assert!(position(device(&table, b"C000"), b"\x08_HID\x0dACPI0007\0").is_some());
    assert!(position(&table, b"C040").is_none());
}

#[test]
fn the_serial_port_has_its_ports_and_its_interrupt() {
    let table = table(1);
    let serial = device(&table, b"COM1");
    assert!(position(serial, b"\x47\x01\xf8\x03\xf8\x03\x01\x08").is_some());
    assert!(position(serial, b"\x89\x06\x00\x03\x01\x04\x00\x00\x00").is_some());
}

#[test]
fn the_clock_has_ports_and_no_interrupt() {
    let table = table(1);
    let clock = device(&table, b"RTC_");
    assert!(position(clock, b"\x47\x01\x70\x00\x70\x00\x01\x02\x79\x00").is_some());
}

#[test]
fn vmbus_is_in_a_module_that_carries_the_memory_window() {
    let table = table(1);
    let module = device(&table, b"VMOD");
    let bus = device(module, b"VMBS");
    assert!(position(bus, b"\x08_HID\x0dVMBUS\0").is_some());
    // Linux gives up on a VMBus device without a _CRS.
    assert!(position(bus, b"\x08_CRS").is_some());
    let window = b"\x87\x17\x00\x00\x0c\x03\0\0\0\0\x00\x00\x00\xf8\xff\xff\xbf\xfe\0\0\0\0\x00\x00\xc0\x06";
    assert!(position(module, window).is_some());
    assert!(position(bus, window).is_none());
}

#[test]
fn a_large_screen_has_a_window_above_4_gib() {
    let description =
        Description { apic_ids: vec![0], large_window: 0x1_8000_0000..0x1_8800_0000, ..Description::default() };
    let large = dsdt(&description);
    let window = b"\x8a\x2b\x00\x00\x0c\x03\0\0\0\0\0\0\0\0\0\0\0\x80\x01\0\0\0\xff\xff\xff\x87\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0\0";
    assert!(position(device(large.as_slice(), b"VMOD"), window).is_some());
    assert!(position(device(&table(1), b"VMOD"), b"\x8a\x2b").is_none());
}

#[test]
fn soft_off_has_a_sleep_type() {
    assert!(position(&table(1), b"\x08_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00").is_some());
}

#[test]
fn only_a_guest_that_can_hibernate_finds_its_sleep_type() {
    assert!(position(&table(1), b"_S4_").is_none());
    let description = Description { apic_ids: vec![0], hibernation: true, ..Description::default() };
    assert!(position(dsdt(&description).as_slice(), b"\x08_S4_\x12\x08\x04\x0a\x04\x0a\x04\x00\x00").is_some());
}

#[test]
fn the_pci_bus_and_its_window_are_described_if_there_is_a_screen() {
    assert!(position(&table(1), b"PCI0").is_none());
    let description = Description { apic_ids: vec![0], screen: true, ..Description::default() };
    let table = dsdt(&description);
    let bus = device(table.as_slice(), b"PCI0");
    assert!(position(bus, b"\x08_HID\x0c\x41\xd0\x0a\x03").is_some());
    assert!(position(bus, b"\x88\x0d\x00\x02\x0c\x00\0\0\0\0\0\0\0\0\x01\x00").is_some(), "bus 0");
    assert!(position(bus, b"\x47\x01\xf8\x0c\xf8\x0c\x01\x08").is_some());
    let window = b"\x87\x17\x00\x00\x0c\x01\0\0\0\0\x00\x00\x00\xf8\xff\xff\xff\xfb\0\0\0\0\x00\x00\x00\x04";
    assert!(position(bus, window).is_some());
}
