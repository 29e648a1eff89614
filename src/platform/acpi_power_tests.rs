use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

struct Bench {
    power: AcpiPower,
    now: Arc<AtomicU64>,
    /// Number of times that the line was raised.
    interrupts: Arc<AtomicU64>,
    level: Arc<AtomicBool>,
}

impl Bench {
    fn new() -> Self {
        let (now, interrupts, level) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::default());
        let (clock, line, line_level) = (now.clone(), interrupts.clone(), Arc::<AtomicBool>::clone(&level));
        let power = AcpiPower::new(
            Box::new(move || Duration::from_nanos(clock.load(Ordering::Relaxed))),
            Box::new(move |asserted| {
                assert_ne!(line_level.swap(asserted, Ordering::Relaxed), asserted, "only changes are told");
                line.fetch_add(asserted.into(), Ordering::Relaxed);
            }),
        );
        Self { power, now, interrupts, level }
    }

    fn word(&mut self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.power.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    fn timer(&mut self) -> u32 {
        let mut data = [0; 4];
        self.power.read(TIMER, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, offset: u16, value: u16) -> Option<PowerEvent> {
        self.power.write(offset, &value.to_le_bytes())
    }

    fn at(&mut self, seconds: f64) -> &mut Self {
        self.now.store((seconds * 1e9) as u64, Ordering::Relaxed);
        self
    }
}

#[test]
fn sleep_enable_with_the_type_of_s4_or_s5_turns_the_machine_off() {
    let mut bench = Bench::new();
    assert_eq!(bench.set(CONTROL, SCI_EN | 5 << 10), None, "the type alone does nothing");
    assert_eq!(bench.set(CONTROL, SCI_EN | 5 << 10 | SLP_EN), Some(PowerEvent::PowerOff));
    assert_eq!(bench.set(CONTROL, SCI_EN | 4 << 10 | SLP_EN), Some(PowerEvent::PowerOff));
    for other in [0, 1, 6, 7] {
        assert_eq!(bench.set(CONTROL, SCI_EN | other << 10 | SLP_EN), None);
    }
    // Some guests write single bytes.
    assert_eq!(bench.power.write(CONTROL + 1, &[5 << 2]), None);
    assert_eq!(bench.power.write(CONTROL + 1, &[5 << 2 | 0x20]), Some(PowerEvent::PowerOff));
}

#[test]
fn the_control_register_always_shows_acpi_mode_and_never_sleep_enable() {
    let mut bench = Bench::new();
    assert_eq!(bench.word(CONTROL), SCI_EN);
    bench.set(CONTROL, 0);
    assert_eq!(bench.word(CONTROL), SCI_EN);
    bench.set(CONTROL, 0xffff);
    assert_eq!(bench.word(CONTROL), SCI_EN | CONTROL_BITS);
}

#[test]
fn the_button_raises_sci_once_enabled_and_is_cleared_by_writing_a_one() {
    let mut bench = Bench::new();
    bench.power.press_power_button();
    assert_eq!((bench.word(STATUS), bench.interrupts.load(Ordering::Relaxed)), (POWER_BUTTON, 0));
    bench.set(ENABLE, POWER_BUTTON);
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 1, "a pending event is raised when it is enabled");
    bench.set(STATUS, !POWER_BUTTON);
    assert_eq!(bench.word(STATUS), POWER_BUTTON, "zeroes clear nothing");
    bench.set(STATUS, POWER_BUTTON);
    assert_eq!(bench.word(STATUS), 0);
    bench.power.press_power_button();
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 2);
}

#[test]
fn sci_is_asserted_until_the_guest_clears_the_status_or_the_enable_bit() {
    let mut bench = Bench::new();
    let asserted = |bench: &Bench| bench.level.load(Ordering::Relaxed);
    bench.set(ENABLE, POWER_BUTTON);
    bench.power.press_power_button();
    bench.power.press_power_button();
    assert!(asserted(&bench));
    bench.set(STATUS, TIMER_CARRY);
    assert!(asserted(&bench), "another bit was cleared");
    bench.set(STATUS, POWER_BUTTON);
    assert!(!asserted(&bench));
    bench.power.press_power_button();
    bench.set(ENABLE, 0);
    assert!(!asserted(&bench));
    bench.set(ENABLE, POWER_BUTTON);
    assert!(asserted(&bench), "the event is still pending");
}

#[test]
fn status_and_enable_can_be_written_together_and_by_bytes() {
    let mut bench = Bench::new();
    bench.power.press_power_button();
    assert_eq!(bench.power.write(STATUS, &[0, 1, 0x20, 0x07]), None);
    assert_eq!((bench.word(STATUS), bench.word(ENABLE)), (0, 0x0720));
    bench.power.write(ENABLE, &[0xff]);
    assert_eq!(bench.word(ENABLE), 0x0721, "reserved bits stay clear");
    bench.power.press_power_button();
    bench.power.write(STATUS, &[0xff]);
    assert_eq!(bench.word(STATUS), POWER_BUTTON, "the low byte does not clear the high one");
}

#[test]
fn the_timer_runs_at_its_frequency_and_wraps() {
    let mut bench = Bench::new();
    assert_eq!(bench.timer(), 0);
    assert_eq!(bench.at(1.0).timer(), 3_579_545);
    assert_eq!(bench.at(1000.0).timer(), 3_579_545_000);
    assert_eq!(bench.at(1200.0).timer(), (1200 * 3_579_545_u64 - (1 << 32)) as u32);
    let mut byte = [0];
    bench.power.read(TIMER + 3, &mut byte);
    assert_eq!(u32::from(byte[0]), bench.timer() >> 24);
    bench.power.write(TIMER, &[0; 4]);
    assert_ne!(bench.timer(), 0, "the timer is read-only");
}

#[test]
fn the_carry_bit_is_set_when_the_highest_bit_changes() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(599.0).word(STATUS), 0);
    assert_eq!(bench.at(600.0).word(STATUS), TIMER_CARRY);
    bench.set(STATUS, TIMER_CARRY);
    assert_eq!(bench.word(STATUS), 0);
    assert_eq!(bench.at(1200.0).word(STATUS), TIMER_CARRY);
}

#[test]
fn only_bit_2_of_the_reset_register_resets() {
    for value in 0..=0xff {
        let event = ResetControl::default().write(0, &[value]);
        assert_eq!(event, (value & 4 != 0).then_some(PowerEvent::Reset), "{value:#x}");
    }
    // Linux writes the kind of reset first, and then resets.
    let mut register = ResetControl::default();
    assert_eq!(register.write(0, &[2]), None);
    let mut data = [0];
    register.read(0, &mut data);
    assert_eq!(data, [2]);
    assert_eq!(register.write(0, &[ports::RESET_VALUE]), Some(PowerEvent::Reset));
}

proptest! {
    /// Accesses of any width anywhere in the range read the same bytes as aligned words.
    #[test]
    fn any_access_reads_the_same_bytes_as_aligned_words(offset in 0u16..12, bytes in prop::collection::vec(any::<u8>(), 1..=4)) {
        let mut bench = Bench::new();
        let length = bytes.len().min(usize::from(12 - offset));
        bench.power.write(offset, &bytes[..length]);
        let mut whole = [0; 12];
        for (at, chunk) in whole.chunks_mut(4).enumerate() {
            bench.power.read(at as u16 * 4, chunk);
        }
        let mut part = vec![0; length];
        bench.power.read(offset, &mut part);
        prop_assert_eq!(&part[..], &whole[usize::from(offset)..][..length]);
    }
}
