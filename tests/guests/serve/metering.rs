//! The meters of machines, and each machine's metrics.

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
    let run = host.run(&["metrics", "web"]);
    assert!(run.code == Some(0) && run.output.contains("viridian_machine_exits_total"), "{run:?}");
}
