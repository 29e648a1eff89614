//! The commands that connect a terminal to a guest are jobs of a shell, as any program that makes a terminal raw.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use super::command::{Killed, viridian};
use super::control::Host;
use crate::common::patience::holds_within;
use crate::shell_jobs::{Job, expect_comes_to_the_front, expect_hangs_up, expect_returns, expect_stops, terminal_pair};

/// Expects that a command is as good a job as any.
fn expect_is_a_job(job: &Job<'_>) {
    for expect in [expect_stops, expect_returns, expect_comes_to_the_front, expect_hangs_up] {
        expect(job);
    }
}

#[test]
fn a_console_is_a_job() {
    let mut host = Host::new();
    host.start("exits", &["--name", "web", "--cmdline", "echo"]);
    host.until("web", |tree| tree["state"] == "running");
    let program = viridian().get_program().display().to_string();
    let command = format!("env VIRIDIAN_RUNTIME_DIR='{}' '{program}' console web", host.path().display());
    // The guest returns what it reads.
    expect_is_a_job(&Job { command: &command, answer: |key| key.to_string() });
}

/// A socket at which agents serve commands on this host.
struct Agents {
    folder: TempDir,
    listener: UnixListener,
}

impl Agents {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let agents = Self { folder, listener };
        let agent = agents.program();
        std::fs::write(&agent, viridian().arg("agent").output().unwrap().stdout).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o700)).unwrap();
        agents
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// Returns the words after `viridian exec` that name the socket.
    fn target(&self) -> String {
        format!("unix:{}", self.folder.path().join("socket").display())
    }
}

fn serve(agent: &Path, connection: UnixStream) {
    let input = Stdio::from(OwnedFd::from(connection));
    let mut served = Command::new(agent).args(["--fd", "0"]).stdin(input).spawn().unwrap();
    thread::spawn(move || served.wait());
}

#[test]
fn a_command_in_a_guest_is_a_job() {
    let agents = Agents::new();
    let (listener, agent) = (agents.listener.try_clone().unwrap(), agents.program());
    thread::spawn(move || listener.incoming().for_each(|connection| serve(&agent, connection.unwrap())));
    let program = viridian().get_program().display().to_string();
    let script = "while read -rsn1 key; do echo heard $key.; done";
    let command = format!("'{program}' exec {} -- bash -c '{script}'", agents.target());
    expect_is_a_job(&Job { command: &command, answer: |key| format!("heard {key}.") });
}

#[test]
fn a_command_that_starts_late_has_the_size_that_the_terminal_has_then() {
    let agents = Agents::new();
    let (master, slave) = terminal_pair();
    let resize = |ws_row, ws_col| {
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
    };
    resize(24, 80);
    let end = || Stdio::from(slave.try_clone().unwrap());
    let script = "until [ \"$(stty size)\" = '33 44' ]; do sleep 0.1; done";
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(viridian().get_program());
    command.args(["exec", &agents.target(), "--", "bash", "-c", script]);
    let mut command = Killed(command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap());
    // It has requested the command, with the size that was.
    let (connection, _) = agents.listener.accept().unwrap();
    resize(33, 44);
    serve(&agents.program(), connection);
    let has_ended = || command.0.try_wait().unwrap().is_some_and(|status| status.success());
    assert!(holds_within(Duration::from_secs(30), has_ended), "the command has another size");
}
