//! The steps of the tests, in order.

use std::time::Instant;

use super::guest::{Linux, MIB, SOON, counted, resident, total};
use crate::common::patience::{grown, holds_within};

const STARTUP: u64 = 256 * MIB;
const MIN: u64 = 192 * MIB;
const MAX: u64 = 640 * MIB;
/// Upper bound of this process's memory without the guest's.
const OVERHEAD: u64 = 24 * MIB;

pub fn the_driver_is_ready(linux: &Linux) {
    linux.until("the driver reports", |state| !state["last-report-seconds"].is_null());
    let state = linux.state();
    assert_eq!((&state["driver"], &state["version"]), (&"ready".into(), &"2.0".into()), "{state}");
    assert_eq!((&state["can-balloon"], &state["can-hot-add"]), (&true.into(), &true.into()), "{state}");
    assert_eq!(linux.memory("hot-add-alignment-bytes"), 128 * MIB);
    assert!(linux.memory("demand-bytes") > 0 && linux.memory("available-bytes") < STARTUP, "{state}");
    assert_eq!(linux.memory("assigned-bytes"), STARTUP);
}

/// Checks that host and guest count the same size, except for what Linux keeps for itself.
fn sizes_agree(linux: &Linux, size: u64) {
    let (added, ballooned) = (counted(linux, "pages_added"), counted(linux, "pages_ballooned"));
    assert_eq!((added, ballooned), (linux.memory("hot-added-bytes"), linux.memory("ballooned-bytes")));
    assert_eq!(STARTUP + added - ballooned, size);
    let total = total(linux);
    assert!(total <= size && size - total < 128 * MIB, "MemTotal is {total} of {size}");
}

pub fn memory_is_given_and_returned(linux: &Linux) {
    linux.touch(170);
    let before = resident();
    linux.resize(MIN);
    // The size changes when the guest has answered, and the host frees the last pages after that.
    let is_freed = holds_within(grown(SOON), || resident() <= MIN + OVERHEAD);
    let after = resident();
    sizes_agree(linux, MIN);
    let given = (STARTUP - MIN) / MIB;
    println!("measured: the guest gave {given} MiB; resident memory fell from {} to {} MiB", before / MIB, after / MIB);
    // The guest may have released pages that it had never touched.
    assert!(before > MIN + OVERHEAD, "only {before} bytes were resident: this shows nothing");
    assert!(is_freed, "{before} bytes were resident, and now {after}");
    linux.run("dd if=/dev/urandom of=/fill/kept bs=1M count=20 2>/dev/null");
    let sum = linux.run("sha256sum /fill/kept");
    linux.resize(STARTUP);
    sizes_agree(linux, STARTUP);
    linux.touch(100);
    assert_eq!(linux.run("sha256sum /fill/kept"), sum);
    linux.run("rm /fill/kept");
}

pub fn memory_is_added(linux: &Linux) {
    let begun = Instant::now();
    linux.resize(MAX);
    println!("measured: {} MiB were added in {:.1} s", (MAX - STARTUP) / MIB, begun.elapsed().as_secs_f64());
    sizes_agree(linux, MAX);
    let before = resident();
    linux.run("mount -o remount,size=90% /fill");
    linux.touch(400);
    let after = resident();
    assert!(after > before + 200 * MIB, "the guest uses what was added: {before}, {after}");
    let begun = Instant::now();
    linux.resize(MIN);
    let (seconds, given) = (begun.elapsed().as_secs_f64(), (MAX - MIN) / MIB);
    sizes_agree(linux, MIN);
    let rate = given as f64 / 1024.0 / seconds * 60.0;
    println!("measured: {given} MiB were given in {seconds:.1} s: {rate:.1} GiB a minute");
    let is_freed = holds_within(grown(SOON), || resident() + 300 * MIB < after);
    println!("measured: resident memory fell from {} to {} MiB", after / MIB, resident() / MIB);
    assert!(is_freed, "{after} bytes were resident, and now {}", resident());
}

/// 100 and 128 MiB more and less, and single pages.
pub fn sizes_are_exact(linux: &Linux) {
    linux.resize(STARTUP);
    for change in [100 * MIB, 128 * MIB, 4096, MIB + 3 * 4096] {
        linux.resize(STARTUP + change);
        sizes_agree(linux, STARTUP + change);
        linux.resize(STARTUP);
        sizes_agree(linux, STARTUP);
    }
}

pub fn a_restart_has_the_startup_size(linux: &Linux) {
    linux.resize(MAX);
    linux.begin("reboot -f");
    linux.wait_for("serving\r\n");
    assert_eq!((linux.memory("assigned-bytes"), linux.memory("target-bytes")), (STARTUP, STARTUP));
    the_driver_is_ready(linux);
    sizes_agree(linux, STARTUP);
    linux.resize(MAX);
    sizes_agree(linux, MAX);
}

pub fn free_pages_are_given_back(linux: &Linux) {
    linux.run("dd if=/dev/urandom of=/fill/kept bs=1M count=20 2>/dev/null");
    let sum = linux.run("sha256sum /fill/kept");
    linux.run("dd if=/dev/zero of=/fill/x bs=1M count=200 2>/dev/null");
    let before = resident();
    linux.run("rm /fill/x");
    let fell = holds_within(grown(SOON), || resident() + 150 * MIB < before);
    println!("measured: resident memory fell from {} to {} MiB", before / MIB, resident() / MIB);
    assert!(fell, "{before} bytes were resident, and now {}", resident());
    // Memory that Linux allocates again is zero where required, and memory that it kept is unchanged.
    linux.run("dd if=/dev/zero of=/fill/x bs=1M count=200 2>/dev/null");
    assert_eq!(linux.run("tr -d '\\0' </fill/x | wc -c"), "0");
    assert_eq!(linux.run("sha256sum /fill/kept"), sum);
}
