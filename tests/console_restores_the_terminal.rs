//! The terminal is restored however the process ends. Each test ends a child process in a different way; the child is
//! this binary with a pseudo-terminal as its standard input.

mod common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::patience::holds_within;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
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
        "job" => live_as_a_job(console),
        _ => thread::sleep(Duration::from_secs(60)),
    }
}

/// Prints its process id, echoes what is typed, and ends by a signal.
fn live_as_a_job(console: Console) {
    let signals = signals::EndSignals::catch().unwrap();
    let mut output = console.output();
    writeln!(output, "process {}.", std::process::id()).unwrap();
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

/// A pseudo-terminal: its master, and the terminal itself.
fn terminal_pair() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    // O_NOCTTY matters only if the test runner has no terminal.
    let flags = rustix::fs::OFlags::NOCTTY.bits() as i32;
    let slave = std::os::unix::fs::OpenOptionsExt::custom_flags(OpenOptions::new().read(true).write(true), flags)
        .open(path)
        .unwrap();
    (master.into(), slave)
}

/// Returns `true` if keys are read one by one, without an echo.
fn is_raw(terminal: &File) -> bool {
    !tcgetattr(terminal).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
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

/// An interactive shell on a terminal.
struct Shell {
    master: File,
    slave: Option<File>,
    shell: Child,
    seen: Arc<Mutex<String>>,
}

impl Shell {
    fn start() -> Self {
        let (master, slave) = terminal_pair();
        // Without its line editor, the shell does not change the terminal's settings.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "--noediting", "-i"]);
        command.env("PS1", "").env(WAY, "job").env("JOB", std::env::current_exe().unwrap());
        let end = || Stdio::from(slave.try_clone().unwrap());
        let shell = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut reader, text) = (master.try_clone().unwrap(), seen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { master, slave: Some(slave), shell, seen }
    }

    fn type_text(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).unwrap();
    }

    /// Starts the job, with these words after its command line, and returns its process.
    fn start_job(&self, after: &str) -> Pid {
        self.type_text(&format!("\"$JOB\" --exact child --ignored --nocapture {after}\n"));
        self.wait_for("the job's process", || self.answer("process ").is_some());
        Pid::from_raw(self.answer("process ").unwrap().parse().unwrap()).unwrap()
    }

    /// Returns the output between `word` and a full stop.
    fn answer(&self, word: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let (_, rest) = seen.split_once(word)?;
        rest.split_once('.').map(|(answer, _)| answer.to_owned())
    }

    fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let came = holds_within(Duration::from_secs(30), condition);
        assert!(came, "no {what}: {:?}", self.seen.lock().unwrap());
    }

    fn is_raw(&self) -> bool {
        is_raw(self.slave.as_ref().unwrap())
    }

    fn wait_for_state(&self, job: Pid, state: fn(char) -> bool) {
        self.wait_for("such state", || state_of(job).is_some_and(state));
    }

    /// Ends a job, and expects a terminal that a shell can use.
    fn end(self, job: Pid) {
        kill_process(job, Signal::TERM).unwrap();
        self.wait_for("end", || state_of(job).is_none());
        assert!(!self.is_raw());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Returns the state of a process as `ps` prints it, or `None` if it has ended.
fn state_of(process: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    stat.rsplit(") ").next()?.chars().next().filter(|state| *state != 'Z')
}

#[test]
fn a_stopped_job_leaves_the_terminal_to_the_shell_and_ends_in_the_background() {
    // Only the first of these signals can be handled by the process.
    for stop in [Signal::TSTP, Signal::STOP] {
        let shell = Shell::start();
        let job = shell.start_job("");
        shell.wait_for("raw terminal", || shell.is_raw());
        kill_process(job, stop).unwrap();
        shell.wait_for_state(job, |state| state == 'T');
        shell.wait_for("usable terminal", || !shell.is_raw());
        shell.type_text("bg\n");
        shell.wait_for_state(job, |state| state != 'T');
        shell.end(job);
    }
}

#[test]
fn a_job_that_returns_to_the_foreground_gets_input_again() {
    for stop in [Signal::TSTP, Signal::STOP] {
        let shell = Shell::start();
        let job = shell.start_job("");
        shell.wait_for("raw terminal", || shell.is_raw());
        kill_process(job, stop).unwrap();
        shell.wait_for_state(job, |state| state == 'T');
        shell.wait_for("usable terminal", || !shell.is_raw());
        shell.type_text("fg\n");
        shell.wait_for("raw terminal", || shell.is_raw());
        shell.type_text("k");
        shell.wait_for("answer", || shell.answer("heard ").is_some_and(|heard| heard == "k"));
        shell.end(job);
    }
}

#[test]
fn a_job_started_in_the_background_gets_input_once_it_is_in_the_foreground() {
    let shell = Shell::start();
    let job = shell.start_job("&");
    assert!(!shell.is_raw());
    shell.type_text("fg\n");
    shell.wait_for("raw terminal", || shell.is_raw());
    shell.type_text("k");
    shell.wait_for("answer", || shell.answer("heard ").is_some_and(|heard| heard == "k"));
    shell.end(job);
}

#[test]
fn a_job_ends_with_its_terminal() {
    let mut shell = Shell::start();
    let job = shell.start_job("");
    shell.wait_for("raw terminal", || shell.is_raw());
    // The master stays open in a thread that reads it, so the hang-up can only come from the kernel's end of the session.
    shell.slave = None;
    kill_process(Pid::from_child(&shell.shell), Signal::HUP).unwrap();
    kill_process(job, Signal::HUP).unwrap();
    shell.wait_for("end", || state_of(job).is_none());
}
