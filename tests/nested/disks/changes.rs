//! Changes while a guest runs: its driver, its disk's size, the host's free space; and old versions of VMBus.

use super::guest::{self, WITH_DATA, expect_power_off, expect_words};
use crate::common::nested::{Plan, times};

/// Versions of VMBus older than 5.3, which all other tests use.
const VERSIONS: [&str; 3] = ["3.0", "4.0", "5.0"];

fn reload_times() -> u32 {
    times(3)
}

/// The host's commands during the run: frees space after the guest has run out of it, and grows a busy disk twice.
const HOST: &str = "vmm=$!; seen() { until grep -q \"$1\" log; do sleep 0.1; kill -0 $vmm || break; done; }; \
    seen 'the host is full'; rm small/filler; \
    seen 'disks: 32768 131072\\.'; truncate -s 24M disk.img; \
    seen 'disks: 49152 131072\\.'; truncate -s 32M disk.img; \
    seen 'disks: 65536 131072\\.'; echo >&3; \
    wait $vmm; code=$?; cat log; umount small; rm disk.img; exit $code";

pub fn plan(plan: &mut Plan, engine: &str) {
    let guest = guest::in_memory();
    guest::pack(plan, guest);
    let cmdline = format!("run=\"reload-driver {}; write-until-full 1; watch-disks\"", reload_times());
    let run = guest::run(engine, guest, &cmdline, "--disk disk.img --disk small/disk.img");
    let script = format!(
        "mkfifo keys; exec 3<>keys; : >log; truncate -s 16M disk.img; \
         mkdir small; mount -t tmpfs -o size=24M none small; dd if=/dev/zero of=small/filler bs=1M count=12 2>&1; \
         truncate -s 64M small/disk.img; {run} <keys >log & {HOST}"
    );
    plan.check("changes", 180 + 10 * reload_times(), script);
    for version in VERSIONS {
        let words = "run=\"dmesg | grep Vmbus; dd if=/dev/sda bs=1M count=4 | md5sum\"";
        let run = guest::run(engine, guest, words, &format!("--disk memory:16M --vmbus-max-version {version}"));
        plan.check(version, 120, run);
    }
}

#[test]
fn the_driver_can_be_unloaded_and_loaded_repeatedly() {
    WITH_DATA.outcomes("changes", |outcome| {
        expect_words(outcome, &format!("the driver was loaded {} times", reload_times()));
        expect_power_off(outcome);
    });
}

#[test]
fn a_full_host_disk_causes_write_errors_until_there_is_room() {
    WITH_DATA.outcomes("changes", |outcome| {
        expect_words(outcome, "the host is full");
        expect_words(outcome, "the host has room");
    });
}

#[test]
fn a_disk_that_grows_under_load_is_noticed_by_the_guest() {
    WITH_DATA.outcomes("changes", |outcome| {
        expect_words(outcome, "disks: 65536 131072.");
        expect_words(outcome, "watched");
    });
}

#[test]
fn disks_work_with_old_versions_of_vmbus() {
    WITH_DATA.run(&VERSIONS);
    for version in VERSIONS {
        WITH_DATA.outcomes(version, |outcome| {
            expect_words(outcome, &format!("Vmbus version:{version}"));
            // The MD5 sum of four mebibytes of zeros.
            expect_words(outcome, "b5cfa9d6c8febd618f91ac2843d50a1c");
            expect_power_off(outcome);
        });
    }
}
