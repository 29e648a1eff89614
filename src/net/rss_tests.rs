use super::super::offload::testing::packet;
use super::*;

/// The key of Microsoft's test vectors (MS-DOC "Verifying the RSS Hash Calculation").
const TEST_KEY: [u8; KEY] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

fn scaling(hash_types: u32) -> Scaling {
    Scaling { hash_types, key: TEST_KEY, table: vec![0, 1, 2, 3] }
}

/// Returns the headers of a TCP packet between two endpoints.
fn tcp(source: &str, destination: &str) -> Vec<u8> {
    let ends: [std::net::SocketAddr; 2] = [source.parse().unwrap(), destination.parse().unwrap()];
    let mut frame = packet(ends[0].is_ipv6(), protocol::TCP, 5);
    let headers = Headers::parse(&frame).unwrap();
    let mut place = headers.network + if ends[0].is_ipv6() { 8 } else { 12 };
    for (index, end) in ends.iter().enumerate() {
        let octets = match end.ip() {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        frame[place..place + octets.len()].copy_from_slice(&octets);
        place += octets.len();
        frame[headers.transport + 2 * index..][..2].copy_from_slice(&end.port().to_be_bytes());
    }
    frame
}

#[test]
fn hashes_agree_with_the_published_vectors() {
    // Source, destination, hash of only the addresses, hash of addresses and ports.
    let vectors = [
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x323e8fc2, 0x51ccc178),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xd718262a, 0xc626b0ea),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0xd2d0a5de, 0x5c2b394a),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0x82989176, 0xafc7327f),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x5d1809c5, 0x10e828a2),
        ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x2cc18cd5, 0x40207d3d),
        ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0x0f0c461c, 0xdde51bbf),
        ("[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", "[fe80::200:f8ff:fe21:67cf]:38024", 0x4b61e985, 0x02d1feef),
    ];
    for (source, destination, addresses, with_ports) in vectors {
        let frame = tcp(source, destination);
        assert_eq!(scaling(hash_type::IPV4 | hash_type::IPV6).hash(&frame), Some(addresses), "{source}");
        assert_eq!(scaling(hash_type::TCP_IPV4 | hash_type::TCP_IPV6).hash(&frame), Some(with_ports), "{source}");
    }
}

#[test]
fn udp_is_hashed_by_address_unless_the_guest_enables_its_ports() {
    let frame = packet(false, protocol::UDP, 9);
    let by_address = scaling(hash_type::IPV4 | hash_type::TCP_IPV4).hash(&frame);
    assert_eq!(by_address, Some(toeplitz(&TEST_KEY, &frame[26..34])));
    let by_port = scaling(hash_type::IPV4 | hash_type::UDP_IPV4).hash(&frame);
    assert_eq!(by_port, Some(toeplitz(&TEST_KEY, &frame[26..38])));
    assert_eq!(scaling(hash_type::TCP_IPV4).hash(&frame), None);
    assert_eq!(scaling(u32::MAX).hash(&[0; 60]), None);
}

#[test]
fn the_indirection_table_selects_the_channel() {
    let mut scaling = scaling(0);
    assert_eq!([0, 1, 2, 3, 4, u32::MAX].map(|hash| scaling.channel(hash)), [0, 1, 2, 3, 0, 3]);
    scaling.table.clear();
    assert_eq!(scaling.channel(7), 0);
}
