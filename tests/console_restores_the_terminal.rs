//! The terminal is restored however the process ends. Each test ends a child process in a different way; the child is
//! this binary with a pseudo-terminal as its standard input.

mod common;
#[path = "common/jobs.rs"]
mod jobs;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use jobs::{Job, expect_comes_to_the_front, expect_hangs_up, expect_returns, expect_stops, is_raw, terminal_pair};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use viridian::config::ConsoleConfig;
use viridian::internals::console::{Console, terminal};
use viridian::process as signals;

const WAY: &str = "VIRIDIAN_TEST_WAY_TO_END";

/// The child: makes its terminal raw and ends.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    let Ok(way) = std::env::var(WAY) else { return };
    let console = Console::open(&ConsoleConfig::Stdio, |_| {}).unwrap();
    if way == "signal" {
        signals::restore_terminal_on_signals().unwrap();
    }
    console.output().write_all(b"ready\n").unwrap();
    assert!(console.finish(None));
    match way.as_str() {
        "drop" => drop(console),
        // Only the panic hook can restore the terminal now.
        "panic" => {
            std::mem::forget(console);
            let _ = thread::spawn(|| panic!("on purpose")).join();
            std::process::exit(3);
        }
        "exit" => {
            terminal::restore();
            terminal::restore();
            std::process::exit(3);
        }
        "job" => live_as_a_job(console),
        // Until it is killed.
        _ => loop {
            thread::park();
        },
    }
}

/// Echoes what is typed, and ends by a signal.
fn live_as_a_job(console: Console) {
    let signals = signals::EndSignals::catch().unwrap();
    let mut output = console.output();
    let mut typed = [0; 100];
    loop {
        let count = console.input().take(&mut typed);
        if count > 0 {
            writeln!(output, "heard {}.", String::from_utf8_lossy(&typed[..count])).unwrap();
        }
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        // A stop and a continuation interrupt the read.
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 })) {
            Ok(0) | Err(Errno::INTR) => {}
            ended => break assert_eq!(ended, Ok(1)),
        }
    }
    console.finish(None);
    drop(console);
    std::process::exit(0);
}

struct Run {
    master: File,
    slave: File,
    child: Child,
}

impl Run {
    fn start(way: &str, controlling: bool) -> Self {
        let (master, slave) = terminal_pair();
        let program = std::env::current_exe().unwrap();
        let mut command = if controlling { Command::new("setsid") } else { Command::new(&program) };
        if controlling {
            command.args(["--ctty", "--wait"]).arg(&program);
        }
        command.args(["--exact", "child", "--ignored", "--nocapture"]).env(WAY, way);
        command.stdin(OwnedFd::from(slave.try_clone().unwrap())).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut run = Self { master, slave, child: command.spawn().unwrap() };
        run.wait_until_ready();
        run
    }

    fn wait_until_ready(&mut self) {
        let output = self.child.stdout.as_mut().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"ready\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).expect("the child ended early");
            seen.extend(byte);
        }
    }

    fn is_raw(&self) -> bool {
        is_raw(&self.slave)
    }

    fn end(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        assert!(!self.is_raw(), "the terminal is still raw after {status}");
        status
    }
}

#[test]
fn after_the_consoles_end() {
    assert!(Run::start("drop", false).end().success());
}

#[test]
fn after_each_signal_that_ends_a_process() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut run = Run::start("signal", false);
        assert!(run.is_raw());
        kill_process(Pid::from_child(&run.child), signal).unwrap();
        assert_eq!(run.end().signal(), Some(signal.as_raw()));
    }
}

#[test]
fn after_ctrl_c() {
    let mut run = Run::start("signal", true);
    assert!(run.is_raw());
    // The other keys go to the guest.
    run.master.write_all(b"\x1a\x1c").unwrap();
    thread::sleep(Duration::from_millis(20));
    assert!(run.child.try_wait().unwrap().is_none());
    run.master.write_all(b"\x03").unwrap();
    run.end();
}

#[test]
fn after_a_panic_on_any_thread() {
    assert_eq!(Run::start("panic", false).end().code(), Some(3));
}

#[test]
fn after_an_exit_that_says_so_first() {
    assert_eq!(Run::start("exit", false).end().code(), Some(3));
}

/// Returns the job that lives in [`live_as_a_job`].
fn job() -> String {
    format!("env {WAY}=job '{}' --exact child --ignored --nocapture", std::env::current_exe().unwrap().display())
}

fn answer(key: char) -> String {
    format!("heard {key}.")
}

#[test]
fn a_stopped_job_leaves_the_terminal_to_the_shell_and_ends_in_the_background() {
    expect_stops(&Job { command: &job(), answer });
}

#[test]
fn a_job_that_returns_to_the_foreground_gets_input_again() {
    expect_returns(&Job { command: &job(), answer });
}

#[test]
fn a_job_started_in_the_background_gets_input_once_it_is_in_the_foreground() {
    expect_comes_to_the_front(&Job { command: &job(), answer });
}

#[test]
fn a_job_ends_with_its_terminal() {
    expect_hangs_up(&Job { command: &job(), answer });
}
