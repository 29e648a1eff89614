//! `--json`: what each command prints for programs.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::service::Host;
use crate::common::patience::patience;

#[test]
fn each_command_says_what_it_has_done_as_json() {
    let host = Host::serve();
    host.define_with(
        "desk",
        "screen",
        &format!("driver=good {}", patience()),
        "display = \"on\"\ndisk = \"memory:1M\"\n",
    );
    host.define_with("svc", "services", &format!("driver=good {}", patience()), "net = \"none\"\n");
    host.define_with("mem", "balloon", "requests=1000", "memory = \"startup=128M,min=96M,max=192M\"\n");
    host.define("idle", "");
    let json = |line: &str| -> Value {
        let run = host.run(&line.split(' ').chain(["--json"]).collect::<Vec<_>>());
        assert_eq!(run.code, Some(0), "{line}: {run:?}");
        serde_json::from_str(&run.output).unwrap_or_else(|error| panic!("{line}: {error}: {run:?}"))
    };
    assert_eq!(json("start desk svc mem").as_array().map(Vec::len), Some(3));
    assert_eq!(json("wait svc --for heartbeat")["name"], "svc");
    let inspect = |name: &str| host.get(&format!("/machines/{name}/inspect"));
    let is_ready = |name: &str, device: &str| inspect(name)["devices"][device]["status"]["state"] == "ready";
    host.until("desk", |_| is_ready("desk", "keyboard"));
    host.until("svc", |_| is_ready("svc", "kvp"));
    host.until("mem", |_| inspect("mem")["devices"]["memory"]["demand-bytes"].is_u64());

    let states = |list: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(|machine| (text(&machine["name"]), text(&machine["state"]))).collect()
    };
    let running = ["desk", "mem", "svc"].map(|name| (name.to_owned(), "running".to_owned())).to_vec();
    assert_eq!(states(&json("list")), running);
    assert_eq!(states(&json("list --all"))[1], ("idle".to_owned(), "stopped".to_owned()));
    // With the same fields, whether it runs or not, and whoever is asked.
    let there = json(&format!("list --host unix:{}", host.socket().display()));
    let fields = |machine: &Value| machine.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let all = json("list --all");
    for machine in all.as_array().unwrap().iter().chain(there.as_array().unwrap()) {
        assert_eq!(fields(machine), fields(&all[0]));
        assert_eq!(machine["service"], true);
        let is_known = |field: &str| !machine[field].is_null();
        assert!(
            ["policy-restarts", "restart", "autostart", "host-stop"].iter().all(|field| is_known(field)),
            "{machine}"
        );
        assert_eq!(machine["process"].is_null(), machine["guest-restarts"].is_null(), "{machine}");
    }
    assert_eq!(json("inspect desk")["name"], "desk");
    for verb in ["pause", "resume"] {
        assert_eq!(json(&format!("{verb} desk")), json!({ "name": "desk" }));
    }

    assert_eq!(json("memory desk")["dynamic"], Value::Null);
    let memory = json("memory mem 120M");
    assert_eq!((&memory["name"], &memory["dynamic"]["target-bytes"]), (&json!("mem"), &json!(120 << 20)));
    let picture = host.folder.path().join("now.png");
    host.until("desk", |_| host.run(&["screenshot", "desk", picture.to_str().unwrap()]).code == Some(0));
    assert_eq!(json(&format!("screenshot desk {}", picture.display()))["file"], json!(picture));
    assert_eq!(json("type desk hello"), json!({ "name": "desk" }));
    assert_eq!(json("command svc net0 link down")["device"], "net0");

    let mut console = host.command(&["console", "desk", "--read-only", "--json"]);
    let mut console = console.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(console.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["name"] == "desk" && line["output"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    // It ends when nobody reads it, at the latest with the machine.
    assert_eq!(json("disk desk list")["disk0.0"]["kind"], "disk");
    assert_eq!(json("disk desk attach memory:1M,lun=5")["device"], "disk0.5");
    assert_eq!(json("disk desk detach disk0.5"), json!({ "name": "desk", "device": "disk0.5" }));
    assert_eq!(json("adapter desk attach none")["device"], "net0");
    assert_eq!(json("adapter desk link net0 down"), json!({ "name": "desk", "device": "net0" }));
    assert_eq!(json("adapter desk detach net0"), json!({ "name": "desk", "device": "net0" }));
    assert!(json("services svc").is_array());
    let item = json!({ "name": "svc", "pool": "external", "key": "a", "value": "b" });
    assert_eq!(json("kvp svc set a b"), item);

    assert_eq!(json("measure desk")["name"], "desk");
    let samples = json("metrics --all");
    let of = |name: &str| samples.as_array().unwrap().iter().any(|sample| sample["labels"]["machine"] == name);
    assert!(of("desk") && of("svc") && !of("idle"), "{samples}");
    assert!(json("jobs").is_array() && json("access list").is_array());
    assert_eq!(json("reset mem"), json!({ "name": "mem" }));
    // A guest that does not expect it ends soon, so nothing else is asked of this one.
    host.define("hit", "");
    host.post("/machines/hit/start");
    host.until_state("hit", "running");
    assert_eq!(json("nmi hit"), json!({ "name": "hit" }));
    assert_eq!(json("kill desk svc"), json!([{ "name": "desk" }, { "name": "svc" }]));
    host.until_state("desk", "stopped");
    assert_eq!(json("undefine desk"), json!({ "name": "desk" }));
    console.wait().unwrap();
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_command_line() {
    let host = Host::serve();
    host.define("web", "");
    host.post("/machines/web/start");
    host.until_state("web", "running");
    for (line, code, words) in [
        ("start none", 2, "there is no machine \"none\"; viridian list --all lists what there is"),
        ("measure none", 2, "viridian list --all"),
        ("jobs wait 7", 2, "there is no job 7; viridian jobs lists"),
        ("jobs cancel x", 2, "`x` is not the number of a job"),
        ("memory web 64M", 2, "run it with --memory startup=SIZE,min=SIZE,max=SIZE"),
        ("access remove bob", 2, "viridian access list"),
    ] {
        let run = host.run(&line.split(' ').collect::<Vec<_>>());
        assert!(run.code == Some(code) && run.errors.contains(words) && run.output.is_empty(), "{line}: {run:?}");
    }
}
