//! Removed buses, channels and machines leave no thread and no descriptor behind; idle ones sleep.
//!
//! This test has a binary of its own, because it counts the threads and descriptors of the whole process.

#[path = "vmbus/child.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod child;
#[path = "common/mod.rs"]
mod common;
#[path = "vmbus/device.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod device;
#[path = "vmbus/guest.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod guest;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use child::FakeChild;
use common::patience::{grown, holds_within};
use device::TestDevice;
use guest::Guest;
use viridian::Builder;
use viridian::hyperv::VpIndex;
use viridian::internals::services::ServiceOptions;
use viridian::machine::End;
use viridian::vmbus::Version;
use viridian::vmbus::VmBus;

fn descriptors_and_threads() -> (usize, usize) {
    let count = |directory| fs::read_dir(directory).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Time limit for the kernel to remove a thread that was joined.
#[track_caller]
fn expect(wanted: (usize, usize)) {
    let is_so = || descriptors_and_threads() == wanted;
    assert!(
        holds_within(Duration::from_secs(10), is_so),
        "{:?} descriptors and threads, wanted {wanted:?}",
        descriptors_and_threads()
    );
}

/// Returns the counts when they no longer decrease: another thread may release something a moment later.
fn settled() -> (usize, usize) {
    let mut now = descriptors_and_threads();
    loop {
        std::thread::sleep(grown(Duration::from_millis(100)));
        match descriptors_and_threads() {
            later if later == now => return now,
            later => now = later,
        }
    }
}

/// Returns the number of times that threads of this process have gone to sleep.
fn sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let status =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("guest/")));
    let status = status.map(|task| fs::read_to_string(task.join("status")).unwrap_or_default());
    let line =
        |status: String| status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t")?.parse().ok());
    status.map(|status| line(status).unwrap_or(0_u64)).sum()
}

fn frames(first: u64) -> Vec<u64> {
    (first..first + 8).collect()
}

#[test]
fn removed_devices_leave_nothing_behind_and_idle_ones_sleep() {
    let before = descriptors_and_threads();

    // Fifty guests at once, each with a channel open; half of them end with it.
    let guests: Vec<_> = (0..50)
        .map(|_| {
            let (bus, child, device) = (VmBus::default(), FakeChild::new(1, 64), TestDevice::new(1));
            bus.offer(Box::new(device.clone())).unwrap();
            let attachment = bus.attach(child.clone()).unwrap();
            (bus, child.clone(), device, attachment, Guest::connected(&child, Version::NEWEST))
        })
        .collect();
    for (_, _, _, _, guest) in &guests {
        std::mem::forget(guest.open(guest.offer(1, 0).channel, &frames(0), VpIndex(0)).unwrap());
    }
    let (_, threads) = descriptors_and_threads();
    assert_eq!(threads - before.1, 50 * 3, "the bus's, the channel's, and the guest's own");
    let are_asleep = || {
        let asleep = sleeps();
        std::thread::sleep(Duration::from_millis(300));
        sleeps() == asleep
    };
    assert!(holds_within(Duration::from_secs(10), are_asleep), "threads wake up for nothing");
    for (index, (bus, child, device, attachment, guest)) in guests.into_iter().enumerate() {
        if index % 2 == 0 {
            guest.unload();
        }
        drop(attachment);
        drop(guest);
        drop(bus);
        assert_eq!(device.open.load(Ordering::SeqCst), 0);
        assert_eq!(Arc::strong_count(&child), 1, "somebody keeps the child");
    }

    // Many channels one after the other, on one bus.
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    bus.offer(Box::new(TestDevice::new(1))).unwrap();
    let attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channel = guest.offer(1, 0).channel;
    let open_once = || guest.open(channel, &frames(0), VpIndex(0)).unwrap().close();
    open_once();
    let idle = settled();
    (0..500).for_each(|_| open_once());
    expect((idle.0, before.1 + 2));
    drop((attachment, guest, child));
    expect(before);

    // Machines whose guests do not close their channels.
    let kernel = Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("vmbus");
    let builder = Builder::new().services(ServiceOptions::NONE).kernel(kernel).cmdline("only=offers").memory(8 << 20);
    let builder = builder.device(|| TestDevice::new(1));
    let run = |count: usize| {
        let machines: Vec<_> = (0..count).map(|_| builder.start().unwrap()).collect();
        machines.into_iter().for_each(|machine| assert!(matches!(machine.wait(), End::Exited(0))));
    };
    run(1);
    let after_one = settled();
    run(20);
    expect(after_one);
    let machine = builder.clone().cmdline("only=sizes").start().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(machine);
    expect(after_one);
}
