//! Machines whose processes hang: they accept no connection, and answer nothing.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::command::Run;
use super::control::Host;
use crate::common::patience::grown;

/// Starts a machine that halts, and stops its process. Returns the process.
fn hang(host: &mut Host, name: &str) -> i64 {
    host.start_halted(name);
    let id = host.json(&["inspect", name])["process"].as_i64().unwrap();
    kill_process(Pid::from_raw(id as i32).unwrap(), Signal::STOP).unwrap();
    id
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.output).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

#[test]
fn a_machine_that_hangs_is_ended_by_kill() {
    let mut host = Host::new();
    hang(&mut host, "hung");
    host.start_halted("other");
    let run = host.run(&["kill", "hung"]);
    assert!(run.code == Some(0) && run.errors.contains("does not answer, and is killed"), "{run:?}");
    assert_eq!(host.end(0).0, None, "by a signal");
    assert_eq!(host.names(), ["other"]);
    // A kill returns when the machine has ended.
    assert_eq!(host.run(&["kill", "other"]).code, Some(0));
    assert!(UnixStream::connect(host.socket("other")).is_err());
    assert_eq!(host.end(1).0, Some(143));
}

#[test]
fn a_machine_that_hangs_is_ended_by_stop_unless_force_is_excluded() {
    let mut host = Host::new();
    hang(&mut host, "hung");
    let run = host.run(&["stop", "hung", "--no-force"]);
    assert!(run.code == Some(124) && run.errors.contains("hung: there was no answer"), "{run:?}");
    let run = host.run(&["stop", "hung", "--json"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    let stopped = json(&run);
    assert_eq!((&stopped["stopped-by"], &stopped["end"]["kind"]), (&"kill".into(), &"lost".into()));
    assert_eq!(host.end(0).0, None, "by a signal");
}

#[test]
fn a_machine_that_hangs_for_long_keeps_nobody_waiting_and_is_killed() {
    let mut host = Host::new();
    let id = hang(&mut host, "hung");
    // As clients leave it that have looked again and again: nobody accepts their connections.
    let address = SocketAddrUnix::new(host.socket("hung")).unwrap();
    let knock = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        connect(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap(), &address)
    };
    assert!((0..100_000).any(|_| knock().is_err()), "its queue is full");
    let begun = Instant::now();
    let list = host.run(&["list", "--json"]);
    assert!(begun.elapsed() < grown(Duration::from_secs(8)), "{:?}", begun.elapsed());
    assert_eq!(list.code, Some(124), "{list:?}");
    let shown = json(&list)[0].clone();
    assert_eq!((&shown["state"], shown["process"].as_i64()), (&"not-answering".into(), Some(id)), "{shown}");
    // A machine of this name gets another socket.
    host.start("exits", &["--name", "hung", "--cmdline", "halt"]);
    host.until("hung-2", |tree| tree["state"] == "running");
    let run = host.run(&["kill", "hung"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!((host.end(0).0, host.names()), (None, vec!["hung-2".to_owned()]));
}
