use super::super::testing::*;
use super::super::wire::message;
use super::*;
use crate::net::frame::Checksum;
use crate::net::offload::headers::{Headers, protocol};
use crate::net::offload::segment::finish;
use crate::net::offload::testing::packet;
use crate::vsp::network::rndis::info::{Information, LargeSend, Vlan};
use crate::vsp::network::rndis::packet::header;

const NONE: u32 = SendRndisPacket::NO_SECTION;

fn data(section: u32, section_length: u32) -> SendRndisPacket {
    SendRndisPacket { channel_type: SendRndisPacket::DATA, section, section_length }
}

/// Returns a data message.
fn rndis(information: &Information, frame: &[u8]) -> Vec<u8> {
    let (head, length) = header(information, frame.len());
    [&head[..length], frame].concat()
}

/// Sends a packet. Returns its completion and the frames, with all offloads applied.
fn send(path: &Path, request: &SendRndisPacket, ranges: &[GuestBuffer]) -> (Status, Vec<Vec<u8>>, NetCounters) {
    let counters = NetCounters::default();
    let mut frames = Vec::new();
    let status = Transmitter::default().send(path, request, ranges, &counters, |frame| {
        finish(&frame, &mut FrameBuffer::default(), |bytes| frames.push(bytes.to_vec()));
        true
    });
    (status, frames, counters)
}

#[test]
fn a_frame_is_read_from_a_section_of_the_send_buffer() {
    let guest = Guest::new();
    let (_, path) = ready(&guest, 0);
    let frame = packet(false, protocol::UDP, 100);
    let bytes = rndis(&Information::default(), &frame);
    path.send.as_ref().unwrap().memory.write(3 * 6144, &bytes).unwrap();
    let (status, frames, counters) = send(&path, &data(3, bytes.len() as u32), &[]);
    assert_eq!((status, frames), (Status::SUCCESS, vec![frame]));
    assert_eq!(counters.snapshot().transmit.frames(), 1);
}

#[test]
fn a_message_may_begin_in_a_section_and_continue_in_pages() {
    let guest = Guest::new();
    let (_, path) = ready(&guest, 0);
    let frames = [packet(false, protocol::UDP, 100), packet(true, protocol::TCP, 900)];
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| rndis(&Information::default(), frame)).collect();
    for split in [0, 1, 44, 150, 300] {
        let (first, rest) = bytes.split_at(split);
        let (second, third) = rest.split_at(rest.len() / 2);
        path.send.as_ref().unwrap().memory.write(0, first).unwrap();
        let ranges = [guest.buffer(0x25_0ff0, second.len()), guest.buffer(0x30_0123, third.len())];
        ranges[0].write(0, second).unwrap();
        ranges[1].write(0, third).unwrap();
        let request = if split == 0 { data(NONE, 77) } else { data(0, split as u32) };
        let (status, sent, _) = send(&path, &request, &ranges);
        assert_eq!((status, &sent[..]), (Status::SUCCESS, &frames[..]));
    }
}

#[test]
fn offloaded_checksums_tags_and_large_segments_are_processed() {
    let guest = Guest::new();
    let (_, path) = ready(&guest, 0);
    let mut whole = packet(false, protocol::TCP, 4000);
    let mut open = whole.clone();
    open[16..18].copy_from_slice(&[0, 0]);
    let notes = Information {
        large_send: Some(LargeSend(1448 | 1 << 30)),
        vlan: Some(Vlan(3 | 0x123 << 4)),
        ..Information::default()
    };
    let bytes = rndis(&notes, &open);
    let range = guest.buffer(0x20_0000, bytes.len());
    range.write(0, &bytes).unwrap();
    let (status, frames, _) = send(&path, &data(NONE, 0), &[range]);
    assert_eq!((status, frames.len()), (Status::SUCCESS, 3));
    for frame in &frames {
        assert_eq!(frame[12..18], [0x81, 0, 0x61, 0x23, 8, 0]);
        let headers = Headers::parse(frame).unwrap();
        assert_eq!(crate::net::offload::checksum::is_right(frame, &headers), Some(true));
    }
    whole.truncate(500);
    whole[16..18].copy_from_slice(&486_u16.to_be_bytes());
    let notes = Information { checksum: Some(1 | 4), ..Information::default() };
    let bytes = rndis(&notes, &whole);
    let range = guest.buffer(0x20_0000, bytes.len());
    range.write(0, &bytes).unwrap();
    let mut seen = None;
    Transmitter::default().send(&path, &data(NONE, 0), &[range], &NetCounters::default(), |frame| {
        seen = Some(frame.offload.checksum);
        true
    });
    assert_eq!(seen, Some(Checksum::Partial { start: 34, offset: 16 }));
}

#[test]
fn a_frame_that_is_too_long_or_inconsistent_is_dropped_without_effect_on_others() {
    let guest = Guest::new();
    let (_, path) = ready(&guest, 0);
    let good = packet(false, protocol::UDP, 10);
    let claim = Information { checksum: Some(2 | 4), ..Information::default() };
    let large = Information { large_send: Some(LargeSend(1 << 30)), ..Information::default() };
    let messages = [
        rndis(&Information::default(), &good),
        rndis(&Information::default(), &packet(false, protocol::UDP, 1600)),
        rndis(&Information::default(), &[0; 13]),
        rndis(&claim, &good),
        rndis(&large, &good),
        rndis(&Information::default(), &good),
    ];
    let bytes = messages.concat();
    let range = guest.buffer(0x20_0000, bytes.len());
    range.write(0, &bytes).unwrap();
    let (status, frames, counters) = send(&path, &data(NONE, 0), &[range]);
    assert_eq!((status, frames), (Status::SUCCESS, vec![good.clone(), good]));
    assert_eq!(counters.snapshot().transmit.errors, 4);
}

#[test]
fn invalid_packets_are_completed_with_an_error() {
    let guest = Guest::new();
    let (_, path) = ready(&guest, 0);
    let zeros = guest.buffer(0x20_0000, 100);
    for (request, ranges) in [
        (data(0, 6145), vec![]),
        (data(170, 6144), vec![]),
        (data(u32::MAX - 1, 1), vec![]),
        (data(NONE, 0), vec![zeros]),
        (data(NONE, 0), vec![guest.buffer(0, 1 << 20)]),
    ] {
        let (status, frames, counters) = send(&path, &request, &ranges);
        assert_eq!((status, frames.len()), (Status::INVALID_RNDIS_PACKET, 0), "{request:?}");
        assert_eq!(counters.snapshot().transmit.errors, 1);
    }
    let mut without = (*path).clone();
    without.send = None;
    assert_eq!(send(&without, &data(0, 10), &[]).0, Status::INVALID_RNDIS_PACKET);
}

#[test]
fn nothing_is_sent_while_the_adapter_does_not_run_or_the_backend_is_full() {
    let guest = Guest::new();
    let (_, path) = ready(&guest, 0);
    let bytes = rndis(&Information::default(), &packet(false, protocol::UDP, 100));
    let range = guest.buffer(0x20_0000, bytes.len());
    range.write(0, &bytes).unwrap();
    let mut stopped = (*path).clone();
    stopped.running = false;
    let (status, frames, counters) = send(&stopped, &data(NONE, 0), std::slice::from_ref(&range));
    assert_eq!((status, frames.len(), counters.snapshot().transmit.dropped), (Status::SUCCESS, 0, 1));
    let counters = NetCounters::default();
    let status = Transmitter::default().send(&path, &data(NONE, 0), &[range], &counters, |_| false);
    assert_eq!(
        (status, counters.snapshot().transmit.dropped, counters.snapshot().transmit.frames()),
        (Status::SUCCESS, 1, 0)
    );
}

#[test]
fn control_messages_have_a_length_limit_of_their_own() {
    let guest = Guest::new();
    let (_, path) = ready(&guest, 0);
    let control = SendRndisPacket { channel_type: SendRndisPacket::CONTROL, section: NONE, section_length: 0 };
    let mut transmitter = Transmitter::default();
    assert_eq!(transmitter.gather(&path, &control, &[guest.buffer(0x20_0ffe, 4096)]).unwrap().len(), 4096);
    let refused = transmitter.gather(&path, &control, &[guest.buffer(0x20_0000, 4097)]).unwrap_err();
    assert_eq!(refused, GatherError::TooLong { length: 4097, most: 4096 });
}

#[test]
fn other_messages_are_not_parsed_as_rndis_packets() {
    let request = data(5, 6);
    assert_eq!(read_request(&message(MessageType::SEND_RNDIS_PACKET, &request, 40)), Some(request));
    assert_eq!(read_request(&message(MessageType::SUBCHANNEL, &request, 40)), None);
    assert_eq!(read_request(&message(MessageType::SEND_RNDIS_PACKET, &[0_u8; 11], 0)), None);
    assert_eq!(read_request(&[]), None);
}

proptest::proptest! {
    #[test]
    fn random_transfers_never_panic(bytes: Vec<u8>, section: u32, length in 0..8000_u32, good: bool) {
        let guest = Guest::new();
        let (_, path) = ready(&guest, 0);
        let mut transfer = if good { rndis(&Information::default(), &packet(true, protocol::TCP, 50)) } else { Vec::new() };
        transfer.extend_from_slice(&bytes);
        let range = guest.buffer(0x20_0001, transfer.len().max(1));
        range.write(0, &transfer).unwrap();
        send(&path, &data(NONE, 0), std::slice::from_ref(&range));
        send(&path, &data(section, length), &[range]);
    }
}
