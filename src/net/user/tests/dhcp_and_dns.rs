//! Addresses by DHCP, and look-ups of names.

use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};

use super::client::{Guest, MAC};
use super::frames::{read_udp, udp};
use super::*;
use crate::net::mac::MacAddress;

pub fn message(message_type: DhcpMessageType, mac: MacAddress) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type,
        transaction_id: 0x1234,
        secs: 0,
        client_hardware_address: EthernetAddress(mac.0),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

/// Sends a DHCP request, and calls `check` with the answer.
fn ask(guest: &mut Guest, request: &DhcpRepr<'_>, check: impl Fn(&DhcpRepr<'_>)) {
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    let mut frame = udp(68, (Ipv4Addr::BROADCAST, 67).into(), &bytes);
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(request.client_hardware_address.as_bytes());
    // A guest without an address sends from 0.0.0.0.
    frame[26..30].copy_from_slice(&[0; 4]);
    assert!(guest.send(&frame));
    guest.expect("an answer from the DHCP server", |frame| {
        let (from, to, payload) = read_udp(frame)?;
        assert_eq!((from, to), (gateway(67), 68));
        check(&DhcpRepr::parse(&DhcpPacket::new_checked(&payload[..]).unwrap()).unwrap());
        Some(())
    });
}

#[test]
fn a_guest_gets_its_address_and_keeps_it() {
    let mut guest = Guest::new(network(Some(loopback(53))), &[]);
    ask(&mut guest, &message(DhcpMessageType::Discover, MAC), |offer| {
        assert_eq!(offer.message_type, DhcpMessageType::Offer);
        assert_eq!(offer.your_ip, Network::FIRST_GUEST);
        assert_eq!(offer.transaction_id, 0x1234);
    });
    for _ in 0..2 {
        let mut request = message(DhcpMessageType::Request, MAC);
        request.requested_ip = Some(Network::FIRST_GUEST);
        request.server_identifier = Some(Network::GATEWAY);
        ask(&mut guest, &request, |ack| {
            assert_eq!((ack.message_type, ack.your_ip), (DhcpMessageType::Ack, Network::FIRST_GUEST));
            assert_eq!((ack.router, ack.subnet_mask), (Some(Network::GATEWAY), Some(Network::MASK)));
            assert_eq!(ack.dns_servers.as_ref().unwrap()[..], [Network::DNS]);
            assert!(ack.lease_duration.unwrap() > 0);
        });
    }
}

#[test]
fn an_address_that_is_not_the_guests_is_refused() {
    let mut guest = Guest::new(network(None), &[]);
    let mut request = message(DhcpMessageType::Request, MAC);
    request.requested_ip = Some(Ipv4Addr::new(192, 168, 1, 5));
    ask(&mut guest, &request, |answer| {
        assert_eq!(answer.message_type, DhcpMessageType::Nak);
        assert!(answer.your_ip.is_unspecified());
    });
}

#[test]
fn questions_are_sent_to_the_hosts_name_server() {
    let server = UdpSocket::bind(loopback(0)).unwrap();
    let resolver = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut question = [0; 512];
        let (length, from) = server.recv_from(&mut question).unwrap();
        let answer = [&question[..length], b" is 192.0.2.1"].concat();
        server.send_to(&answer, from).unwrap();
    });
    let mut guest = Guest::new(network(Some(resolver)), &[]);
    let name_server = SocketAddr::from((Network::DNS, 53));
    assert!(guest.send(&udp(5000, name_server, b"example.test")));
    let answer = guest.expect("an answer", read_udp);
    assert_eq!(answer, (name_server, 5000, b"example.test is 192.0.2.1".to_vec()));
}

#[test]
fn names_can_be_looked_up_over_tcp() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let resolver = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 3];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"long answer").unwrap();
    });
    let mut guest = Guest::new(network(Some(resolver)), &[]);
    let handle = guest.connect((Network::DNS, 53).into());
    guest.write_all(handle, b"who");
    assert_eq!(guest.read_to_end(handle), b"long answer");
}

#[test]
fn the_name_server_answers_nothing_else() {
    let network = network(Some(loopback(53)));
    assert!(network.is_name_server((Network::DNS, 53).into()) && network.is_name_server((Network::DNS6, 53).into()));
    assert!(!network.is_name_server((Network::DNS, 80).into()));
    assert_eq!(Network::outside((Network::DNS, 53).into()), None);
    assert!(!Network { resolver: None }.is_name_server((Network::DNS, 53).into()));
}

#[test]
fn the_hosts_name_servers_are_those_of_its_file_in_order() {
    let text = "# comment\n; another\nsearch example.test\noptions ndots:5 timeout:1 rotate\n  nameserver  192.0.2.53 # first\nnameserver ::1\n\
                nameserver nonsense\nnameserver 192.0.2.53\nnameserver fe80::1%lo\nnameserver fe80::1%nowhere\nnameserver 192.0.2.54\r\n";
    let expected = ["192.0.2.53:53", "[::1]:53", "[fe80::1%1]:53", "192.0.2.54:53"];
    assert_eq!(resolver::parse(text), expected.map(|server| server.parse::<SocketAddr>().unwrap()));
    assert_eq!(resolver::parse("options ndots:5\nnameserver"), []);
    assert_eq!(resolver::parse(&"nameserver 192.0.2.1\n".repeat(1000)).len(), 1);
    let many: String = (0..200).map(|number| format!("nameserver 192.0.2.{number}\n")).collect();
    assert_eq!(resolver::parse(&many).len(), 8);
}
