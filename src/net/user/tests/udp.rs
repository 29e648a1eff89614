//! Datagrams.

use super::client::Guest;
use super::frames::{read_udp, udp};
use super::*;
use crate::patience::grown;

#[test]
fn an_answer_comes_from_the_address_that_the_datagram_was_sent_to() {
    let server = UdpSocket::bind(loopback(0)).unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut bytes = [0; 2000];
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            bytes[..length].reverse();
            server.send_to(&bytes[..length], from).unwrap();
        }
    });
    let mut guest = Guest::new(network(None), &[]);
    for (source, text) in [(1000, "abc"), (1001, ""), (1000, "xyz")] {
        assert!(guest.send(&udp(source, gateway(port), text.as_bytes())));
        let answer = guest.expect("an answer", read_udp);
        assert_eq!(answer, (gateway(port), source, text.bytes().rev().collect()));
    }
    assert_eq!(guest.cable.queue.stack.lock().flows().1, 2);
}

#[test]
fn a_datagram_to_a_port_where_nobody_listens_is_answered_as_unreachable() {
    let port = UdpSocket::bind(loopback(0)).unwrap().local_addr().unwrap().port();
    let mut guest = Guest::new(network(None), &[]);
    let frame = udp(1000, gateway(port), b"hello");
    guest.send(&frame);
    guest.expect("port unreachable", |answer| {
        let (ip, icmp) = (&answer[14..34], &answer[34..]);
        assert_eq!((ip[9], icmp[0], icmp[1]), (1, 3, 3));
        assert_eq!(&icmp[8..36], &frame[14..42]);
        Some(())
    });
    assert_eq!(guest.cable.queue.stack.lock().flows().1, 0);
}

#[test]
fn flows_are_bounded_and_the_oldest_goes_first() {
    let server = UdpSocket::bind(loopback(0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let mut guest = Guest::new(network(None), &[]);
    for source in 1..=stack::MAX_DATAGRAM_FLOWS as u16 + 50 {
        guest.send(&udp(source, gateway(port), b"x"));
    }
    assert_eq!(guest.cable.queue.stack.lock().flows().1, stack::MAX_DATAGRAM_FLOWS);
}

#[test]
fn a_silent_flow_ends_in_time() {
    let server = UdpSocket::bind(loopback(0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let start = Instant::now();
    let mut stack = Stack::new(network(None), &[], start).unwrap();
    assert!(stack.receive(Frame::plain(&udp(9, gateway(port), b"x")), start));
    let mut frame = FrameBuffer::default();
    assert!(!stack.fetch(&mut frame, start + Duration::from_secs(119)));
    assert_eq!(stack.flows().1, 1);
    assert!(!stack.fetch(&mut frame, start + Duration::from_secs(121)));
    assert_eq!(stack.flows().1, 0);
}

#[test]
fn a_forwarded_datagram_is_answered_through_the_same_port() {
    let port = UdpSocket::bind(loopback(0)).unwrap().local_addr().unwrap().port();
    let mut guest = Guest::new(network(None), &[forward(&format!("udp:{port}:53"))]);
    let clients = [UdpSocket::bind(loopback(0)).unwrap(), UdpSocket::bind(loopback(0)).unwrap()];
    // Before the guest's address is known, datagrams cannot be forwarded.
    clients[0].send_to(b"too early", loopback(port)).unwrap();
    guest.step();
    guest.send(&udp(1, gateway(9), b"here I am"));
    let mut peers = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(grown(Duration::from_secs(10)))).unwrap();
        client.send_to(&[number as u8], loopback(port)).unwrap();
        let wanted =
            |frame: &[u8]| read_udp(frame).filter(|(_, to, payload)| *to == 53 && payload[..] == [number as u8]);
        let (peer, ..) = guest.expect("a forwarded datagram", wanted);
        assert_eq!(peer.ip(), IpAddr::from(Network::GATEWAY));
        peers.push(peer);
    }
    assert_ne!(peers[0], peers[1]);
    for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
        assert!(guest.send(&udp(53, peer, &[10 + number as u8])));
        let mut byte = [0; 8];
        let (length, from) = client.recv_from(&mut byte).unwrap();
        assert_eq!((&byte[..length], from), (&[10 + number as u8][..], loopback(port)));
    }
}
