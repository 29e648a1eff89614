//! What a new user does first, by commands and by curl: define three machines, start them, look at them, use them, stop and remove them.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::service::{Host, definition};
use crate::command::limit;
use crate::common::need::{Need, ready};
use crate::common::patience::patience;

/// A guest with a console, one with a screen, and one that powers off when the power button is pressed.
fn definitions() -> [(&'static str, String); 3] {
    [
        ("shell", definition("exits", "echo", "")),
        ("desk", definition("screen", &format!("driver=good {}", patience()), "display = \"on\"\n")),
        ("server", definition("exits", "button", "")),
    ]
}

#[test]
fn three_machines_are_used_by_commands() {
    let host = Host::serve();
    let succeed = |arguments: &[&str]| {
        let run = host.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
        run.output
    };
    for (name, text) in definitions() {
        let file = host.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        succeed(&["define", name, file.to_str().unwrap()]);
    }
    succeed(&["start", "shell", "desk", "server"]);
    let wait = |name: &str, text: &str| {
        succeed(&["wait", name, "--for", &format!("text={text}"), "--timeout", &limit(60)]);
    };
    for (name, text) in [("shell", "echoing by polling"), ("desk", "ready"), ("server", "waiting for the button")] {
        wait(name, text);
    }
    let states = |expected: &str| {
        let list: Value = serde_json::from_str(&succeed(&["list", "--all", "--json"])).unwrap();
        let states: Vec<_> = list.as_array().unwrap().iter().map(|it| (&it["name"], &it["state"])).collect();
        let names: Vec<_> = states.iter().map(|(name, _)| name.as_str().unwrap()).collect();
        assert_eq!(names, ["desk", "server", "shell"]);
        assert!(states.iter().all(|(_, state)| **state == *expected), "{states:?}");
    };
    states("running");
    let tree: Value = serde_json::from_str(&succeed(&["inspect", "desk", "--json"])).unwrap();
    assert!(tree["devices"]["screen"].is_object() && tree["devices"]["heartbeat"].is_object(), "{tree}");
    // What is typed comes back, and the last line ends the guest.
    let mut console = host.command(&["console", "shell"]);
    let mut console = console.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    console.stdin.take().unwrap().write_all(b"hello\rquit\r").unwrap();
    let done = console.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    assert!(["echoing by polling", "hello", "quitting"].iter().all(|text| shown.contains(text)), "{shown}");
    let picture = host.folder.path().join("desk.png");
    succeed(&["screenshot", "desk", picture.to_str().unwrap()]);
    assert_eq!(std::fs::read(&picture).unwrap()[..8], *b"\x89PNG\r\n\x1a\n");
    // A guest that is asked ends by itself. That of the other machine knows no such request.
    succeed(&["stop", "server"]);
    assert_eq!(host.machine("server")["end"]["kind"], "powered-off");
    succeed(&["kill", "desk"]);
    host.until_state("shell", "stopped");
    states("stopped");
    succeed(&["undefine", "shell", "desk", "server"]);
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn three_machines_are_used_by_curl() {
    if !ready(&[Need::Tool("curl")]) {
        return;
    }
    let host = Host::serve();
    let curl = |arguments: &[&str], path: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--max-time", &limit(60), "--unix-socket"]);
        command.arg(host.socket()).args(arguments).arg(format!("http://serve{path}")).stdin(Stdio::null());
        command
    };
    let succeed = |arguments: &[&str], path: &str| {
        let done = curl(arguments, path).output().unwrap();
        assert!(done.status.success(), "{arguments:?} {path}: {done:?}");
        done.stdout
    };
    let json = |arguments: &[&str], path: &str| -> Value { serde_json::from_slice(&succeed(arguments, path)).unwrap() };
    for (name, text) in definitions() {
        let file = host.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        let made = json(&["-T", file.to_str().unwrap()], &format!("/machines/{name}"));
        assert_eq!((&made["name"], &made["state"]), (&name.into(), &"stopped".into()));
        json(&["-X", "POST"], &format!("/machines/{name}/start"));
        host.until_state(name, "running");
    }
    let list = json(&[], "/machines");
    let states: Vec<_> = list["machines"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["running"; 3]);
    // A console is followed until the machine ends.
    let watch = |name: &str, text: &str| {
        let mut child = curl(&["-N"], &format!("/machines/{name}/control/console"));
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(text)), "{name}: its console ends without {text}");
        (child, lines)
    };
    let watches = [("shell", "echoing by polling"), ("desk", "ready"), ("server", "waiting for the button")]
        .map(|(name, text)| watch(name, text));
    let tree = json(&[], "/machines/desk/inspect");
    assert!(tree["devices"]["screen"].is_object(), "{tree}");
    let picture: PathBuf = host.folder.path().join("desk.png");
    succeed(&["-o", picture.to_str().unwrap()], "/machines/desk/screen/picture");
    assert_eq!(std::fs::read(&picture).unwrap()[..8], *b"\x89PNG\r\n\x1a\n");
    // An answer that is an error has its reason.
    let refused = curl(&["-X", "DELETE"], "/machines/shell").output().unwrap();
    assert!(!refused.status.success(), "it runs");
    assert_eq!(serde_json::from_slice::<Value>(&refused.stdout).unwrap()["error"]["kind"], "state");
    json(&["-X", "POST"], "/machines/server/stop");
    host.until("server", |machine| machine["state"] == "stopped" && machine["end"]["kind"] == "powered-off");
    for name in ["shell", "desk"] {
        json(&["-X", "POST"], &format!("/machines/{name}/kill"));
        host.until_state(name, "stopped");
    }
    for (mut child, lines) in watches {
        drop(lines);
        child.wait().unwrap();
    }
    // The last output is there after the end.
    let last = String::from_utf8(succeed(&[], "/machines/shell/console")).unwrap();
    assert!(last.contains("echoing by polling"), "{last}");
    for (name, _) in definitions() {
        json(&["-X", "DELETE"], &format!("/machines/{name}"));
    }
    assert_eq!(json(&[], "/machines")["machines"], serde_json::json!([]));
}
