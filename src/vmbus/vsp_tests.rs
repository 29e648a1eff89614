use super::*;
use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::guest::{GuestReceiver, GuestSender};
use crate::vmbus::testing::GuestBus;
use crate::wire::guid::Guid;
use crate::wire::guid::interface;
use std::sync::atomic::{AtomicUsize, Ordering};
use vm_memory::GuestAddress;

#[derive(Default)]
struct CountingPort(AtomicUsize);

impl Port for CountingPort {
    fn signal_guest(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn wake(&self) {}

    fn offer_subchannels(&self, _count: u16) {}
}

/// A device that completes each packet with the packet's own payload.
struct Echo;

impl Vsp for Echo {
    fn offer(&self) -> Offer {
        Offer::new(interface::HEARTBEAT, Guid::new(1))
    }

    fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Ok(Box::new(EchoChannel(Vec::new())))
    }
}

struct EchoChannel(Vec<u8>);

impl Handler for EchoChannel {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        channel.each_packet(&mut self.0, 64, |outgoing, packet| {
            if packet.header.kind != PacketKind::IN_BAND {
                return Err(ServiceError::Protocol(format!("{:?}", packet.header.kind)));
            }
            Ok(outgoing.write(&NewPacket::completion(packet.header.transaction_id, &[packet.payload]))?)
        })
    }
}

/// Opens a channel as a guest does: contact, offers, GPADL, open. Pages 0 to 3 are the rings.
fn open(vsp: &mut dyn Vsp) -> (Channel, Box<dyn Handler>, GuestSender, GuestReceiver, Arc<CountingPort>) {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 8 * 4096)]).unwrap();
    let mut bus = GuestBus::new(&memory, 1);
    let id = bus.offer(vsp.offer());
    bus.gpadl(id, GpadlId(1), 0..4);
    let opening = bus.open(id, GpadlId(1), 2);
    let sender = GuestSender::new(opening.incoming.clone());
    let receiver = GuestReceiver::new(opening.outgoing.clone());
    let port = Arc::new(CountingPort::default());
    let mut channel = Channel::new(opening, 0, memory, port.clone()).unwrap();
    assert_eq!(channel.gpadl(GpadlId(1)).unwrap().len(), 4 * 4096);
    let handler = vsp.open(&mut channel).unwrap();
    bus.opened(id);
    (channel, handler, sender, receiver, port)
}

#[test]
fn a_guests_driver_exchanges_packets_with_a_device() {
    let (mut channel, mut handler, mut sender, mut receiver, port) = open(&mut Echo);
    assert!(sender.send(&NewPacket::in_band(7, &[b"ping pong"])).unwrap().is_needed());
    assert!(!sender.send(&NewPacket::in_band(8, &[b""])).unwrap().is_needed());
    handler.service(&mut channel).unwrap();
    assert_eq!(port.0.load(Ordering::SeqCst), 1, "one interrupt for two completions");
    let mut buffer = Vec::new();
    let packet = receiver.receive(&mut buffer).unwrap();
    assert_eq!((packet.header.kind, packet.header.transaction_id), (PacketKind::COMPLETION, 7));
    assert_eq!(packet.payload, b"ping pong\0\0\0\0\0\0\0");
    assert_eq!(receiver.receive(&mut buffer).unwrap().header.transaction_id, 8);
    assert!(receiver.receive(&mut buffer).is_none());
    assert!(sender.send(&NewPacket::in_band(9, &[b""])).unwrap().is_needed(), "the device sleeps again");
}

#[test]
fn a_device_waits_for_a_guest_that_does_not_read_and_loses_nothing() {
    let (mut channel, mut handler, mut sender, mut receiver, _) = open(&mut Echo);
    let (mut sent, mut received, mut buffer) = (0, 0, Vec::new());
    while received < 2000 {
        while sent < 2000 && sender.send(&NewPacket::in_band(sent, &[&[1; 40]])).is_ok() {
            sent += 1;
        }
        handler.service(&mut channel).unwrap();
        handler.service(&mut channel).unwrap();
        // The guest reads everything. It has to wake the device if the device still has packets to read.
        receiver.begin_read();
        let mut signalled = false;
        while let Some(packet) = receiver.receive(&mut buffer) {
            assert_eq!(packet.header.transaction_id, received);
            received += 1;
            signalled |= receiver.close().is_needed();
        }
        assert!(!receiver.end_read());
        assert!(signalled || received == 2000 || received == sent, "the device sleeps with packets to read");
    }
}

#[test]
fn an_error_of_the_device_ends_the_service_of_its_channel() {
    let (mut channel, mut handler, mut sender, mut receiver, port) = open(&mut Echo);
    let _ = sender.send(&NewPacket::in_band(1, &[])).unwrap();
    let _ = sender.send(&NewPacket::completion(2, &[])).unwrap();
    assert!(matches!(handler.service(&mut channel), Err(ServiceError::Protocol(_))));
    assert_eq!(receiver.receive(&mut Vec::new()).unwrap().header.transaction_id, 1);
    assert_eq!(port.0.load(Ordering::SeqCst), 1, "the guest is signalled for the earlier completion");
}
