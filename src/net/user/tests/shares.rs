//! Several guests behind one uplink, one of which tries to use everything.

use super::frames::frame;
use super::share::Guest;
use super::stack::{MAX_CONNECTIONS, MAX_DATAGRAM_FLOWS, MAX_LOOKUPS, Stack};
use super::*;
use crate::host::descriptors::Budget;
use crate::net::mac::MacAddress;
use crate::net::offload::checksum;
use crate::net::offload::headers::ether_type;
use crate::patience::{Patience, grown};

const RESET: u8 = 0x14;
const ACCEPTED: u8 = 0x12;

pub fn guest(port: usize, mac: u8) -> Guest {
    Guest { port: SwitchPort::new(port), mac: MacAddress([2, 0, 0, 0, 9, mac]) }
}

fn uplink(resolver: Option<SocketAddr>, budget: &Arc<Budget>) -> Stack {
    let (ports, target) = (Arc::new(Ports::default()), SwitchPort::new(1));
    Stack::behind(network(resolver), &[], ports, target, budget, Instant::now()).unwrap()
}

/// Returns a frame with an IPv4 packet of a guest. Its IP address ends with the last byte of its Ethernet address.
pub fn packet(guest: Guest, protocol: u8, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    packet_from(guest, Ipv4Addr::new(10, 0, 2, guest.mac.0[5]), protocol, to, payload)
}

pub fn packet_from(guest: Guest, from: Ipv4Addr, protocol: u8, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
    bytes.extend_from_slice(payload);
    let length = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = !checksum::fold(checksum::sum(&bytes[..20]));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = frame(ether_type::IPV4, &bytes);
    frame[6..12].copy_from_slice(&guest.mac.0);
    frame
}

pub fn tcp(guest: Guest, from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet(guest, 6, Network::GATEWAY, &segment)
}

pub fn udp(guest: Guest, from: u16, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let IpAddr::V4(address) = to.ip() else { panic!() };
    let mut datagram = [from.to_be_bytes(), to.port().to_be_bytes()].concat();
    datagram.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    packet(guest, 17, address, &datagram)
}

pub fn drain(stack: &mut Stack, now: Instant) -> Vec<Vec<u8>> {
    let mut frame = FrameBuffer::default();
    std::iter::from_fn(|| stack.fetch(&mut frame, now).then(|| frame.bytes.clone())).collect()
}

pub fn send(stack: &mut Stack, guest: Guest, bytes: &[u8], now: Instant) -> bool {
    stack.receive_from(guest.port, Frame::plain(bytes), now)
}

/// Opens a connection, and returns the flags of the answer.
pub fn open(stack: &mut Stack, guest: Guest, from: u16, to: u16, now: Instant) -> u8 {
    send(stack, guest, &tcp(guest, from, to, 2), now);
    let mut patience = Patience::new(Duration::from_secs(10));
    loop {
        for frame in drain(stack, now) {
            if frame[..6] == guest.mac.0 && frame[23] == 6 && frame[36..38] == from.to_be_bytes() {
                return frame[47];
            }
        }
        assert!(!patience.is_over(), "no answer");
        thread::sleep(Duration::from_millis(1));
    }
}

fn server() -> (TcpListener, u16) {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = listener.try_clone().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        listener.incoming().flatten().for_each(|stream| kept.push(stream));
    });
    (own, port)
}

#[test]
fn a_guest_that_opens_many_connections_leaves_its_neighbour_a_share() {
    let (_listener, port) = server();
    let mut stack = uplink(None, &Budget::new(10_000));
    let (greedy, neighbour) = (guest(1, 66), guest(2, 15));
    let now = Instant::now();
    for from in 0..600 {
        send(&mut stack, greedy, &tcp(greedy, 10_000 + from, port, 2), now);
    }
    drain(&mut stack, now);
    assert_eq!(stack.flows().0, MAX_CONNECTIONS);
    // All flows of the greedy guest are in use, and it also invents addresses.
    let later = now + Duration::from_secs(3600);
    for from in 0..600 {
        let made_up = guest(1, 100 + (from % 100) as u8);
        send(&mut stack, greedy, &tcp(greedy, 10_000 + from, port, 0x10), later);
        send(&mut stack, made_up, &tcp(made_up, from + 1, port, 2), later);
    }
    for from in 1..=100 {
        assert_eq!(open(&mut stack, neighbour, from, port, later), ACCEPTED, "connection {from}");
    }
    assert_eq!(stack.flows().0, MAX_CONNECTIONS);
    // The neighbour keeps its flows, whatever the other guest does.
    for from in 0..2000 {
        send(&mut stack, greedy, &tcp(greedy, 30_000 + from, port, 2), later);
    }
    drain(&mut stack, later);
    let number = |from: u16| stack.connections.numbers.keys().filter(|key| key.guest.port() == from).count();
    assert!((1..=100).all(|from| number(from) >= 1));
}

#[test]
fn a_replaced_connection_is_reset_on_both_sides() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stack = uplink(None, &Budget::new(1));
    let now = Instant::now();
    let (one, two) = (guest(1, 66), guest(2, 15));
    assert_eq!(open(&mut stack, one, 1, port, now), ACCEPTED);
    let (mut accepted, _) = listener.accept().unwrap();
    // One flow each would be fair, but there is only one, so the other guest gets none.
    assert_eq!(open(&mut stack, two, 1, port, now), RESET);
    // A second flow of the same guest replaces the first one if that is idle.
    let later = now + Duration::from_secs(301);
    send(&mut stack, one, &tcp(one, 2, port, 2), later);
    let reset = drain(&mut stack, later).iter().any(|frame| frame[36..38] == [0, 1] && frame[47] & 4 != 0);
    assert!(reset, "the guest hears of it");
    let error = accepted.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(error, Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_flood_of_datagrams_pings_and_look_ups_does_not_end_flows_of_a_neighbour() {
    let peer = UdpSocket::bind(loopback(0)).unwrap();
    let port = peer.local_addr().unwrap().port();
    // A name server that never answers.
    let silent = UdpSocket::bind(loopback(0)).unwrap();
    let mut stack = uplink(Some(silent.local_addr().unwrap()), &Budget::new(10_000));
    let (greedy, neighbour) = (guest(1, 66), guest(2, 15));
    let now = Instant::now();
    let name_server = SocketAddr::from((Network::DNS, 53));
    for from in 1..=20 {
        send(&mut stack, neighbour, &udp(neighbour, from, gateway(port), b"x"), now);
        send(&mut stack, neighbour, &udp(neighbour, from, name_server, &[from as u8; 12]), now);
    }
    let later = now + Duration::from_millis(10);
    for from in 1..=1000_u16 {
        let made_up = guest(1, 16 + (from % 200) as u8);
        send(&mut stack, made_up, &udp(made_up, from, gateway(port), b"x"), later);
        send(&mut stack, greedy, &udp(greedy, from, name_server, &from.to_be_bytes().repeat(6)), later);
    }
    assert_eq!(stack.datagrams.flows.len(), MAX_DATAGRAM_FLOWS);
    assert_eq!(stack.lookups.flows.len(), MAX_LOOKUPS);
    assert_eq!(stack.datagrams.flows.values().filter(|flow| flow.guest() == neighbour).count(), 20);
    assert_eq!(stack.lookups.flows.values().filter(|flow| flow.guest() == neighbour).count(), 20);
}

#[test]
fn a_guest_that_uses_its_neighbours_address_cannot_affect_its_connections() {
    let (_listener, port) = server();
    let mut stack = uplink(None, &Budget::new(100));
    let now = Instant::now();
    let (honest, liar) = (guest(1, 15), guest(2, 15));
    assert_eq!(open(&mut stack, honest, 7, port, now), ACCEPTED);
    // A reset with the same addresses and ports from another port of the switch, which has no such connection.
    send(&mut stack, liar, &tcp(liar, 7, port, 4), now);
    drain(&mut stack, now);
    assert_eq!(stack.flows().0, 1);
    assert_eq!(open(&mut stack, liar, 7, port, now), ACCEPTED, "it has one of its own");
    assert_eq!(stack.flows().0, 2);
}

#[test]
fn networks_of_one_process_share_its_descriptors() {
    let (_listener, port) = server();
    let budget = Budget::new(40);
    let (mut first, mut second) = (uplink(None, &budget), uplink(None, &budget));
    let now = Instant::now();
    for from in 1..=100 {
        send(&mut first, guest(1, 15), &tcp(guest(1, 15), from, port, 2), now);
    }
    drain(&mut first, now);
    assert_eq!(first.flows().0, 40);
    for from in 1..=100 {
        send(&mut second, guest(1, 15), &tcp(guest(1, 15), from, port, 2), now);
    }
    assert_eq!(second.flows().0, 20);
    drain(&mut first, now);
    assert_eq!(first.flows().0, 20, "it gives up what it owes when its guest's thread comes by");
    drop(first);
    for from in 101..=200 {
        send(&mut second, guest(1, 15), &tcp(guest(1, 15), from, port, 2), now);
    }
    assert_eq!(second.flows().0, 40);
}

#[test]
fn the_flows_of_a_port_end_when_another_adapter_is_plugged_in_there() {
    let (_listener, port) = server();
    let ports = Arc::new(Ports::default());
    let (target, budget) = (SwitchPort::new(1), Budget::new(100));
    let mut stack = Stack::behind(network(None), &[], ports.clone(), target, &budget, Instant::now()).unwrap();
    let now = Instant::now();
    let (gone, stays) = (guest(1, 15), guest(2, 16));
    assert_eq!(open(&mut stack, gone, 7, port, now), ACCEPTED);
    assert_eq!(open(&mut stack, stays, 7, port, now), ACCEPTED);
    ports.plug(gone.port, 9000);
    send(&mut stack, guest(1, 20), &tcp(guest(1, 20), 1, port, 0x10), now);
    assert_eq!(stack.flows().0, 1);
    assert_eq!(stack.guests.target(gone.port).map(|(address, _)| address.octets()[3]), Some(20));
}

#[test]
fn many_connections_of_one_guest_have_small_buffers() {
    let (_listener, port) = server();
    let mut stack = uplink(None, &Budget::new(1000));
    let now = Instant::now();
    for from in 1..=100 {
        send(&mut stack, guest(1, 15), &tcp(guest(1, 15), from, port, 2), now);
    }
    let sizes = stack.connections.flows.values().map(|flow| flow.buffer_size()).collect::<Vec<_>>();
    assert_eq!(sizes.iter().filter(|size| **size == 256 << 10).count(), 64);
    assert_eq!(sizes.iter().filter(|size| **size == 64 << 10).count(), 36);
}

#[test]
fn packets_are_fragmented_for_the_mtu_of_each_port() {
    let peer = UdpSocket::bind(loopback(0)).unwrap();
    peer.set_read_timeout(Some(grown(Duration::from_secs(10)))).unwrap();
    let ports = Arc::new(Ports::default());
    let (target, budget) = (SwitchPort::new(1), Budget::new(100));
    let mut stack = Stack::behind(network(None), &[], ports.clone(), target, &budget, Instant::now()).unwrap();
    let now = Instant::now();
    for (port, mtu, expected) in [(1, 9000, 1), (2, 1500, 4), (3, 576, 10)] {
        let guest = guest(port, 15);
        ports.plug(guest.port, mtu);
        send(&mut stack, guest, &udp(guest, 7, peer.local_addr().map(|at| gateway(at.port())).unwrap(), b"x"), now);
        let (_, from) = peer.recv_from(&mut [0; 8]).unwrap();
        peer.send_to(&[7; 5000], from).unwrap();
        let mut frames = Vec::new();
        let mut patience = Patience::new(Duration::from_secs(10));
        while frames.len() < expected {
            frames.extend(drain(&mut stack, now));
            assert!(!patience.is_over(), "{} frames", frames.len());
        }
        assert_eq!(frames.len(), expected);
        assert!(frames.iter().all(|frame| frame.len() <= 14 + usize::from(mtu)));
    }
}

#[test]
fn a_neighbour_at_a_real_switch_gets_through_while_another_floods_the_uplink() {
    use crate::net::switch::Switches;
    let (_listener, server) = server();
    let switch = Switches::default().get("lab");
    let (greedy, neighbour) = (guest(0, 66), guest(1, 15));
    let mut flooding = switch.plug(Some(greedy.mac)).unwrap();
    let mut honest = switch.plug(Some(neighbour.mac)).unwrap();
    let _uplink = switch.uplink(&[], flooding.number()).unwrap().unwrap();
    let mut frame = FrameBuffer::default();
    for from in 1..=3000 {
        flooding.send(Frame::plain(&tcp(greedy, from, server, 2)));
        flooding.send(Frame::plain(&udp(greedy, from, gateway(9), b"x")));
    }
    for from in 1..=20_u16 {
        let mut patience = Patience::new(Duration::from_secs(120));
        honest.send(Frame::plain(&tcp(neighbour, from, server, 2)));
        flooding.send(Frame::plain(&tcp(greedy, 10_000 + from, server, 2)));
        let flags = loop {
            if honest.receive(&mut frame) && frame.bytes[23] == 6 && frame.bytes[36..38] == from.to_be_bytes() {
                break frame.bytes[47];
            }
            assert!(!patience.is_over(), "connection {from} is not answered");
            thread::yield_now();
        };
        assert_eq!(flags, ACCEPTED, "connection {from}");
    }
}

#[test]
fn answers_to_a_flood_do_not_keep_the_network_from_the_hosts_sockets() {
    let (_listener, port) = server();
    let mut stack = uplink(None, &Budget::new(100));
    let (greedy, neighbour) = (guest(1, 66), guest(2, 15));
    let now = Instant::now();
    let ping = packet(greedy, 1, Network::GATEWAY, &[8, 0, 0, 0, 0, 1, 0, 1]);
    send(&mut stack, neighbour, &tcp(neighbour, 7, port, 2), now);
    let mut answered = false;
    let mut frame = FrameBuffer::default();
    for round in 0..100 {
        // There is always a waiting answer.
        for _ in 0..200 + u32::from(round == 0) {
            send(&mut stack, greedy, &ping, now);
        }
        for _ in 0..200 {
            assert!(stack.fetch(&mut frame, now));
            answered |= frame.bytes[23] == 6 && frame.bytes[..6] == neighbour.mac.0 && frame.bytes[47] == ACCEPTED;
        }
    }
    assert!(answered);
}
