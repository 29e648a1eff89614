//! Jobs: starts, stops, copies, attached disks and changes of memory that go on without the client that has begun them.

use std::io::BufReader;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::service::{Events, Host, SOON, definition, over_tcp, signal};
use crate::common::patience::{grown, holds_within, patience};

fn begin(host: &Host, body: &Value) -> u64 {
    let reply = host.request("POST", "/jobs", &body.to_string());
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["job"].as_u64().unwrap()
}

fn job(host: &Host, id: u64) -> Value {
    host.get(&format!("/jobs/{id}"))
}

#[track_caller]
fn until(host: &Host, id: u64, is_so: impl Fn(&Value) -> bool) {
    assert!(holds_within(grown(SOON), || is_so(&job(host, id))), "{}", job(host, id));
}

#[test]
fn a_stop_is_a_job_that_can_be_cancelled_and_is_followed() {
    let host = Host::serve();
    host.define("web", "");
    host.post("/machines/web/start");
    let last = host.get("/machines")["last-event"].as_u64().unwrap();
    let mut events = host.events(last);
    // The guest does not react to the power button.
    let stop = json!({ "kind": "stop", "machine": "web", "arguments": { "shutdown-seconds": 0, "power-button-seconds": 3600 } });
    let id = begin(&host, &stop);
    until(&host, id, |job| job["step"] == "pressing the power button" && job["state"] == "running");
    host.until_state("web", "stopping");
    // Another request to stop it is the same job.
    assert_eq!(begin(&host, &stop), id);
    let run = host.run(&["jobs"]);
    assert!(run.output.contains(&format!("{id}  stop web  running: pressing the power button")), "{run:?}");
    assert_eq!(host.run(&["jobs", "cancel", &id.to_string()]).code, Some(0));
    until(&host, id, |job| job["state"] == "cancelled");
    host.until_state("web", "running");
    let states = ["running", "cancelled"];
    for state in states {
        events.wait(|event| event["event"] == "job" && event["job"] == id && event["state"] == state);
    }
    let again = host.run(&["jobs", "cancel", &id.to_string()]);
    assert!(again.code == Some(1) && again.errors.contains("the job has ended: it is cancelled"), "{again:?}");
    // A request to the machine's own resource is a job, too. Its end is seen by a client that follows it.
    let path = "/machines/web/stop";
    assert_eq!(host.request("POST", path, r#"{"shutdown-seconds":0,"power-button-seconds":0.1}"#).status, 200);
    let jobs = host.get("/jobs")["jobs"].clone();
    let id = jobs.as_array().unwrap().last().unwrap()["job"].as_u64().unwrap();
    let waited = host.run(&["jobs", "wait", &id.to_string(), "--json"]);
    let done: Value = serde_json::from_str(&waited.output).unwrap();
    assert_eq!((waited.code, &done["state"], &done["result"]["stopped-by"]), (Some(0), &json!("done"), &json!("kill")));
    host.until_state("web", "stopped");
    let refused = host.request("POST", "/jobs", &stop.to_string());
    assert!(refused.status == 409 && refused.body.contains("web is stopped"), "{refused:?}");
}

#[test]
fn a_start_is_a_job_that_is_done_when_the_machine_runs() {
    let host = Host::serve();
    host.define("web", "");
    let start = json!({ "kind": "start", "machine": "web" });
    let id = begin(&host, &start);
    until(&host, id, |job| job["state"] == "done");
    assert_eq!(job(&host, id)["result"]["process"].as_u64().map(|id| id as u32), host.process("web"));
    assert_eq!(host.machine("web")["state"], "running");
    let id = begin(&host, &start);
    until(&host, id, |job| job["state"] == "done");
    // One that cannot run says why, and so does the command.
    host.request("PUT", "/machines/db", "kernel = \"/nonexistent/vmlinuz\"\n");
    let id = begin(&host, &json!({ "kind": "start", "machine": "db" }));
    until(&host, id, |job| job["state"] == "failed");
    assert!(job(&host, id)["problem"]["message"].as_str().unwrap().contains("/nonexistent/vmlinuz"));
    assert_eq!(host.request("POST", "/jobs", r#"{"kind":"start","machine":"none"}"#).status, 404);
    assert_eq!(host.request("POST", "/jobs", r#"{"kind":"start","machine":"web","arguments":{"a":1}}"#).status, 400);
}

#[test]
fn a_disk_is_attached_by_a_job_and_is_not_there_if_the_job_is_cancelled() {
    let host = Host::serve();
    host.define("web", "");
    host.post("/machines/web/start");
    host.until_state("web", "running");
    let attach =
        |disk: &str| begin(&host, &json!({ "kind": "attach", "machine": "web", "arguments": { "disk": disk } }));
    let disks = || {
        let tree = host.get("/machines/web/inspect");
        let devices = tree["devices"].as_object().unwrap().iter();
        devices.filter(|(_, device)| device["kind"] == "disk").map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let id = attach("memory:1M,lun=3");
    until(&host, id, |job| job["state"] == "done");
    assert_eq!((disks(), &job(&host, id)["result"]["device"]), (vec!["disk0.3".to_owned()], &json!("disk0.3")));
    // The machine comes to the second one when nobody waits for it.
    let process = host.process("web").unwrap();
    signal(process, Signal::STOP);
    let id = attach("memory:1M,lun=4");
    until(&host, id, |job| job["step"] == "attaching memory:1M,lun=4");
    assert_eq!(host.run(&["jobs", "cancel", &id.to_string()]).code, Some(0));
    until(&host, id, |job| job["state"] == "cancelled");
    signal(process, Signal::CONT);
    let id = attach("memory:1M,lun=5");
    until(&host, id, |job| job["state"] == "done");
    assert!(holds_within(grown(SOON), || disks() == ["disk0.3", "disk0.5"]), "{:?}", disks());
    let wrong = json!({ "kind": "attach", "machine": "web", "arguments": { "adapter": "nonsense=1" } });
    let id = begin(&host, &wrong);
    until(&host, id, |job| job["state"] == "failed");
    assert!(job(&host, id)["problem"]["message"].as_str().unwrap().contains("nonsense"));
}

#[test]
fn a_copy_goes_on_without_its_client_and_says_how_far_it_is() {
    let host = Host::serve();
    let toml = definition("services", &format!("driver=good {}", patience()), "");
    assert_eq!(host.request("PUT", "/machines/guest", &toml).status, 201);
    host.post("/machines/guest/start");
    let file = host.folder.path().join("file");
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    let copy = json!({ "kind": "copy", "machine": "guest",
        "arguments": { "source": file, "target": "/a/b", "make-path": true } });
    let connected = || host.request("POST", "/jobs", &copy.to_string()).status == 201;
    assert!(holds_within(grown(SOON), connected), "{:?}", host.request("POST", "/jobs", &copy.to_string()));
    let done = || {
        let jobs = host.get("/jobs")["jobs"].as_array().cloned().unwrap();
        // The first ones may come before the guest has connected its service.
        jobs.iter().any(|job| job["state"] == "done" && job["progress"]["done-bytes"] == 300_000)
            || (jobs.iter().all(|job| job["state"] == "failed") && !connected())
    };
    assert!(holds_within(grown(SOON), done), "{}", host.get("/jobs"));
    let jobs = host.get("/jobs")["jobs"].as_array().cloned().unwrap();
    let id = jobs.iter().find(|job| job["state"] == "done").unwrap()["job"].as_u64().unwrap();
    // Its stream has its end at once.
    let mut stream = UnixStream::connect(host.socket()).unwrap();
    std::io::Write::write_all(&mut stream, format!("GET /jobs/{id}/events HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    let (_, seen) = Events(BufReader::new(stream)).wait(|job| job["state"] == "done");
    assert_eq!(seen["result"]["bytes"], 300_000);
    for (body, status, words) in [
        (json!({ "kind": "copy", "machine": "guest", "arguments": { "source": "/none", "target": "/b" } }), 201, ""),
        (
            json!({ "kind": "copy", "machine": "guest", "arguments": { "source": "x", "target": "/b" } }),
            400,
            "absolute",
        ),
        (json!({ "kind": "copy", "machine": "guest", "arguments": { "target": "/b" } }), 400, "missing field `source`"),
        (json!({ "kind": "copy", "machine": "none", "arguments": { "source": "/x", "target": "/b" } }), 404, "none"),
        (json!({ "kind": "copies", "machine": "guest" }), 400, "unknown variant"),
        (json!({ "kind": "memory", "machine": "guest", "arguments": { "size": "1G" } }), 404, "memory"),
    ] {
        let reply = host.request("POST", "/jobs", &body.to_string());
        assert!(reply.status == status && reply.body.contains(words), "{body}: {reply:?}");
        if status == 201 {
            // The machine refuses it, which is the problem of the job.
            let id = reply.json()["job"].as_u64().unwrap();
            until(&host, id, |job| job["state"] == "failed" && job["problem"]["kind"] == "invalid");
            let run = host.run(&["jobs", "wait", &id.to_string()]);
            assert!(run.code == Some(1) && run.output.contains("No such file"), "{run:?}");
        }
    }
    assert_eq!(host.request("GET", "/jobs/1", "").status, 404);
    assert_eq!(host.request("GET", "/jobs/x", "").status, 404);
}

#[test]
fn a_change_of_memory_is_a_job_until_the_guest_has_it() {
    let host = Host::serve_with(&["--listen", "unix:", "--listen", "tcp:127.0.0.1:0"]);
    let port = host.said("serving at http://127.0.0.1:").trim_end_matches('/').parse().unwrap();
    let memory = "memory = \"startup=128M,min=96M,max=192M\"\n";
    let toml = definition("balloon", &format!("requests=4 {}", patience()), memory);
    assert_eq!(host.request("PUT", "/machines/guest", &toml).status, 201);
    host.post("/machines/guest/start");
    let change = |size: &str| {
        let id = begin(&host, &json!({ "kind": "memory", "machine": "guest", "arguments": { "size": size } }));
        until(&host, id, |job| job["state"] != "running");
        job(&host, id)
    };
    let done = change("120M");
    assert_eq!(done["result"]["assigned-bytes"], 120_u64 << 20, "{done}");
    assert_eq!(done["progress"], json!({ "done-bytes": 8 << 20, "total-bytes": 8 << 20 }));
    let run = host.run(&["memory", "guest", "128M", "--wait"]);
    assert!(run.code == Some(0) && run.output.starts_with("assigned 128M, target 128M"), "{run:?}");
    // Paused, the guest does nothing: the job runs until it is cancelled, and the target is what the guest has.
    host.post("/machines/guest/pause");
    let id = begin(&host, &json!({ "kind": "memory", "machine": "guest", "arguments": { "size": "100M" } }));
    until(&host, id, |job| job["progress"]["total-bytes"] == 28 << 20);
    assert_eq!(host.request("DELETE", &format!("/jobs/{id}"), "").status, 200);
    until(&host, id, |job| job["state"] == "cancelled");
    host.until("guest", |_| host.get("/machines/guest/inspect")["devices"]["memory"]["target-bytes"] == 128_u64 << 20);
    // What names a file of the host needs the role administer.
    let token = host.run(&["access", "add", "op", "--role", "operate"]).output.trim().to_owned();
    let body = r#"{"kind":"copy","machine":"guest","arguments":{"source":"/etc/hostname","target":"/x"}}"#;
    let head =
        format!("POST /jobs HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n", body.len());
    assert_eq!(over_tcp(port, &(head + body)).status, 403);
}
