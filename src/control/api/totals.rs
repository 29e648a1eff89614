//! The counters of the disks and adapters of a machine, and their sums, for those who ask often.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The facts about a machine's memory that the totals have.
const MEMORY: [&str; 6] =
    ["minimum-bytes", "maximum-bytes", "assigned-bytes", "target-bytes", "reserved-bytes", "demand-bytes"];

/// Returns the sums of the counters in the tree of a machine.
pub fn totals(tree: &Value) -> Value {
    let devices = || tree["devices"].as_object().into_iter().flatten().map(|(_, device)| device);
    let disks = |key: &str| sum(devices().map(|device| &device["image"]["counters"][key]));
    let network = |direction: &str| {
        let kinds = devices().flat_map(|device| {
            ["directed", "multicast", "broadcast"].map(|kind| &device["frames"][direction][kind]["bytes"])
        });
        sum(kinds)
    };
    let latencies = devices().filter_map(|device| device["image"]["counters"]["latency"].as_array());
    let requests = sum(latencies.flatten());
    json!({
        "disk-reads": disks("reads"),
        "disk-read-bytes": disks("read-bytes"),
        "disk-writes": disks("writes"),
        "disk-written-bytes": disks("written-bytes"),
        "disk-normalized-requests": disks("normalized"),
        // Those that took some time: all that have come to an end, in whatever way.
        "disk-requests": requests,
        "disk-latency-nanoseconds": disks("latency-nanoseconds"),
        "disk-allocated-bytes": allocated(devices().map(|device| &device["image"])),
        // The directions are those of the guest.
        "network-received-bytes": network("receive"),
        "network-sent-bytes": network("transmit"),
    })
}

/// Returns the number of bytes that the host has allocated for image files. The same file counts once.
fn allocated<'a>(images: impl Iterator<Item = &'a Value>) -> u64 {
    let sizes = images.filter_map(|image| Some((image["path"].as_str()?, image["allocated-bytes"].as_u64()?)));
    sizes.collect::<BTreeMap<_, _>>().values().fold(0, |sum, size| sum.saturating_add(*size))
}

/// Returns the parts of the tree of a machine that count something, in the same places: of disks, of adapters, and of the memory.
pub fn counters(tree: &Value) -> Value {
    let mut all = Map::new();
    for (name, device) in tree["devices"].as_object().into_iter().flatten() {
        if device["image"]["counters"].is_object() {
            all.insert(name.clone(), json!({ "image": { "counters": device["image"]["counters"] } }));
        } else if device["frames"].is_object() {
            all.insert(name.clone(), json!({ "frames": device["frames"] }));
        } else if name == "memory" {
            let kept = MEMORY.map(|key| (key.to_owned(), device[key].clone()));
            all.insert(name.clone(), Value::Object(Map::from_iter(kept)));
        }
    }
    Value::Object(all)
}

fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> u64 {
    values.filter_map(Value::as_u64).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_devices_are_added() {
        let disk = json!({ "kind": "disk", "image": { "counters": { "reads": 2, "read-bytes": 10, "writes": 3, "written-bytes": u64::MAX,
            "normalized": 6, "latency": [1, 0, 4], "latency-nanoseconds": 900 } } });
        let nic = json!({ "frames": { "transmit": { "directed": { "bytes": 5, "frames": 1 }, "broadcast": { "bytes": 7 } }, "receive": { "multicast": { "bytes": 9 } } } });
        let sums =
            totals(&json!({ "devices": { "disk0.0": disk, "disk0.1": disk, "net0": nic, "rtc": { "kind": "rtc" } } }));
        assert_eq!(
            (&sums["disk-reads"], &sums["disk-writes"], &sums["disk-written-bytes"]),
            (&json!(4), &json!(6), &json!(u64::MAX))
        );
        assert_eq!(
            (&sums["disk-normalized-requests"], &sums["disk-requests"], &sums["disk-latency-nanoseconds"]),
            (&json!(12), &json!(10), &json!(1800))
        );
        assert_eq!((&sums["network-sent-bytes"], &sums["network-received-bytes"]), (&json!(12), &json!(9)));
        assert_eq!(totals(&json!({}))["disk-reads"], 0);
    }

    #[test]
    fn what_is_allocated_for_images_counts_once_for_each_file() {
        let disk = |path: &str, bytes: Value| json!({ "image": { "path": path, "allocated-bytes": bytes } });
        let devices = json!({ "disk0.0": disk("/a", json!(5)), "disk0.1": disk("/a", json!(5)), "disk0.2": disk("/b", json!(7)),
            "disk0.3": disk("memory:1M", Value::Null), "disk0.4": { "image": null }, "rtc": {} });
        assert_eq!(totals(&json!({ "devices": devices }))["disk-allocated-bytes"], 12);
        assert_eq!(totals(&json!({}))["disk-allocated-bytes"], 0);
    }

    #[test]
    fn counters_are_where_the_tree_has_them() {
        let disk = json!({ "kind": "disk", "image": { "path": "/x", "counters": { "reads": 2 } } });
        let nic = json!({ "kind": "network", "mac": "x", "frames": { "transmit": {} } });
        let memory = json!({ "assigned-bytes": 5, "demand-bytes": null, "driver": "ready" });
        let tree = json!({ "devices": { "disk0.0": disk, "net0": nic, "memory": memory, "rtc": { "kind": "rtc" } } });
        let counters = counters(&tree);
        assert_eq!(counters["disk0.0"], json!({ "image": { "counters": { "reads": 2 } } }));
        assert_eq!(counters["net0"], json!({ "frames": { "transmit": {} } }));
        assert_eq!((&counters["memory"]["assigned-bytes"], counters["memory"].get("driver")), (&json!(5), None));
        assert_eq!(counters.as_object().unwrap().len(), 3);
    }
}
