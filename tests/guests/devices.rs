//! The devices of a machine, as a library user accesses them.

use std::time::Duration;

use viridian::config::OnReset;
use viridian::machine::{End, Event};
use viridian::vmbus::Guid;
use viridian::vmbus::vsp::{Channel, CommandError, Handler, Offer, ServiceError, Value, Vsp, json};
use viridian::vsp::network::{Attachment, NetworkOptions};
use viridian::vsp::storage::{DiskConfig, Place};
use viridian::{Builder, Machine};

use super::command::image;
use crate::common::patience::grown;

fn builder(kernel: &str) -> Builder {
    Builder::new()
        .kernel(image(kernel))
        .memory(64 << 20)
        .cpus(2)
        .disk(DiskConfig::of("memory:16M"))
        .net(NetworkOptions::new(Attachment::None))
        .capture_console()
}

fn end(machine: Machine) {
    machine.stop(End::Terminated);
    assert!(matches!(machine.wait(), End::Terminated));
}

/// Counts how often it was reset, and fails on command.
#[derive(Default)]
struct Counter {
    resets: u64,
}

impl Vsp for Counter {
    fn offer(&self) -> Offer {
        Offer::new(Guid::new(0xc0), Guid::new(1))
    }

    fn name(&self) -> String {
        "counter".into()
    }

    fn inspect(&self) -> Value {
        json!({ "resets": self.resets })
    }

    fn command(&mut self, name: &str, _arguments: &Value) -> Result<Value, CommandError> {
        match name {
            "count" => Ok(json!(self.resets)),
            other => panic!("{other} is not expected"),
        }
    }

    fn reset(&mut self) {
        self.resets += 1;
    }

    fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Err(ServiceError::Protocol("no guest opens it".into()))
    }
}

#[test]
fn all_devices_are_in_the_tree_and_pause_with_the_machine() {
    let machine = builder("work").cmdline("window=4").device(Counter::default).start().unwrap();
    let console = machine.console().unwrap();
    console.wait_for(" sums\n", grown(Duration::from_secs(60))).unwrap();
    let tree = machine.inspect();
    assert_eq!((&tree["state"], &tree["vps"], &tree["memory-bytes"]), (&json!("running"), &json!(2), &json!(64 << 20)));
    assert!(tree["exits"]["port-writes"].as_u64() > Some(0), "{tree}");
    let names = [
        "acpi", "cga", "clock", "console", "counter", "disk0.0", "i8042", "ioapic", "net0", "pci", "pit", "rtc",
        "serial", "sockets",
    ];
    let services = ["shutdown", "time", "heartbeat", "kvp", "vss", "file-copy"];
    for name in names.iter().chain(&["vmbus"]).chain(&services) {
        assert_eq!(tree["devices"][name]["state"], "running", "{name} in {tree}");
    }
    assert_eq!(tree["devices"].as_object().unwrap().len(), names.len() + 1 + services.len(), "{tree}");
    let vmbus = &tree["devices"]["vmbus"];
    assert_eq!(vmbus["version"], "5.3");
    let channels = vmbus["channels"].as_array().unwrap();
    let is_open = |channel: &&Value| channel["interface"] == "SCSI" && channel["open"] == true;
    assert!(channels.iter().any(|channel| is_open(&channel)), "{vmbus}");
    let disk = &tree["devices"]["disk0.0"];
    assert_eq!((&disk["medium"]["size-bytes"], &disk["media"]), (&json!(16 << 20), &json!("disk")));

    machine.pause().unwrap();
    let paused = machine.inspect();
    assert_eq!(paused["state"], "paused");
    let states = paused["devices"].as_object().unwrap().values().map(|device| &device["state"]);
    assert!(states.into_iter().all(|state| state == "paused"), "{paused}");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(machine.inspect()["devices"], paused["devices"], "everything stands still");
    // A device that is added now is paused from the start, and works after the pause.
    let place = machine.disks().attach(&DiskConfig::of("memory:1M")).unwrap();
    assert_eq!(place, Place { controller: 0, lun: 1 });
    assert_eq!(machine.inspect()["devices"]["disk0.1"]["state"], "paused");
    machine.resume();
    assert_eq!(machine.inspect()["devices"]["disk0.1"]["state"], "running");
    machine.disks().detach(place);
    assert_eq!(machine.inspect()["devices"]["disk0.1"], Value::Null);
    console.take();
    console.wait_for(" sums\n", grown(Duration::from_secs(60))).unwrap();
    end(machine);
}

#[test]
fn devices_accept_commands_and_list_them_in_errors() {
    let machine = builder("hello").device(Counter::default).start().unwrap();
    assert_eq!(machine.command("net0", "link", &json!("up")), Ok(json!("down")));
    assert!(machine.nics().get(0).unwrap().is_link_up());
    let error = |device: &str, name: &str| machine.command(device, name, &Value::Null).unwrap_err().to_string();
    assert_eq!(error("net0", "lnik"), "there is no command `lnik`; the device takes `link`");
    assert!(
        error("net7", "link").starts_with("there is no device `net7`; the devices are "),
        "{}",
        error("net7", "link")
    );
    assert_eq!(machine.command("counter", "count", &Value::Null), Ok(json!(0)));
    let events = machine.events();
    assert!(error("counter", "frob").contains("frob is not expected"));
    assert_eq!(machine.command("counter", "count", &Value::Null), Ok(json!(0)), "a panic harms nobody");
    let panicked =
        |event| matches!(event, Event::Device(event) if event.device == "counter" && event.what == "panicked");
    assert!(events.take(20).any(panicked));
    drop(machine);
}

#[test]
fn a_reset_of_the_guest_resets_the_devices() {
    let machine =
        builder("exits").cmdline("reset=acpi").on_reset(OnReset::Restart).device(Counter::default).start().unwrap();
    let restarts = machine.events().filter(|event| matches!(event, Event::Restarted)).take(3).count();
    assert_eq!(restarts, 3);
    let count = machine.command("counter", "count", &Value::Null).unwrap();
    assert!(count.as_u64() >= Some(3), "{count}");
    machine.pause().unwrap();
    machine.resume();
    end(machine);
}

#[test]
fn two_devices_with_one_name_are_refused() {
    let error = builder("hello").device(Counter::default).device(Counter::default).start().unwrap_err();
    assert!(error.to_string().contains("offered already"), "{error}");
    struct Disk;
    impl Vsp for Disk {
        fn offer(&self) -> Offer {
            Offer::new(Guid::new(0xc1), Guid::new(1))
        }
        fn name(&self) -> String {
            "disk0.0".into()
        }
        fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
            Err(ServiceError::Protocol("no guest opens it".into()))
        }
    }
    let error = builder("hello").device(|| Disk).start().unwrap_err();
    assert_eq!(error.to_string(), "there is a device `disk0.0` already; names are unique in a machine");
}

#[test]
fn a_device_that_panics_before_it_is_offered_is_an_error_of_the_start() {
    struct Broken;
    impl Vsp for Broken {
        fn offer(&self) -> Offer {
            panic!("no offer today")
        }
        fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
            Err(ServiceError::Protocol("no guest opens it".into()))
        }
    }
    impl Drop for Broken {
        fn drop(&mut self) {
            panic!("no end either")
        }
    }
    let error = builder("hello").device(|| Broken).start().unwrap_err();
    assert_eq!(error.to_string(), "a device panicked when it was asked for its name and its offer: no offer today");
}
