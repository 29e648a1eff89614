use super::*;
use crate::console::Console;

#[test]
fn the_exit_value_has_the_width_of_the_write() {
    assert_eq!(ExitPort.write(0, &[42]), Some(PowerEvent::Exit(42)));
    assert_eq!(ExitPort.write(0, &[0x34, 0x12]), Some(PowerEvent::Exit(0x1234)));
    assert_eq!(ExitPort.write(0, &[0xff; 4]), Some(PowerEvent::Exit(u32::MAX)));
    assert_eq!(ExitPort.write(1, &[1]), None);
    let mut data = [1; 4];
    ExitPort.read(0, &mut data);
    assert_eq!(data, [0; 4]);
}

#[test]
fn the_debug_port_prints_and_reads_as_its_identification() {
    let (console, capture) = Console::capture();
    let mut port = DebugPort::new(console.output());
    assert_eq!(port.write(0, b"!"), None);
    assert_eq!(capture.take(), b"!");
    let mut data = [0];
    port.read(0, &mut data);
    assert_eq!(data, [0xe9]);
}
