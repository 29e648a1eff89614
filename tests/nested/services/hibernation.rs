//! Hibernation by the shutdown service: the guest writes its memory to a disk, and continues in another machine with the same disks.

use std::fs::File;

use serde_json::Value as Json;
use viridian::config::Config;
use viridian::machine::End;
use viridian::vsp::storage::DiskConfig;

use super::guest::{Linux, NAME};

/// The disk for the guest's memory, on the nested host.
const SWAP: &str = "/tmp/swap";

/// Starts the guest with that disk, too.
fn start(words: &str) -> Linux {
    Linux::start(Config { hibernation: true, disks: vec![DiskConfig::of(SWAP)], ..Config::default() }, words)
}

pub fn refused_without_the_setting() {
    let linux = Linux::boot();
    let (code, output, errors) = linux.verb(&["stop", NAME, "--hibernate", "--shutdown", "60"]);
    assert!(code == Some(124) && errors.contains("the guest"), "{code:?} {output}{errors}");
    linux.begin("poweroff -f");
    assert!(matches!(*linux.end(), End::PoweredOff));
}

pub fn resumed_in_a_new_machine() {
    let swap = File::create(SWAP).expect("the nested host has a file system in memory");
    swap.set_len(512 << 20).expect("a sparse file");
    let linux = start("");
    linux.wait_until_ready();
    // The names of the two disks depend on which one the guest finds first.
    linux.run("swap=/dev/$(grep -lx 1048576 /sys/block/sd*/size | cut -d / -f 4); mkswap -L swap $swap >/dev/null && swapon $swap");
    linux.run("echo kept >/run/kept && cat /proc/sys/kernel/random/boot_id >/run/id");
    linux.run("(i=0; while :; do i=$((i + 1)); echo $i >/run/count; sleep 0.1; done) & echo $! >/run/process");
    linux.run("uevent on-event & echo begun");
    let (code, output, errors) = linux.verb(&["stop", NAME, "--hibernate", "--json", "--shutdown", "600"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    let stopped: Json = serde_json::from_str(&output).expect("JSON");
    assert_eq!(stopped["stopped-by"], "shutdown-service", "{output}");
    assert!(matches!(*linux.end(), End::PoweredOff));

    let linux = start("resume=LABEL=swap");
    linux.wait_for("resumed\r\n");
    // The shell that was waiting for a line continues.
    assert_eq!(linux.run("cat /run/kept"), "kept");
    linux.run("[ $(cat /proc/sys/kernel/random/boot_id) = $(cat /run/id) ]");
    linux.run("before=$(cat /run/count); until [ $(cat /run/count) -gt $before ]; do sleep 0.1; done");
    // The drivers have found their devices: disks, the adapter, and the services, of which one sets the clock.
    linux.run("echo more >/log && sync && cat /log | grep more");
    linux.run("ping -c 1 10.0.2.2 >/dev/null");
    linux.until(viridian::internals::services::Kind::Time, "the clock is set", |status| {
        serde_json::to_value(status).is_ok_and(|status| status["syncs"].as_u64() > Some(0))
    });
    assert!(linux.ahead().abs() <= 5, "the guest's clock is {} seconds ahead", linux.ahead());
    let (code, output, errors) = linux.verb(&["stop", NAME, "--shutdown", "300"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    assert!(matches!(*linux.end(), End::PoweredOff));
}
