//! The guest image `vmbus` on this host's KVM: a driver in a guest, with devices that this test offers through the library.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::common::patience::{grown, patience};

use super::device::{INTERFACE, TestDevice};
use viridian::Builder;
use viridian::config::ConsoleConfig;
use viridian::internals::services::ServiceOptions;
use viridian::machine::End;
use viridian::vmbus::Guid;
use viridian::vmbus::Version;
use viridian::vmbus::VmBus;

fn kernel() -> PathBuf {
    Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("vmbus")
}

/// A device that is removed and offered again on request of its driver.
fn device(instance: u128, bus: Arc<OnceLock<VmBus>>) -> TestDevice {
    TestDevice::new(instance).on_call(move |_, _| {
        let vmbus = bus.wait();
        let id = vmbus.device(INTERFACE, Guid::new(instance)).expect("it is offered");
        assert!(vmbus.rescind(id));
        vmbus.offer(Box::new(device(instance, bus.clone()))).expect("its place is free");
    })
}

/// Runs the image with this number of devices, and expects that all its checks pass.
#[track_caller]
fn expect_all_checks(builder: Builder, devices: u128, command_line: &str) {
    let bus: Arc<OnceLock<VmBus>> = Arc::default();
    let console = tempfile::NamedTempFile::new().unwrap();
    let mut builder = builder
        .services(ServiceOptions::NONE)
        .kernel(kernel())
        .cmdline(format!("checks=quiet {} devices={devices} {command_line}", patience()))
        .console(ConsoleConfig::File(console.path().into()))
        .timeout(grown(Duration::from_secs(120)));
    for instance in 1..=devices {
        let bus = bus.clone();
        builder = builder.device(move || device(instance, bus.clone()));
    }
    let machine = builder.start().unwrap();
    bus.set(machine.vmbus().clone()).unwrap();
    let end = machine.wait();
    let console = std::fs::read_to_string(console.path()).unwrap();
    assert!(matches!(end, End::Exited(0)), "{end}\n{console}");
}

#[test]
fn a_guest_in_a_machine_passes_all_checks() {
    expect_all_checks(Builder::new(), 1, "");
}

#[test]
fn a_device_has_a_subchannel_for_each_further_vp() {
    expect_all_checks(Builder::new().cpus(4), 3, "");
}

#[test]
fn a_hundred_devices_are_offered_even_if_the_guest_has_few_buffers() {
    expect_all_checks(Builder::new(), 100, "only=offers");
}

#[test]
fn an_old_version_limit_serves_a_current_guest() {
    for (version, number) in [(Version::V2_4, "0x20004"), (Version::V4_1, "0x40001")] {
        for only in ["versions", "rescind", "retarget"] {
            let builder = Builder::new().vmbus_max_version(version);
            expect_all_checks(builder, 1, &format!("max={number} only={only}"));
        }
    }
}

#[test]
fn the_command_line_limits_the_version_and_traces_the_messages() {
    let output = Command::new(env!("CARGO_BIN_EXE_viridian"))
        .args([
            "run",
            "--console=none",
            "--cmdline=only=offers devices=0",
            "--vmbus-max-version=4.1",
            "--trace=vmbus",
            "--services=off",
        ])
        .arg("--kernel")
        .arg(kernel())
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let trace = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = trace.lines().filter_map(|line| line.split_once("] ").map(|(_time, event)| event)).collect();
    let expected = [
        "guest: INITIATE_CONTACT version 4.1 to VP 0",
        "host: VERSION_RESPONSE supported, connection 0x40001",
        "guest: REQUESTOFFERS",
        "host: ALLOFFERS_DELIVERED",
    ];
    assert_eq!(lines, expected, "{trace}");
}
