//! The terminal is put back however the process ends: each test ends a child process, which is this binary again
//! with a pseudo-terminal for standard input, in another way.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use viridian::platform::console::{Console, ConsoleConfig, signals, terminal};

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
        // Only the panic hook is left to put the terminal back.
        "panic" => {
            std::mem::forget(console);
            thread::sleep(Duration::from_millis(20));
            let _ = thread::spawn(|| panic!("on purpose")).join();
            std::process::exit(3);
        }
        "exit" => {
            thread::sleep(Duration::from_millis(20));
            terminal::restore();
            terminal::restore();
            std::process::exit(3);
        }
        _ => thread::sleep(Duration::from_secs(60)),
    }
}

struct Run {
    master: File,
    slave: File,
    child: Child,
}

impl Run {
    fn start(way: &str, controlling: bool) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // O_NOCTTY is not needed where the test runner has a terminal, and harmless where it has none.
        let flags = rustix::fs::OFlags::NOCTTY.bits() as i32;
        let slave = std::os::unix::fs::OpenOptionsExt::custom_flags(OpenOptions::new().read(true).write(true), flags)
            .open(path)
            .unwrap();
        let program = std::env::current_exe().unwrap();
        let mut command = if controlling { Command::new("setsid") } else { Command::new(&program) };
        if controlling {
            command.args(["--ctty", "--wait"]).arg(&program);
        }
        command.args(["--exact", "child", "--ignored", "--nocapture"]).env(WAY, way);
        command.stdin(OwnedFd::from(slave.try_clone().unwrap())).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut run = Self { master: master.into(), slave, child: command.spawn().unwrap() };
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
        !tcgetattr(&self.slave).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
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
    // The others go to the guest.
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
