use super::super::testing::*;
use super::super::wire::{NdisConfig, split};
use super::*;
use crate::net::frame::{Offload, Segmentation};
use crate::net::offload::checksum;
use crate::net::offload::testing::{self, packet};
use crate::vsp::network::rndis::info::Vlan;
use crate::vsp::network::rndis::oid::Oid;
use crate::vsp::network::rndis::packet::{DataMessage, DataMessages};
use std::sync::Arc;
use zerocopy::FromBytes;

struct Way {
    guest: Guest,
    path: Arc<Path>,
    sections: Sections,
    receiver: Receiver,
}

fn way(capabilities: u32) -> Way {
    let guest = Guest::new();
    let (mut device, _) = ready(&guest, capabilities);
    let mut parameters = vec![0x80, 3, 26, 0];
    parameters.resize(26, 0);
    parameters[22..24].copy_from_slice(&[2, 2]);
    set(&mut device, Oid::TCP_OFFLOAD_PARAMETERS, &parameters);
    let path = device.path().clone();
    let sections = Sections::new(path.receive.as_ref().unwrap().section_count);
    Way { guest, path, sections, receiver: Receiver::new(2, 40) }
}

impl Way {
    fn add(&mut self, bytes: &[u8], offload: Offload) -> Result<(), ReceiveError> {
        let mut frame = FrameBuffer { bytes: bytes.to_vec(), offload };
        self.receiver.add(&self.path, &mut self.sections, &mut frame, Some(0x1234))
    }

    /// Returns the messages in the sections of the next packet.
    fn messages(&mut self) -> (TransferPacket, Vec<(Vec<u8>, Information)>) {
        let packet = self.receiver.finish(&self.path).unwrap();
        assert_eq!(packet.page_set, RECEIVE_ID);
        let read = |range: &TransferRange| {
            let transfer = read_range(&self.guest, range);
            let DataMessage { frame, information } = DataMessages::new(&transfer).next().unwrap().unwrap();
            (frame.to_vec(), information)
        };
        let messages = packet.ranges.iter().map(read).collect();
        (packet, messages)
    }
}

fn read_range(guest: &Guest, range: &TransferRange) -> Vec<u8> {
    let mut bytes = vec![0; range.byte_count as usize];
    guest.buffer(range.byte_offset.into(), bytes.len()).read(0, &mut bytes).unwrap();
    bytes
}

/// Returns the frame with a partial checksum.
fn open(frame: &[u8]) -> (Vec<u8>, Offload) {
    let mut frame = frame.to_vec();
    let headers = Headers::parse(&frame).unwrap();
    let checksum = checksum::leave_open(&mut frame, &headers).unwrap();
    (frame, Offload { checksum, segmentation: None })
}

const VERIFIED: Offload = Offload { checksum: Checksum::Verified, segmentation: None };

#[test]
fn frames_arrive_in_sections_with_one_packet_for_all() {
    let mut way = way(0);
    let frames = [packet(false, protocol::TCP, 1000), packet(true, protocol::UDP, 10), vec![0xff; 60]];
    frames.iter().for_each(|frame| way.add(frame, Offload::default()).unwrap());
    let free = way.sections.free();
    let (packet, messages) = way.messages();
    assert!(messages.iter().map(|(frame, _)| frame).eq(&frames));
    assert!(messages.iter().all(|(_, notes)| *notes == Information { hash: Some(0x1234), ..Information::default() }));
    let (kind, body) = split(&packet.payload).unwrap();
    assert_eq!((kind, packet.payload.len()), (MessageType::SEND_RNDIS_PACKET, 40));
    let body = SendRndisPacket::read_from_prefix(body).unwrap().0;
    assert_eq!((body.channel_type, body.section), (SendRndisPacket::DATA, SendRndisPacket::NO_SECTION));
    assert!(way.receiver.is_empty() && way.receiver.finish(&way.path).is_none());
    assert_eq!(way.sections.give_back(2, packet.transaction), Ok(3));
    assert_eq!(way.sections.free(), free + 3);
}

#[test]
fn verified_checksums_are_reported_to_the_guest() {
    let mut way = way(0);
    let frames = [packet(false, protocol::TCP, 100), packet(true, protocol::UDP, 100)];
    for frame in &frames {
        let (unfinished, offload) = open(frame);
        assert_ne!(unfinished, *frame);
        way.add(&unfinished, offload).unwrap();
        way.add(frame, VERIFIED).unwrap();
        way.add(frame, Offload::default()).unwrap();
    }
    let (_, messages) = way.messages();
    let notes: Vec<_> = messages.iter().map(|(_, notes)| notes.checksum).collect();
    let (tcp, udp) = (ReceiveChecksum::TCP_SUCCEEDED, ReceiveChecksum::UDP_SUCCEEDED);
    let local = tcp | ReceiveChecksum::IP_SUCCEEDED;
    assert_eq!(notes, [Some(local), Some(tcp), None, Some(udp), Some(udp), None]);
    // The checksums in the frames are right even for a guest that ignores the per-packet information.
    assert!(messages[..3].iter().all(|(frame, _)| *frame == frames[0]));
    assert!(messages[3..].iter().all(|(frame, _)| *frame == frames[1]));
}

#[test]
fn checksums_are_not_reported_to_a_guest_that_has_not_enabled_them() {
    let mut way = way(0);
    let mut path = (*way.path).clone();
    path.offloads.tcp4.receive = false;
    way.path = Arc::new(path);
    let tcp = packet(false, protocol::TCP, 100);
    let (unfinished, offload) = open(&tcp);
    way.add(&unfinished, offload).unwrap();
    let (_, messages) = way.messages();
    assert_eq!((&messages[0].0, messages[0].1.checksum), (&tcp, None));
}

#[test]
fn vlan_tags_are_passed_as_information_if_the_guest_enables_that() {
    let plain = packet(false, protocol::UDP, 1400);
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x81, 0, 0x20, 5]);
    let mut with = way(NdisConfig::VLAN);
    with.add(&tagged, Offload::default()).unwrap();
    let (_, messages) = with.messages();
    assert_eq!((&messages[0].0, messages[0].1.vlan), (&plain, Some(Vlan(1 | 5 << 4))));
    let mut without = way(0);
    without.add(&tagged, Offload::default()).unwrap();
    let (_, messages) = without.messages();
    assert_eq!((&messages[0].0, messages[0].1.vlan), (&tagged, None));
}

fn long(is_ipv6: bool, payload: usize) -> (Vec<u8>, Offload) {
    let (bytes, open) = open(&packet(is_ipv6, protocol::TCP, payload));
    let headers = Headers::parse(&bytes).unwrap();
    let segmentation = Segmentation { version: headers.version, size: 1400, headers: headers.transport as u16 + 24 };
    (bytes, Offload { segmentation: Some(segmentation), ..open })
}

#[test]
fn a_long_segment_is_split_for_a_guest_without_coalescing() {
    for is_ipv6 in [false, true] {
        let mut way = way(0);
        let (bytes, offload) = long(is_ipv6, 30_000);
        way.add(&bytes, offload).unwrap();
        let (packet, messages) = way.messages();
        assert_eq!((packet.ranges.len(), messages.len()), (22, 22));
        let start = if is_ipv6 { 78 } else { 58 };
        let together: Vec<u8> = messages.iter().flat_map(|(frame, _)| frame[start..].to_vec()).collect();
        assert_eq!(together, bytes[start..]);
        for (frame, notes) in messages {
            assert!(frame.len() <= 1514 && notes.checksum.is_some() && notes.packet_id.is_none());
            let headers = Headers::parse(&frame).unwrap();
            assert_eq!(checksum::is_right(&frame, &headers), Some(true));
        }
    }
}

#[test]
fn a_long_segment_is_not_split_for_a_guest_with_coalescing() {
    let mut way = way(NdisConfig::COALESCING);
    way.add(&packet(false, protocol::UDP, 5), Offload::default()).unwrap();
    let (bytes, offload) = long(true, 60_000);
    way.add(&bytes, offload).unwrap();
    let (packet, messages) = way.messages();
    let parts = &messages[1..];
    let flags: Vec<u8> = parts.iter().map(|(_, notes)| notes.packet_id.unwrap().flags).collect();
    assert_eq!((flags[0], flags[flags.len() - 1]), (3, 5));
    assert!(flags[1..flags.len() - 1].iter().all(|flags| *flags == 1));
    let together: Vec<u8> = parts.iter().flat_map(|(part, _)| part.clone()).collect();
    assert_eq!(together, testing::packet(true, protocol::TCP, 60_000));
    assert!(parts[0].1.checksum.is_some() && parts[0].1.hash.is_some() && parts[1].1.hash.is_none());
    assert_eq!(messages[0].1.packet_id, None);
    assert_eq!(way.sections.give_back(2, packet.transaction), Ok(messages.len()));
}

#[test]
fn without_free_sections_frames_are_dropped_and_control_messages_get_through() {
    let mut way = way(0);
    let frame = packet(false, protocol::UDP, 10);
    let mut packets = Vec::new();
    loop {
        if way.receiver.is_full() {
            packets.push(way.receiver.finish(&way.path).unwrap());
        }
        match way.add(&frame, Offload::default()) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, ReceiveError::Full);
                break;
            }
        }
    }
    packets.extend(way.receiver.finish(&way.path));
    assert_eq!(way.sections.free(), RESERVED);
    assert!(packets.iter().all(|packet| packet.ranges.len() <= MAX_RANGES));
    for _ in 0..RESERVED {
        let packet = way.receiver.control(&way.path, &mut way.sections, b"control").unwrap();
        assert_eq!(read_range(&way.guest, &packet.ranges[0]), b"control");
        let body = SendRndisPacket::read_from_prefix(split(&packet.payload).unwrap().1).unwrap().0;
        assert_eq!(body.channel_type, SendRndisPacket::CONTROL);
    }
    assert_eq!(way.receiver.control(&way.path, &mut way.sections, b"x"), Err(ReceiveError::Full));
    way.sections.give_back(2, packets[0].transaction).unwrap();
    way.add(&frame, Offload::default()).unwrap();
}

#[test]
fn frames_of_a_wrong_length_are_dropped_and_cost_no_section() {
    let mut way = way(0);
    let free = way.sections.free();
    for length in [0, 13, 1519, 9000] {
        assert_eq!(way.add(&vec![2; length], Offload::default()), Err(ReceiveError::Length(length)));
    }
    assert_eq!(way.add(&[2; 1518], Offload::default()), Ok(()), "a frame with its tag");
    assert_eq!(way.sections.free(), free - 1);
}

#[test]
fn connections_spread_over_the_channels_that_are_open() {
    let guest = Guest::new();
    let (mut device, _) = ready(&guest, 0);
    device.set_channels(4);
    let table: Vec<u32> = (0..128).map(|entry| entry % 4).collect();
    let mut parameters = vec![0_u8; 40];
    parameters[8..12].copy_from_slice(&0x1701_u32.to_le_bytes());
    parameters[12..14].copy_from_slice(&512_u16.to_le_bytes());
    parameters[16..20].copy_from_slice(&40_u32.to_le_bytes());
    parameters[20] = 40;
    parameters[24..28].copy_from_slice(&552_u32.to_le_bytes());
    table.iter().for_each(|entry| parameters.extend_from_slice(&entry.to_le_bytes()));
    parameters.extend((0..40_u8).map(|index| index.wrapping_mul(37) ^ 0x5b));
    set(&mut device, Oid::GEN_RECEIVE_SCALE_PARAMETERS, &parameters);
    let mut counts = [0; 4];
    for port in 0..400_u16 {
        let mut frame = packet(false, protocol::TCP, 1);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        let (channel, hash) = device.path().channel(&frame);
        assert_eq!(device.path().channel(&frame), (channel, hash));
        assert!(hash.is_some());
        counts[usize::from(channel)] += 1;
    }
    assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
    device.set_channels(2);
    assert!((0..100).all(|index| device.path().channel(&packet(true, protocol::TCP, index)).0 < 2));
    device.set_channels(1);
    assert_eq!(device.path().channel(&packet(true, protocol::TCP, 1)), (0, None));
}
