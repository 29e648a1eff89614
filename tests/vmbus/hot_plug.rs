//! Devices are offered and rescinded while the guest runs, also while it opens or closes their channels.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock};

use super::child::FakeChild;
use super::device::{TestDevice, command};
use super::guest::Guest;
use super::protocol::{A_WHILE, SOON, asking, eventually, frames, request};
use viridian::hyperv::VpIndex;
use viridian::internals::Kick;
use viridian::internals::vmbus::{ChannelReference, MessageType, OpenResult, Settings};
use viridian::vmbus::Guid;
use viridian::vmbus::Version;
use viridian::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use viridian::vmbus::{DeviceId, VmBus};
use zerocopy::IntoBytes;

/// A device that counts its instances, and stops at each step until the test continues it.
struct Slow {
    steps: Arc<Mutex<Receiver<()>>>,
    alive: Arc<AtomicUsize>,
    /// Number of times that it has begun to open.
    begun: Arc<AtomicUsize>,
}

impl Slow {
    fn new() -> (Self, SyncSender<()>, Arc<AtomicUsize>) {
        let (go, steps) = mpsc::sync_channel(100);
        let alive = Arc::new(AtomicUsize::new(1));
        (Self { steps: Arc::new(Mutex::new(steps)), alive: alive.clone(), begun: Arc::default() }, go, alive)
    }

    fn wait(&self) {
        let _ = self.steps.lock().unwrap().recv();
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Vsp for Slow {
    fn offer(&self) -> Offer {
        Offer::new(Guid::new(77), Guid::new(1))
    }

    fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.wait();
        self.alive.fetch_add(1, Ordering::SeqCst);
        let (steps, alive, begun) = (self.steps.clone(), self.alive.clone(), self.begun.clone());
        Ok(Box::new(SlowHandler(Slow { steps, alive, begun })))
    }
}

struct SlowHandler(Slow);

impl Handler for SlowHandler {
    fn service(&mut self, _channel: &mut Channel) -> Result<(), ServiceError> {
        Ok(())
    }
}

impl Drop for SlowHandler {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[test]
fn a_device_can_be_added_removed_and_added_again_while_the_guest_runs() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let device = TestDevice::new(1);
    for _ in 0..50 {
        let id = bus.offer(Box::new(device.clone())).unwrap();
        let channel = guest.offer(1, 0).channel;
        let open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
        assert!(bus.rescind(id) && !bus.rescind(id));
        eventually("the end of the handler", || device.open.load(Ordering::SeqCst) == 0);
        // The same device is offered again when the guest has released the last.
        let next = bus.offer(Box::new(device.clone())).unwrap();
        assert!(guest.was_rescinded(channel, SOON));
        open.close();
        guest.release(channel);
        let channel = guest.offer(1, 0).channel;
        assert!(bus.rescind(next));
        assert!(guest.was_rescinded(channel, SOON));
        guest.release(channel);
    }
    assert_eq!(bus.device_count(), 0);
}

#[test]
fn a_retired_device_answers_until_the_guest_closes_it_or_the_host_rescinds_it() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let device = TestDevice::new(1);
    for round in 0..20 {
        let id = bus.offer(Box::new(device.clone())).unwrap();
        let channel = guest.offer(1, 0).channel;
        let mut open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
        assert!(bus.retire(id) && !bus.retire(id));
        assert!(guest.was_rescinded(channel, SOON));
        assert!(open.send(&asking(7, &[request(command::ECHO, 0, 0).as_bytes()])));
        assert_eq!(open.receive().0, 7);
        assert_eq!(device.open.load(Ordering::SeqCst), 1);
        if round % 2 == 0 {
            assert!(!bus.rescind(id), "it is gone as far as the host is concerned");
            eventually("the end of the handler", || device.open.load(Ordering::SeqCst) == 0);
        }
        open.close();
        eventually("the end of the handler", || device.open.load(Ordering::SeqCst) == 0);
        guest.release(channel);
    }
}

/// A VP that nobody has to wake.
struct Vp;

impl Kick for Vp {
    fn kick(&self) {}
}

#[test]
fn a_guest_that_closes_a_retired_device_goes_on_when_the_host_no_longer_uses_its_memory() {
    let settings = Settings::default();
    let (gate, bus, child) = (settings.gate.clone(), VmBus::new(settings), FakeChild::new(1, 64));
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let ((busy, is_busy), (go, steps)) = (mpsc::channel(), mpsc::channel());
    let (busy, steps) = (Mutex::new(busy), Mutex::new(steps));
    let device = TestDevice::new(1).on_call(move |_, _| {
        busy.lock().unwrap().send(()).unwrap();
        steps.lock().unwrap().recv().unwrap();
    });
    let id = bus.offer(Box::new(device.clone())).unwrap();
    let channel = guest.offer(1, 0).channel;
    let mut open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
    bus.retire(id);
    assert!(guest.was_rescinded(channel, SOON));
    assert!(open.send(&asking(7, &[request(command::CALL, 0, 0).as_bytes()])));
    is_busy.recv().unwrap();
    let (close, closed) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _member = gate.join(Box::new(Vp));
            guest.post(MessageType::CLOSECHANNEL, &ChannelReference { channel });
            close.send(device.open.load(Ordering::SeqCst)).unwrap();
        });
        assert_eq!(closed.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout), "the host uses the rings");
        go.send(()).unwrap();
        assert_eq!(closed.recv().unwrap(), 0, "the handler has ended");
    });
    guest.release(channel);
}

#[test]
fn a_device_ends_even_if_the_guest_does_not_react() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let (slow, go, alive) = Slow::new();
    let id = bus.offer(Box::new(slow)).unwrap();
    let channel = guest.offer(1, 0);
    go.send(()).unwrap();
    let open = guest.open(channel.channel, &frames(0, 8), VpIndex(0)).unwrap();
    assert_eq!(alive.load(Ordering::SeqCst), 2);
    bus.rescind(id);
    go.send(()).unwrap();
    eventually("the device's end", || alive.load(Ordering::SeqCst) == 0);
    drop(open);
}

#[test]
fn a_device_that_is_rescinded_while_it_opens_does_not_open() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let (slow, go, alive) = Slow::new();
    let begun = slow.begun.clone();
    let id = bus.offer(Box::new(slow)).unwrap();
    let channel = guest.offer(1, 0).channel;
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| guest.open(channel, &frames(0, 8), VpIndex(0)).is_none());
        eventually("the open", || begun.load(Ordering::SeqCst) == 1);
        bus.rescind(id);
        assert!(!guest.was_rescinded(channel, A_WHILE), "the device may use the guest's pages");
        (0..2).for_each(|_| go.send(()).unwrap());
        assert!(opening.join().unwrap());
        assert!(guest.was_rescinded(channel, SOON));
    });
    eventually("the device's end", || alive.load(Ordering::SeqCst) == 0);
    guest.release(channel);
}

#[test]
fn a_guest_may_open_and_be_rescinded_while_the_device_still_closes() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let (slow, go, alive) = Slow::new();
    let id = bus.offer(Box::new(slow)).unwrap();
    let channel = guest.offer(1, 0).channel;
    go.send(()).unwrap();
    let open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
    let gpadl = open.gpadl;
    guest.post(MessageType::CLOSECHANNEL, &ChannelReference { channel });
    std::thread::scope(|scope| {
        let again = scope.spawn(|| guest.open(channel, &frames(8, 8), VpIndex(0)).is_some());
        let early = guest.find(MessageType::OPENCHANNEL_RESULT, |_: &OpenResult| true, A_WHILE);
        assert_eq!(early, None, "the channel opens before it is closed");
        (0..2).for_each(|_| go.send(()).unwrap());
        assert!(again.join().unwrap(), "it opens when it has closed");
    });
    guest.teardown(channel, gpadl);
    guest.post(MessageType::CLOSECHANNEL, &ChannelReference { channel });
    bus.rescind(id);
    assert!(!guest.was_rescinded(channel, A_WHILE), "the device uses the guest's pages");
    go.send(()).unwrap();
    assert!(guest.was_rescinded(channel, SOON));
    guest.release(channel);
    eventually("the device's end", || alive.load(Ordering::SeqCst) == 0);
    drop(open);
}

#[test]
fn a_device_can_remove_itself() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let id: Arc<OnceLock<DeviceId>> = Arc::default();
    let device = {
        let (bus, id) = (bus.clone(), id.clone());
        TestDevice::new(1).on_call(move |_, _| assert!(bus.rescind(*id.get().unwrap())))
    };
    id.set(bus.offer(Box::new(device)).unwrap()).unwrap();
    let channel = guest.offer(1, 0).channel;
    let mut open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
    assert!(open.send(&asking(1, &[request(command::CALL, 0, 0).as_bytes()])));
    assert!(guest.was_rescinded(channel, SOON));
    open.close();
    guest.release(channel);
}

#[test]
fn a_device_that_fails_to_open_returns_an_error_and_can_be_opened_later() {
    struct Moody(bool);
    impl Vsp for Moody {
        fn offer(&self) -> Offer {
            Offer::new(Guid::new(77), Guid::new(1))
        }
        fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
            self.0 = !self.0;
            match self.0 {
                true => Err(ServiceError::Protocol("not now".into())),
                false => Ok(Box::new(SlowHandler(Slow::new().0))),
            }
        }
    }
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    bus.offer(Box::new(Moody(false))).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channel = guest.offer(1, 0).channel;
    for _ in 0..20 {
        assert!(guest.open(channel, &frames(0, 8), VpIndex(0)).is_none());
        guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap().close();
    }
}
