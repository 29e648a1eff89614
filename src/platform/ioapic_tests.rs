use super::*;

fn set(ioapic: &mut Ioapic, pin: u8, entry: u64) -> Option<LevelPin> {
    ioapic.write(0, (TABLE + pin * 2 + 1).into());
    let first = ioapic.write(0x10, (entry >> 32) as u32);
    ioapic.write(0, (TABLE + pin * 2).into());
    ioapic.write(0x10, entry as u32).or(first)
}

fn get(ioapic: &mut Ioapic, pin: u8) -> u64 {
    ioapic.write(0, (TABLE + pin * 2).into());
    let low = ioapic.read(0x10);
    ioapic.write(0, (TABLE + pin * 2 + 1).into());
    u64::from(ioapic.read(0x10)) << 32 | u64::from(low)
}

#[test]
fn the_id_and_version_registers_describe_the_ioapic() {
    let mut ioapic = Ioapic::default();
    ioapic.write(0, 1);
    assert_eq!(ioapic.read(0x10), 0x17_0011);
    ioapic.write(0, 0);
    ioapic.write(0x10, u32::MAX);
    assert_eq!(ioapic.read(0x10), 0x0f00_0000);
    assert_eq!(get(&mut ioapic, 23), MASKED, "pins start masked");
}

#[test]
fn a_pulse_on_an_edge_pin_sends_its_message_each_time() {
    let mut ioapic = Ioapic::default();
    assert_eq!(ioapic.pulse(4), None, "masked");
    assert_eq!(set(&mut ioapic, 4, 2 << 56 | LOGICAL | 1 << 8 | 0x31), None);
    let message = Message { address: 0xfee0_2004, data: 0x131 };
    assert_eq!(ioapic.pulse(4), Some(message));
    assert_eq!(ioapic.pulse(4), Some(message));
    assert_eq!(ioapic.pulse(24), None);
}

#[test]
fn a_level_pin_waits_for_the_end_of_its_interrupt() {
    let mut ioapic = Ioapic::default();
    let message = Message { address: 0xfee0_0000, data: 0xc041 };
    assert_eq!(set(&mut ioapic, 9, LEVEL | 0x41), Some(LevelPin { pin: 9, message }));
    assert_eq!(ioapic.pulse(9), Some(message));
    assert_eq!(get(&mut ioapic, 9), LEVEL | REMOTE_IRR | 0x41);
    assert_eq!(ioapic.pulse(9), None);
    assert_eq!(ioapic.end_of_interrupt(0x40), []);
    assert_eq!(ioapic.end_of_interrupt(0x41), [message]);
    assert_eq!(ioapic.end_of_interrupt(0x41), []);
    assert_eq!(get(&mut ioapic, 9), LEVEL | 0x41);
}

#[test]
fn a_level_that_stays_asserted_is_delivered_again_after_each_end() {
    let mut ioapic = Ioapic::default();
    let message = Message { address: 0xfee0_0000, data: 0xc041 };
    set(&mut ioapic, 9, LEVEL | 0x41);
    assert_eq!(ioapic.set_level(9, true), Some(message));
    assert_eq!(ioapic.set_level(9, true), None, "it is in service");
    assert_eq!(ioapic.end_of_interrupt(0x41), [message]);
    assert_eq!(ioapic.set_level(9, false), None);
    assert_eq!(ioapic.set_level(9, true), None, "asserted again before the end");
    assert_eq!(ioapic.end_of_interrupt(0x41), [message]);
    ioapic.set_level(9, false);
    assert_eq!(ioapic.end_of_interrupt(0x41), []);
    assert_eq!(ioapic.set_level(24, true), None);
}

#[test]
fn a_level_waits_for_its_pin_to_be_unmasked() {
    let mut ioapic = Ioapic::default();
    let message = Message { address: 0xfee0_0000, data: 0xc041 };
    set(&mut ioapic, 9, MASKED | LEVEL | 0x41);
    assert_eq!(ioapic.set_level(9, true), None);
    assert_eq!(ioapic.deliver_level(9), None, "still masked");
    assert_eq!(set(&mut ioapic, 9, LEVEL | 0x41), Some(LevelPin { pin: 9, message }));
    assert_eq!(ioapic.deliver_level(9), Some(message));
    assert_eq!(ioapic.deliver_level(9), None, "it is in service");
}

#[test]
fn an_edge_pin_sends_its_message_when_the_level_rises() {
    let mut ioapic = Ioapic::default();
    let message = Message { address: 0xfee0_0000, data: 0x41 };
    assert_eq!(ioapic.set_level(9, true), None, "masked");
    set(&mut ioapic, 9, 0x41);
    assert_eq!(ioapic.set_level(9, true), None, "it rose before");
    ioapic.set_level(9, false);
    assert_eq!(ioapic.set_level(9, true), Some(message));
    assert_eq!(ioapic.deliver_level(9), None);
}

#[test]
fn read_only_bits_and_registers_cannot_be_written() {
    let mut ioapic = Ioapic::default();
    set(&mut ioapic, 0, u64::MAX);
    assert_eq!(get(&mut ioapic, 0), WRITABLE);
    for select in 0..=u8::MAX {
        ioapic.write(0, select.into());
        ioapic.write(0x10, u32::MAX);
        ioapic.read(0x10);
    }
}
