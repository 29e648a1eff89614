//! The library as a Rust test uses it: this file is the example.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use viridian::Builder;
use viridian::config::ConsoleConfig;
use viridian::config::OnReset;
use viridian::config::{Config, IrqchipKind};
use viridian::machine::{AccessError, End, Machine, PauseError};

use super::command::image;
use crate::common::patience::grown;

const SOON: Duration = Duration::from_secs(20);

/// A machine with the guest image `exits`, which ends as its command line says.
fn exits(command_line: &str) -> Builder {
    Builder::new()
        .kernel(image("exits"))
        .cmdline(command_line)
        .capture_console()
        .timeout(grown(Duration::from_secs(60)))
}

fn with_irqchip(builder: &Builder, irqchip: IrqchipKind) -> Builder {
    let config = Config { irqchip, ..builder.config().clone() };
    Builder::from(config).capture_console()
}

fn start(builder: Builder) -> Machine {
    builder.start().unwrap()
}

#[test]
fn a_test_waits_for_the_console_and_types_on_it() {
    let machine = start(exits("echo"));
    let console = machine.console().unwrap();
    console.wait_for("echoing", grown(SOON)).unwrap();
    console.type_text("is anybody there?\n").unwrap();
    console.wait_for("is anybody there?", grown(SOON)).unwrap();
    console.type_text("quit\n").unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

#[test]
fn a_wait_for_the_console_ends_with_the_machine_and_says_how_it_ended() {
    for (command_line, end) in
        [("exit=3", "wrote 3 to the exit port"), ("triple", "triple fault"), ("poweroff", "powered off")]
    {
        let machine = start(exits(command_line));
        let console = machine.console().unwrap();
        let error = console.wait_for("never printed", Duration::MAX).unwrap_err();
        assert!(error.end.as_ref().is_some_and(|words| words.contains(end)), "{error}");
        let error = console.type_text("is anybody there?").unwrap_err();
        assert!(error.end.contains(end), "{error}");
        machine.wait();
    }
    let machine = start(exits("loop"));
    let console = machine.console().unwrap().clone();
    drop(machine);
    let error = console.wait_for("never printed", Duration::MAX).unwrap_err();
    assert!(error.to_string().contains("ended by a signal to terminate"), "{error}");
}

#[test]
fn a_paused_machine_makes_no_progress_until_it_is_resumed() {
    let machine = start(exits("spew=1000000000").cpus(2));
    let console = machine.console().unwrap();
    for _ in 0..20 {
        console.wait_for("\n", grown(SOON)).unwrap();
        machine.pause().unwrap();
        console.take();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(console.take(), b"", "it printed while it was paused");
        machine.resume();
    }
    machine.stop(End::Interrupted);
    assert!(matches!(machine.wait(), End::Interrupted));
}

#[test]
fn a_guest_that_knows_acpi_powers_off_when_the_button_is_pressed() {
    for (line, irqchip) in [("button presses=3", IrqchipKind::Apic), ("button", IrqchipKind::Pc)] {
        let presses = if line == "button" { 1 } else { 3 };
        let machine = start(with_irqchip(&exits(line), irqchip));
        let console = machine.console().unwrap();
        for press in 1..=presses {
            console.wait_for("waiting for the button\n", grown(SOON)).unwrap();
            machine.press_power_button().unwrap();
            console.wait_for(&format!("pressed {press}\n"), grown(SOON)).unwrap();
        }
        let end = machine.wait();
        assert!(matches!(end, End::PoweredOff), "{irqchip:?}: {end}");
    }
}

#[test]
fn a_press_reaches_a_guest_before_its_eoi_of_the_previous_press() {
    for irqchip in [IrqchipKind::Apic, IrqchipKind::Pc] {
        let machine = start(with_irqchip(&exits("button presses=2 hold=1"), irqchip));
        let console = machine.console().unwrap();
        for text in ["waiting for the button\n", "in the handler\n"] {
            console.wait_for(text, grown(SOON)).unwrap();
            machine.press_power_button().unwrap();
        }
        let end = machine.wait();
        assert!(matches!(end, End::PoweredOff), "{irqchip:?}: {end}");
    }
}

#[test]
fn a_press_during_a_pause_is_delivered_on_resume_and_fails_without_a_guest() {
    let machine = start(exits("button"));
    machine.console().unwrap().wait_for("waiting for the button\n", grown(SOON)).unwrap();
    machine.pause().unwrap();
    machine.press_power_button().unwrap();
    assert_eq!(machine.console().unwrap().take(), b"");
    machine.resume();
    machine.console().unwrap().wait_for("pressed 1\n", grown(SOON)).unwrap();
    poll(&mut [PollFd::new(&machine.ended(), PollFlags::IN)], None).unwrap();
    let error = machine.press_power_button().unwrap_err();
    assert!(matches!(error, AccessError::NoGuest), "{error}");
}

#[test]
fn a_halted_machine_stops_promptly() {
    for command_line in ["halt", "halt=interrupts", "loop"] {
        let machine = start(exits(command_line).cpus(4));
        let start = Instant::now();
        machine.stop(End::Terminated);
        assert!(matches!(machine.wait(), End::Terminated));
        assert!(start.elapsed() < grown(Duration::from_secs(1)), "{:?} for {command_line}", start.elapsed());
    }
}

#[test]
fn an_end_carries_the_guests_value() {
    let end = start(exits("exit=300")).wait();
    assert!(matches!(end, End::Exited(300)), "{end}");
    assert_eq!(end.exit_code(), 99);
}

#[test]
fn waiting_with_a_limit_returns_the_machine_at_the_limit() {
    let machine = start(exits("echo"));
    let machine = machine.wait_timeout(Duration::from_millis(50)).expect_err("it waits for input");
    machine.console().unwrap().type_text("quit\n").unwrap();
    let Ok(end) = machine.wait_timeout(grown(SOON)) else { panic!("it was told to quit") };
    assert!(matches!(end, End::PoweredOff), "{end}");
}

#[test]
fn a_time_limit_of_zero_ends_the_machine_at_once() {
    let end = start(exits("loop").timeout(Duration::ZERO)).wait();
    assert!(matches!(end, End::TimedOut(_)), "{end}");
}

#[test]
fn a_stop_ends_a_machine_that_starts_again_and_again() {
    let machine = start(exits("reset=acpi").on_reset(OnReset::Restart));
    std::thread::sleep(Duration::from_millis(100));
    machine.pause().unwrap();
    machine.resume();
    machine.stop(End::Terminated);
    assert!(matches!(machine.wait(), End::Terminated));
}

#[test]
fn dropping_a_machine_ends_it() {
    drop(start(exits("loop").cpus(2)));
}

#[test]
fn an_invalid_configuration_is_an_error_of_start() {
    let error = Builder::new().kernel("/nowhere").start().map(drop).unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[test]
fn a_prepared_machine_and_its_time_limit_begin_only_when_it_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let limit = grown(Duration::from_secs(1));
    let ready = Builder::new()
        .kernel(image("hello"))
        .console(ConsoleConfig::File(log.clone()))
        .timeout(limit)
        .prepare()
        .unwrap();
    std::thread::sleep(limit + Duration::from_millis(100));
    assert_eq!(std::fs::read(&log).unwrap(), b"", "it has run");
    let end = ready.start().unwrap().wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
    assert!(std::fs::read(&log).unwrap().starts_with(b"Hello"));
}

#[test]
fn dropping_a_prepared_machine_releases_everything() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let ready = exits("spew=1").console(ConsoleConfig::File(log.clone())).cpus(3).prepare().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(ready);
    assert_eq!(std::fs::read(&log).unwrap(), b"", "it has run");
}

#[test]
fn pauses_and_resumes_from_several_threads_never_lose_a_kick() {
    let machine = start(exits("loop").cpus(3));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    // Another thread's resume may come before all VPs have stopped.
                    assert!(matches!(machine.pause(), Ok(()) | Err(PauseError::Resumed)));
                    machine.resume();
                }
            });
        }
    });
    machine.stop(End::Terminated);
    assert!(matches!(machine.wait(), End::Terminated));
}
