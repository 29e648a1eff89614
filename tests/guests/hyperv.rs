//! The Hyper-V interface as a guest finds it, on this host's KVM with the user engine.

use std::process::Command;

use super::command::{Run, image, limit, viridian, with_full_signal_queue};
use super::hyperv_images::{failures, passed};
use crate::common::patience::patience;

/// The command that runs one of the images of the interface.
fn command(name: &str, vps: u32, command_line: &str) -> Command {
    let mut command = viridian();
    command
        .args(["run", "--engine", "user", "--test-device", "--timeout", &limit(120), "--cpus", &vps.to_string()])
        .arg("--kernel")
        .arg(image(name))
        .arg("--cmdline")
        .arg(format!("engine=user checks=quiet {} {command_line}", patience()));
    command
}

fn run(name: &str, vps: u32, command_line: &str) -> Run {
    command(name, vps, command_line).output().unwrap().into()
}

/// Expects that with 1, 2 and 4 VPs no check fails, and at least `least` pass.
fn passes(name: &str, least: u32, command_line: &str) {
    for vps in [1, 2, 4] {
        expect_passed(&run(name, vps, command_line), &format!("{name} with {vps} VPs"), least);
    }
}

#[track_caller]
fn expect_passed(run: &Run, what: &str, least: u32) {
    let failures = failures(&run.output);
    assert!(failures.is_empty(), "{what}: {failures:#?}\n{}\n{}", run.output, run.errors);
    assert!(passed(&run.output) >= Some(least), "{what}: {}", run.output);
}

#[test]
fn cpuid_shows_the_interface_on_every_vp() {
    passes("cpuid", 150, "");
}

#[test]
fn every_msr_behaves_on_every_vp_and_all_others_fault() {
    passes("msr", 1800, "");
}

#[test]
fn a_locked_hypercall_register_stays_as_it_is() {
    passes("msr", 17, "lock=on");
}

#[test]
fn hypercalls_are_answered_by_every_convention_and_with_the_right_status() {
    passes("hypercall", 1000, "");
}

#[test]
fn the_synic_delivers_interrupts_messages_and_event_flags() {
    passes("synic", 300, "");
}

#[test]
fn synthetic_timers_expire_when_and_as_often_as_they_should() {
    passes("stimer", 200, "");
}

#[test]
fn timers_expire_even_if_the_process_cannot_create_kernel_timers() {
    let run = |name| Run::from(with_full_signal_queue(&command(name, 2, "")).output().unwrap());
    let timers = run("stimer");
    expect_passed(&timers, "stimer", 200);
    assert!(timers.errors.contains("synthetic timers may be late on a busy host: "), "{}", timers.errors);
    // Interrupts with AutoEOI.
    expect_passed(&run("synic"), "synic", 300);
}

#[test]
fn reference_time_is_one_clock_for_all_vps() {
    passes("reftime", 20, "");
}

/// Runs a guest that reports a crash. Returns the last messages of the run.
fn crash(how: &str) -> String {
    let run = run("crash", 2, how);
    assert_eq!(run.code, Some(102), "{how}: {run:?}");
    let words = run.errors.find("viridian: the guest reported a crash: P0 0x11, P1 0x22, P2 0x33, ");
    run.errors[words.unwrap_or_else(|| panic!("{how}: {run:?}"))..].to_owned()
}

#[test]
fn a_crash_report_is_exit_code_102_and_its_parameters_are_printed() {
    for vp in ["registers", "elsewhere"] {
        assert!(crash(&format!("crash={vp}")).ends_with("P3 0x44, P4 0x55\n"), "{vp}");
    }
}

#[test]
fn a_crash_text_is_printed() {
    for place in ["text", "edge"] {
        let words = crash(&format!("crash={place}"));
        assert!(words.ends_with("\n  | Kernel panic - not syncing: no init\n  | end of the log\n"), "{place}: {words}");
    }
}

#[test]
fn a_crash_text_outside_of_memory_is_not_printed() {
    for place in ["nowhere", "beyond", "empty"] {
        let words = crash(&format!("crash={place}"));
        assert!(words.ends_with("(P3 and P4 name no text in memory)\n"), "{place}: {words}");
    }
}

#[test]
fn a_crash_text_is_truncated_to_one_page() {
    let words = crash("crash=long");
    assert_eq!(words.matches('x').count(), 4096 + words.lines().next().unwrap().matches('x').count());
    assert!(crash("crash=endless").contains("\n  | Kernel panic - not syncing: no init\n"));
}

#[test]
fn control_characters_in_a_crash_text_are_escaped() {
    let words = crash("crash=unprintable");
    assert!(!words.contains(['\x1b', '\x07', '\0']), "{words:?}");
    assert!(words.contains("tab\tend"), "{words:?}");
}

#[test]
fn no_line_of_a_crash_text_looks_like_our_own_messages() {
    let words = crash("crash=forged");
    let lines: Vec<_> = words.lines().skip(1).collect();
    let expected = ["  | oops", "  | viridian: warn: forged", "  | viridian: server  0.38 s  the guest powered off"];
    assert_eq!(lines, expected);
}

#[test]
fn crash_control_without_notify_reports_nothing() {
    assert_eq!(run("crash", 1, "crash=nothing").code, Some(0));
}

#[test]
fn the_reset_register_resets() {
    assert_eq!(run("crash", 1, "reset").code, Some(100));
}

#[test]
fn a_hostile_guest_does_not_affect_the_host() {
    for (vps, seed) in [(1, 1), (2, 2), (4, 3)] {
        let run = run("hostile", vps, &format!("seconds=2 seed={seed}"));
        assert_eq!(run.code, Some(0), "seed {seed}: {run:?}");
        assert!(run.output.contains(&format!(" random steps by {vps} VPs")), "seed {seed}: {run:?}");
    }
}
