//! The meters of machines, and their metrics.

#[path = "../../../src/cli/serve/exposition_reader.rs"]
mod reader;

use std::os::unix::fs::FileExt;

use reader::parse;
use serde_json::{Value, json};

use super::service::{Host, SOON, definition};
use crate::common::patience::{grown, holds_within, patience};

fn meter(host: &Host, name: &str) -> Value {
    host.get(&format!("/machines/{name}/meter"))
}

#[test]
fn what_a_machine_has_used_is_added_up_over_its_starts_and_over_those_of_the_service() {
    let mut host = Host::serve();
    // The guest reads and writes its disk, and ends.
    let disk = "disk = \"memory:16M\"\n";
    let toml = definition("vsc", &patience(), disk);
    assert_eq!(host.request("PUT", "/machines/busy", &toml).status, 201);
    host.define("idle", "");
    assert_eq!(meter(&host, "idle")["process-memory"]["peak-bytes"], Value::Null);
    host.post("/machines/idle/start");
    host.post("/machines/busy/start");
    let has_read = || meter(&host, "busy")["disk-read-bytes"].as_u64() > Some(0);
    assert!(holds_within(grown(SOON), has_read), "{}", meter(&host, "busy"));
    let first = meter(&host, "idle");
    assert!(first["guest-memory"]["average-bytes"] == 256 << 20 && first["cpu-seconds"].is_f64(), "{first}");
    assert!(first["process-memory"]["peak-bytes"].as_u64() > Some(1 << 20), "{first}");
    host.request("POST", "/machines/busy/kill", "");
    host.until_state("busy", "stopped");
    let stopped = meter(&host, "busy");
    let number = |key: &str| stopped[key].as_f64().unwrap_or_else(|| panic!("{key}: {stopped}"));
    assert!(number("disk-requests") >= number("disk-reads") + number("disk-writes"), "{stopped}");
    assert!(number("disk-average-latency-seconds") > 0.0, "{stopped}");
    assert_eq!(stopped["disk-allocated-bytes"], 0, "a memory disk has no file");
    // Neither the end of the machine nor that of the service takes it away.
    assert_eq!(host.terminate(), Some(0));
    host.start();
    assert_eq!(meter(&host, "busy")["disk-read-bytes"], stopped["disk-read-bytes"]);
    let second = meter(&host, "idle");
    assert!(second["running-seconds"].as_f64() >= first["running-seconds"].as_f64(), "{first} {second}");
    assert_eq!(second["since"], first["since"]);
    let all = host.get("/meter");
    assert_eq!((&all["total"]["machines"], all["machines"].as_array().map(Vec::len)), (&json!(2), Some(2)), "{all}");
    // The command prints, and begins anew.
    let run = host.run(&["measure", "busy", "idle"]);
    assert!(run.code == Some(0) && run.output.lines().count() == 3, "{run:?}");
    let run = host.run(&["measure", "busy", "--reset", "--json"]);
    let printed: Value = serde_json::from_str(&run.output).unwrap();
    assert_eq!(printed["disk-read-bytes"], stopped["disk-read-bytes"]);
    assert_eq!(meter(&host, "busy")["disk-read-bytes"], 0);
    let sums: Value = serde_json::from_str(&host.run(&["measure", "--all", "--json"]).output).unwrap();
    assert_eq!(sums["total"]["machines"], 2);
    let run = host.run(&["measure", "nobody"]);
    assert!(run.code == Some(2) && run.errors.contains("there is no machine"), "{run:?}");
    // A machine that is defined anew has used nothing.
    assert_eq!(host.request("DELETE", "/machines/busy", "").status, 200);
    assert_eq!(host.request("PUT", "/machines/busy", &toml).status, 201);
    assert_eq!(meter(&host, "busy")["running-seconds"], 0.0);
}

#[test]
fn what_is_allocated_for_disks_that_were_attached_counts_without_asking_the_machine() {
    const MIB: u64 = 1 << 20;
    let host = Host::serve();
    host.define("web", "");
    host.post("/machines/web/start");
    host.until_state("web", "running");
    let allocated = || {
        let all = host.get("/meter");
        let own = all["machines"][0]["disk-allocated-bytes"].as_u64();
        assert_eq!(all["total"]["disk-allocated-bytes"], own.unwrap_or_default(), "{all}");
        own
    };
    assert!(holds_within(grown(SOON), || allocated() == Some(0)), "{:?}", allocated());
    let disk = host.folder.path().join("disk.img");
    let image = std::fs::File::create(&disk).unwrap();
    image.set_len(64 * MIB).unwrap();
    image.write_all_at(&vec![1; MIB as usize], 0).unwrap();
    image.sync_all().unwrap();
    let run = host.run(&["disk", "web", "attach", disk.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let has = |least: u64| allocated().is_some_and(|bytes| bytes >= least);
    assert!(holds_within(grown(SOON), || has(MIB)), "{:?}", allocated());
    // What is written later counts, too, although the machine had no disk when it started.
    image.write_all_at(&vec![1; 4 * MIB as usize], 8 * MIB).unwrap();
    image.sync_all().unwrap();
    assert!(holds_within(grown(SOON), || has(5 * MIB)), "{:?}", allocated());
    let own = meter(&host, "web")["disk-allocated-bytes"].as_u64();
    assert!(own.is_some_and(|bytes| bytes >= 5 * MIB), "{own:?}");
    // The definition of the machine has no disk.
    host.post("/machines/web/kill");
    host.until_state("web", "stopped");
    assert_eq!(meter(&host, "web")["disk-allocated-bytes"], 0);
    assert!(has(5 * MIB), "{:?}", allocated());
}

#[test]
fn a_running_machine_has_metrics_of_its_own() {
    let host = Host::serve();
    let toml = definition("exits", "halt", "disk = \"memory:16M\"\nnet = \"none\"\n");
    assert_eq!(host.request("PUT", "/machines/web", &toml).status, 201);
    assert_eq!(host.request("GET", "/machines/web/metrics", "").status, 409);
    host.post("/machines/web/start");
    let text = host.request("GET", "/machines/web/metrics", "").body;
    for family in [
        "age_seconds{machine=\"web\"}",
        "exits_total{machine=\"web\",reason=",
        "disk_requests_total{machine=\"web\",disk=\"disk0.0\"",
        "network_bytes_total{machine=\"web\",adapter=\"net0\",direction=\"transmit\"} 0",
    ] {
        assert!(text.contains(&format!("viridian_machine_{family}")), "{family}: {text}");
    }
    parse(&text).unwrap();
    let run = host.run(&["metrics", "web"]);
    assert!(run.code == Some(0) && run.output.contains("viridian_machine_exits_total"), "{run:?}");
}

#[test]
fn the_service_has_the_counters_of_all_machines_in_the_format_of_prometheus() {
    let host = Host::serve();
    host.define("idle", "");
    let image = host.folder.path().join("disk.img");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let files = format!("disk = {}\nnet = \"none\"\n", json!(image.to_str().unwrap()));
    for (name, devices) in [("one", files.as_str()), ("two", "disk = \"memory:16M\"\n")] {
        host.define(name, devices);
        host.post(&format!("/machines/{name}/start"));
    }
    let value = |name: &str, labels: &[(&str, &str)]| {
        let is_it = |own: &[(String, String)]| {
            labels.iter().all(|(label, value)| own.iter().any(|(key, own)| key == label && own == value))
        };
        let samples = parse(&host.request("GET", "/metrics", "").body).unwrap();
        samples.into_iter().find(|(own, labels, _)| own == name && is_it(labels)).map(|(.., value)| value)
    };
    let of_disk = |machine, name: &str| {
        value(&format!("viridian_machine_disk_{name}"), &[("machine", machine), ("disk", "disk0.0")])
    };
    for machine in ["one", "two"] {
        assert!(holds_within(grown(SOON), || of_disk(machine, "requests_total").is_some()), "{machine}");
        for name in ["bytes_total", "latency_seconds_bucket", "latency_seconds_sum", "latency_seconds_count"] {
            assert!(of_disk(machine, name).is_some(), "{machine}: {name}");
        }
        assert_eq!(value("viridian_machine_answers", &[("machine", machine)]), Some(1.0));
        assert_eq!(value("viridian_machine_heartbeat", &[("machine", machine), ("state", "ok")]), Some(0.0));
    }
    assert_eq!(of_disk("idle", "requests_total"), None);
    let sent = [("machine", "one"), ("adapter", "net0"), ("direction", "transmit")];
    assert_eq!(value("viridian_machine_network_bytes_total", &sent), Some(0.0));
    assert_eq!(value("viridian_machine_up", &[("machine", "idle")]), Some(0.0));
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&image).unwrap());
    assert_eq!(meter(&host, "one")["disk-allocated-bytes"], blocks * 512);
}
