//! Guests that flood the host do not affect others, and cause only a few log messages.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::command::{Killed, image, limit, run_with, viridian};
use crate::common::patience::receive_within;

/// Runs the guest `flood` with this command line.
fn flood(cmdline: &str, options: &[&str]) -> super::command::Run {
    let (kernel, limit) = (image("flood"), limit(60));
    let common =
        ["run", "--kernel", kernel.to_str().unwrap(), "--cmdline", cmdline, "--timeout", &limit, "--cpus", "2"];
    run_with(common.iter().chain(options))
}

#[test]
fn a_warning_that_a_guest_causes_repeatedly_is_printed_once_per_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let run = flood("flood=headers n=1000", &["--disk", disk.to_str().unwrap()]);
    assert!(run.code == Some(0) && run.output.contains("1001 commands, 1001 answers"), "{run:?}");
    assert_eq!(run.errors.matches("qcow2 header").count(), 1, "{run:?}");
}

#[test]
fn a_kernel_that_connects_repeatedly_finds_at_most_one_old_answer_and_its_own() {
    let run = flood("flood=contacts n=3000", &[]);
    assert!(run.code == Some(0) && run.output.contains("3000 contacts, 2 answers\n"), "{run:?}");
}

#[test]
fn a_channel_whose_ring_is_never_empty_can_be_closed() {
    let run = flood("flood=ring seconds=1", &["--disk", "memory:1M", "--memory", "64M"]);
    assert!(run.code == Some(0) && run.output.contains("VMBus is left\n"), "{run:?}");
}

/// Accepts all connections to a Unix socket, each until the other side ends it.
fn serve(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            thread::spawn(move || client.read_to_end(&mut Vec::new()));
        }
    });
}

/// Waits for a line that has all of these words.
#[track_caller]
fn expect_line(lines: &Receiver<String>, words: &[&str]) {
    while let Ok(line) = receive_within(lines, Duration::from_secs(60)) {
        if words.iter().all(|word| line.contains(word)) {
            return;
        }
    }
    panic!("no line has {words:?}");
}

#[test]
fn a_guest_that_connects_without_end_leaves_its_neighbor_a_share_of_the_descriptors() {
    // The sockets of both have a third of them, and the guest asks for more.
    const DESCRIPTORS: &str = "--nofile=300:300";
    let folder = tempfile::tempdir().unwrap();
    let (lab, kernel) = (folder.path().join("lab.toml"), image("flood"));
    let partition = |name: &str, cmdline: &str| {
        serve(&folder.path().join(format!("{name}_2048")));
        let kernel = kernel.display();
        format!(
            "[[partition]]\nname = '{name}'\nkernel = '{kernel}'\ncmdline = 'flood=sockets {cmdline}'\nvsock = '{name}'\n"
        )
    };
    std::fs::write(&lab, partition("greedy", "") + &partition("modest", "sockets=1")).unwrap();
    let mut command = Command::new("prlimit");
    command.arg(DESCRIPTORS).arg(viridian().get_program()).arg("up").arg(&lab);
    let mut both = Killed(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let (line, lines) = channel();
    let output = BufReader::new(both.0.stdout.take().unwrap());
    thread::spawn(move || output.lines().map_while(Result::ok).all(|text| line.send(text).is_ok()));
    expect_line(&lines, &["greedy", "flooding"]);
    // Each line stands for 16 connections.
    for _ in 0..4 {
        expect_line(&lines, &["modest", "connections"]);
    }
    kill_process(Pid::from_child(&both.0), Signal::TERM).unwrap();
    assert_eq!(both.0.wait().unwrap().code(), Some(143));
}
