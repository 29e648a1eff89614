//! Everything in parallel and in random order: a driver on each of several VPs, and a host that removes devices and offers them again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::child::{FakeChild, PATIENCE};
use super::device::{TestDevice, command};
use super::guest::{Guest, GuestChannel};
use super::protocol::{asking, frames, request};
use crate::common::patience::Patience;
use viridian::hyperv::VpIndex;
use viridian::vmbus::VmBus;
use viridian::vmbus::{ChannelId, Version};
use zerocopy::IntoBytes;

const DEVICES: u64 = 3;
const PAGES_EACH: u64 = 40;

/// The next action of a driver.
#[derive(Clone, Debug)]
enum Step {
    /// Open the channel, or close it.
    Toggle,
    /// Exchange packets.
    Echo(u64),
    /// Retarget signals.
    Retarget(u32),
    /// Create a GPADL and tear it down.
    Gpadl,
    /// Make the host write more than fits.
    Flood(u32),
    /// Close the channel while packets are in flight.
    CloseBusy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Toggle),
        3 => (1_u64..200).prop_map(Step::Echo),
        2 => (0_u32..4).prop_map(Step::Retarget),
        1 => Just(Step::Gpadl),
        1 => (1_u32..400).prop_map(Step::Flood),
        1 => Just(Step::CloseBusy),
    ]
}

/// The next action of the host: the device, and the delay in microseconds.
fn plug() -> impl Strategy<Value = (u64, u64)> {
    (1..=DEVICES, 0_u64..3000)
}

/// The driver of one device. It closes its channel at the end.
struct Driver<'a> {
    guest: &'a Guest,
    instance: u64,
    channel: ChannelId,
    open: Option<GuestChannel<'a>>,
    vp: VpIndex,
}

impl<'a> Driver<'a> {
    fn new(guest: &'a Guest, instance: u64) -> Self {
        let channel = guest.offer(instance.into(), 0).channel;
        Self { guest, instance, channel, open: None, vp: VpIndex(instance as u32 % 4) }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Toggle if self.open.is_some() => self.close(),
            Step::Toggle => {
                let pages = frames(self.instance * PAGES_EACH, 32);
                self.open = self.guest.open(self.channel, &pages, self.vp);
            }
            Step::Echo(count) => self.echo(*count),
            Step::Retarget(vp) => {
                if let Some(open) = &mut self.open
                    && open.retarget(VpIndex(*vp))
                {
                    self.vp = VpIndex(*vp);
                }
            }
            Step::Gpadl => {
                let pages = frames(self.instance * PAGES_EACH + 32, 8);
                let gpadl = self.guest.gpadl(self.channel, &pages).expect("a GPADL of good pages");
                self.guest.teardown(self.channel, gpadl);
            }
            Step::Flood(count) => {
                if let Some(open) = &mut self.open {
                    open.send(&asking(0, &[request(command::SEND, *count, 3000).as_bytes()]));
                }
                self.receive(u64::from(*count) + 1);
            }
            Step::CloseBusy => {
                if let Some(open) = &mut self.open {
                    open.send(&asking(0, &[request(command::SEND, 1000, 200).as_bytes()]));
                    self.close();
                }
            }
        }
        self.heed_rescind(Duration::ZERO);
    }

    fn echo(&mut self, count: u64) {
        let mut sent = 0;
        let Some(open) = &mut self.open else { return };
        while sent < count && open.send(&asking(sent, &[request(command::ECHO, 0, 0).as_bytes()])) {
            sent += 1;
        }
        self.receive(sent);
    }

    /// Waits for this number of packets, or until none can arrive any more.
    fn receive(&mut self, count: u64) {
        let mut patience = Patience::new(PATIENCE);
        let mut received = 0;
        while received < count {
            let Some(open) = &mut self.open else { return };
            match open.receive_within(Duration::from_millis(20)) {
                Some(_) => received += 1,
                None => self.heed_rescind(Duration::ZERO),
            }
            assert!(!patience.is_over(), "device {}: {received} of {count} packets came", self.instance);
        }
    }

    fn close(&mut self) {
        self.open.take().into_iter().for_each(GuestChannel::close);
    }

    /// Releases a rescinded channel, and returns the next offer.
    fn heed_rescind(&mut self, time: Duration) {
        if self.guest.was_rescinded(self.channel, time) {
            self.close();
            self.guest.release(self.channel);
            self.channel = self.guest.offer(self.instance.into(), 0).channel;
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 12, max_shrink_iters: 200, ..Config::default() })]

    #[test]
    fn drivers_on_several_vps_and_a_busy_host_never_lose_a_message_or_a_signal(
        drivers in prop::collection::vec(prop::collection::vec(step(), 1..40), DEVICES as usize),
        plugs in prop::collection::vec(plug(), 0..30),
        version in prop::sample::select(vec![Version::V2_4, Version::V4_1, Version::V5_0, Version::V5_3]),
    ) {
        let (bus, child) = (VmBus::default(), FakeChild::new(4, (DEVICES + 1) * PAGES_EACH));
        let devices: Vec<TestDevice> = (1..=u128::from(DEVICES)).map(TestDevice::new).collect();
        let mut ids: Vec<_> = devices.iter().map(|device| bus.offer(Box::new(device.clone())).unwrap()).collect();
        let attachment = bus.attach(child.clone()).unwrap();
        let mut guest = Guest::connected(&child, version);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let host = scope.spawn(|| {
                for (device, pause) in plugs {
                    let index = device as usize - 1;
                    std::thread::sleep(Duration::from_micros(pause));
                    assert!(bus.rescind(ids[index]));
                    ids[index] = bus.offer(Box::new(devices[index].clone())).unwrap();
                }
                over.store(true, Ordering::SeqCst);
            });
            for (instance, steps) in (1..).zip(&drivers) {
                let (guest, over) = (&guest, &over);
                scope.spawn(move || {
                    let mut driver = Driver::new(guest, instance);
                    steps.iter().filter(|step| version >= Version::V4_1 || !matches!(step, Step::Retarget(_))).for_each(|step| driver.run(step));
                    while !over.load(Ordering::SeqCst) {
                        driver.heed_rescind(Duration::from_millis(1));
                    }
                    driver.close();
                });
            }
            host.join().unwrap();
        });
        guest.unload();
        prop_assert!(devices.iter().all(|device| device.open.load(Ordering::SeqCst) == 0), "a handler outlives the guest");
        // The next kernel gets all existing offers.
        prop_assert!(guest.contact(version));
        guest.request_offers();
        drop(attachment);
        prop_assert_eq!(child.ports(), (vec![], vec![]));
    }
}
