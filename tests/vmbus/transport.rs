//! Packets through channels.

use super::child::FakeChild;
use super::device::{Request, TestDevice, command, pattern};
use super::guest::{Guest, GuestChannel};
use super::protocol::{SOON, asking, frames, request};
use viridian::hyperv::VpIndex;
use viridian::internals::Child;
use viridian::internals::vmbus::{GpaDirectHeader, GpaRangeHeader};
use viridian::vmbus::Version;
use viridian::vmbus::VmBus;
use viridian::vmbus::vsp::NewPacket;
use viridian::vmbus::vsp::{PacketKind, TransferPagesHeader, TransferRange};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

/// Runs `test` with a channel that has rings of one page each.
fn with_channel(test: impl FnOnce(GuestChannel<'_>)) {
    let (bus, child) = (VmBus::default(), FakeChild::new(2, 256));
    bus.offer(Box::new(TestDevice::new(1))).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channel = guest.offer(1, 0).channel;
    test(guest.open(channel, &frames(0, 4), VpIndex(1)).unwrap());
}

fn payload(request: Request, length: usize) -> Vec<u8> {
    let rest = (0..length - size_of::<Request>()).map(|index| pattern(3, index));
    request.as_bytes().iter().copied().chain(rest).collect()
}

#[test]
fn packets_of_every_size_are_transferred_unchanged_wherever_the_ring_wraps() {
    with_channel(|mut channel| {
        // The longest packet that fits into 4096 bytes, of which one stays free, with header and footer.
        for length in (16..=4096 - 32).step_by(8).chain((16..200).rev()) {
            let sent = payload(request(command::ECHO, 0, 0), length);
            assert!(channel.send(&asking(length as u64, &[&sent])));
            let (transaction_id, received) = channel.receive();
            assert_eq!(transaction_id, length as u64);
            assert!(received.starts_with(&sent) && received.len() < length + 8);
        }
        channel.close();
    });
}

#[test]
fn a_host_without_room_in_the_ring_continues_when_the_guest_has_made_some() {
    with_channel(|mut channel| {
        for (count, length) in [(3000, 1), (1000, 100), (20, 4064)] {
            let sent = request(command::SEND, count, length);
            assert!(channel.send(&NewPacket::in_band(0, &[sent.as_bytes()])));
            for number in 0..count {
                if number % 500 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                let (transaction_id, received) = channel.receive();
                assert_eq!(transaction_id, u64::from(number));
                assert!((0..length as usize).all(|index| received[index] == pattern(number, index)));
            }
        }
        channel.close();
    });
}

#[test]
fn a_guest_without_room_in_the_ring_is_signalled_when_the_host_has_made_some() {
    with_channel(|mut channel| {
        const PACKETS: u64 = 5000;
        let sent = payload(request(command::ECHO, 0, 0), 96);
        let needed = NewPacket::space(sent.len());
        let (mut next, mut received) = (0, 0);
        while received < PACKETS {
            // As Linux's netvsc does: fill the ring, announce the required size, and sleep.
            while next < PACKETS && channel.send(&asking(next, &[&sent])) {
                next += 1;
            }
            let has_room = next == PACKETS || channel.sender.set_pending(needed);
            while let Some((transaction_id, _)) = channel.take() {
                assert_eq!(transaction_id, received);
                received += 1;
            }
            if !has_room && received < next {
                let flag = channel.id.0 as u16;
                assert!(channel.guest.child.guest_waits(VpIndex(1), flag, SOON), "a signal is lost");
            }
            channel.sender.set_pending(0);
        }
        channel.close();
    });
}

#[test]
fn the_device_reaches_the_pages_that_a_packet_names() {
    with_channel(|mut channel| {
        let memory = channel.guest.child.memory().clone();
        memory.write_slice(&[0x0f; 3 * 4096], GuestAddress(100 * 4096)).unwrap();
        // Two ranges: the last 96 bytes of one page and the first part of another, and 16 bytes of a third page.
        let ranges = [
            GpaRangeHeader { byte_count: 4000, byte_offset: 4000 }.as_bytes(),
            [100_u64, 102].as_bytes(),
            GpaRangeHeader { byte_count: 16, byte_offset: 8 }.as_bytes(),
            [101_u64].as_bytes(),
        ]
        .concat();
        let extra = [GpaDirectHeader { reserved: 0, range_count: 2 }.as_bytes(), &ranges[..]].concat();
        let sent = request(command::INVERT, 0, 0);
        let payload = [sent.as_bytes()];
        assert!(channel.send(&NewPacket { kind: PacketKind::GPA_DIRECT, extra: &extra, ..asking(1, &payload) }));
        assert_eq!(channel.receive().0, 1);
        let mut bytes = [0; 3 * 4096];
        memory.read_slice(&mut bytes, GuestAddress(100 * 4096)).unwrap();
        for (index, byte) in bytes.into_iter().enumerate() {
            let inverted = (4000..4096).contains(&index)
                || (4096 + 8..4096 + 24).contains(&index)
                || (8192..8192 + 4000 - 96).contains(&index);
            assert_eq!(byte, if inverted { 0xf0 } else { 0x0f }, "byte {index}");
        }
        channel.close();
    });
}

#[test]
fn the_device_reaches_the_parts_of_a_gpadl_that_a_packet_names() {
    with_channel(|mut channel| {
        let memory = channel.guest.child.memory().clone();
        let gpadl = channel.guest.gpadl(channel.id, &[200, 150]).unwrap();
        let ranges =
            [TransferRange { byte_count: 8, byte_offset: 4092 }, TransferRange { byte_count: 1, byte_offset: 0 }];
        let header = TransferPagesHeader { page_set: 1, sender_owns_set: 1, reserved: 0, range_count: 2 };
        let extra = [header.as_bytes(), ranges.as_bytes()].concat();
        let sent = Request { gpadl, ..request(command::INVERT, 0, 0) };
        let payload = [sent.as_bytes()];
        let packet = NewPacket { kind: PacketKind::TRANSFER_PAGES, extra: &extra, ..asking(1, &payload) };
        assert!(channel.send(&packet));
        assert_eq!(channel.receive().0, 1);
        let read = |address| memory.read_obj::<u32>(GuestAddress(address)).unwrap();
        assert_eq!((read(200 * 4096), read(200 * 4096 + 4092), read(150 * 4096)), (0xff, u32::MAX, u32::MAX));
        // The device has released the GPADL when the answer arrives. A packet that uses it then ends the service.
        channel.guest.teardown(channel.id, gpadl);
        assert!(channel.send(&packet));
        assert_eq!(channel.receive_within(std::time::Duration::from_millis(50)), None);
        channel.close();
    });
}
