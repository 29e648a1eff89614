//! The metrics of one machine for Prometheus: all for `/machines/NAME/metrics`, and the counters of devices for `/metrics`.

use serde_json::Value;

use super::exposition::Exposition;
use super::exposition::Kind::{Counter, Gauge};

/// The operations of disks, with the counters of their requests.
const OPERATIONS: [(&str, &str); 5] =
    [("read", "reads"), ("write", "writes"), ("flush", "flushes"), ("unmap", "unmaps"), ("other", "others")];
/// The directions of frames.
const DIRECTIONS: [&str; 2] = ["transmit", "receive"];
/// The sizes of a machine's memory.
const MEMORY: [(&str, &str, &str); 3] = [
    ("machine_memory_assigned_bytes", "assigned-bytes", "The guest's present size."),
    ("machine_memory_target_bytes", "target-bytes", "The size that the guest is brought to."),
    ("machine_memory_demand_bytes", "demand-bytes", "What the guest needs, by its own report."),
];

fn object(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// Returns the metrics of a machine, from its tree.
pub fn text(machine: &str, tree: &Value) -> String {
    let mut all = Exposition::default();
    let own: &[(&'static str, &str)] = &[("machine", machine)];
    all.add("machine_age_seconds", Gauge, "Time since the start of the guest.", own, tree["seconds"].as_f64());
    let restarts = tree["restarts"].as_f64();
    all.add("machine_guest_restarts_total", Counter, "Restarts of the guest in this process.", own, restarts);
    for (reason, count) in object(&tree["exits"]) {
        let labels = &[("machine", machine), ("reason", reason)];
        let help = "Exits of the virtual processors to the program.";
        all.add("machine_exits_total", Counter, help, labels, count.as_f64());
    }
    add_devices(&mut all, machine, &tree["devices"]);
    for channel in tree["devices"]["vmbus"]["channels"].as_array().into_iter().flatten() {
        for side in ["from-guest", "to-guest"] {
            let id = channel["id"].to_string();
            let labels = &[("machine", machine), ("channel", id.as_str()), ("ring", side)];
            let (help, used) = ("Bytes in the rings of open channels.", channel["rings"][side].as_f64());
            all.add("machine_vmbus_ring_used_bytes", Gauge, help, labels, used);
        }
    }
    all.text()
}

/// Adds the counters of disks and adapters, and the sizes of the memory.
pub fn add_devices(all: &mut Exposition, machine: &str, devices: &Value) {
    for (name, device) in object(devices) {
        let counters = &device["image"]["counters"];
        if counters.is_object() {
            add_disk(all, machine, name, counters);
        }
        if device["frames"].is_object() {
            add_adapter(all, machine, name, &device["frames"]);
        }
    }
    for (name, key, help) in MEMORY {
        all.add(name, Gauge, help, &[("machine", machine)], devices["memory"][key].as_f64());
    }
}

fn add_disk(all: &mut Exposition, machine: &str, disk: &str, counters: &Value) {
    for (operation, key) in OPERATIONS {
        let labels = &[("machine", machine), ("disk", disk), ("operation", operation)];
        let help = "Requests of disks that were carried out.";
        all.add("machine_disk_requests_total", Counter, help, labels, counters[key].as_f64());
    }
    for (operation, key) in [("error", "errors"), ("cancelled", "cancelled")] {
        let labels = &[("machine", machine), ("disk", disk), ("reason", operation)];
        let help = "Requests of disks that were not carried out.";
        all.add("machine_disk_failures_total", Counter, help, labels, counters[key].as_f64());
    }
    for (operation, key) in [("read", "read-bytes"), ("write", "written-bytes")] {
        let labels = &[("machine", machine), ("disk", disk), ("operation", operation)];
        let help = "Bytes that disks have carried.";
        all.add("machine_disk_bytes_total", Counter, help, labels, counters[key].as_f64());
    }
    let own: &[(&'static str, &str)] = &[("machine", machine), ("disk", disk)];
    let in_flight = counters["in-flight"].as_f64();
    let help = "Requests of disks that are being carried out.";
    all.add("machine_disk_requests_in_flight", Gauge, help, own, in_flight);
    let numbers = counters["latency"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Bucket n has what took less than 2^n microseconds, and the last one the rest.
    let bound = |bucket: usize| (bucket + 1 < numbers.len()).then(|| 2_f64.powi(bucket as i32) / 1e6);
    let buckets = numbers.iter().enumerate().map(|(bucket, number)| (bound(bucket), number.as_f64().unwrap_or(0.0)));
    let buckets: Vec<_> = buckets.collect();
    if let Some(sum) = counters["latency-nanoseconds"].as_f64().filter(|_| !buckets.is_empty()) {
        let help = "Time from the begin of a disk's request to its end, in whatever way.";
        all.add_histogram("machine_disk_latency_seconds", help, own, &buckets, sum / 1e9);
    }
}

fn add_adapter(all: &mut Exposition, machine: &str, adapter: &str, frames: &Value) {
    for direction in DIRECTIONS {
        let labels = &[("machine", machine), ("adapter", adapter), ("direction", direction)];
        let sum = |key: &str| {
            let kinds = ["directed", "multicast", "broadcast"];
            Some(kinds.iter().filter_map(|kind| frames[direction][kind][key].as_f64()).sum())
        };
        let help = "Bytes that adapters have carried; the direction is that of the guest.";
        all.add("machine_network_bytes_total", Counter, help, labels, sum("bytes"));
        let help = "Frames that adapters have carried; the direction is that of the guest.";
        all.add("machine_network_frames_total", Counter, help, labels, sum("frames"));
        let dropped = frames[direction]["dropped"].as_f64();
        let help = "Frames that adapters have dropped; the direction is that of the guest.";
        all.add("machine_network_dropped_frames_total", Counter, help, labels, dropped);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::exposition_reader::parse;
    use super::*;

    #[test]
    fn each_counter_of_the_tree_is_a_sample() {
        let tree = json!({
            "seconds": 2.5, "restarts": 1, "exits": { "hypercall": 7 },
            "devices": {
                "disk0.0": { "image": { "counters": {
                    "reads": 3, "read-bytes": 512, "writes": 0, "written-bytes": 0, "in-flight": 1, "errors": 2, "latency": [1, 0, 2], "latency-nanoseconds": 9000 } } },
                "net0": { "frames": { "transmit": { "directed": { "bytes": 60, "frames": 1 } }, "receive": { "broadcast": { "bytes": 9, "frames": 2 } } } },
                "vmbus": { "channels": [{ "id": 4, "rings": { "from-guest": 16, "to-guest": 0 } }, { "id": 5, "rings": null }] },
                "memory": { "assigned-bytes": 64, "demand-bytes": null },
            },
        });
        let text = text("web", &tree);
        parse(&text).unwrap();
        for line in [
            "viridian_machine_age_seconds{machine=\"web\"} 2.5",
            "# TYPE viridian_machine_exits_total counter",
            "viridian_machine_exits_total{machine=\"web\",reason=\"hypercall\"} 7",
            "viridian_machine_disk_requests_total{machine=\"web\",disk=\"disk0.0\",operation=\"read\"} 3",
            "viridian_machine_disk_failures_total{machine=\"web\",disk=\"disk0.0\",reason=\"error\"} 2",
            "viridian_machine_disk_bytes_total{machine=\"web\",disk=\"disk0.0\",operation=\"read\"} 512",
            "viridian_machine_disk_latency_seconds_bucket{machine=\"web\",disk=\"disk0.0\",le=\"0.000001\"} 1",
            "viridian_machine_disk_latency_seconds_bucket{machine=\"web\",disk=\"disk0.0\",le=\"+Inf\"} 3",
            "# TYPE viridian_machine_disk_latency_seconds histogram",
            "viridian_machine_disk_latency_seconds_bucket{machine=\"web\",disk=\"disk0.0\",le=\"0.000002\"} 1",
            "viridian_machine_disk_latency_seconds_sum{machine=\"web\",disk=\"disk0.0\"} 0.000009",
            "viridian_machine_disk_latency_seconds_count{machine=\"web\",disk=\"disk0.0\"} 3",
            "viridian_machine_network_bytes_total{machine=\"web\",adapter=\"net0\",direction=\"transmit\"} 60",
            "viridian_machine_network_frames_total{machine=\"web\",adapter=\"net0\",direction=\"receive\"} 2",
            "viridian_machine_vmbus_ring_used_bytes{machine=\"web\",channel=\"4\",ring=\"from-guest\"} 16",
            "viridian_machine_memory_assigned_bytes{machine=\"web\"} 64",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(!text.contains("demand") && !text.contains("channel=\"5\""), "{text}");
        assert!(super::text("web", &json!({})).is_empty());
    }
}
