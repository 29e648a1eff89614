//! Jobs of an interactive shell on a terminal, which make it raw while they are in its foreground.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::common::patience::holds_within;

/// Number of keys that were typed.
static KEYS: AtomicU8 = AtomicU8::new(0);

/// A pseudo-terminal: its master, and the terminal itself.
pub fn terminal_pair() -> (File, File) {
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
pub fn is_raw(terminal: &File) -> bool {
    !tcgetattr(terminal).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
}

/// An interactive shell on a terminal.
pub struct Shell {
    master: File,
    pub slave: Option<File>,
    pub shell: Child,
    seen: Arc<Mutex<String>>,
    /// The job's script is in it.
    _folder: tempfile::TempDir,
}

/// A job for a shell.
pub struct Job<'a> {
    /// Its command line. It reads the terminal key by key.
    pub command: &'a str,
    /// Output of the job after it has read a key.
    pub answer: fn(char) -> String,
}

impl Shell {
    fn start(job: &Job<'_>) -> Self {
        let (master, slave) = terminal_pair();
        // Without its line editor, the shell does not change the terminal's settings.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "--noediting", "-i"]);
        let folder = tempfile::tempdir().unwrap();
        let script: PathBuf = folder.path().join("job");
        std::fs::write(&script, format!("#!/bin/sh\necho process $$.\nexec {}\n", job.command)).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        command.env("PS1", "").env("JOB", script);
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
        Self { master, slave: Some(slave), shell, seen, _folder: folder }
    }

    fn type_text(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).unwrap();
    }

    /// Starts the job, with these words after its command line, and returns its process.
    fn start_job(&self, after: &str) -> Pid {
        self.type_text(&format!("\"$JOB\" {after}\n"));
        self.wait_for("the job's process", || self.answer("process ").is_some());
        Pid::from_raw(self.answer("process ").unwrap().parse().unwrap()).unwrap()
    }

    /// Returns the output between `word` and a full stop.
    fn answer(&self, word: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let (_, rest) = seen.split_once(word)?;
        rest.split_once('.').map(|(answer, _)| answer.to_owned())
    }

    /// Types a key, and waits until the job has read it.
    fn expect_answer(&self, job: &Job<'_>) {
        self.wait_for("raw terminal", || self.is_raw());
        // A key that no test has typed before: a console prints what came before, too.
        let key = char::from(b'a' + KEYS.fetch_add(1, Ordering::Relaxed) % 26);
        let before = self.seen.lock().unwrap().len();
        self.type_text(&key.to_string());
        self.wait_for("answer", || self.seen.lock().unwrap()[before..].contains(&(job.answer)(key)));
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

/// Starts a job and stops it, and expects that it leaves the terminal to the shell.
fn stopped(job: &Job<'_>, stop: Signal) -> (Shell, Pid) {
    let shell = Shell::start(job);
    let process = shell.start_job("");
    shell.wait_for("raw terminal", || shell.is_raw());
    kill_process(process, stop).unwrap();
    shell.wait_for_state(process, |state| state == 'T');
    shell.wait_for("usable terminal", || !shell.is_raw());
    (shell, process)
}

/// Expects that a stopped job leaves the terminal to the shell, and ends in the background.
pub fn expect_stops(job: &Job<'_>) {
    // Only the first of these signals can be handled by the process.
    for stop in [Signal::TSTP, Signal::STOP] {
        let (shell, process) = stopped(job, stop);
        shell.type_text("bg\n");
        shell.wait_for_state(process, |state| state != 'T');
        shell.end(process);
    }
}

/// Expects that a job that returns to the foreground gets input again.
pub fn expect_returns(job: &Job<'_>) {
    for stop in [Signal::TSTP, Signal::STOP] {
        let (shell, process) = stopped(job, stop);
        shell.type_text("fg\n");
        shell.expect_answer(job);
        shell.end(process);
    }
}

/// Expects that a job that was started in the background gets input once it is in the foreground.
pub fn expect_comes_to_the_front(job: &Job<'_>) {
    let shell = Shell::start(job);
    let process = shell.start_job("&");
    assert!(!shell.is_raw());
    shell.type_text("fg\n");
    shell.expect_answer(job);
    shell.end(process);
}

/// Expects that a job ends with its terminal.
pub fn expect_hangs_up(job: &Job<'_>) {
    let mut shell = Shell::start(job);
    let process = shell.start_job("");
    shell.wait_for("raw terminal", || shell.is_raw());
    // The master stays open in a thread that reads it, so the hang-up can only come from the kernel's end of the session.
    shell.slave = None;
    kill_process(Pid::from_child(&shell.shell), Signal::HUP).unwrap();
    kill_process(process, Signal::HUP).unwrap();
    shell.wait_for("end", || state_of(process).is_none());
}
