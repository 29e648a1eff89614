//! Hand-made frames, and the router's answers.

use smoltcp::wire::*;

use super::client::{Guest, MAC};
use super::*;
use crate::net::offload::headers::ether_type;

/// Returns a frame from the guest to the router.
pub fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&Network::ROUTER.0[..], &MAC.0, &kind.to_be_bytes(), payload].concat()
}

/// Returns a frame with a UDP datagram from the guest.
pub fn udp(source_port: u16, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let IpAddr::V4(destination) = to.ip() else { panic!("only IPv4 here") };
    let ip = Ipv4Repr {
        src_addr: Network::FIRST_GUEST,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let udp = UdpRepr { src_port: source_port, dst_port: to.port() };
    let mut bytes = vec![0; 28 + payload.len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &Default::default());
    let (source, destination) = (ip.src_addr.into(), ip.dst_addr.into());
    let mut datagram = UdpPacket::new_unchecked(&mut bytes[20..]);
    udp.emit(
        &mut datagram,
        &source,
        &destination,
        payload.len(),
        |room| room.copy_from_slice(payload),
        &Default::default(),
    );
    frame(ether_type::IPV4, &bytes)
}

/// Parses a frame with a UDP datagram: source, port of the guest, payload.
pub fn read_udp(frame: &[u8]) -> Option<(SocketAddr, u16, Vec<u8>)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ip =
        Ipv4Packet::new_checked(ethernet.payload()).ok().filter(|_| ethernet.ethertype() == EthernetProtocol::Ipv4)?;
    let udp = UdpPacket::new_checked(ip.payload()).ok().filter(|_| ip.next_header() == IpProtocol::Udp)?;
    Some(((ip.src_addr(), udp.src_port()).into(), udp.dst_port(), udp.payload().to_vec()))
}

fn echo(destination: Ipv4Addr, identifier: u16) -> Vec<u8> {
    let icmp = Icmpv4Repr::EchoRequest { ident: identifier, seq_no: 3, data: b"are you there?" };
    let ip = Ipv4Repr {
        src_addr: Network::FIRST_GUEST,
        dst_addr: destination,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 20 + icmp.buffer_len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &Default::default());
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[20..]), &Default::default());
    frame(ether_type::IPV4, &bytes)
}

#[test]
fn the_router_answers_pings() {
    let mut guest = Guest::new(network(None), &[]);
    for address in [Network::GATEWAY, Network::DNS] {
        guest.send(&echo(address, 7));
        guest.expect("an echo reply", |frame| {
            let ip = Ipv4Packet::new_checked(&frame[14..]).ok()?;
            assert!(ip.verify_checksum());
            assert_eq!((ip.src_addr(), ip.dst_addr()), (address, Network::FIRST_GUEST));
            let icmp = Icmpv4Repr::parse(&Icmpv4Packet::new_checked(ip.payload()).unwrap(), &Default::default());
            assert_eq!(icmp.unwrap(), Icmpv4Repr::EchoReply { ident: 7, seq_no: 3, data: b"are you there?" });
            Some(())
        });
    }
}

#[test]
fn only_the_routers_addresses_answer() {
    let mut guest = Guest::new(network(None), &[]);
    assert!(!guest.send(&echo(Ipv4Addr::new(10, 0, 2, 77), 7)));
    assert!(!guest.send(&echo(Ipv4Addr::new(127, 0, 0, 1), 7)));
    assert!(!guest.send(&echo(Ipv4Addr::new(224, 0, 0, 1), 7)));
    assert!(guest.cable.receive().is_none() || guest.cable.receive().is_none());
}

#[test]
fn arp_requests_are_answered_only_for_the_router() {
    let mut guest = Guest::new(network(None), &[]);
    let ask = |target| {
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(MAC.0),
            source_protocol_addr: Network::FIRST_GUEST,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: target,
        };
        let mut bytes = vec![0; arp.buffer_len()];
        arp.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        frame(ether_type::ARP, &bytes)
    };
    guest.send(&ask(Ipv4Addr::new(10, 0, 2, 15)));
    guest.send(&ask(Ipv4Addr::new(10, 0, 2, 99)));
    guest.send(&ask(Network::DNS));
    guest.expect("an ARP reply", |frame| {
        let arp = ArpRepr::parse(&ArpPacket::new_checked(&frame[14..]).unwrap()).unwrap();
        let ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, .. } = arp else {
            panic!("{arp:?}")
        };
        assert_eq!(operation, ArpOperation::Reply);
        assert_eq!((source_hardware_addr.0, source_protocol_addr), (Network::ROUTER.0, Network::DNS));
        Some(())
    });
}

#[test]
fn a_router_is_advertised_for_ipv6_and_found() {
    let mut guest = Guest::new(network(Some(loopback(53))), &[]);
    let source: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
    let send = |guest: &mut Guest, destination: std::net::Ipv6Addr, icmp: &Icmpv6Repr<'_>| {
        let ip = Ipv6Repr {
            src_addr: source,
            dst_addr: destination,
            next_header: IpProtocol::Icmpv6,
            payload_len: icmp.buffer_len(),
            hop_limit: 255,
        };
        let mut bytes = vec![0; 40 + icmp.buffer_len()];
        ip.emit(&mut Ipv6Packet::new_unchecked(&mut bytes[..]));
        icmp.emit(&source, &destination, &mut Icmpv6Packet::new_unchecked(&mut bytes[40..]), &Default::default());
        guest.send(&frame(ether_type::IPV6, &bytes));
    };
    let read = |frame: &[u8], check: &dyn Fn(NdiscRepr<'_>)| {
        let ip = Ipv6Packet::new_checked(&frame[14..]).ok()?;
        assert_eq!((ip.hop_limit(), ip.dst_addr()), (255, source));
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        let icmp = Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &Default::default()).unwrap();
        let Icmpv6Repr::Ndisc(ndisc) = icmp else { panic!("{icmp:?}") };
        check(ndisc);
        Some(())
    };
    let solicit = Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { lladdr: None });
    send(&mut guest, "ff02::2".parse().unwrap(), &solicit);
    guest.expect("a router advertisement", |frame| {
        read(frame, &|ndisc| {
            let NdiscRepr::RouterAdvert { lladdr, prefix_info, router_lifetime, .. } = ndisc else {
                panic!("{ndisc:?}")
            };
            assert_eq!(lladdr.unwrap().as_bytes(), &Network::ROUTER.0);
            assert_eq!(prefix_info.unwrap().prefix, Network::PREFIX6);
            assert_eq!(prefix_info.unwrap().prefix_len, 64);
            assert!(router_lifetime.secs() > 0);
        })
    });
    let solicit = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: Network::GATEWAY6, lladdr: None });
    send(&mut guest, "ff02::1:ff00:2".parse().unwrap(), &solicit);
    guest.expect("a neighbour advertisement", |frame| {
        read(frame, &|ndisc| {
            let NdiscRepr::NeighborAdvert { target_addr, lladdr, .. } = ndisc else { panic!("{ndisc:?}") };
            assert_eq!(target_addr, Network::GATEWAY6);
            assert_eq!(lladdr.unwrap().as_bytes(), &Network::ROUTER.0);
        })
    });
}

#[test]
fn frames_for_others_are_dropped() {
    let mut guest = Guest::new(network(None), &[]);
    let mut bytes = echo(Network::GATEWAY, 1);
    bytes[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    assert!(!guest.send(&bytes));
}

proptest::proptest! {
    #[test]
    fn random_frames_never_panic(bytes: Vec<u8>, kind in 0..4_usize) {
        let mut guest = Guest::new(network(None), &[]);
        let start: &[u8] = match kind {
            0 => &[0x08, 0x00, 0x45],
            1 => &[0x86, 0xdd, 0x60],
            2 => &[0x08, 0x06],
            _ => &[],
        };
        guest.send(&[&Network::ROUTER.0[..], &MAC.0, start, &bytes].concat());
        guest.send(&bytes);
        while guest.cable.receive().is_some() {}
    }

    #[test]
    fn random_tcp_segments_never_panic(tail in proptest::collection::vec(proptest::num::u8::ANY, 20..80), flags: u8, known: bool) {
        let port = TcpListener::bind(loopback(0)).unwrap();
        let to = port.local_addr().unwrap().port();
        let mut guest = Guest::new(network(None), &[]);
        let mut segment = tail;
        segment[..2].copy_from_slice(&1234_u16.to_be_bytes());
        segment[2..4].copy_from_slice(&to.to_be_bytes());
        for flags in if known { vec![2, 0x10, flags] } else { vec![flags] } {
            segment[13] = flags;
            let ip = Ipv4Repr {
                src_addr: Network::FIRST_GUEST,
                dst_addr: Network::GATEWAY,
                next_header: IpProtocol::Tcp,
                payload_len: segment.len(),
                hop_limit: 64,
            };
            let mut bytes = vec![0; 20];
            ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &Default::default());
            bytes.extend_from_slice(&segment);
            guest.send(&frame(ether_type::IPV4, &bytes));
            while guest.cable.receive().is_some() {}
        }
    }
}
