//! The sums of the counters of all disks and adapters of a machine.

use serde_json::{Value, json};

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
    json!({
        "disk-reads": disks("reads"),
        "disk-read-bytes": disks("read-bytes"),
        "disk-writes": disks("writes"),
        "disk-written-bytes": disks("written-bytes"),
        // The directions are those of the guest.
        "network-received-bytes": network("receive"),
        "network-sent-bytes": network("transmit"),
    })
}

fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> u64 {
    values.filter_map(Value::as_u64).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_devices_are_added() {
        let disk = json!({ "kind": "disk", "image": { "counters": { "reads": 2, "read-bytes": 10, "writes": 3, "written-bytes": u64::MAX } } });
        let nic = json!({ "frames": { "transmit": { "directed": { "bytes": 5, "frames": 1 }, "broadcast": { "bytes": 7 } }, "receive": { "multicast": { "bytes": 9 } } } });
        let sums =
            totals(&json!({ "devices": { "disk0.0": disk, "disk0.1": disk, "net0": nic, "rtc": { "kind": "rtc" } } }));
        assert_eq!(
            (&sums["disk-reads"], &sums["disk-writes"], &sums["disk-written-bytes"]),
            (&json!(4), &json!(6), &json!(u64::MAX))
        );
        assert_eq!((&sums["network-sent-bytes"], &sums["network-received-bytes"]), (&json!(12), &json!(9)));
        assert_eq!(totals(&json!({}))["disk-reads"], 0);
    }
}
