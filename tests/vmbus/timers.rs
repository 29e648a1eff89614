//! Timers of handlers, and requests of the host to them.

use std::sync::mpsc;
use std::time::Duration;

use super::child::FakeChild;
use super::guest::Guest;
use super::protocol::frames;
use viridian::hyperv::VpIndex;
use viridian::vmbus::vsp::{Channel, Handler, NewPacket, Offer, Requested, Requests, ServiceError, Unsent, Vsp};
use viridian::vmbus::{Guid, Version, VmBus};

/// A request of the host to send a packet after some time. The handler reports on `taken` that it has the request.
struct Ring {
    after: Duration,
    taken: mpsc::Sender<Duration>,
}

/// A device that sends the guest a packet on request of the host.
struct AlarmClock(Requests<Ring>);

impl Vsp for AlarmClock {
    fn offer(&self) -> Offer {
        Offer::new(Guid::new(0x616c61726d << 88), Guid::new(1))
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Ok(Box::new(AlarmHandler { requested: self.0.connect(channel.port()), deadline: None, calls: 0 }))
    }
}

struct AlarmHandler {
    requested: Requested<Ring>,
    deadline: Option<Duration>,
    calls: u64,
}

impl Handler for AlarmHandler {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        self.calls += 1;
        let now = channel.port().time();
        while let Some(Ring { after, taken }) = self.requested.take() {
            self.deadline = Some(now + after);
            let _ = taken.send(now);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            channel.rings().1.write(&NewPacket::in_band(now.as_nanos() as u64, &[&self.calls.to_le_bytes()]))?;
            channel.publish();
        }
        channel.port().wake_after(self.deadline.map(|deadline| deadline - now));
        Ok(())
    }
}

#[test]
fn a_handler_is_called_when_its_timer_expires_and_not_before() {
    let (bus, child, requests) = (VmBus::default(), FakeChild::new(2, 256), Requests::new(4));
    bus.offer(Box::new(AlarmClock(requests.clone()))).unwrap();
    let (taken, times) = mpsc::channel();
    let ring = |after| Ring { after, taken: taken.clone() };
    assert!(matches!(requests.send(ring(Duration::ZERO)), Err(Unsent::NotOpen(_))), "no guest is there");
    let attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let id = guest.offer(1, 0).channel;
    let mut channel = guest.open(id, &frames(0, 4), VpIndex(1)).unwrap();

    let after = Duration::from_millis(30);
    requests.send(ring(after)).ok().unwrap();
    let set = times.recv().unwrap();
    let (time, calls) = channel.receive();
    assert!(Duration::from_nanos(time) >= set + after);
    // Called for the opening, the request and the timer, and perhaps once more for a signal of the guest.
    let calls = calls.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).unwrap();
    assert!((2..=6).contains(&calls), "{calls} calls");

    // A later request replaces the timer of an earlier one.
    requests.send(ring(Duration::from_secs(3600))).ok().unwrap();
    requests.send(ring(Duration::ZERO)).ok().unwrap();
    channel.receive();

    // A request to a channel that closes before it answers fails at once.
    channel.close();
    drop(attachment);
    assert!(matches!(requests.send(ring(Duration::ZERO)), Err(Unsent::NotOpen(_))));
}
