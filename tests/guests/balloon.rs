//! Dynamic memory with the guest image `balloon`: a driver in C that follows the protocol, and others that violate it.

use std::time::Duration;

use serde_json::{Value, json};
use viridian::Builder;
use viridian::config::{Config, Memory, Size};
use viridian::machine::{End, Event, Machine};

use super::command::image;
use crate::common::patience::{grown, holds_within, patience};

const MIB: u64 = 1 << 20;

fn start(cmdline: &str, shared: bool) -> Machine {
    let size = |mebibytes| Size(mebibytes * MIB);
    let memory = Memory { size: size(128), min: Some(size(96)), max: Some(size(192)), shared, ..Memory::default() };
    let builder = Builder::from(Config { memory, ..Config::default() })
        .kernel(image("balloon"))
        .cmdline(format!("{cmdline} {}", patience()));
    builder.capture_console().timeout(grown(Duration::from_secs(120))).start().unwrap()
}

fn state(machine: &Machine) -> Value {
    machine.inspect()["devices"]["memory"].clone()
}

fn resize(machine: &Machine, bytes: u64) {
    machine.command("memory", "set", &json!(bytes)).unwrap();
    let is_so = || state(machine)["assigned-bytes"] == bytes && state(machine)["request"].is_null();
    let reached = holds_within(grown(Duration::from_secs(60)), is_so);
    assert!(reached, "{bytes}: {}\n{}", state(machine), String::from_utf8_lossy(&machine.console().unwrap().take()));
}

#[test]
fn a_guest_in_c_releases_and_gets_memory_that_is_zero() {
    for shared in [false, true] {
        let machine = start("requests=4", shared);
        resize(&machine, 126 * MIB + 4096);
        let ballooned = state(&machine);
        assert_eq!((&ballooned["ballooned-bytes"], &ballooned["version"]), (&json!(2 * MIB - 4096), &json!("2.0")));
        resize(&machine, 128 * MIB);
        resize(&machine, 133 * MIB);
        resize(&machine, 134 * MIB);
        let state = state(&machine);
        assert_eq!(state["hot-added-bytes"], 6 * MIB, "{state}");
        machine.console().unwrap().wait_for("served", grown(Duration::from_secs(60))).unwrap();
        let words: Vec<_> = machine
            .events()
            .filter_map(|event| if let Event::Device(event) = event { Some(event.what) } else { None })
            .collect();
        assert!(words.iter().any(|word| word == "the guest has 134M"), "{words:?}");
        let output = machine.console().unwrap().take();
        let end = machine.wait();
        assert!(matches!(end, End::PoweredOff), "{end}\n{}", String::from_utf8_lossy(&output));
    }
}

#[test]
fn guests_that_violate_the_protocol_affect_only_themselves() {
    let machine = start("checks=quiet", false);
    // Each driver gets a request to release memory after its first report.
    machine.command("memory", "set", &json!("96M")).unwrap();
    let failures = machine.events().filter(|event| matches!(event, Event::Failed(_))).count();
    let output = machine.console().unwrap().take();
    let state = state(&machine);
    let end = machine.wait();
    assert!(matches!(end, End::Exited(0)), "{end}\n{}", String::from_utf8_lossy(&output));
    assert_eq!(state["driver"], "closed");
    assert!(state["ignored-pages"].as_u64() > Some(50 * 508 * 77), "{state}");
    // Fifteen messages out of place, seven with a wrong length, and one with a wrong count.
    assert_eq!(failures, 23, "a message that violates the protocol ends the service of its channel");
}
