//! Commands about the service itself.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::service::{Host, definition};

#[test]
fn commands_print_definitions_jobs_events_and_the_state_of_the_service() {
    let mut host = Host::new();
    let machines = host.state().join("machines");
    std::fs::create_dir_all(&machines).unwrap();
    std::fs::write(machines.join("notes.txt"), "mine").unwrap();
    std::fs::write(machines.join("bad.toml"), "kernel = 7\n").unwrap();
    host.start();
    let text = definition("exits", "halt", "# a comment\n");
    for name in ["web", "web-2"] {
        assert_eq!(host.request("PUT", &format!("/machines/{name}"), &text).status, 201);
    }
    assert_eq!(host.run(&["definition", "web"]).output, text);
    let both = host.run(&["definition", "w*", "--json"]);
    let both: Value = serde_json::from_str(&both.output).unwrap();
    assert_eq!(both, json!([{ "name": "web", "definition": text }, { "name": "web-2", "definition": text }]));
    let both = host.run(&["definition", "web,web-2"]).output;
    assert!(both.starts_with("# web\nkernel") && both.contains("\n\n# web-2\nkernel"), "{both}");
    let none = host.run(&["definition", "gone"]);
    assert!(none.code == Some(2) && none.errors.contains("there is no machine \"gone\""), "{none:?}");

    let mut events = host.command(&["events"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(host.run(&["start", "web"]).code, Some(0));
    for expected in ["web: defined", "web-2: defined", "web: running"] {
        assert!(lines.any(|line| line == expected), "{expected}");
    }
    events.kill().unwrap();
    events.wait().unwrap();

    // The head of a reply alone, of the service and of a machine itself.
    for path in ["/machines", "/machines/web/control", "/machines/web/control/inspect"] {
        let (whole, head) = (host.request("GET", path, ""), host.request("HEAD", path, ""));
        assert!(head.status == 200 && head.body.is_empty() && !whole.body.is_empty(), "{path}: {head:?}");
        assert!(head.head.contains("Content-Length: ") && !head.head.contains("Content-Length: 0"), "{path}: {head:?}");
    }
    assert_eq!(host.request("HEAD", "/machines/web/control/events", "").status, 405);

    let begun = host.request("POST", "/jobs", r#"{ "kind": "start", "machine": "web-2" }"#).json();
    let id = begun["job"].to_string();
    assert_eq!(host.run(&["jobs", "wait", &id]).code, Some(0));
    assert_eq!(host.run(&["jobs", "show", &id]).output, format!("{id}  start web-2  done\n"));
    let shown: Value = serde_json::from_str(&host.run(&["jobs", "show", &id, "--json"]).output).unwrap();
    assert_eq!((&shown["job"], &shown["state"]), (&begun["job"], &json!("done")));
    assert_eq!(host.run(&["jobs", "show", "7"]).code, Some(2));

    let power = ["--shutdown", "0", "--power-button", "3600", "--no-wait", "--json"];
    let stop = host.run(&[&["stop", "web-2"], &power[..]].concat());
    let stopping: Value = serde_json::from_str(&stop.output).unwrap_or_else(|error| panic!("{error}: {stop:?}"));
    assert_eq!(stopping, json!({ "name": "web-2", "stopped-by": "service", "end": null }));
    host.until_state("web-2", "stopping");

    let service = host.run(&["service"]).output;
    assert!(service.contains("machines   3, of which 2 run\n"), "{service}");
    assert!(service.contains("broken     bad: ") && service.contains("notes.txt: its name does not end"), "{service}");
    let service: Value = serde_json::from_str(&host.run(&["service", "--json"]).output).unwrap();
    assert_eq!((&service["running"], &service["broken"][0]["name"]), (&json!(2), &json!("bad")));
    assert_eq!(service["unknown-files"].as_array().map(Vec::len), Some(1), "{service}");
}
