//! The few classic devices that a small guest wants: serial, RTC, ACPI power, reset, exit port.
//!
//! A device is a pure state machine behind [`PortDevice`]: an access comes in, and what the
//! machine must do about it, if anything, goes out as a [`PowerEvent`]. Which thread calls,
//! and what an event means to a run, is the machine's business.

/// What a guest asked of the whole machine by touching a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// The guest turned the machine off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest wrote this value to the exit port.
    Exit(u32),
}

/// A device that answers a range of I/O ports.
///
/// `offset` is the first port touched, counted from the start of the device's own range;
/// `data` is 1, 2 or 4 bytes long and never reaches past the range.
pub trait PortDevice: Send {
    /// Fills `data` with what the guest reads.
    fn read(&mut self, offset: u16, data: &mut [u8]);
    /// Takes what the guest wrote, and says what the machine must do about it.
    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent>;
}
