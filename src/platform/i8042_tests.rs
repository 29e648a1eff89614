use super::*;
use proptest::prelude::*;

fn get(controller: &mut I8042, port: u16) -> u8 {
    let mut data = [0];
    controller.read(port, &mut data);
    data[0]
}

fn command(controller: &mut I8042, command: u8) -> Option<u8> {
    assert_eq!(controller.write(COMMAND, &[command]), None);
    (get(controller, COMMAND) & OUTPUT_FULL != 0).then(|| get(controller, DATA))
}

fn command_with(controller: &mut I8042, byte: u8, parameter: u8) -> Option<u8> {
    assert_eq!(command(controller, byte), None);
    assert_eq!(controller.write(DATA, &[parameter]), None);
    (get(controller, COMMAND) & OUTPUT_FULL != 0).then(|| get(controller, DATA))
}

#[test]
fn only_a_pulse_of_the_reset_line_resets() {
    for byte in 0xf0..=0xff {
        let event = I8042::new().write(COMMAND, &[byte]);
        assert_eq!(event, (byte & 1 == 0).then_some(PowerEvent::Reset), "{byte:#x}");
    }
}

#[test]
fn the_output_port_drives_reset_and_a20() {
    let mut controller = I8042::new();
    assert_eq!(command(&mut controller, 0xd0), Some(0xc3));
    command(&mut controller, 0xdd);
    assert_eq!(command(&mut controller, 0xd0), Some(0xc1));
    command(&mut controller, 0xdf);
    assert_eq!(command(&mut controller, 0xd0), Some(0xc3));
    assert_eq!(command_with(&mut controller, 0xd1, 0xc1), None);
    assert_eq!(command(&mut controller, 0xd0), Some(0xc1));
    command(&mut controller, 0xd1);
    assert_eq!(controller.write(DATA, &[0xc2]), Some(PowerEvent::Reset));
}

#[test]
fn self_tests_pass_and_the_controllers_memory_reads_back() {
    let mut controller = I8042::new();
    assert_eq!(command(&mut controller, 0xaa), Some(0x55));
    assert_eq!(command(&mut controller, 0xab), Some(0));
    assert_eq!(command_with(&mut controller, 0x60, 0x47), None);
    assert_eq!(command(&mut controller, 0x20), Some(0x47));
    assert_eq!(command(&mut controller, 0xad), None);
    assert_eq!(command(&mut controller, 0x20), Some(0x57));
    assert_eq!(command_with(&mut controller, 0x7f, 9), None);
    assert_eq!(command(&mut controller, 0x3f), Some(9));
}

#[test]
fn the_input_buffer_is_always_free_and_an_empty_output_buffer_reads_zero() {
    let mut controller = I8042::new();
    assert_eq!(get(&mut controller, COMMAND), SYSTEM | UNLOCKED);
    assert_eq!(get(&mut controller, DATA), 0);
    controller.write(COMMAND, &[0x60]);
    assert_eq!(get(&mut controller, COMMAND), SYSTEM | UNLOCKED | LAST_WAS_COMMAND);
    controller.write(DATA, &[0]);
    assert_eq!(get(&mut controller, COMMAND), UNLOCKED, "the system flag follows the command byte");
}

#[test]
fn a_missing_keyboard_is_reported_as_a_time_out_at_once() {
    let mut controller = I8042::new();
    controller.write(DATA, &[0xf2]);
    assert_eq!(get(&mut controller, COMMAND) & (OUTPUT_FULL | TIMED_OUT), OUTPUT_FULL | TIMED_OUT);
    assert_eq!(get(&mut controller, DATA), RESEND);
    assert_eq!(get(&mut controller, COMMAND) & (OUTPUT_FULL | TIMED_OUT), 0);
}

/// The checks of Linux's i8042_check_aux: a loop whose data is the keyboard's, and a test that fails.
#[test]
fn the_auxiliary_port_is_reported_as_missing() {
    const FROM_AUXILIARY: u8 = 0x20;
    let mut controller = I8042::new();
    controller.write(COMMAND, &[0xd3]);
    controller.write(DATA, &[0x5a]);
    assert_eq!(get(&mut controller, COMMAND) & (OUTPUT_FULL | FROM_AUXILIARY), OUTPUT_FULL);
    assert_eq!(get(&mut controller, DATA), 0x5a);
    let tested = command(&mut controller, 0xa9).unwrap();
    assert!(![0x00, 0xfa, 0xff].contains(&tested));
    assert_eq!(command_with(&mut controller, 0xd4, 0xf2), Some(RESEND));
}

#[test]
fn port_92_resets_and_remembers_a20() {
    let mut port = SystemControlPortA::new();
    let mut data = [0];
    assert_eq!(port.write(0, &[0]), None);
    port.read(0, &mut data);
    assert_eq!(data, [0]);
    assert_eq!(port.write(0, &[2]), None);
    port.read(0, &mut data);
    assert_eq!(data, [2]);
    assert_eq!(port.write(0, &[3]), Some(PowerEvent::Reset));
}

proptest! {
    /// After any accesses, a controller that is flushed as by drivers passes its self-test.
    #[test]
    fn the_controller_works_after_any_accesses(accesses in prop::collection::vec((0u16..6, any::<u8>()), 0..100)) {
        let mut controller = I8042::new();
        for (port, byte) in accesses {
            controller.write(port, &[byte]);
            get(&mut controller, port);
        }
        get(&mut controller, DATA);
        prop_assert_eq!(get(&mut controller, COMMAND) & OUTPUT_FULL, 0);
        prop_assert_eq!(command(&mut controller, 0xaa), Some(0x55));
    }
}
