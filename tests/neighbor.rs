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

/// The minimum share that a neighbor keeps beside a guest that floods, of what it does beside one that only spins.
const LEAST_SHARE: f64 = 0.8;
/// The minimum share that a neighbor keeps beside two processors that spin, of what it does alone, on a host with two processors.
const LEAST_SHARE_OF_ALONE: f64 = 0.33;
/// The number of turns of a measurement. A turn says little if the host is busy with other work meanwhile, so there are more until
/// the neighbor has its share.
const LEAST_TURNS: u32 = 2;
const MOST_TURNS: u32 = 8;

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
    builder(name, kernel, cmdline, cpus, disk).start().unwrap()
}

fn builder(name: &str, kernel: &str, cmdline: &str, cpus: u32, disk: &str) -> Builder {
    let disk = DiskConfig { path: disk.into(), ..DiskConfig::default() };
    let builder = Builder::new().name(name).kernel(image(kernel)).cmdline(cmdline).memory(64 << 20).cpus(cpus);
    // All machines share one switch and one uplink to the host's network.
    let shared = Attachment::Switch { name: "neighbors".into(), uplink: true };
    builder.disk(disk).net(NetworkOptions::new(shared)).capture_console()
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

/// What a neighbor does in one turn each: alone, beside a guest that only spins on as many processors, and beside a flood.
#[derive(Default)]
struct Work {
    alone: f64,
    beside_spin: f64,
    beside_flood: f64,
}

impl Work {
    /// Returns the share of its throughput that the neighbor keeps.
    fn share(&self) -> f64 {
        self.beside_flood / self.alone
    }

    /// Returns the share that it keeps of its throughput beside a guest that has as many processors and only spins. This is
    /// what the flood costs it beyond the processors that its owner has paid for.
    fn share_beside_spin(&self) -> f64 {
        self.beside_flood / self.beside_spin
    }

    fn measure(&mut self, neighbor: &Neighbor, cpus: u32, start: &impl Fn() -> Machine, turn: Duration) {
        self.alone += neighbor.work(turn);
        self.beside_spin += work_beside(neighbor, flood("spin", cpus, "memory:1M"), turn);
        self.beside_flood += work_beside(neighbor, start, turn);
    }
}

/// Returns the work of the neighbor beside a machine that `start` starts.
fn work_beside(neighbor: &Neighbor, start: impl Fn() -> Machine, turn: Duration) -> f64 {
    let flood = start();
    wait_for(&flood, "flooding\n");
    let work = neighbor.work(turn);
    flood.stop(End::Terminated);
    let Ok(end) = flood.wait_timeout(grown(Duration::from_secs(1))) else {
        panic!("the flood does not end ({} times slower than usual)", slowness());
    };
    assert!(matches!(end, End::Terminated), "{end}");
    work
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

/// Measures a neighbor, in more turns until its work `suffices` on a host that is so many times slower than usual. Returns whether
/// it does in the end.
fn measured(
    neighbor: &Neighbor,
    cpus: u32,
    start: impl Fn() -> Machine,
    suffices: impl Fn(&Work, f64) -> bool,
) -> (Work, bool) {
    let mut work = Work::default();
    for turn in 1.. {
        work.measure(neighbor, cpus, &start, Duration::from_millis(300));
        let has_share = suffices(&work, slowness());
        if turn >= LEAST_TURNS && has_share || turn == MOST_TURNS {
            return (work, has_share);
        }
    }
    unreachable!("there is a last turn")
}

/// Checks that the neighbor keeps its share beside a guest that floods, compared with one that only spins on as many processors.
fn expect_goes_on(neighbor: &Neighbor, what: &str, cpus: u32, start: impl Fn() -> Machine) {
    let suffices = |work: &Work, slowness| work.share_beside_spin() > LEAST_SHARE / slowness;
    let (work, has_share) = measured(neighbor, cpus, start, suffices);
    let percent = |share: f64| (100.0 * share).round();
    let shares = format!(
        "{what}: {} % of the neighbor's throughput, {} % of that beside a guest that spins",
        percent(work.share()),
        percent(work.share_beside_spin())
    );
    println!("{shares}");
    assert!(has_share, "{shares}");
}

fn expect_reader_goes_on(what: &str, kind: &str, vps: u32, disk: &str) {
    let _alone = alone();
    expect_goes_on(&Neighbor::that_reads(), what, vps, flood(kind, vps, disk));
}

#[test]
fn a_neighbor_makes_progress_beside_processors_that_spin() {
    let _alone = alone();
    let neighbor = Neighbor::that_reads();
    let suffices = |work: &Work, slowness| work.share() > LEAST_SHARE_OF_ALONE / slowness;
    let (work, has_share) = measured(&neighbor, 2, flood("spin", 2, "memory:1M"), suffices);
    assert!(has_share, "{:.2}", work.share());
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
    expect_goes_on(&neighbor, "a flood of flows through the NAT", 1, flood_of_flows(&silent));
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
    assert!(after > before * 0.5 / slowness(), "{before:.0} reads a second before, {after:.0} after");
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Expects that a ring of this device that is never empty does not fill the host's memory, and that its channel can be closed.
fn expect_ring_stays_bounded(device: &str, seconds: u32) {
    const BOUND: u64 = 32 << 20;
    let cmdline = format!("flood=ring device={device} seconds={seconds}");
    let machine = builder("flood", "flood", &cmdline, 2, "memory:1M").display("on").start().unwrap();
    wait_for(&machine, "flooding\n");
    let (before, mut most) = (resident(), 0);
    let left = holds_within(Duration::from_secs(120), || {
        most = most.max(resident());
        machine.console().unwrap().wait_for("VMBus is left\n", Duration::from_millis(50)).is_ok()
    });
    assert!(left, "{device}: VMBus cannot be left while the ring goes on");
    let grown = most.saturating_sub(before);
    assert!(grown < BOUND, "{device}: {} MiB more than before", grown >> 20);
}

#[test]
fn a_ring_that_is_never_empty_does_not_fill_the_hosts_memory() {
    let _alone = alone();
    expect_ring_stays_bounded("SCSI", 4);
    for device in ["network", "keyboard", "mouse", "video", "heartbeat", "shutdown", "KVP"] {
        expect_ring_stays_bounded(device, 1);
    }
}

#[test]
#[ignore = "a measurement: scripts/bench-neighbor"]
fn shares() {
    let rows: [(&str, u32, &str); 11] = [
        ("ring", 2, "memory:1M"),
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
    println!("neighbor  flood     VPs  of alone  of beside a spin");
    for (kind, cpus, disk) in rows {
        row("disk", &Neighbor::that_reads(), kind, cpus, flood(kind, cpus, disk));
    }
    let (host, silent) = (Echo::start(), silent());
    let neighbor = Neighbor::that_sends_to(host.address.port());
    row("NAT", &neighbor, "flows", 1, flood_of_flows(&silent));
}

fn row(name: &str, neighbor: &Neighbor, kind: &str, cpus: u32, start: impl Fn() -> Machine) {
    let mut work = Work::default();
    // Short turns in alternation, so that other load on the host affects all three alike.
    for _ in 0..6 {
        work.measure(neighbor, cpus, &start, Duration::from_secs(1));
    }
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    println!("{name:8}  {kind:8}  {cpus:3}  {:>8}  {:>16}", percent(work.share()), percent(work.share_beside_spin()));
}
