//! The effect of a machine on another one in the same process: a neighbor makes progress beside a guest that floods.
//!
//! The neighbor's work is measured alone and beside the flood, in turns, so that other load on the host affects both.
//! `scripts/bench-neighbor` prints the shares with long turns.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::need::{Need, ready};
use common::patience::{grown, holds_within, slowness};
use viridian::Builder;
use viridian::machine::{End, Machine};
use viridian::vsp::network::Attachment;
use viridian::vsp::network::NetworkOptions;
use viridian::vsp::storage::DiskConfig;

/// Returns the minimum share of its throughput that a neighbor keeps on a quiet host with two processors, beside a machine with
/// this number of busy threads. With two of them, three threads compete for two processors. On a busy host, the neighbor has
/// less. The script prints exact shares.
fn least_share(busy_threads: u32) -> f64 {
    if busy_threads == 1 { 0.5 } else { 0.33 }
}

/// Takes a lock that runs one test at a time, because each needs all of the host's processors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn image(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("VIRIDIAN_GUEST_IMAGES")).join(name);
    assert!(path.exists(), "there is no guest image {name}");
    path
}

/// Returns a machine whose console is captured.
fn machine(name: &str, kernel: &str, cmdline: &str, cpus: u32, disk: &str) -> Machine {
    let disk = DiskConfig { path: disk.into(), ..DiskConfig::default() };
    let builder = Builder::new().name(name).kernel(image(kernel)).cmdline(cmdline).memory(64 << 20).cpus(cpus);
    // All machines share one switch and one uplink to the host's network.
    let shared = Attachment::Switch { name: "neighbors".into(), uplink: true };
    builder.disk(disk).net(NetworkOptions::new(shared)).capture_console().start().unwrap()
}

fn wait_for(machine: &Machine, text: &str) -> String {
    let seen = machine.console().unwrap().wait_for(text, grown(Duration::from_secs(60)));
    String::from_utf8_lossy(&seen.unwrap_or_else(|error| panic!("{error}"))).into_owned()
}

/// A running neighbor.
struct Neighbor {
    machine: Machine,
    /// The suffix of the lines that report its progress.
    line_end: &'static str,
}

impl Neighbor {
    /// Reads its disk and computes.
    fn that_reads() -> Self {
        Self::start("", " sums\n")
    }

    /// Sends datagrams to a port of the host's loopback, through the NAT.
    fn that_sends_to(port: u16) -> Self {
        Self::start(&format!("echo={port}"), " lost\n")
    }

    fn start(work: &str, line_end: &'static str) -> Self {
        let machine = machine("neighbor", "work", &format!("window=100 {work}"), 1, "memory:16M");
        let neighbor = Self { machine, line_end };
        neighbor.line();
        neighbor
    }

    fn line(&self) -> String {
        wait_for(&self.machine, self.line_end)
    }

    /// Returns the reads or datagrams per second, measured for this time.
    fn work(&self, time: Duration) -> f64 {
        // Ignore the progress before the measurement.
        let _ = self.machine.console().unwrap().take();
        self.line();
        let begin = Instant::now();
        let mut done = 0;
        while begin.elapsed() < time {
            let line = self.line();
            let words: Vec<_> = line.split_whitespace().collect();
            let place = words.iter().position(|word| *word == "work").unwrap_or_else(|| panic!("{line:?}"));
            done += words[place + 1].parse::<u64>().unwrap();
        }
        done as f64 / begin.elapsed().as_secs_f64()
    }
}

/// A UDP echo on the host.
struct Echo {
    address: SocketAddr,
    thread: Option<JoinHandle<BTreeSet<SocketAddr>>>,
}

impl Echo {
    /// The datagram that ends the echo. Datagrams of guests are longer.
    const END: [u8; 1] = [0];

    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let serve = move || {
            let (mut buffer, mut peers) = ([0; 2048], BTreeSet::new());
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                if length == Self::END.len() {
                    return peers;
                }
                peers.insert(peer);
                socket.send_to(&buffer[..length], peer).unwrap();
            }
        };
        Self { address, thread: Some(thread::spawn(serve)) }
    }

    /// Ends the echo, and returns the sources of received datagrams.
    fn end(mut self) -> BTreeSet<SocketAddr> {
        self.stop().unwrap()
    }

    fn stop(&mut self) -> Option<BTreeSet<SocketAddr>> {
        let thread = self.thread.take()?;
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&Self::END, self.address).unwrap();
        Some(thread.join().unwrap())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the share of its throughput that the neighbor keeps beside a machine that `start` starts, measured in this number of turns.
fn share(neighbor: &Neighbor, start: impl Fn() -> Machine, turns: u32, turn: Duration) -> f64 {
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

/// A guest that opens flows through the NAT without end, to a socket that keeps them open.
fn flood_of_flows(host: &UdpSocket) -> impl Fn() -> Machine + use<> {
    let port = host.local_addr().unwrap().port();
    flood(&format!("network port={port}"), 1, "memory:1M")
}

fn silent() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn flood(kind: &str, cpus: u32, disk: &str) -> impl Fn() -> Machine + use<> {
    let (cmdline, disk) = (format!("flood={kind} blocks=30000000"), disk.to_owned());
    move || machine("flood", "flood", &cmdline, cpus, &disk)
}

/// Checks that the neighbor keeps its share beside a flood that keeps this number of threads busy.
fn expect_goes_on(neighbor: &Neighbor, what: &str, busy_threads: u32, start: impl Fn() -> Machine) {
    let share = share(neighbor, start, 2, Duration::from_millis(500));
    println!("{what}: {:.0} % of the neighbor's throughput", 100.0 * share);
    assert!(
        share > least_share(busy_threads) / slowness(),
        "beside {what} the neighbor keeps {:.0} % of its throughput",
        100.0 * share
    );
}

fn expect_reader_goes_on(what: &str, kind: &str, vps: u32, disk: &str) {
    let _alone = alone();
    expect_goes_on(&Neighbor::that_reads(), what, vps, flood(kind, vps, disk));
}

#[test]
fn a_neighbor_makes_progress_beside_processors_that_spin() {
    expect_reader_goes_on("a guest that spins", "spin", 2, "memory:1M");
}

#[test]
fn a_neighbor_makes_progress_beside_a_ring_that_is_never_empty() {
    expect_reader_goes_on("a ring that never ends", "ring", 2, "memory:1M");
}

#[test]
fn a_neighbor_makes_progress_beside_a_flood_of_datagrams_on_the_shared_network() {
    expect_reader_goes_on("a flood of datagrams", "network", 1, "memory:1M");
}

#[test]
fn a_neighbor_makes_progress_beside_messages_that_are_never_read() {
    expect_reader_goes_on("messages that are never read", "messages", 1, "memory:1M");
}

#[test]
fn a_neighbor_can_use_the_nat_beside_a_guest_that_opens_flows_without_end() {
    let _alone = alone();
    let (host, silent) = (Echo::start(), silent());
    let neighbor = Neighbor::that_sends_to(host.address.port());
    // The VP, the adapter's channel and the network are busy.
    expect_goes_on(&neighbor, "a flood of flows through the NAT", 3, flood_of_flows(&silent));
    drop(neighbor);
    assert_eq!(host.end().len(), 1, "a flow that ends and begins anew has another socket");
}

#[test]
fn an_idle_flow_is_not_replaced_by_flows_of_another_guest() {
    let _alone = alone();
    let (host, silent) = (Echo::start(), silent());
    // Meanwhile the other guest opens more flows than the NAT keeps.
    let neighbor = Neighbor::start(&format!("echo={} pause=300", host.address.port()), " lost\n");
    let flood = flood_of_flows(&silent)();
    wait_for(&flood, "flooding\n");
    let _ = neighbor.machine.console().unwrap().take();
    for _ in 0..5 {
        neighbor.line();
    }
    drop((flood, neighbor));
    assert_eq!(host.end().len(), 1, "a flow that ends and begins anew has another socket");
}

#[test]
fn a_neighbor_makes_progress_beside_commands_over_a_whole_disk() {
    for kind in ["verify", "compare", "unmap", "prefetch", "map", "flush", "durable"] {
        expect_reader_goes_on(&format!("a flood of {kind}"), kind, 1, "memory:16G");
    }
    expect_reader_goes_on("a flood of pattern", "pattern", 1, "memory:64M");
}

#[test]
fn a_neighbor_makes_progress_while_a_damaged_image_is_opened_repeatedly() {
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
    let neighbor = Neighbor::that_reads();
    let before = neighbor.work(Duration::from_millis(300));
    for _ in 0..20 {
        let disk = DiskConfig { path: path.clone(), ..DiskConfig::default() };
        let evil = Builder::new().name("evil").kernel(image("flood")).cmdline("flood=fill seconds=1").disk(disk);
        let Err(error) = evil.capture_console().start() else { panic!("the image is taken for a sound one") };
        assert!(error.to_string().contains("is a damaged qcow2 image"), "{error}");
    }
    let after = neighbor.work(Duration::from_millis(300));
    assert!(after > before * least_share(1) / slowness(), "{before:.0} reads a second before, {after:.0} after");
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_ring_that_is_never_empty_does_not_fill_the_hosts_memory() {
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
    let rows: [(&str, u32, &str); 13] = [
        ("spin", 2, "memory:1M"),
        ("ring", 2, "memory:1M"),
        ("spin", 1, "memory:1M"),
        ("messages", 1, "memory:1M"),
        ("network", 1, "memory:1M"),
        ("verify", 1, "memory:16G"),
        ("compare", 1, "memory:16G"),
        ("unmap", 1, "memory:16G"),
        ("prefetch", 1, "memory:16G"),
        ("map", 1, "memory:16G"),
        ("flush", 1, "memory:16G"),
        ("durable", 1, "memory:16G"),
        ("pattern", 1, "memory:64M"),
    ];
    println!("neighbor  flood     VPs  the neighbor's share");
    for (kind, cpus, disk) in rows {
        row("disk", &Neighbor::that_reads(), kind, cpus, flood(kind, cpus, disk));
    }
    let (host, silent) = (Echo::start(), silent());
    let neighbor = Neighbor::that_sends_to(host.address.port());
    row("NAT", &neighbor, "flows", 1, flood_of_flows(&silent));
    // A flood of flows keeps three threads busy: its VP, its channel, and the network's.
    for cpus in 1..=3 {
        row("NAT", &neighbor, "spin", cpus, flood("spin", cpus, "memory:1M"));
    }
}

fn row(name: &str, neighbor: &Neighbor, kind: &str, cpus: u32, start: impl Fn() -> Machine) {
    let share = share(neighbor, start, 3, Duration::from_secs(4));
    println!("{name:8}  {kind:8}  {cpus:3}  {:.0} %", 100.0 * share);
}
