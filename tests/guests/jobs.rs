//! The commands that connect a terminal to a guest are jobs of a shell, as any program that makes a terminal raw.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;

use super::command::viridian;
use super::control::Host;
use crate::shell_jobs::{Job, expect_comes_to_the_front, expect_hangs_up, expect_returns, expect_stops};

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

#[test]
fn a_command_in_a_guest_is_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, socket) = (folder.path().join("agent"), folder.path().join("socket"));
    std::fs::write(&agent, viridian().arg("agent").output().unwrap().stdout).unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let input = Stdio::from(OwnedFd::from(connection.unwrap()));
            let mut served = Command::new(&agent).args(["--fd", "0"]).stdin(input).spawn().unwrap();
            thread::spawn(move || served.wait());
        }
    });
    let program = viridian().get_program().display().to_string();
    let script = "while read -rsn1 key; do echo heard $key.; done";
    let command = format!("'{program}' exec unix:{} -- bash -c '{script}'", socket.display());
    expect_is_a_job(&Job { command: &command, answer: |key| format!("heard {key}.") });
}
