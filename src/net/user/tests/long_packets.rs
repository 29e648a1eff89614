//! Datagrams and pings that are longer than the MTU, both ways.

use proptest::prelude::*;
use proptest::sample::Index;

use super::client::{GUEST6, Guest, MAC};
use super::fragments::{Fragments, MAX_BYTES, MAX_PACKETS, MAX_PIECES, Reassembly};
use super::frames::frame;
use super::share::Guest as Whose;
use super::stack::Stack;
use super::*;
use crate::net::offload::checksum;
use crate::net::offload::headers::{Headers, be16, ether_type, protocol, set_be16};
use crate::patience::grown;

const WHOSE: Whose = Whose { port: SwitchPort::DEFAULT, mac: MAC };

fn is_v4(address: IpAddr) -> bool {
    address.is_ipv4()
}

/// Returns the header of the guest's packets to `to`, with the fields of a fragment.
fn packet(to: IpAddr, protocol: u8, part: Option<(u32, usize, bool)>, payload: &[u8]) -> Vec<u8> {
    let (number, offset, more) = part.unwrap_or_default();
    match to {
        IpAddr::V4(to) => {
            let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
            bytes.extend_from_slice(&Network::FIRST_GUEST.octets());
            bytes.extend_from_slice(&to.octets());
            bytes.extend_from_slice(payload);
            let length = bytes.len() as u16;
            set_be16(&mut bytes, 2, length);
            set_be16(&mut bytes, 4, number as u16);
            set_be16(&mut bytes, 6, (offset / 8) as u16 | u16::from(more) << 13);
            frame(ether_type::IPV4, &bytes)
        }
        IpAddr::V6(to) => {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 0, if part.is_some() { 44 } else { protocol }, 64];
            bytes.extend_from_slice(&GUEST6.octets());
            bytes.extend_from_slice(&to.octets());
            if part.is_some() {
                bytes.extend_from_slice(&[protocol, 0]);
                bytes.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            bytes.extend_from_slice(payload);
            let length = bytes.len() as u16 - 40;
            set_be16(&mut bytes, 4, length);
            frame(ether_type::IPV6, &bytes)
        }
    }
}

/// Returns the guest's packet in fragments with at most `size` bytes of payload, a multiple of eight.
fn cut(to: IpAddr, protocol: u8, number: u32, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let pieces = payload.len().div_ceil(size);
    let piece =
        |(index, piece): (usize, &[u8])| packet(to, protocol, Some((number, index * size, index + 1 < pieces)), piece);
    payload.chunks(size).enumerate().map(piece).collect()
}

fn datagram(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes(), (8 + payload.len() as u16).to_be_bytes(), [0, 0]].concat();
    bytes.extend_from_slice(payload);
    bytes
}

/// An independent reassembly of the guest's packets, with the number of frames. Every frame must fit into the MTU.
#[derive(Default)]
struct Reader {
    bytes: Vec<u8>,
    got: usize,
    frames: usize,
}

impl Reader {
    /// Adds a frame. Returns the payload after the IP header when it is complete.
    fn take(&mut self, frame: &[u8], mtu: usize) -> Option<Vec<u8>> {
        assert!(frame.len() - 14 <= mtu, "a packet of {} bytes", frame.len() - 14);
        let ip = &frame[14..];
        let (offset, more, payload) = if ip[0] >> 4 == 4 {
            assert_eq!(checksum::fold(checksum::sum(&ip[..20])), 0xffff);
            let field = be16(ip, 6).unwrap();
            (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0, &ip[20..usize::from(be16(ip, 2).unwrap())])
        } else if ip[6] == 44 {
            let field = be16(ip, 42).unwrap();
            (usize::from(field & !7), field & 1 != 0, &ip[48..])
        } else {
            (0, false, &ip[40..])
        };
        self.frames += 1;
        assert_eq!(offset, self.got, "in order");
        self.bytes.extend_from_slice(payload);
        self.got += payload.len();
        (!more).then(|| std::mem::take(self).bytes)
    }
}

fn pseudo(to: IpAddr, protocol: u8, message: &[u8]) -> u64 {
    let ends = match to {
        IpAddr::V4(to) => checksum::sum(&Network::FIRST_GUEST.octets()) + checksum::sum(&to.octets()),
        IpAddr::V6(to) => checksum::sum(&GUEST6.octets()) + checksum::sum(&to.octets()),
    };
    ends + checksum::sum(&(message.len() as u32).to_be_bytes()) + checksum::sum(&[0, 0, 0, protocol])
}

/// Sends a datagram of each length to an echo server, in fragments, and reads the answers.
fn echo_datagrams(gateway: IpAddr, server: UdpSocket, mtu: u16, lengths: &[usize]) {
    server.set_read_timeout(Some(grown(Duration::from_secs(20)))).unwrap();
    let port = server.local_addr().unwrap().port();
    let count = lengths.len();
    let echo = thread::spawn(move || {
        let mut bytes = vec![0; 70_000];
        for _ in 0..count {
            let (length, from) = server.recv_from(&mut bytes).unwrap();
            server.send_to(&bytes[..length], from).unwrap();
        }
    });
    let way = User::open_with_mtu(network(None), &[], 1, mtu).unwrap().remove(0);
    let mut guest = Guest::with_frames_of(14 + usize::from(mtu).max(1280), way);
    let limit = if is_v4(gateway) { usize::from(mtu) } else { usize::from(mtu).max(1280) };
    let size = (limit - 48) / 8 * 8;
    for (number, length) in lengths.iter().enumerate() {
        let payload = pattern(*length);
        for fragment in cut(gateway, protocol::UDP, number as u32, &datagram(999, port, &payload), size) {
            assert!(guest.send(&fragment), "{length} bytes");
        }
        let mut reader = Reader::default();
        let answer = loop {
            let part = guest.expect("an answer", |frame| Some(frame.to_vec()));
            if let Some(whole) = reader.take(&part, limit) {
                break whole;
            }
        };
        assert!(answer[8..] == payload, "{length} bytes, {} came", answer.len());
        assert_eq!(be16(&answer, 0), Some(port));
        let sum = checksum::fold(pseudo(gateway, protocol::UDP, &answer) + checksum::sum(&answer));
        assert_eq!(sum, 0xffff, "the checksum of {length} bytes");
    }
    echo.join().unwrap();
}

const LENGTHS: [usize; 9] = [1, 1471, 1472, 1473, 2000, 8973, 30_001, 65_000, 65_507];

#[test]
fn datagrams_above_the_mtu_go_out_and_come_back() {
    for mtu in [1500, 9000, 576] {
        echo_datagrams(Network::GATEWAY.into(), UdpSocket::bind(loopback(0)).unwrap(), mtu, &LENGTHS);
    }
}

#[test]
fn datagrams_above_the_mtu_go_out_and_come_back_over_ipv6() {
    let Ok(server) = UdpSocket::bind("[::1]:0") else {
        eprintln!("skipped: this host has no IPv6 on its loopback");
        return;
    };
    for mtu in [1500, 9000, 576] {
        echo_datagrams(Network::GATEWAY6.into(), server.try_clone().unwrap(), mtu, &LENGTHS);
    }
}

#[test]
fn a_datagram_above_the_mtu_arrives_through_a_forwarded_port() {
    let port = UdpSocket::bind(loopback(0)).unwrap().local_addr().unwrap().port();
    let mut guest = Guest::new(network(None), &[forward(&format!("udp:{port}:53"))]);
    guest.send(&frames::udp(1, gateway(9), b"here I am"));
    let client = UdpSocket::bind(loopback(0)).unwrap();
    for length in [1473, 65_000] {
        client.send_to(&pattern(length), loopback(port)).unwrap();
        let mut reader = Reader::default();
        let datagram = loop {
            let part = guest.expect("a datagram", |frame| (frame[23] == 17).then(|| frame.to_vec()));
            if let Some(whole) = reader.take(&part, 1500) {
                break whole;
            }
        };
        assert!(datagram[8..] == pattern(length));
    }
}

#[test]
fn pings_above_the_mtu_are_answered() {
    for (address, kinds) in [(IpAddr::from(Network::GATEWAY), (8, 0)), (Network::GATEWAY6.into(), (128, 129))] {
        let protocol = if is_v4(address) { protocol::ICMP } else { protocol::ICMP6 };
        for length in [0, 1472, 1473, 9000, 65_000, 65_507] {
            let mut guest = Guest::new(network(None), &[]);
            let mut message = vec![kinds.0, 0, 0, 0, 0, 7, 0, 1];
            message.extend_from_slice(&pattern(length));
            for fragment in cut(address, protocol, 1, &message, 1448) {
                assert!(guest.send(&fragment));
            }
            let mut reader = Reader::default();
            let answer = loop {
                let part = guest.expect("an answer", |frame| Some(frame.to_vec()));
                if let Some(whole) = reader.take(&part, 1500) {
                    break whole;
                }
            };
            assert_eq!(answer[0], kinds.1);
            assert!(answer[4..] == message[4..], "{length} bytes");
            let pseudo = if is_v4(address) { 0 } else { pseudo(address, protocol, &answer) };
            assert_eq!(checksum::fold(pseudo + checksum::sum(&answer)), 0xffff);
        }
    }
}

#[test]
fn an_atomic_fragment_is_a_whole_packet_even_if_its_identification_is_in_use() {
    let mut fragments = Fragments::default();
    let now = Instant::now();
    let to = Network::GATEWAY6.into();
    let add =
        |fragments: &mut Fragments, frame: &[u8]| fragments.add(WHOSE, frame, &Headers::parse(frame).unwrap(), now);
    assert_eq!(add(&mut fragments, &packet(to, 17, Some((5, 0, true)), &[1; 16])), Reassembly::Incomplete);
    let Reassembly::Complete(whole) = add(&mut fragments, &packet(to, 17, Some((5, 0, false)), &[2; 12])) else {
        panic!()
    };
    assert!(whole == packet(to, 17, None, &[2; 12]));
    let Reassembly::Complete(whole) = add(&mut fragments, &packet(to, 17, Some((5, 16, false)), &[1; 8])) else {
        panic!()
    };
    assert!(whole == packet(to, 17, None, &[1; 24]));
}

#[test]
fn overlapping_fragments_and_all_that_follow_are_refused() {
    let now = Instant::now();
    for to in [Network::GATEWAY.into(), Network::GATEWAY6.into()] {
        // Overlaps with the start, the end, the whole and a part, and data beyond the last fragment.
        for (offset, length, more) in [(0, 16, true), (16, 16, true), (0, 48, true), (16, 8, true), (40, 8, false)] {
            let mut fragments = Fragments::default();
            let mut add = |offset, length, more, byte| {
                let frame = packet(to, 17, Some((5, offset, more)), &vec![byte; length]);
                fragments.add(WHOSE, &frame, &Headers::parse(&frame).unwrap(), now)
            };
            add(8, 16, true, 1);
            add(32, 8, false, 1);
            assert_eq!(add(offset, length, more, 2), Reassembly::Refused, "{offset} {length}");
            for (offset, length, more) in [(0, 8, true), (8, 16, true), (24, 8, true), (32, 8, false)] {
                assert_eq!(add(offset, length, more, 1), Reassembly::Refused);
            }
        }
    }
}

#[test]
fn a_duplicate_fragment_is_ignored() {
    let (mut fragments, now, to) = (Fragments::default(), Instant::now(), Network::GATEWAY.into());
    let pieces = cut(to, 17, 3, &pattern(5000), 1480);
    for piece in [&pieces[0], &pieces[1], &pieces[1], &pieces[0], &pieces[3], &pieces[3]] {
        assert_eq!(fragments.add(WHOSE, piece, &Headers::parse(piece).unwrap(), now), Reassembly::Incomplete);
    }
    let last = &pieces[2];
    let Reassembly::Complete(whole) = fragments.add(WHOSE, last, &Headers::parse(last).unwrap(), now) else { panic!() };
    assert!(whole[34..] == pattern(5000));
    assert_eq!(fragments.held(), (0, 0));
}

#[test]
fn invalid_fragments_are_refused() {
    let (mut fragments, now) = (Fragments::default(), Instant::now());
    let mut add = |to: IpAddr, offset, length, more| {
        let frame = packet(to, 17, Some((9, offset, more)), &vec![0; length]);
        fragments.add(WHOSE, &frame, &Headers::parse(&frame).unwrap(), now)
    };
    let (v4, v6) = (Network::GATEWAY.into(), Network::GATEWAY6.into());
    // Not a multiple of eight bytes although more follows; empty; longer than any packet.
    assert_eq!(add(v4, 0, 12, true), Reassembly::Refused);
    assert_eq!(add(v6, 0, 12, true), Reassembly::Wrong(4));
    assert_eq!(add(v4, 8, 0, false), Reassembly::Refused);
    assert_eq!(add(v4, 65_528, 8, false), Reassembly::Refused);
    assert_eq!(add(v4, 65_504, 16, false), Reassembly::Refused);
    assert_eq!(add(v6, 65_528, 8, false), Reassembly::Wrong(42));
    assert_eq!(fragments.held(), (0, 0));
}

#[test]
fn incomplete_packets_are_bounded_for_each_port_without_effect_on_others() {
    let (mut fragments, now, to) = (Fragments::default(), Instant::now(), Network::GATEWAY.into());
    let other = Whose { port: SwitchPort::new(1), ..WHOSE };
    let first = &packet(to, 17, Some((1, 0, true)), &[0; 8]);
    fragments.add(other, first, &Headers::parse(first).unwrap(), now);
    for number in 0..2000 {
        for offset in [65_480, 0] {
            let frame = packet(to, 17, Some((number, offset, true)), &[0; 8]);
            fragments.add(WHOSE, &frame, &Headers::parse(&frame).unwrap(), now);
        }
        let (packets, bytes) = fragments.held();
        assert!(packets <= MAX_PACKETS + 1 && bytes <= MAX_BYTES + 1000, "{packets} {bytes}");
    }
    let rest = &packet(to, 17, Some((1, 8, false)), &[0; 8]);
    assert!(matches!(fragments.add(other, rest, &Headers::parse(rest).unwrap(), now), Reassembly::Complete(_)));
    // The fragments are so small that there would be thousands of them.
    let outcomes: Vec<_> = (0..MAX_PIECES + 1)
        .map(|piece| packet(to, 17, Some((77, 8 * piece, true)), &[0; 8]))
        .map(|frame| fragments.add(other, &frame, &Headers::parse(&frame).unwrap(), now))
        .collect();
    assert_eq!((&outcomes[MAX_PIECES - 1], &outcomes[MAX_PIECES]), (&Reassembly::Incomplete, &Reassembly::Refused));
}

#[test]
fn the_sender_of_a_packet_that_is_incomplete_at_its_time_limit_is_notified() {
    for (to, late, kinds) in [(IpAddr::from(Network::GATEWAY), 30, [11, 1]), (Network::GATEWAY6.into(), 60, [3, 1])] {
        let start = Instant::now();
        let mut stack = Stack::new(network(None), &[], start).unwrap();
        let first = packet(to, 17, Some((5, 0, true)), &pattern(64));
        assert!(stack.receive(Frame::plain(&first), start));
        // The first fragment of this packet is missing, so its kind is unknown.
        assert!(stack.receive(Frame::plain(&packet(to, 17, Some((6, 8, true)), &pattern(64))), start));
        let mut answer = FrameBuffer::default();
        assert!(!stack.fetch(&mut answer, start + Duration::from_secs(late - 1)));
        assert!(stack.fetch(&mut answer, start + Duration::from_secs(late)));
        let icmp = if is_v4(to) { &answer.bytes[34..] } else { &answer.bytes[54..] };
        assert_eq!(icmp[..2], kinds);
        assert!(first[14..].starts_with(&icmp[8..36]));
        assert!(!stack.fetch(&mut answer, start + Duration::from_secs(200)));
    }
}

#[test]
fn a_packet_whose_hop_limit_is_reached_is_answered_as_traceroute_expects() {
    let mut guest = Guest::new(network(None), &[]);
    let mut probe = frames::udp(33_434, (Ipv4Addr::new(192, 0, 2, 1), 33_434).into(), b"probe");
    probe[22] = 1;
    assert!(!guest.send(&probe));
    guest.expect("time exceeded", |frame| {
        assert_eq!((&frame[26..30], &frame[34..36]), (&Network::GATEWAY.octets()[..], &[11, 0][..]));
        Some(())
    });
    assert_eq!(guest.cable.queue.stack.lock().flows().1, 0);
}

proptest! {
    #[test]
    fn fragments_are_assembled_in_any_order(
        length in 9..20_000_usize, blocks in 1..200_usize, order in proptest::collection::vec(any::<Index>(), 0..50), v6: bool,
    ) {
        let to = if v6 { Network::GATEWAY6.into() } else { Network::GATEWAY.into() };
        let mut pieces = cut(to, 17, 3, &pattern(length), 8 * blocks.max(length / 3000 + 1));
        prop_assume!(pieces.len() > 1);
        for index in order {
            let (one, other) = (index.index(pieces.len()), pieces.len() - 1);
            pieces.swap(one, other);
        }
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        let last = pieces.pop().unwrap();
        for piece in &pieces {
            prop_assert_eq!(fragments.add(WHOSE, piece, &Headers::parse(piece).unwrap(), now), Reassembly::Incomplete);
        }
        let Reassembly::Complete(whole) = fragments.add(WHOSE, &last, &Headers::parse(&last).unwrap(), now) else { panic!() };
        let headers = Headers::parse(&whole).unwrap();
        prop_assert!(!headers.fragment && headers.protocol == 17);
        prop_assert!(whole[headers.transport..] == pattern(length));
    }

    #[test]
    fn random_fragments_never_panic(
        pieces in proptest::collection::vec((0..3_u32, 0..9000_usize, 0..3000_usize, any::<bool>(), any::<bool>()), 0..40),
    ) {
        let start = Instant::now();
        let mut stack = Stack::new(network(None), &[], start).unwrap();
        let mut answer = FrameBuffer::default();
        for (number, (id, offset, length, more, v6)) in pieces.into_iter().enumerate() {
            let to = if v6 { Network::GATEWAY6.into() } else { Network::GATEWAY.into() };
            let protocol = if v6 { protocol::ICMP6 } else { protocol::ICMP };
            let now = start + Duration::from_secs(number as u64);
            let frame = packet(to, protocol, Some((id, offset * 8 % 65_536, more)), &vec![if v6 { 128 } else { 8 }; length]);
            stack.receive(Frame::plain(&frame), now);
            while stack.fetch(&mut answer, now) {}
        }
    }
}
