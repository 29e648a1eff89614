//! A machine that is paused: nothing writes to its guest's memory, and nothing is lost.

use std::thread;
use std::time::{Duration, Instant};

use viridian::Builder;
use viridian::config::OnReset;
use viridian::machine::{End, Machine};
use viridian::vsp::network::{Attachment, NetworkOptions};
use viridian::vsp::storage::DiskConfig;

use super::command::image;
use crate::common::patience::grown;

const LONG: Duration = Duration::from_secs(60);
const MEMORY: u64 = 64 << 20;

fn machine(kernel: &str, command_line: &str, cpus: u32, disk: &str) -> Builder {
    Builder::new()
        .kernel(image(kernel))
        .cmdline(command_line)
        .memory(MEMORY)
        .cpus(cpus)
        .disk(DiskConfig { path: disk.into(), ..DiskConfig::default() })
        .net(NetworkOptions::new(Attachment::User))
        .capture_console()
}

/// Returns the current content of the guest's memory.
fn memory(machine: &Machine) -> Vec<u8> {
    let mut bytes = vec![0; MEMORY as usize];
    machine.guest().read(0, &mut bytes).unwrap();
    bytes
}

/// Pauses the machine, and expects that its memory does not change for this time.
fn expect_stands_still(machine: &Machine, time: Duration) {
    machine.pause().unwrap();
    let before = memory(machine);
    thread::sleep(time);
    let after = memory(machine);
    if before != after {
        let places = before.iter().zip(&after).enumerate().filter(|(_, (before, after))| before != after);
        let places: Vec<_> = places.map(|(place, _)| format!("{place:#x}")).take(8).collect();
        panic!("the guest's memory was written to while it was paused: {places:?}");
    }
    machine.resume();
}

/// Pauses a guest repeatedly, and expects that it continues printing `progress` in between.
fn expect_goes_on(machine: &Machine, progress: &str) {
    let console = machine.console().unwrap();
    for round in 0..12 {
        console.take();
        console.wait_for(progress, grown(LONG)).unwrap();
        // Pauses stop the guest at different points. One of them is long.
        expect_stands_still(machine, Duration::from_millis(if round == 0 { 1000 } else { 30 }));
    }
    console.take();
    console.wait_for(progress, grown(LONG)).unwrap();
}

fn end(machine: Machine) {
    machine.stop(End::Terminated);
    let Ok(end) = machine.wait_timeout(grown(Duration::from_secs(5))) else { panic!("it does not end") };
    assert!(matches!(end, End::Terminated), "{end}");
}

#[test]
fn a_guest_that_reads_its_disk_can_be_paused_and_resumed() {
    for disk in ["memory:16M", "memory:1G"] {
        let machine = machine("work", "window=20", 1, disk).start().unwrap();
        expect_goes_on(&machine, " sums\n");
        end(machine);
    }
}

#[test]
fn guests_that_flood_the_host_can_be_paused() {
    for (kind, cpus) in [("verify", 1), ("compare", 1), ("unmap", 1), ("network", 1), ("ring", 2), ("doorbells", 2)] {
        let command_line = format!("flood={kind} blocks=30000000");
        let machine = machine("flood", &command_line, cpus, "memory:16G").start().unwrap();
        machine.console().unwrap().wait_for("flooding\n", grown(LONG)).unwrap();
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(20));
            let begin = Instant::now();
            expect_stands_still(&machine, Duration::from_millis(100));
            println!("{kind}: {:?}", begin.elapsed());
        }
        end(machine);
    }
}

#[test]
fn synthetic_timers_stop_during_a_pause_and_none_is_lost() {
    let machine = machine("stimer", "", 2, "memory:1M").start().unwrap();
    let console = machine.console().unwrap().clone();
    console.wait_for("\n", grown(LONG)).unwrap();
    for _ in 0..10 {
        // It may have ended by itself.
        if machine.pause().is_err() {
            break;
        }
        let before = memory(&machine);
        thread::sleep(Duration::from_millis(20));
        assert!(before == memory(&machine), "the guest's memory was written to while it was paused");
        machine.resume();
        thread::sleep(Duration::from_millis(10));
    }
    let end = machine.wait();
    let said = String::from_utf8_lossy(&console.take()).into_owned();
    assert!(matches!(end, End::Exited(0) | End::PoweredOff), "{end}\n{said}");
}

#[test]
fn a_paused_machine_ends_at_once_whatever_it_was_doing() {
    for kind in ["verify", "network", "ring", "spin"] {
        let command_line = format!("flood={kind} blocks=30000000");
        let machine = machine("flood", &command_line, 2, "memory:16G").start().unwrap();
        machine.console().unwrap().wait_for("flooding\n", grown(LONG)).unwrap();
        machine.pause().unwrap();
        let begin = Instant::now();
        machine.stop(End::Terminated);
        assert!(matches!(machine.wait(), End::Terminated));
        assert!(begin.elapsed() < grown(Duration::from_secs(1)), "{kind}: {:?}", begin.elapsed());
    }
}

#[test]
fn a_device_change_during_a_pause_is_announced_after_it() {
    let machine = machine("work", "window=20", 1, "memory:16M").start().unwrap();
    machine.console().unwrap().wait_for(" sums\n", grown(LONG)).unwrap();
    machine.pause().unwrap();
    let before = memory(&machine);
    machine.nics().attach(&NetworkOptions::new(Attachment::None)).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(before == memory(&machine), "the guest was told while it was paused");
    machine.resume();
    machine.console().unwrap().take();
    machine.console().unwrap().wait_for(" sums\n", grown(LONG)).unwrap();
    end(machine);
}

#[test]
fn pauses_and_resumes_of_several_threads_leave_the_machine_as_the_last_one_wants() {
    let machine = machine("exits", "spew=1000000000", 2, "memory:1M").start().unwrap();
    let console = machine.console().unwrap();
    for round in 0..20 {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _ = machine.pause();
                        machine.resume();
                    }
                });
            }
        });
        // All threads have resumed it, so it runs.
        console.take();
        console.wait_for("\n", grown(LONG)).unwrap_or_else(|error| panic!("round {round}: {error}"));
        machine.pause().unwrap();
        console.take();
        thread::sleep(Duration::from_millis(2));
        assert_eq!(console.take(), b"", "round {round}: it runs though it is paused");
        machine.resume();
    }
    end(machine);
}

#[test]
fn a_machine_that_restarts_repeatedly_can_be_paused() {
    let machine = machine("exits", "reset=acpi", 2, "memory:1M").on_reset(OnReset::Restart).start().unwrap();
    for round in 0..20 {
        machine.pause().unwrap();
        let before = memory_if_there_is_one(&machine);
        thread::sleep(Duration::from_millis(10));
        assert!(before == memory_if_there_is_one(&machine), "round {round}: a life was built during the pause");
        machine.resume();
        thread::sleep(Duration::from_millis(round));
    }
    end(machine);
}

/// Returns nothing between two lives.
fn memory_if_there_is_one(machine: &Machine) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MEMORY as usize];
    machine.guest().read(0, &mut bytes).ok().map(|()| bytes)
}
