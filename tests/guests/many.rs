//! Verbs on several machines.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::control::Host;
use crate::common::patience::{grown, holds_within};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn each_verb_is_for_one_machine_or_several() {
    let mut host = Host::new();
    for name in ["web", "web-db", "other"] {
        host.start_halted(name);
    }
    // Names, names with commas, patterns, and all.
    for (machines, found) in [
        (&["web", "other"][..], &["web", "other"][..]),
        (&["other,web"], &["other", "web"]),
        (&["web*"], &["web", "web-db"]),
        (&["--all"], &["other", "web", "web-db"]),
        (&["w*,other", "web"], &["web", "web-db", "other"]),
        (&["oth?r,"], &["other"]),
    ] {
        assert_eq!(names(&host.json(&[&["resume"], machines].concat())), found, "{machines:?}");
        if let [machine] = machines {
            for verb in [
                &["services", machine][..],
                &["memory", machine],
                &["disk", machine, "list"],
                &["adapter", machine, "list"],
            ] {
                assert_eq!(names(&host.json(verb)), found, "{verb:?}");
            }
        }
    }
    let run = host.run(&["disk", "web*", "attach", "memory:1M,lun=3"]);
    assert_eq!((run.code, &*run.output), (Some(0), "web: disk0.3\nweb-db: disk0.3\n"));
    let disks = host.json(&["disk", "--all", "list"]);
    let expected = [&json!(null), &json!("disk"), &json!("disk")];
    assert_eq!([0, 1, 2].map(|index| &disks[index]["disks"]["disk0.3"]["kind"]), expected);
    assert_eq!(host.run(&["disk", "web,web-db", "list"]).output.lines().count(), 2);
    let run = host.run(&["services", "web,other", "time=off"]);
    assert_eq!((run.code, &*run.output), (Some(0), ""), "{run:?}");
    let services = host.run(&["services", "--all"]);
    assert!(services.output.contains("\nweb: time       off "), "{services:?}");
    let memory = host.run(&["memory", "w*"]);
    assert_eq!(memory.output.lines().collect::<Vec<_>>().len(), 2);
    assert!(memory.output.starts_with("web: ") && memory.output.contains(", fixed\nweb-db: "), "{memory:?}");
    let kvp = host.run(&["kvp", "web,other", "set", "a", "b"]);
    assert!(kvp.code == Some(1) && kvp.errors.contains("other: ") && kvp.errors.contains("web: "), "{kvp:?}");
    let command = host.run(&["command", "--all", "console", "sing", "--json"]);
    assert!(command.code == Some(2) && command.output == "[]\n", "{command:?}");
    let typed = host.run(&["type", "--all", "x", "--enter"]);
    assert!(typed.code == Some(2) && typed.errors.contains("other: the machine has no keyboard"), "{typed:?}");
    let folder = host.directory.path().to_str().unwrap();
    let picture = host.run(&["screenshot", "--all", &format!("{folder}/a.png")]);
    assert!(picture.code == Some(2) && picture.errors.contains("need a folder"), "{picture:?}");
    let picture = host.run(&["screenshot", "--all", folder]);
    assert!(picture.code == Some(2) && picture.errors.contains("web-db: the machine has no screen"), "{picture:?}");
}

#[test]
fn a_machine_that_is_not_there_does_not_keep_a_command_from_the_others() {
    let mut host = Host::new();
    let none = host.run(&["pause", "--all"]);
    assert_eq!((none.code, &*none.output, &*none.errors), (Some(0), "", "viridian: no machine runs\n"));
    assert_eq!(host.json(&["inspect", "--all"]), json!([]));
    let none = host.run(&["inspect", "x*", "--json"]);
    assert!(none.code == Some(2) && none.errors.contains("\"x*\"; there is none"), "{none:?}");
    host.start_halted("web");
    host.start_halted("db");
    let run = host.run(&["memory", "web,gone,db", "--json"]);
    assert!(run.code == Some(2) && run.errors.contains("\"gone\"; there is db, web"), "{run:?}");
    assert_eq!(names(&serde_json::from_str(&run.output).unwrap()), ["web", "db"]);
    let run = host.run(&["pause", "gone", "web", "d*", "x*"]);
    assert!(run.code == Some(2) && run.errors.contains("\"gone\"; these run: db, web"), "{run:?}");
    assert!(run.errors.contains("there is no machine \"x*\"; there is db, web"), "{run:?}");
    assert!(["web", "db"].iter().all(|name| host.json(&["inspect", name])["state"] == "paused"));
    let run = host.run(&["disk", "web,db", "detach", "disk0.0"]);
    assert!(
        run.code == Some(2) && run.errors.contains("web: there is no disk") && run.errors.contains("db: there is no")
    );
    for (arguments, words) in [
        (&["memory", "--al"][..], "it is no option of this command, and no name"),
        (&["services", ","], "there is no machine \",\""),
        (&["console", "web", "db"], "the console of one machine; open each in a terminal"),
        (&["console", "--all"], "the console of one machine"),
        (&["console", "*"], "the console of one machine"),
        (&["console", "gone"], "these run: db, web"),
        (&["copy", "/etc/hostname", "web:/a", "--all"], "with --all, write only the path"),
    ] {
        let run = host.run(arguments);
        assert!(run.code == Some(2) && run.errors.contains(words) && run.output.is_empty(), "{arguments:?}: {run:?}");
    }
}

#[test]
fn a_command_that_follows_machines_ends_when_nobody_reads_it() {
    let mut host = Host::new();
    host.start_halted("web");
    host.start_halted("db");
    for arguments in [&["events", "--all"][..], &["events", "web", "db", "--json"]] {
        let mut command = host.command(arguments);
        let mut client = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(client.stdout.take().unwrap());
        let mut line = String::new();
        // The other machine stays silent.
        let reset = || host.run(&["reset", "web"]).code == Some(0);
        assert!(reset());
        if arguments[0] == "events" {
            output.read_line(&mut line).unwrap();
            let is_labelled = line.starts_with("web: ") || line.contains("\"machine\":\"web\"");
            assert!(is_labelled, "{arguments:?}: {line}");
        }
        drop(output);
        let ended = || reset() && client.try_wait().unwrap().is_some();
        assert!(holds_within(grown(Duration::from_secs(30)), ended), "{arguments:?}");
        assert_eq!(client.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn guests_are_frozen_together_and_the_result_is_json() {
    let mut host = Host::new();
    host.start_with_services("one");
    host.start_with_services("other");
    let frozen = |name: &str| host.json(&["inspect", name])["devices"]["vss"]["status"]["file-systems"].clone();
    let program = env!("CARGO_BIN_EXE_viridian");
    let script = format!("{program} inspect one other | grep -c 'file-systems: frozen'; printf '\\377' >&2; exit 3");
    let run = host.run(&["freeze", "--all", "--json", "--", "sh", "-c", &script]);
    assert_eq!(run.code, Some(3), "{run:?}");
    let result: Value = serde_json::from_str(&run.output).unwrap();
    let machines = json!([{ "name": "one", "consistent": true }, { "name": "other", "consistent": true }]);
    assert_eq!(result, json!({ "machines": machines, "code": 3, "stdout": "2\n", "stderr-base64": "/w==" }));
    assert_eq!([frozen("one"), frozen("other")], ["thawed", "thawed"]);
    // All or none.
    assert_eq!(host.run(&["services", "other", "vss=off"]).code, Some(0));
    let run = host.run(&["freeze", "one", "other", "--", "echo", "ran"]);
    assert!(run.code == Some(1) && run.output.is_empty() && run.errors.contains("other: the service vss"), "{run:?}");
    host.until("one", |tree| tree["devices"]["vss"]["status"]["file-systems"] == "thawed");
    let late = host.run(&["freeze", "one", "--limit", "1", "--json", "--", "sleep", "3"]);
    let result: Value = serde_json::from_str(&late.output).unwrap();
    assert_eq!((late.code, &result["machines"][0]["consistent"], &result["code"]), (Some(1), &json!(false), &json!(0)));
    // A file for both.
    let file = host.directory.path().join("file");
    std::fs::write(&file, "for both").unwrap();
    let copied = host.json(&["copy", file.to_str().unwrap(), "o*:/a/", "--make-path"]);
    assert_eq!((names(&copied), &copied[1]["bytes"]), (vec!["one", "other"], &json!(8)));
    let all = host.json(&["copy", file.to_str().unwrap(), "/a/file", "--all", "--overwrite"]);
    assert_eq!(names(&all), ["one", "other"]);
}

/// An agent on this host, at a Unix socket.
struct Agent(Child);

impl Agent {
    fn start(program: &Path, socket: &Path) -> Self {
        let agent = Self(Command::new(program).arg("--unix").arg(socket).spawn().unwrap());
        assert!(holds_within(grown(Duration::from_secs(20)), || UnixStream::connect(socket).is_ok()));
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_command_runs_in_several_guests_and_its_result_is_json() {
    let host = Host::new();
    let folder = host.directory.path();
    let program = folder.join("agent");
    std::fs::write(&program, host.command(&["agent"]).output().unwrap().stdout).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let sockets: [PathBuf; 2] = ["a", "b"].map(|name| folder.join(name));
    let _agents = [0, 1].map(|index| Agent::start(&program, &sockets[index]));
    let [a, b] = [0, 1].map(|index| format!("unix:{}", sockets[index].display()));
    let shell = |script: &'static str| ["--", "/bin/sh", "-c", script];
    let exec = |options: &[&str], script| host.run(&[&["exec"], options, &shell(script)].concat());

    let mut one = host.command(&[&["exec", "--json", &*a], &shell("cat; echo wrong >&2; exit 7")[..]].concat());
    let mut one = one.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    one.stdin.take().unwrap().write_all("grün\n".as_bytes()).unwrap();
    let output = one.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result, json!({ "name": a, "code": 7, "stdout": "grün\n", "stderr": "wrong\n" }));
    assert_eq!(output.status.code(), Some(7));

    let run = exec(&["--json", &a, &b], "cat; printf '\\377'; kill -9 $$");
    let results: Value = serde_json::from_str(&run.output).unwrap();
    let expected = |name: &str| json!({ "name": name, "code": 137, "stdout-base64": "/w==", "stderr": "" });
    assert_eq!((run.code, results), (Some(137), json!([expected(&a), expected(&b)])), "no input is a wait for none");
    let run = exec(&[&a, &b], "echo first; echo wrong >&2; printf last");
    assert_eq!(run.code, Some(0), "{run:?}");
    for name in [&a, &b] {
        let lines: Vec<_> = run.output.lines().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect();
        assert_eq!(lines, ["first", "last"], "{run:?}");
        assert!(run.errors.contains(&format!("{name}: wrong\n")), "{run:?}");
    }
    // One of them is not there, and one has no such command.
    let none = format!("unix:{}", folder.join("none").display());
    let run = exec(&["--json", &none, &b], "echo here");
    let results: Value = serde_json::from_str(&run.output).unwrap();
    assert!(run.code == Some(125) && run.errors.contains(&none), "{run:?}");
    assert_eq!(results, json!([{ "name": b, "code": 0, "stdout": "here\n", "stderr": "" }]));
    let missing = host.run(&["exec", "--json", &a, "--", "/nonexistent"]);
    let result: Value = serde_json::from_str(&missing.output).unwrap();
    assert_eq!((missing.code, &result["code"]), (Some(127), &json!(127)), "{missing:?}");
    assert!(result["error"].as_str().unwrap().contains("no such command"), "{result}");
    for (options, code, words) in [
        (&["gone"][..], 125, "there is no running machine \"gone\""),
        (&["x*"], 125, "there is no machine \"x*\"; there is none"),
        (&["--json", "--terminal", "on", &a], 2, "--terminal on is for"),
    ] {
        let run = exec(options, "true");
        assert!(run.code == Some(code) && run.errors.contains(words) && run.output.is_empty(), "{options:?}: {run:?}");
    }
    assert_eq!(exec(&["--all"], "true").errors, "viridian: no machine runs\n");
    // A signal reaches all of them, and so does the end of the reader.
    let mut both =
        host.command(&[&["exec", &*a, &*b], &shell("echo begun; read x </dev/tty; sleep 1000")[..]].concat());
    let mut both = both.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(both.stdout.take().unwrap()).lines();
    assert!(lines.next().is_some() && lines.next().is_some());
    rustix::process::kill_process(rustix::process::Pid::from_child(&both), rustix::process::Signal::INT).unwrap();
    assert_eq!(both.wait().unwrap().code(), Some(130));
    let mut endless = host.command(&[&["exec", &*a, &*b], &shell("while echo more; do :; done")[..]].concat());
    let mut endless = endless.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(BufReader::new(endless.stdout.take().unwrap()).lines().next());
    assert_eq!(endless.wait().unwrap().code(), Some(141));
}
