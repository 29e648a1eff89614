//! The trace of a running machine, followed by other processes.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::control::Host;
use crate::common::patience::{grown, holds_within, patience};

#[test]
fn messages_of_a_running_machine_are_followed_with_filters() {
    let mut host = Host::new();
    host.start("services", &["--name", "guest", "--cmdline", &format!("driver=good {}", patience())]);
    let soon = grown(Duration::from_secs(60));
    assert!(holds_within(soon, || host.run(&["wait", "guest", "--for", "heartbeat"]).code == Some(0)));
    let follow = |arguments: &[&str]| {
        let mut command = host.command(&[&["trace", "guest", "--json"], arguments].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut all = follow(&[]);
    let mut offers = follow(&["--filter", "OFFERCHANNEL", "--filter", "host"]);
    let lines = |child: &mut std::process::Child| BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut seen, mut seen_offers) = (lines(&mut all), lines(&mut offers));
    // The heartbeat goes on, so that something is seen.
    let line: Value = serde_json::from_str(&seen.next().unwrap().unwrap()).unwrap();
    assert!(line["event"] == "trace" && line["kind"] == "vmbus" && line["time"].is_f64(), "{line}");
    // Another follows from when the disk's controller is offered.
    let attach = || host.run(&["disk", "guest", "attach", "memory:1M"]);
    let run = attach();
    assert_eq!(run.code, Some(0), "{run:?}");
    let line: Value = serde_json::from_str(&seen_offers.next().unwrap().unwrap()).unwrap();
    let text = line["line"].as_str().unwrap();
    assert!(text.starts_with("host: OFFERCHANNEL"), "{line}");
    // Hypercalls are seen when the guest starts again and connects to VMBus.
    let mut calls = follow(&["--kinds", "hypercall", "--filter", "PostMessage"]);
    let (found, first) = std::sync::mpsc::channel();
    let mut seen_calls = lines(&mut calls);
    let reader = std::thread::spawn(move || {
        found.send(seen_calls.next().unwrap().unwrap()).unwrap();
        // It reads on, so that it does not end by a closed pipe.
        seen_calls.for_each(drop);
    });
    // It may begin to follow after a reset.
    let mut line = None;
    assert!(holds_within(soon, || {
        assert_eq!(host.run(&["reset", "guest"]).code, Some(0));
        line = first.recv_timeout(Duration::from_secs(2)).ok();
        line.is_some()
    }));
    let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
    let text = line["line"].as_str().unwrap();
    assert!(line["kind"] == "hypercall" && text.contains("HvCallPostMessage"), "{line}");
    for (kinds, words) in [("vmbos", "did you mean `vmbus`?"), ("vmbus=/tmp/x", "has no file")] {
        let run = host.run(&["trace", "guest", "--kinds", kinds]);
        assert!(run.code == Some(2) && run.errors.contains(words), "{kinds}: {run:?}");
    }
    // The trace ends with the machine.
    assert_eq!(host.run(&["kill", "guest"]).code, Some(0));
    drop((seen, seen_offers));
    for mut child in [all, offers, calls] {
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = child.wait().unwrap();
        assert!(errors.is_empty(), "{status}: {errors}");
    }
    reader.join().unwrap();
}
