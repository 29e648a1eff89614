//! Frames for tests.

use super::checksum::{self, complete, leave_open};
use super::headers::{Headers, ether_type, protocol};

/// Returns a TCP or UDP packet with valid checksums. Its payload is a pattern of positions.
pub fn packet(is_ipv6: bool, number: u8, payload: usize) -> Vec<u8> {
    packet_with(is_ipv6, number, &(0..payload).map(|index| (index * 7) as u8).collect::<Vec<_>>())
}

/// The same with another payload.
pub fn packet_with(is_ipv6: bool, number: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = if number == protocol::TCP {
        // Ports, sequence numbers, flags ACK, PSH, FIN and CWR, and the option "no operation" four times.
        let mut tcp = vec![0x12, 0x34, 0, 80, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 9, 0x60, 0x99, 1, 0, 0, 0, 0, 0];
        tcp.extend_from_slice(&[1; 4]);
        tcp
    } else {
        let length = (8 + payload.len()) as u16;
        [&[0x12, 0x34, 0, 53][..], &length.to_be_bytes(), &[0, 0]].concat()
    };
    transport.extend_from_slice(payload);
    let length = transport.len() as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if is_ipv6 {
        frame.extend_from_slice(&ether_type::IPV6.to_be_bytes());
        frame.extend_from_slice(&[0x60, 0, 0, 0]);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[number, 64]);
        frame.extend_from_slice(&[0xfd; 16]);
        frame.extend_from_slice(&[0xfe; 16]);
    } else {
        frame.extend_from_slice(&ether_type::IPV4.to_be_bytes());
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&(length + 20).to_be_bytes());
        frame.extend_from_slice(&[0x12, 0x34, 0x40, 0, 64, number, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    }
    frame.extend_from_slice(&transport);
    let headers = Headers::parse(&frame).unwrap();
    checksum::complete_ipv4_header(&mut frame, &headers);
    let open = leave_open(&mut frame, &headers).unwrap();
    complete(&mut frame, open);
    frame
}
