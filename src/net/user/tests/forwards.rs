//! Forwarded ports lead to the current address of the guest.

use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};

use super::dhcp_and_dns::message;
use super::share::Guest;
use super::shares::{drain, guest, packet, packet_from, send};
use super::stack::Stack;
use super::*;
use crate::host::descriptors::Budget;
use crate::net::offload::headers::{be16, ether_type};
use crate::patience::Patience;

/// Creates a network with a TCP and a UDP port that are forwarded to port 80 of the guest at port 1 of the switch.
fn forwarding() -> (Stack, u16, u16) {
    let (tcp, udp) = (free_port(), UdpSocket::bind(loopback(0)).unwrap().local_addr().unwrap().port());
    let forwards = [forward(&format!("tcp:{tcp}:80")), forward(&format!("udp:{udp}:80"))];
    let (ports, target) = (Arc::new(Ports::default()), SwitchPort::new(1));
    let stack = Stack::behind(network(None), &forwards, ports, target, &Budget::new(100), Instant::now()).unwrap();
    (stack, tcp, udp)
}

/// Gets an address for the guest by DHCP, as its first frames.
fn lease(stack: &mut Stack, guest: Guest, now: Instant) -> Ipv4Addr {
    let mut address = Ipv4Addr::UNSPECIFIED;
    for kind in [DhcpMessageType::Discover, DhcpMessageType::Request] {
        let mut request = message(kind, guest.mac);
        request.requested_ip = (kind == DhcpMessageType::Request).then_some(address);
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
        let mut datagram = [0, 68, 0, 67].to_vec();
        datagram.extend_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
        datagram.extend_from_slice(&[0, 0]);
        datagram.extend_from_slice(&bytes);
        let mut frame = packet(guest, 17, Ipv4Addr::BROADCAST, &datagram);
        frame[..6].fill(0xff);
        frame[26..30].fill(0);
        assert!(send(stack, guest, &frame, now));
        let answer = drain(stack, now).into_iter().find(|frame| frame[23] == 17).unwrap();
        address = DhcpRepr::parse(&DhcpPacket::new_checked(&answer[42..]).unwrap()).unwrap().your_ip;
    }
    address
}

/// Announces an address of the guest by ARP.
fn announce(stack: &mut Stack, guest: Guest, address: Ipv4Addr, now: Instant) {
    let mut arp = [0, 1, 8, 0, 6, 4, 0, 1].to_vec();
    arp.extend_from_slice(&guest.mac.0);
    arp.extend_from_slice(&address.octets());
    arp.extend_from_slice(&[0; 6]);
    arp.extend_from_slice(&address.octets());
    let mut frame = frames::frame(ether_type::ARP, &arp);
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&guest.mac.0);
    assert!(send(stack, guest, &frame, now));
}

/// Returns the Ethernet address and the IPv4 address to which a new connection and a new datagram are sent. Both must be the same.
fn leads_to(stack: &mut Stack, tcp: u16, udp: u16, now: Instant) -> (Vec<u8>, Ipv4Addr) {
    let _client = TcpStream::connect(loopback(tcp)).unwrap();
    let client = UdpSocket::bind(loopback(0)).unwrap();
    client.send_to(b"x", loopback(udp)).unwrap();
    let mut found = [None, None];
    let mut patience = Patience::new(Duration::from_secs(10));
    loop {
        for frame in drain(stack, now).into_iter().filter(|frame| be16(frame, 12) == Some(ether_type::IPV4)) {
            let place = match frame[23] {
                6 => 0,
                17 => 1,
                _ => continue,
            };
            assert_eq!(frame[36..38], [0, 80]);
            let address: [u8; 4] = frame[30..34].try_into().unwrap();
            found[place] = Some((frame[..6].to_vec(), Ipv4Addr::from(address)));
        }
        if let [Some(tcp), Some(udp)] = &found {
            assert_eq!(tcp, udp);
            return tcp.clone();
        }
        assert!(!patience.is_over(), "{found:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn forwards_follow_a_guest_that_changes_its_ethernet_address_and_gets_a_new_lease() {
    let (mut stack, tcp, udp) = forwarding();
    let now = Instant::now();
    for number in 1..=3 {
        let guest = guest(1, number);
        let address = lease(&mut stack, guest, now);
        assert_eq!(address, Network::guest(number - 1));
        assert_eq!(leads_to(&mut stack, tcp, udp, now), (guest.mac.0.to_vec(), address));
    }
}

#[test]
fn forwards_lead_to_a_guest_that_gave_itself_an_address_and_follow_it() {
    let (mut stack, tcp, udp) = forwarding();
    let now = Instant::now();
    for (mac, last) in [(1, 77), (1, 78), (2, 78)] {
        let (guest, address) = (guest(1, mac), Ipv4Addr::new(10, 0, 2, last));
        announce(&mut stack, guest, address, now);
        assert_eq!(leads_to(&mut stack, tcp, udp, now), (guest.mac.0.to_vec(), address));
    }
}

#[test]
fn a_second_guest_behind_a_bridge_does_not_take_the_forwards() {
    let (mut stack, tcp, udp) = forwarding();
    let now = Instant::now();
    let (first, nested) = (guest(1, 1), guest(1, 2));
    let address = lease(&mut stack, first, now);
    lease(&mut stack, nested, now);
    // The first one is asked by ARP, and answers.
    let mut asked = stack.outbox.is_empty();
    announce(&mut stack, nested, Ipv4Addr::new(10, 0, 2, 99), now);
    for frame in drain(&mut stack, now).iter().filter(|frame| be16(frame, 12) == Some(ether_type::ARP)) {
        assert_eq!((&frame[..6], &frame[20..22]), (&nested.mac.0[..], &[0, 1][..]));
        asked = true;
    }
    assert!(asked);
    announce(&mut stack, first, address, now);
    assert_eq!(leads_to(&mut stack, tcp, udp, now), (first.mac.0.to_vec(), address));
}

#[test]
fn guests_at_other_ports_of_the_switch_do_not_get_the_forwards() {
    let (mut stack, tcp, udp) = forwarding();
    let now = Instant::now();
    let address = lease(&mut stack, guest(1, 1), now);
    let thief = guest(2, 2);
    lease(&mut stack, thief, now);
    announce(&mut stack, thief, address, now);
    assert_eq!(leads_to(&mut stack, tcp, udp, now), (guest(1, 1).mac.0.to_vec(), address));
}

#[test]
fn a_connection_goes_on_when_the_guest_changes_its_ethernet_address_alone() {
    let (mut stack, tcp, _) = forwarding();
    let now = Instant::now();
    announce(&mut stack, guest(1, 1), Network::FIRST_GUEST, now);
    let _client = TcpStream::connect(loopback(tcp)).unwrap();
    let mut patience = Patience::new(Duration::from_secs(10));
    let first = loop {
        if let Some(frame) = drain(&mut stack, now).into_iter().find(|frame| frame[23] == 6) {
            break frame;
        }
        assert!(!patience.is_over());
    };
    // The answer comes from the new address, and the following packets are sent there.
    let peer = be16(&first, 34).unwrap();
    let mut segment = [80_u16.to_be_bytes(), peer.to_be_bytes()].concat();
    let acknowledged = u32::from_be_bytes(first[38..42].try_into().unwrap()).wrapping_add(1);
    segment.extend_from_slice(&[0, 0, 0, 9]);
    segment.extend_from_slice(&acknowledged.to_be_bytes());
    segment.extend_from_slice(&[0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0]);
    let new = guest(1, 2);
    let frame = packet_from(new, Network::FIRST_GUEST, 6, Network::GATEWAY, &segment);
    send(&mut stack, new, &frame, now);
    let answer = drain(&mut stack, now + Duration::from_secs(1)).into_iter().find(|frame| frame[23] == 6).unwrap();
    assert_eq!((&answer[..6], answer[47]), (&new.mac.0[..], 0x10));
}

#[test]
fn flows_follow_a_guest_that_announces_its_new_ethernet_address_by_arp() {
    let (mut stack, _, udp) = forwarding();
    let now = Instant::now();
    announce(&mut stack, guest(1, 1), Network::FIRST_GUEST, now);
    let client = UdpSocket::bind(loopback(0)).unwrap();
    let delivered_to = |stack: &mut Stack| {
        client.send_to(b"x", loopback(udp)).unwrap();
        let mut patience = Patience::new(Duration::from_secs(10));
        loop {
            if let Some(frame) = drain(stack, now).into_iter().find(|frame| frame[23] == 17) {
                break frame[..6].to_vec();
            }
            assert!(!patience.is_over());
            thread::sleep(Duration::from_millis(1));
        }
    };
    assert_eq!(delivered_to(&mut stack), guest(1, 1).mac.0);
    // The guest sends nothing in the flow.
    announce(&mut stack, guest(1, 2), Network::FIRST_GUEST, now);
    assert_eq!(delivered_to(&mut stack), guest(1, 2).mac.0);
    // A guest at another port has no influence.
    announce(&mut stack, guest(2, 3), Network::FIRST_GUEST, now);
    assert_eq!(delivered_to(&mut stack), guest(1, 2).mac.0);
}
