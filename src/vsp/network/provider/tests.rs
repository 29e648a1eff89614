use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use zerocopy::FromBytes;

use super::outgoing::MAX_UNSENT;
use super::testing::*;
use crate::net::Queue;
use crate::net::frame::{Frame, FrameBuffer};
use crate::net::offload::headers::protocol;
use crate::net::offload::testing::packet;
use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::NewPacket;
use crate::vsp::network::nvsp::wire::{
    MessageType, RevokeBuffer, SendBuffer, SendRndisPacket, Status, Subchannel, Version, message, split,
};
use crate::vsp::network::rndis::oid::Oid;
use crate::vsp::network::rndis::wire::{
    IndicateStatus, MessageHeader, MessageType as RndisType, Status as RndisStatus, message as rndis,
};

#[test]
fn frames_are_sent_from_pages_and_sections_and_each_packet_is_completed() {
    let (mut host, mut open) = ready(1, 4);
    let (first, second) = (frame(PEER, GUEST, 1, 60), frame(PEER, GUEST, 2, 1514));
    host.write(210, &data(&first));
    open.rndis(20, SendRndisPacket::DATA, &[(210, data(&first).len())]);
    host.write(SEND_PAGE, &data(&second));
    let body = SendRndisPacket { channel_type: 0, section: 0, section_length: data(&second).len() as u32 };
    let payload = message(MessageType::SEND_RNDIS_PACKET, &body, 40);
    open.send(&NewPacket { wants_completion: true, ..NewPacket::in_band(21, &[&payload]) });
    // A packet that requires no completion gets none.
    open.send(&NewPacket::in_band(22, &[&payload]));
    open.serve();
    let all: Vec<_> = std::iter::from_fn(|| fetch(&mut host.peer)).collect();
    assert_eq!(all, [first, second.clone(), second]);
    let answers: Vec<_> = std::iter::from_fn(|| open.next()).collect();
    assert_eq!(answers.iter().map(|answer| answer.transaction).collect::<Vec<_>>(), [20, 21]);
    assert!(answers.iter().all(|answer| answer.payload[4..8] == Status::SUCCESS.0.to_le_bytes()));
    assert_eq!(host.nic.counters().transmit.frames(), 3);
}

#[test]
fn a_frame_wakes_the_channel_and_reaches_the_guest() {
    let (mut host, mut open) = ready(1, 4);
    for number in 0..3 {
        host.send(number, 100);
        let packet = open.wait();
        assert_eq!(host.frames(&packet), [frame(GUEST, PEER, number, 100)]);
        open.give_back(&packet);
    }
    assert_eq!(host.nic.counters().receive.frames(), 3);
}

#[test]
fn frames_that_arrive_together_take_one_packet_and_one_signal() {
    let (mut host, mut open) = ready(1, 4);
    let before = open.port.signals.load(Ordering::SeqCst);
    (0..20).for_each(|number| host.send(number, 200));
    open.serve();
    let packet = open.wait();
    assert_eq!(host.frames(&packet).len(), 20);
    assert!(open.next().is_none());
    assert_eq!(open.port.signals.load(Ordering::SeqCst) - before, 1);
}

#[test]
fn frames_wait_without_waking_the_guest_while_it_has_unread_ones() {
    let (mut host, mut open) = ready(1, 4);
    host.send(0, 200);
    open.serve();
    // The channel is woken for one more frame, and then for none until the guest has read.
    host.send(1, 200);
    assert!(open.has_rung());
    open.serve();
    for number in 2..30 {
        host.send(number, 200);
        assert!(!open.has_rung(), "frame {number}");
    }
    let packet = open.next().expect("the first frame");
    assert_eq!(host.frames(&packet).len(), 1);
    assert!(open.next().is_none());
    // The guest gets more frames without returning sections.
    let packet = open.wait();
    assert_eq!(host.frames(&packet).len(), 29);
    assert!(open.next().is_none());
}

#[test]
fn a_guest_that_does_not_signal_reads_gets_frames_at_once() {
    let (mut host, mut open) = ready(1, 4);
    open.sender.mind_no_room();
    for number in 0..3 {
        host.send(number, 200);
        open.serve();
    }
    for number in 0..3 {
        let packet = open.next().expect("a packet each");
        assert_eq!(host.frames(&packet)[0][14], number);
    }
}

#[test]
fn frames_for_a_guest_without_free_sections_wait_in_the_switch() {
    let (mut host, mut open) = ready(1, 4);
    (0..200).for_each(|number| host.send(number, 60));
    let mut packets = Vec::new();
    open.serve();
    packets.extend(std::iter::from_fn(|| open.next()));
    let got: usize = packets.iter().map(|packet| host.sections(packet).len()).sum();
    assert!(got < SECTIONS, "{got}");
    open.serve();
    assert!(open.next().is_none(), "no section is left for frames");
    // Control messages still get through.
    host.set(&mut open, Oid::GEN_CURRENT_PACKET_FILTER, &0x0d_u32.to_le_bytes());
    let mut numbers = Vec::new();
    while let Some(packet) = packets.pop().or_else(|| open.next()) {
        numbers.extend(host.frames(&packet).iter().map(|frame| frame[14]));
        open.give_back(&packet);
        open.serve();
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<u8>>());
    assert_eq!(host.nic.counters().receive.dropped, 0);
}

#[test]
fn frames_wait_while_the_ring_is_full() {
    // The ring is so small that there is room for one packet of frames at a time.
    let (mut host, mut open) = ready(1, 2);
    let mut numbers = Vec::new();
    for number in 0..100 {
        host.send(number, 60);
        open.serve();
    }
    while numbers.len() < 100 {
        let packet = open.wait();
        numbers.extend(host.frames(&packet).iter().map(|frame| frame[14]));
        open.give_back(&packet);
        open.serve();
    }
    assert_eq!(numbers, (0..100).collect::<Vec<u8>>());
}

#[test]
fn an_unplugged_cable_is_reported_and_stops_frames() {
    let (mut host, mut open) = ready(1, 4);
    for (up, expected) in [(false, RndisStatus::MEDIA_DISCONNECT), (true, RndisStatus::MEDIA_CONNECT)] {
        host.nic.set_link(up);
        let packet = open.wait();
        let message = host.sections(&packet).remove(0);
        let (head, body) = MessageHeader::read_from_prefix(&message).expect("a header");
        let status = IndicateStatus::read_from_prefix(body).expect("a body").0.status;
        assert_eq!((head.message_type, status), (RndisType::INDICATE_STATUS, expected));
        open.give_back(&packet);
        host.send(1, 60);
        open.is_woken();
        assert_eq!(open.next().is_some(), up);
    }
}

#[test]
fn a_revoked_buffer_is_no_longer_accessed_and_can_be_replaced() {
    let (mut host, mut open) = ready(1, 4);
    host.send(1, 60);
    let late = open.wait();
    open.tell(MessageType::REVOKE_RECEIVE_BUFFER, &RevokeBuffer { id: 0xcafe, reserved: 0 });
    let before = host.bytes(RECEIVE_PAGE * 4096, 4096 * RECEIVE_PAGES as usize);
    host.send(2, 60);
    open.serve();
    assert!(open.next().is_none());
    assert!(host.bytes(RECEIVE_PAGE * 4096, before.len()) == before);
    // A late completion for the old buffer frees no sections of the new one.
    open.tell(MessageType::SEND_RECEIVE_BUFFER, &SendBuffer { gpadl: RECEIVE, id: 0xcafe, reserved: 0 });
    open.give_back(&late);
    open.serve();
    let packet = open.next().expect("the frame that waited");
    assert_eq!(host.frames(&packet)[0][14], 2);
    // Tearing the GPADL down has the same effect, even without a revocation.
    open.handler.release_gpadl(RECEIVE);
    host.send(3, 60);
    open.serve();
    assert!(open.next().is_none());
}

/// Requests and opens a subchannel as a guest.
fn with_subchannel() -> (Host, Open, Open) {
    let (mut host, mut open) = ready(2, 4);
    let answer = open.tell(MessageType::SUBCHANNEL, &Subchannel { operation_or_status: 1, count: 1 });
    let count = Subchannel::read_from_prefix(&answer.payload[4..]).expect("a body").0;
    assert_eq!((count.operation_or_status, count.count), (Status::SUCCESS.0, 1));
    assert_eq!(*open.port.subchannels.lock().expect("a lock"), [1]);
    let table = open.next().expect("the send indirection table");
    assert_eq!(split(&table.payload).expect("a message").0, MessageType::SEND_INDIRECTION_TABLE);
    let subchannel = host.open(1, 4);
    open.serve();
    // All frames with a hash are assigned to channel 1.
    let mut parameters = vec![0x89, 2, 84, 0, 0, 0, 0, 0, 1, 0x0f, 0, 0, 4, 0];
    parameters.extend_from_slice(&[0, 0, 44, 0, 0, 0, 40, 0, 0, 0, 48, 0, 0, 0]);
    parameters.resize(44, 0);
    parameters.extend_from_slice(&1_u32.to_le_bytes());
    parameters.extend_from_slice(&[0x5a; 40]);
    host.set(&mut open, Oid::GEN_RECEIVE_SCALE_PARAMETERS, &parameters);
    assert_eq!(host.nic.shared().path.channels, 2);
    assert!(host.nic.shared().path.scaling.is_some());
    (host, open, subchannel)
}

/// Returns a TCP packet to the guest.
fn tcp() -> Vec<u8> {
    let mut frame = packet(false, protocol::TCP, 10);
    frame[..12].copy_from_slice(&[&GUEST.0[..], &PEER.0].concat());
    frame
}

#[test]
fn a_subchannel_gets_the_frames_that_the_indirection_table_assigns_to_it() {
    let (mut host, mut open, mut subchannel) = with_subchannel();
    assert!(host.peer.send(Frame::plain(&tcp())));
    host.send(9, 60);
    open.serve();
    let packet = open.wait();
    assert_eq!(host.frames(&packet), [frame(GUEST, PEER, 9, 60)], "no hash: the primary channel");
    let packet = subchannel.wait();
    assert_eq!(host.frames(&packet), [tcp()]);
    // The transaction belongs to the subchannel, so the primary channel cannot complete it.
    let free = || host.nic.shared().sections().as_ref().expect("a buffer").free();
    let before = free();
    open.give_back(&packet);
    open.serve();
    assert_eq!(free(), before);
    subchannel.give_back(&packet);
    subchannel.serve();
    assert_eq!(free(), before + 1);
}

#[test]
fn a_stalled_primary_channel_does_not_block_frames_of_others() {
    let (mut host, mut open, mut subchannel) = with_subchannel();
    for number in 0..3 {
        host.send(number, 60);
        open.serve();
    }
    assert!(host.peer.send(Frame::plain(&tcp())));
    assert!(open.is_woken());
    assert_eq!(host.frames(&subchannel.wait()), [tcp()]);
    // Its own frames arrive in order when the guest reads.
    let mut numbers = Vec::new();
    while numbers.len() < 3 {
        let packet = open.wait();
        numbers.extend(host.frames(&packet).iter().map(|frame| frame[14]));
    }
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn a_subchannel_that_is_closed_leaves_its_frames_and_sections_to_the_primary_channel() {
    let (mut host, mut open, mut subchannel) = with_subchannel();
    assert!(host.peer.send(Frame::plain(&tcp())));
    open.serve();
    subchannel.wait();
    drop(subchannel);
    open.serve();
    assert_eq!(host.nic.shared().path.channels, 1);
    assert!(host.peer.send(Frame::plain(&tcp())));
    let packet = open.wait();
    assert_eq!(host.frames(&packet), [tcp()]);
}

#[test]
fn opening_a_channel_again_resets_the_adapter_but_not_its_cable() {
    let (mut host, open) = ready(1, 4);
    assert_eq!(host.nic.nvsp_version(), Some(Version::V6_1));
    drop(open);
    assert_eq!(host.nic.nvsp_version(), None);
    host.send(1, 60);
    assert!(host.nic.shared().path.receive.is_none());
    host.restart();
    let mut open = host.open(0, 4);
    assert!(open.next().is_none(), "what came before the driver is gone");
    host.set_up(&mut open);
    host.send(2, 60);
    assert_eq!(host.frames(&open.wait()), [frame(GUEST, PEER, 2, 60)]);
}

#[test]
fn frames_for_the_previous_guest_are_dropped_before_the_channel_is_served() {
    let (mut host, open) = ready(1, 4);
    drop(open);
    (0..3).for_each(|number| host.send(number, 60));
    host.nic.open(0, TestPort::new());
    let mut frame = FrameBuffer::default();
    assert!(!host.nic.lane(0).unwrap().queue().receive(&mut frame));
    assert_eq!((host.nic.counters().receive.dropped, host.nic.counters().receive.frames()), (3, 0));
}

#[test]
fn invalid_packets_end_the_service_of_the_channel_or_are_refused() {
    let cases: [fn(&mut Open); 3] = [
        |open| open.send(&NewPacket { kind: PacketKind::TRANSFER_PAGES, ..NewPacket::in_band(1, &[&[0; 8]]) }),
        |open| open.rndis(1, SendRndisPacket::DATA, &[(1 << 40, 100)]),
        |open| open.rndis(1, SendRndisPacket::DATA, &[]),
    ];
    for case in cases {
        let (_host, mut open) = ready(1, 4);
        case(&mut open);
        assert!(open.handler.service(&mut open.channel).is_err());
    }
    // A section beyond the buffer is an error of only this packet.
    let (host, mut open) = ready(1, 4);
    let body = SendRndisPacket { channel_type: 0, section: 1 << 30, section_length: 100 };
    let payload = message(MessageType::SEND_RNDIS_PACKET, &body, 40);
    open.send(&NewPacket { wants_completion: true, ..NewPacket::in_band(5, &[&payload]) });
    open.serve();
    let answer = open.next().expect("a completion");
    assert_eq!(answer.payload[4..8], Status::INVALID_RNDIS_PACKET.0.to_le_bytes());
    assert_eq!(host.nic.counters().transmit.errors, 1);
}

#[test]
fn the_service_ends_for_a_guest_that_sends_requests_without_reading_the_replies() {
    let (host, mut open) = ready(1, 4);
    let keep_alive = rndis(RndisType::KEEPALIVE, &1_u32, &[]);
    host.write(200, &keep_alive);
    let mut asked = 0;
    loop {
        open.rndis(1, SendRndisPacket::CONTROL, &[(200, keep_alive.len())]);
        asked += 1;
        match open.handler.service(&mut open.channel) {
            Ok(()) => while open.next().is_some() {},
            Err(error) => break assert!(error.to_string().contains("without reading the replies"), "{error}"),
        }
        assert!(asked < SECTIONS + MAX_UNSENT, "{asked}");
    }
    assert!(asked > SECTIONS + MAX_UNSENT / 4, "{asked}");
}

#[test]
fn an_unplugged_adapter_completes_the_guests_frames_and_drops_them() {
    let (mut host, mut open) = ready(1, 4);
    host.nic.unplug();
    host.write(210, &data(&frame(PEER, GUEST, 1, 60)));
    open.rndis(20, SendRndisPacket::DATA, &[(210, data(&frame(PEER, GUEST, 1, 60)).len())]);
    host.send(2, 60);
    open.serve();
    let answer = open.next().expect("a completion");
    assert_eq!((answer.transaction, &answer.payload[4..8]), (20, &Status::SUCCESS.0.to_le_bytes()[..]));
    assert!(open.next().is_none() && fetch(&mut host.peer).is_none());
}

#[test]
fn an_adapter_is_idle_when_its_cable_is_unplugged_and_the_guest_sends_nothing() {
    let (host, mut open) = ready(1, 4);
    let nic = host.nic.clone();
    let quiet = std::thread::spawn(move || {
        nic.quiet_down();
        Instant::now()
    });
    let answer = open.wait();
    let message = host.sections(&answer).remove(0);
    let (status, _) = IndicateStatus::read_from_prefix(&message[size_of::<MessageHeader>()..]).expect("a body");
    assert_eq!(status.status, RndisStatus::MEDIA_DISCONNECT);
    open.give_back(&answer);
    let message = data(&frame(PEER, GUEST, 1, 60));
    host.write(210, &message);
    let mut last = Instant::now();
    // On a busy host, the adapter may become idle between two packets.
    let mut is_busy = true;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(30));
        if quiet.is_finished() {
            break;
        }
        is_busy &= last.elapsed() < Duration::from_millis(100);
        last = Instant::now();
        open.rndis(20, SendRndisPacket::DATA, &[(210, message.len())]);
        open.serve();
        while open.next().is_some() {}
    }
    let end = quiet.join().expect("it ends");
    assert!(!is_busy || end - last >= Duration::from_millis(200), "{:?}", end - last);
}

#[test]
fn an_adapter_without_a_driver_is_idle_at_once() {
    let host = Host::new(1);
    host.nic.quiet_down();
    assert!(host.nic.is_link_up());
}
