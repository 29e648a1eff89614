//! The effect of a machine on another one in the same process: a neighbor makes progress beside a guest that floods.
//!
//! The neighbor's work is counted alone and beside the flood, in turns, so that what else the host does counts on both sides.
//! `scripts/bench-neighbor` prints the shares with long turns.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::need::{Need, ready};
use common::patience::{grown, holds_within, slowness};
use viridian::Builder;
use viridian::machine::{End, Machine};
use viridian::vsp::network::Attachment;
use viridian::vsp::network::NetworkOptions;
use viridian::vsp::storage::DiskConfig;

/// The least share of its throughput that a neighbor keeps on a quiet host with two processors, beside a guest that has two VPs busy.
/// On a busy host less is left for the neighbor, too. The exact share is for the script.
const LEAST_SHARE: f64 = 0.3;

/// The tests want the host's processors for themselves.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn image(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("VIRIDIAN_GUEST_IMAGES")).join(name);
    assert!(path.exists(), "there is no guest image {name}");
    path
}

/// A machine, its console in memory.
fn machine(name: &str, kernel: &str, cmdline: &str, cpus: u32, disk: &str) -> Machine {
    let disk = DiskConfig { path: disk.into(), ..DiskConfig::default() };
    let builder = Builder::new().name(name).kernel(image(kernel)).cmdline(cmdline).memory(64 << 20).cpus(cpus);
    // All of them are at one switch, with one way to the host's network.
    let shared = Attachment::Switch { name: "neighbors".into(), uplink: true };
    builder.disk(disk).net(NetworkOptions::new(shared)).capture_console().start().unwrap()
}

fn wait_for(machine: &Machine, text: &str) -> String {
    let seen = machine.console().unwrap().wait_for(text, grown(Duration::from_secs(60)));
    String::from_utf8_lossy(&seen.unwrap_or_else(|error| panic!("{error}"))).into_owned()
}

/// A neighbor at work.
struct Neighbor(Machine);

impl Neighbor {
    fn start() -> Self {
        let neighbor = Self(machine("neighbor", "work", "window=100", 1, "memory:16M"));
        wait_for(&neighbor.0, " sums\n");
        neighbor
    }

    /// Reads a second, in so much time.
    fn work(&self, time: Duration) -> f64 {
        // What was done before does not count.
        let _ = self.0.console().unwrap().take();
        wait_for(&self.0, " sums\n");
        let begin = Instant::now();
        let mut reads = 0;
        while begin.elapsed() < time {
            let line = wait_for(&self.0, " sums\n");
            let words: Vec<_> = line.split_whitespace().collect();
            let place = words.iter().position(|word| *word == "work").unwrap_or_else(|| panic!("{line:?}"));
            reads += words[place + 1].parse::<u64>().unwrap();
        }
        reads as f64 / begin.elapsed().as_secs_f64()
    }
}

/// The neighbor's share of its own throughput beside a machine that `start` starts, measured in so many turns.
fn share(start: impl Fn() -> Machine, turns: u32, turn: Duration) -> f64 {
    let neighbor = Neighbor::start();
    let (mut before, mut beside) = (0.0, 0.0);
    for _ in 0..turns {
        before += neighbor.work(turn);
        let flood = start();
        wait_for(&flood, "flooding\n");
        beside += neighbor.work(turn);
        flood.stop(End::Terminated);
        let Ok(end) = flood.wait_timeout(grown(Duration::from_secs(1))) else {
            panic!("the flood does not end ({} times slower than usual)", slowness());
        };
        assert!(matches!(end, End::Terminated), "{end}");
    }
    beside / before
}

fn flood(kind: &str, cpus: u32, disk: &str) -> impl Fn() -> Machine {
    let (cmdline, disk) = (format!("flood={kind} blocks=30000000"), disk.to_owned());
    move || machine("flood", "flood", &cmdline, cpus, &disk)
}

/// Has the neighbor go on beside the flood, and returns its share.
fn expect_goes_on(what: &str, start: impl Fn() -> Machine) {
    let _alone = alone();
    let share = share(start, 2, Duration::from_millis(500));
    println!("{what}: {:.0} % of the neighbor's throughput", 100.0 * share);
    assert!(
        share > LEAST_SHARE / slowness(),
        "beside {what} the neighbor keeps {:.0} % of its throughput",
        100.0 * share
    );
}

#[test]
fn a_neighbor_goes_on_beside_processors_that_spin() {
    expect_goes_on("a guest that spins", flood("spin", 2, "memory:1M"));
}

#[test]
fn a_neighbor_goes_on_beside_a_ring_that_never_ends() {
    expect_goes_on("a ring that never ends", flood("ring", 2, "memory:1M"));
}

#[test]
fn a_neighbor_goes_on_beside_a_flood_of_datagrams_through_the_network_that_both_share() {
    expect_goes_on("a flood of datagrams", flood("network", 1, "memory:1M"));
}

#[test]
fn a_neighbor_goes_on_beside_a_flood_of_commands_over_a_whole_disk() {
    for kind in ["verify", "compare", "unmap"] {
        expect_goes_on(&format!("a flood of {kind}"), flood(kind, 1, "memory:16G"));
    }
}

#[test]
fn a_neighbor_goes_on_while_an_image_that_makes_no_sense_is_opened_again_and_again() {
    const REFCOUNT_TABLE: u64 = 48;
    if !ready(&[Need::Tool("qemu-img")]) {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("8M").status().unwrap();
    assert!(made.success());
    // The refcount table lies beyond the end of the file.
    let image_file = fs::File::options().write(true).open(&path).unwrap();
    image_file.write_all_at(&[0, 0, 0, 0, 0x80], REFCOUNT_TABLE).unwrap();
    let neighbor = Neighbor::start();
    let before = neighbor.work(Duration::from_millis(300));
    for _ in 0..20 {
        let disk = DiskConfig { path: path.clone(), ..DiskConfig::default() };
        let evil = Builder::new().name("evil").kernel(image("flood")).cmdline("flood=fill seconds=1").disk(disk);
        let Err(error) = evil.capture_console().start() else { panic!("the image is taken for a sound one") };
        assert!(error.to_string().contains("is a damaged qcow2 image"), "{error}");
    }
    let after = neighbor.work(Duration::from_millis(300));
    assert!(after > before * LEAST_SHARE / slowness(), "{before:.0} reads a second before, {after:.0} after");
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_ring_that_never_ends_does_not_fill_the_hosts_memory() {
    const BOUND: u64 = 32 << 20;
    let _alone = alone();
    let machine = machine("flood", "flood", "flood=ring seconds=4", 2, "memory:1M");
    wait_for(&machine, "flooding\n");
    let (before, mut most) = (resident(), 0);
    let left = holds_within(Duration::from_secs(120), || {
        most = most.max(resident());
        machine.console().unwrap().wait_for("VMBus is left\n", Duration::from_millis(50)).is_ok()
    });
    assert!(left, "VMBus cannot be left while the ring goes on");
    let grown = most.saturating_sub(before);
    assert!(grown < BOUND, "{} MiB more than before", grown >> 20);
}

#[test]
#[ignore = "a measurement: scripts/bench-neighbor"]
fn shares() {
    let rows: [(&str, u32, &str); 7] = [
        ("spin", 2, "memory:1M"),
        ("ring", 2, "memory:1M"),
        ("spin", 1, "memory:1M"),
        ("network", 1, "memory:1M"),
        ("verify", 1, "memory:16G"),
        ("compare", 1, "memory:16G"),
        ("unmap", 1, "memory:16G"),
    ];
    println!("flood    VPs  the neighbor's share");
    for (kind, cpus, disk) in rows {
        let share = share(flood(kind, cpus, disk), 3, Duration::from_secs(4));
        println!("{kind:8} {cpus:3}  {:.0} %", 100.0 * share);
    }
}
