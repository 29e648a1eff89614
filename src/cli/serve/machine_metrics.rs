//! `/machines/NAME/metrics`: what Prometheus reads of one machine. The machine itself is asked, so one that hangs delays this request
//! and not `/metrics`.

use std::fmt::Write;

use serde_json::Value;

use super::api::{Answered, Call, Reply};
use super::operations;

/// Returns the metrics of a machine.
pub fn get(call: &Call<'_>) -> Answered {
    let tree = operations::inspect(&call.service.supervisor, call.name)?;
    Ok(Reply::Text("text/plain; version=0.0.4; charset=utf-8", text(call.name, &tree)))
}

/// The text of one machine.
struct Text<'a> {
    machine: &'a str,
    text: String,
}

impl Text<'_> {
    /// Adds a family. Labels are written as in the text, after that of the machine.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
        if samples.is_empty() {
            return;
        }
        let _ = writeln!(self.text, "# HELP viridian_machine_{name} {help}\n# TYPE viridian_machine_{name} {kind}");
        for (labels, value) in samples {
            let comma = if labels.is_empty() { "" } else { "," };
            let machine = label("machine", self.machine);
            let _ = writeln!(self.text, "viridian_machine_{name}{{{machine}{comma}{labels}}} {value}");
        }
    }
}

/// Returns a label. Values are names of machines and devices, and reasons.
fn label(name: &str, value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{escaped}\"")
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Returns the metrics of a machine, from its tree.
pub fn text(machine: &str, tree: &Value) -> String {
    let mut text = Text { machine, text: String::new() };
    let number = |value: &Value| value.as_f64();
    let single = |value: Option<f64>| value.map(|value| (String::new(), value)).into_iter().collect::<Vec<_>>();
    text.family("age_seconds", "gauge", "Time since the start of the guest.", &single(number(&tree["seconds"])));
    text.family(
        "guest_restarts_total",
        "counter",
        "Restarts of the guest in this process.",
        &single(number(&tree["restarts"])),
    );
    let exits = object(&tree["exits"]).filter_map(|(reason, count)| Some((label("reason", reason), number(count)?)));
    text.family(
        "exits_total",
        "counter",
        "Exits of the virtual processors to the program.",
        &exits.collect::<Vec<_>>(),
    );
    disks(&mut text, &tree["devices"]);
    adapters(&mut text, &tree["devices"]);
    rings(&mut text, &tree["devices"]["vmbus"]);
    let memory = &tree["devices"]["memory"];
    for (name, key, help) in [
        ("memory_assigned_bytes", "assigned-bytes", "The guest's present size."),
        ("memory_target_bytes", "target-bytes", "The size that the guest is brought to."),
        ("memory_demand_bytes", "demand-bytes", "What the guest needs, by its own report."),
    ] {
        text.family(name, "gauge", help, &single(number(&memory[key])));
    }
    text.text
}

fn disks(text: &mut Text<'_>, devices: &Value) {
    let counters = || {
        let disks = object(devices).map(|(name, device)| (name, &device["image"]["counters"]));
        disks.filter(|(_, counters)| counters.is_object())
    };
    let each = |keys: &[(&str, &str)]| {
        let mut samples = Vec::new();
        for (name, counters) in counters() {
            for (operation, key) in keys {
                let label = format!("{},{}", label("disk", name), label("operation", operation));
                samples.extend(counters[key].as_f64().map(|value| (label, value)));
            }
        }
        samples
    };
    let requests =
        [("read", "reads"), ("write", "writes"), ("flush", "flushes"), ("unmap", "unmaps"), ("other", "others")];
    text.family("disk_requests_total", "counter", "Requests of disks that were carried out.", &each(&requests));
    let failed = [("error", "errors"), ("cancelled", "cancelled")];
    text.family("disk_failures_total", "counter", "Requests of disks that were not carried out.", &each(&failed));
    let bytes = [("read", "read-bytes"), ("write", "written-bytes")];
    text.family("disk_bytes_total", "counter", "Bytes that disks have carried.", &each(&bytes));
    let in_flight =
        counters().filter_map(|(name, counters)| Some((label("disk", name), counters["in-flight"].as_f64()?)));
    text.family(
        "disk_requests_in_flight",
        "gauge",
        "Requests of disks that are being carried out.",
        &in_flight.collect::<Vec<_>>(),
    );
    let mut buckets = Vec::new();
    for (name, counters) in counters() {
        let latency: Vec<_> = counters["latency"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let mut sum = 0.0;
        for (bucket, count) in latency.iter().enumerate() {
            sum += count;
            // Bucket n has what took less than 2^n microseconds, and the last one the rest.
            let end = if bucket + 1 == latency.len() {
                "+Inf".into()
            } else {
                format!("{}", 2_f64.powi(bucket as i32) / 1e6)
            };
            buckets.push((format!("{},{}", label("disk", name), label("le", &end)), sum));
        }
    }
    text.family(
        "disk_latency_seconds_bucket",
        "counter",
        "Requests of disks by the time that they took at most.",
        &buckets,
    );
}

fn adapters(text: &mut Text<'_>, devices: &Value) {
    for (name, key, help) in [
        ("network_bytes_total", "bytes", "Bytes that adapters have carried; the direction is that of the guest."),
        ("network_frames_total", "frames", "Frames that adapters have carried; the direction is that of the guest."),
    ] {
        let mut samples = Vec::new();
        for (adapter, device) in object(devices).filter(|(_, device)| device["frames"].is_object()) {
            for direction in ["transmit", "receive"] {
                let kinds = ["directed", "multicast", "broadcast"];
                let sum = kinds.iter().filter_map(|kind| device["frames"][direction][kind][key].as_f64()).sum();
                samples.push((format!("{},{}", label("adapter", adapter), label("direction", direction)), sum));
            }
        }
        text.family(name, "counter", help, &samples);
    }
}

fn rings(text: &mut Text<'_>, bus: &Value) {
    let channels = || bus["channels"].as_array().into_iter().flatten();
    let mut samples = Vec::new();
    for channel in channels() {
        for side in ["from-guest", "to-guest"] {
            let labels = format!("channel=\"{}\",{}", channel["id"], label("ring", side));
            samples.extend(channel["rings"][side].as_f64().map(|fill| (labels, fill)));
        }
    }
    text.family("vmbus_ring_used_bytes", "gauge", "Bytes in the rings of open channels.", &samples);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_counter_of_the_tree_is_a_sample() {
        let tree = json!({
            "seconds": 2.5, "restarts": 1, "exits": { "hypercall": 7 },
            "devices": {
                "disk0.0": { "image": { "counters": {
                    "reads": 3, "read-bytes": 512, "writes": 0, "written-bytes": 0, "in-flight": 1, "errors": 2, "latency": [1, 0, 2] } } },
                "net0": { "frames": { "transmit": { "directed": { "bytes": 60, "frames": 1 } }, "receive": { "broadcast": { "bytes": 9, "frames": 2 } } } },
                "vmbus": { "channels": [{ "id": 4, "rings": { "from-guest": 16, "to-guest": 0 } }, { "id": 5, "rings": null }] },
                "memory": { "assigned-bytes": 64, "demand-bytes": null },
            },
        });
        let text = text("web", &tree);
        for line in [
            "viridian_machine_age_seconds{machine=\"web\"} 2.5",
            "# TYPE viridian_machine_exits_total counter",
            "viridian_machine_exits_total{machine=\"web\",reason=\"hypercall\"} 7",
            "viridian_machine_disk_requests_total{machine=\"web\",disk=\"disk0.0\",operation=\"read\"} 3",
            "viridian_machine_disk_failures_total{machine=\"web\",disk=\"disk0.0\",operation=\"error\"} 2",
            "viridian_machine_disk_bytes_total{machine=\"web\",disk=\"disk0.0\",operation=\"read\"} 512",
            "viridian_machine_disk_latency_seconds_bucket{machine=\"web\",disk=\"disk0.0\",le=\"0.000001\"} 1",
            "viridian_machine_disk_latency_seconds_bucket{machine=\"web\",disk=\"disk0.0\",le=\"+Inf\"} 3",
            "viridian_machine_network_bytes_total{machine=\"web\",adapter=\"net0\",direction=\"transmit\"} 60",
            "viridian_machine_network_frames_total{machine=\"web\",adapter=\"net0\",direction=\"receive\"} 2",
            "viridian_machine_vmbus_ring_used_bytes{machine=\"web\",channel=\"4\",ring=\"from-guest\"} 16",
            "viridian_machine_memory_assigned_bytes{machine=\"web\"} 64",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(!text.contains("demand") && !text.contains("channel=\"5\""), "{text}");
        assert_eq!(label("reason", "a\"b\\c"), r#"reason="a\"b\\c""#);
        assert!(super::text("web", &json!({})).is_empty());
    }
}
