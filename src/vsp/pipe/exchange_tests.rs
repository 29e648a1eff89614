use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::GuestAddress;

use super::*;
use crate::memory::GuestMemory;
use crate::vmbus::ids::GpadlId;
use crate::vmbus::ring::guest::GuestSender;
use crate::vmbus::testing::GuestBus;
use crate::vmbus::vsp::{Offer, Port};
use crate::vsp::keyboard::protocol::Keyboard;
use crate::vsp::pipe::provider::Protocol;

/// A port whose handler is told to return.
#[derive(Default)]
struct TestPort(AtomicBool);

impl Port for TestPort {
    fn signal_guest(&self) {}

    fn wake(&self) {}

    fn wake_after(&self, _time: Option<Duration>) {}

    fn wake_when(&self, _source: BorrowedFd<'_>, _readable: bool, _writable: bool) -> io::Result<()> {
        Ok(())
    }

    fn time(&self) -> Duration {
        Duration::ZERO
    }

    fn offer_subchannels(&self, _count: u16) {}

    fn should_return(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A device whose guest sends another packet for each that is taken.
struct Endless {
    sender: GuestSender,
    port: Arc<TestPort>,
    received: usize,
    /// The number of packets before each that was sent.
    sent: Vec<usize>,
}

impl Peer for Endless {
    const MAX_PACKET: usize = 8;

    fn name(&self) -> &'static str {
        "a test"
    }

    fn receive(&mut self, _payload: &[u8]) -> Result<(), ServiceError> {
        self.received += 1;
        assert!(self.received <= 4 * BATCH, "nothing is sent while packets come");
        let _ = self.sender.send(&NewPacket::in_band(0, &[&[1; 8]])).unwrap();
        Ok(())
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.sent.push(self.received);
        self.port.0.store(self.sent.len() == 3, Ordering::SeqCst);
        self.sent.len().is_multiple_of(2).then(|| vec![0; 8])
    }
}

#[test]
fn a_guest_whose_ring_is_never_empty_gets_what_is_due() {
    const PAGES: u64 = 4;
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 16 * 4096)]).unwrap();
    let mut bus = GuestBus::new(&memory, 1);
    let offer: Offer = Keyboard::default().offer();
    let id = bus.offer(offer);
    bus.gpadl(id, GpadlId(1), 0..2 * PAGES);
    let opening = bus.open(id, GpadlId(1), PAGES as u32);
    let mut sender = GuestSender::new(opening.incoming.clone());
    let port = Arc::new(TestPort::default());
    let mut channel = Channel::new(opening, 0, memory, port.clone()).unwrap();
    let _ = sender.send(&NewPacket::in_band(0, &[&[1; 8]])).unwrap();
    let mut peer = Endless { sender, port, received: 0, sent: Vec::new() };
    Exchange::default().run(&mut channel, &mut peer).unwrap();
    assert_eq!(peer.sent, [BATCH, 2 * BATCH, 2 * BATCH]);
}
