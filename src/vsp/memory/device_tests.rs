use std::sync::Arc;

use super::*;
use crate::device::contract::device_contract;
use crate::vsp::memory::provider::MemoryVsp;
use crate::vsp::memory::{Layout, Limits};

fn device() -> MemoryDevice {
    let limits = Limits { startup: 256 << 8, min: 128 << 8, max: 512 << 8 };
    MemoryDevice(MemoryVsp::new(limits, Layout::of(&limits), Arc::new(|_| ())).handle())
}

device_contract! {
    memory_keeps_the_contract: Arc::new(device());
}

#[test]
fn the_target_is_set_within_the_limits_until_the_guest_starts_again() {
    let device = device();
    let target = |device: &MemoryDevice| device.inspect()["target-bytes"].as_u64().unwrap() >> 20;
    let answer = device.command("set", &json!("300M")).unwrap();
    assert_eq!(answer, json!({ "target-bytes": 300 << 20, "assigned-bytes": 256 << 20 }));
    assert_eq!(target(&device), 300);
    device.command("set", &json!(200 << 20)).unwrap();
    assert_eq!(target(&device), 200);
    device.reset();
    assert_eq!(target(&device), 256);
}

#[test]
fn a_wrong_size_is_refused_with_the_reason() {
    for (arguments, part) in [
        (json!("64M"), "64M is outside of the machine's 128M to 512M"),
        (json!("513M"), "outside"),
        (json!(200_000_001), "not a multiple of 4096"),
        (json!("much"), "`much` is not a size"),
        (json!({}), "size"),
    ] {
        let error = device().command("set", &arguments).unwrap_err().to_string();
        assert!(error.contains(part), "{arguments}: {error}");
    }
}
