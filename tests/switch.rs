//! Guest images that talk to each other through a switch of this process, on this host's KVM.
//!
//! With `VIRIDIAN_FULL=1`, two of them exchange a million frames. `scripts/soak-switch` sets that.

#[path = "common/mod.rs"]
mod common;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::patience::holds_within;
use viridian::Builder;
use viridian::config::KernelSource;
use viridian::internals::guest_images::PEER;
use viridian::machine::{End, Machine};
use viridian::vsp::network::Attachment;
use viridian::vsp::network::NetworkOptions;
use viridian::vsp::network::Nic;

/// Time limit of a run. Exchanging a million frames takes hours in guests that KVM emulates.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

fn is_full() -> bool {
    std::env::var_os("VIRIDIAN_FULL").is_some()
}

/// Takes a lock that runs one test at a time, because each needs all of the host's processors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a machine with the guest `peer` at a switch.
fn peer(switch: &str, name: &str, cmdline: &str) -> Builder {
    let plugged = Attachment::Switch { name: switch.into(), uplink: false };
    Builder::new()
        .name(name)
        .kernel_source(KernelSource::Embedded { name: "peer", bytes: PEER })
        .cmdline(cmdline)
        .memory(16 << 20)
        .net(NetworkOptions::new(plugged))
        .capture_console()
}

/// Starts all machines at nearly the same time.
fn start(builders: &[Builder]) -> Vec<Machine> {
    let ready: Vec<_> = builders.iter().map(|builder| builder.prepare().unwrap()).collect();
    ready.into_iter().map(|machine| machine.start().unwrap()).collect()
}

fn nics(machines: &[Machine]) -> Vec<Arc<Nic>> {
    machines.iter().map(|machine| machine.nics().get(0).unwrap()).collect()
}

/// Returns the rest of the line that begins with this text.
fn line(machine: &Machine, beginning: &str) -> String {
    let console = machine.console().unwrap();
    console.wait_for(beginning, PATIENCE).unwrap();
    String::from_utf8(console.wait_for("\n", PATIENCE).unwrap()).unwrap()
}

#[test]
fn two_partitions_exchange_frames_and_each_is_counted() {
    let _alone = alone();
    // Each datagram is echoed, and so counts twice.
    let count = if is_full() { 500_000 } else { 1_000 };
    let asks = format!("address=10.3.0.2 to=10.3.0.1 frames={count} end");
    let machines = start(&[peer("pair", "answers", "address=10.3.0.1"), peer("pair", "asks", &asks)]);
    let nics = nics(&machines);
    let exchanged = line(&machines[1], "exchanged ");
    println!("two partitions: {}", exchanged.trim());
    assert!(exchanged.contains(&format!("{count} came back, 0 did not, 0 out of turn, 0 refused")), "{exchanged}");
    for machine in machines {
        let end = machine.wait();
        assert!(matches!(end, End::PoweredOff), "{end}");
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let (sent, got) = (nics[from].counters().transmit, nics[to].counters().receive);
        println!(
            "adapter {from} sent {} frames, adapter {to} got {}, lost {}",
            sent.frames(),
            got.frames(),
            got.dropped
        );
        assert!(sent.frames() >= count && sent.frames() == got.frames(), "{sent:?} {got:?}");
        assert_eq!((sent.dropped, sent.errors, got.dropped, got.errors), (0, 0, 0, 0));
    }
}

/// Returns the number of frames that each adapter has sent and received.
fn counts(nics: &[Arc<Nic>]) -> Vec<(u64, u64)> {
    let counts = |nic: &Arc<Nic>| (nic.counters().transmit.frames(), nic.counters().receive.frames());
    nics.iter().map(counts).collect()
}

#[test]
fn sixteen_partitions_get_fair_shares_of_a_switch() {
    const PARTITIONS: usize = 16;
    const WINDOW: usize = 4;
    let _alone = alone();
    // Each guest sends requests to the next one without end, and answers those of the previous one.
    let builders: Vec<_> = (0..PARTITIONS)
        .map(|number| {
            let next = (number + 1) % PARTITIONS;
            let cmdline = format!("address=10.3.1.{number} to=10.3.1.{next} frames=1000000000 window={WINDOW}");
            peer("ring", &format!("peer{number}"), &cmdline)
        })
        .collect();
    let machines = start(&builders);
    let nics = nics(&machines);
    // From then on each frame is for one of them.
    machines.iter().for_each(|machine| drop(line(machine, "exchanging ")));
    let (before, since) = (counts(&nics), Instant::now());
    // Broadcasts that arrived before an adapter was opened are dropped when it is opened.
    let dropped = || nics.iter().map(|nic| nic.counters().receive.dropped).sum::<u64>();
    let dropped_before = dropped();
    // Over time, the load of other processes affects all guests equally.
    let (step, limit) = if is_full() { (60, 100) } else { (5, 60) };
    let is_fair = holds_within(Duration::from_secs(limit), || {
        std::thread::sleep(Duration::from_secs(step));
        let got: Vec<_> = counts(&nics).iter().zip(&before).map(|(now, before)| now.1 - before.1).collect();
        let mean = got.iter().sum::<u64>() as f64 / PARTITIONS as f64;
        let off = got.iter().map(|got| (*got as f64 / mean - 1.0).abs()).fold(0.0, f64::max);
        let seconds = since.elapsed().as_secs();
        println!(
            "sixteen partitions: in {seconds} s each got {mean:.0} frames, give or take {:.0} %: {got:?}",
            off * 100.0
        );
        mean > 100.0 && off <= 0.2
    });
    machines.iter().for_each(|machine| machine.pause().unwrap());
    let (mut sent, mut got) = (0, 0);
    for (now, before) in counts(&nics).iter().zip(&before) {
        (sent, got) = (sent + now.0 - before.0, got + now.1 - before.1);
    }
    let dropped = dropped() - dropped_before;
    println!("sixteen partitions: {sent} frames sent, {got} got, {dropped} dropped");
    assert!(is_fair && dropped == 0);
    // The difference is in flight: at most a window of requests and their answers.
    assert!(sent.abs_diff(got) <= (PARTITIONS * WINDOW) as u64, "{sent} {got}");
}
