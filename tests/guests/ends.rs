//! Exit codes, and the messages about a run's end.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::command::{Run, image, limit, run_with, viridian};
use crate::common::patience::grown;

fn exits(command_line: &str, options: &[&str]) -> Run {
    let image = image("exits");
    let mut arguments = vec!["run", "--kernel", image.to_str().unwrap(), "--cmdline", command_line];
    arguments.extend(options);
    run_with(arguments)
}

/// Runs a guest that ends in this way, and expects this exit code and last line on standard error.
fn expect(command_line: &str, code: i32, words: &str) {
    let run = exits(command_line, &[]);
    assert_eq!(run.code, Some(code), "{command_line}: {run:?}");
    assert_eq!(run.errors.lines().last(), Some(format!("viridian: {words}").as_str()), "{command_line}");
}

#[test]
fn a_value_at_the_exit_port_is_the_code() {
    for value in 1..=99 {
        expect(&format!("exit={value}"), value, &format!("the guest wrote {value} to the exit port"));
    }
    for width in [8, 16, 32] {
        expect(&format!("exit=42 width={width}"), 42, "the guest wrote 42 to the exit port");
    }
}

#[test]
fn the_last_output_of_the_console_is_in_a_file_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("last"), directory.path().join("log"));
    let console = format!("file:{}", log.display());
    let run = exits("spew=200000", &["--console", &console, "--console-at-end", file.to_str().unwrap()]);
    let all = std::fs::read(log).unwrap();
    assert!(all.len() >= 200_000, "{run:?}");
    let last = std::fs::read(&file).unwrap();
    assert!(last == all[all.len() - (64 << 10)..], "{} bytes", last.len());
}

#[test]
fn systemd_is_told_when_a_machine_runs_and_when_a_signal_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(grown(Duration::from_secs(60)))).unwrap();
    let told = || {
        let mut text = [0; 100];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let mut command = viridian();
    command.args([
        "run",
        "--control",
        "off",
        "--console",
        "none",
        "--cmdline",
        "halt",
        "--timeout",
        &limit(300),
        "--kernel",
    ]);
    let mut run = command.arg(image("exits")).env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(told(), "READY=1");
    let id = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(run.wait().unwrap().code(), Some(143));
}

#[test]
fn a_value_above_99_is_exit_code_99_and_is_reported() {
    let words = "the guest wrote 100 (0x64) to the exit port; the exit code is 99";
    expect("exit=100", 99, words);
    expect("exit=65537 width=32", 99, "the guest wrote 65537 (0x10001) to the exit port; the exit code is 99");
}

#[test]
fn power_off_is_0() {
    expect("poweroff", 0, "the guest powered off");
    expect("exit=0", 0, "the guest wrote 0 to the exit port");
}

#[test]
fn every_way_to_reset_is_100() {
    for way in ["i8042", "acpi", "port92", "cf9"] {
        expect(&format!("reset={way}"), 100, "the guest asked for a reset");
    }
}

#[test]
fn a_triple_fault_is_101() {
    let run = exits("triple", &[]);
    assert_eq!(run.code, Some(101), "{run:?}");
    let last = run.errors.lines().last().unwrap();
    assert!(last.starts_with("viridian: the guest took a triple fault on VP 0 at 0x10"), "{last}");
    for words in ["(triple+0x", " in 64-bit mode", "called from main+0x", "no interrupt descriptor table (IDT)"] {
        assert!(last.contains(words), "{words}: {last}");
    }
}

#[test]
fn an_instruction_that_kvm_cannot_emulate_is_shown() {
    // mov $0xf0000000, %eax; fadds (%rax): a floating-point operand where there is no memory.
    let run = flat(b"\xb8\x00\x00\x00\xf0\xd8\x00", 64);
    assert_eq!(run.code, Some(125), "{run:?}");
    for words in ["VP 0: KVM cannot continue", "cannot emulate", " 0x7c05 in 64-bit mode", "the bytes there d8 00"] {
        assert!(run.errors.contains(words), "{words}: {run:?}");
    }
}

/// Runs these bytes as code in this mode.
fn flat(bytes: &[u8], mode: u32) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flat");
    std::fs::write(&file, bytes).unwrap();
    let kernel = format!("flat:{},mode={mode}", file.display());
    run_with(["run", "--timeout", &limit(20), "--kernel", &kernel])
}

#[test]
fn a_triple_fault_without_symbols_is_reported_with_its_address_and_reason() {
    // LIDT from [0x7c10], which describes an empty table of 0x1000 bytes at 0x200000; then #UD.
    let mut program = [0x0f, 0x01, 0x1d, 0x10, 0x7c, 0, 0, 0x0f, 0x0b].to_vec();
    program.resize(16, 0x90);
    program.extend([0xff, 0x0f, 0, 0, 0x20, 0]);
    let run = flat(&program, 32);
    assert_eq!(run.code, Some(101), "{run:?}");
    assert!(run.errors.contains("on VP 0 at 0x7c07 in 32-bit protected mode"), "{run:?}");
    assert!(run.errors.contains("(IDT) at 0x200000 has no entry for the double fault"), "{run:?}");
}

#[test]
fn a_symbol_file_resolves_addresses_of_a_kernel_without_symbols() {
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("System.map");
    std::fs::write(&map, "0000000000007c00 T spin\n0000000000007d00 T end\n").unwrap();
    let kernel = directory.path().join("flat");
    std::fs::write(&kernel, [0x90, 0xeb, 0xfe]).unwrap();
    let kernel = format!("flat:{},mode=64", kernel.display());
    let map = map.to_str().unwrap();
    let run = run_with(["run", "--timeout", "0.3", "--kernel", &kernel, "--symbols", map]);
    assert_eq!(run.code, Some(124), "{run:?}");
    assert!(run.errors.contains("VP 0 was running at 0x7c01 (spin+0x1) with interrupts off"), "{run:?}");
    let run = run_with(["run", "--kernel", &kernel, "--symbols", "/nowhere/System.map"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.errors.contains("/nowhere/System.map"), "{run:?}");
}

#[test]
fn a_guest_that_does_not_end_is_stopped_at_the_time_limit() {
    for (command_line, state) in [("halt", "halted"), ("loop", "running")] {
        let start = Instant::now();
        let run = exits(command_line, &["--timeout", "0.3", "--cpus", "2"]);
        assert_eq!(run.code, Some(124), "{run:?}");
        assert!(run.errors.ends_with("viridian: the time ran out: 0.3 s\n"), "{run:?}");
        assert!(run.errors.contains(&format!("VP 0 was {state} at 0x10")), "{run:?}");
        assert!(run.errors.contains(&format!(" ({command_line}+0x")), "{run:?}");
        assert!(run.errors.contains(", called from "), "{run:?}");
        assert!(start.elapsed() >= Duration::from_millis(300));
    }
}

#[test]
fn a_restart_after_a_reset_starts_the_guest_again() {
    let run = exits("reset=acpi", &["--on-reset", "restart", "--timeout", &limit(1), "-v"]);
    assert_eq!(run.code, Some(124), "it goes on until the time runs out: {run:?}");
    let starts = run.errors.matches("it starts again").count();
    assert!(starts >= 2, "{starts} starts: {run:?}");
}

#[test]
fn signals_end_a_run_with_their_codes() {
    for (signal, code, words) in [
        (rustix::process::Signal::INT, 130, "ended by the user"),
        (rustix::process::Signal::TERM, 143, "ended by a signal to terminate"),
        (rustix::process::Signal::HUP, 129, "ended by a signal to hang up: the terminal has gone"),
        (rustix::process::Signal::QUIT, 131, "ended by a signal to quit"),
    ] {
        let image = image("exits");
        let arguments = ["run", "--kernel", image.to_str().unwrap(), "--cmdline", "spew=100000000"];
        let mut child = viridian().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut started = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut started).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), None, "the signal is handled");
        let run = Run::from(output);
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(run.errors.ends_with(&format!("viridian: {words}\n")), "{run:?}");
    }
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    use rustix::process::{Pid, Signal, kill_process};
    let program = env!("CARGO_BIN_EXE_viridian");
    let script =
        format!("trap '' HUP; exec {program} run --kernel {} --cmdline spew=100000000", image("exits").display());
    let mut command = std::process::Command::new("sh");
    let mut child = command
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut started = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut started).unwrap();
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143), "TERM ended it, and not HUP");
}
