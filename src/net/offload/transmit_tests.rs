use super::super::headers::protocol;
use super::super::segment::finish;
use super::super::testing::packet;
use super::*;
use crate::net::frame::Offload;

const IPV4: u32 = 1;
const IPV6: u32 = 2;
const TCP: u32 = 4;
const UDP: u32 = 8;
const IP_HEADER: u32 = 0x10;

fn checksums(bits: u32) -> Checksums {
    let transport = [(TCP, protocol::TCP), (UDP, protocol::UDP)].iter().find(|(bit, _)| bits & bit != 0);
    Checksums {
        version: if bits & IPV6 != 0 { IpVersion::V6 } else { IpVersion::V4 },
        ip_header: bits & IP_HEADER != 0,
        transport: transport.map(|(_, protocol)| *protocol),
    }
}

/// Decodes a request to segment: the size is in the low bits, and the highest bit selects IPv6.
fn cut(bits: u32) -> Cut {
    Cut { version: if bits >> 31 != 0 { IpVersion::V6 } else { IpVersion::V4 }, size: bits & 0xf_ffff }
}

fn buffer(bytes: &[u8]) -> FrameBuffer {
    FrameBuffer { bytes: bytes.to_vec(), offload: Offload::default() }
}

fn finished(buffer: &FrameBuffer) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    finish(&buffer.frame(), &mut FrameBuffer::default(), |frame| frames.push(frame.to_vec()));
    frames
}

#[test]
fn requested_checksums_are_computed_whatever_the_guest_left_in_their_fields() {
    for (is_ipv6, number, wanted) in [
        (false, protocol::TCP, IPV4 | TCP | IP_HEADER),
        (false, protocol::UDP, IPV4 | UDP | IP_HEADER),
        (true, protocol::TCP, IPV6 | TCP),
        (true, protocol::UDP, IPV6 | UDP),
    ] {
        let right = packet(is_ipv6, number, 333);
        let headers = Headers::parse(&right).unwrap();
        let mut open = right.clone();
        set_be16(&mut open, headers.transport + usize::from(headers.checksum_offset().unwrap()), 0xabcd);
        if !is_ipv6 {
            set_be16(&mut open, 24, 0xabcd);
        }
        let mut buffer = buffer(&open);
        prepare_checksum(&mut buffer, checksums(wanted)).unwrap();
        assert!(matches!(buffer.offload.checksum, Checksum::Partial { .. }));
        assert_eq!(finished(&buffer), [right]);
    }
}

#[test]
fn a_large_send_is_split_into_valid_segments() {
    for is_ipv6 in [false, true] {
        let whole = packet(is_ipv6, protocol::TCP, 4000);
        let headers = Headers::parse(&whole).unwrap();
        // As Linux sends it: without a length and without checksums.
        let mut open = whole.clone();
        set_be16(&mut open, if is_ipv6 { 18 } else { 16 }, 0);
        set_be16(&mut open, headers.transport + 16, 0x1111);
        let mut buffer = buffer(&open);
        let info = cut(1000 | u32::from(is_ipv6) << 31);
        prepare_large_send(&mut buffer, info).unwrap();
        let frames = finished(&buffer);
        assert_eq!(frames.len(), 4);
        for frame in frames {
            let headers = Headers::parse(&frame).unwrap();
            assert!(has_length(&frame, &headers));
            assert_eq!(checksum::is_right(&frame, &headers), Some(true));
            assert!(is_ipv6 || checksum::is_ipv4_header_right(&frame, &headers));
        }
    }
}

#[test]
fn a_large_send_that_fits_one_segment_is_an_ordinary_frame() {
    let mut buffer = buffer(&packet(false, protocol::TCP, 500));
    prepare_large_send(&mut buffer, cut(1000)).unwrap();
    assert_eq!(buffer.offload.segmentation, None);
    assert_eq!(finished(&buffer).len(), 1);
}

#[test]
fn offload_requests_that_do_not_match_the_frame_are_refused() {
    let tcp = packet(false, protocol::TCP, 10);
    let checksum = |bytes: &[u8], wanted| prepare_checksum(&mut buffer(bytes), checksums(wanted));
    assert_eq!(checksum(&tcp, IPV6 | TCP), Err(TransmitError::OtherVersion));
    assert_eq!(checksum(&tcp, IPV4 | UDP), Err(TransmitError::NoTransport));
    assert_eq!(checksum(&tcp[..40], IPV4 | TCP), Err(TransmitError::NotIp));
    assert_eq!(checksum(&[0; 60], IPV4 | TCP), Err(TransmitError::NotIp));
    let large_send = |bytes: &[u8], info| prepare_large_send(&mut buffer(bytes), cut(info));
    assert_eq!(large_send(&tcp, 0), Err(TransmitError::SegmentSize(0)));
    assert_eq!(large_send(&tcp, 0xf_ffff), Err(TransmitError::SegmentSize(0xf_ffff)));
    assert_eq!(large_send(&tcp, 100 | 1 << 31), Err(TransmitError::OtherVersion));
    assert_eq!(large_send(&packet(false, protocol::UDP, 10), 100), Err(TransmitError::NoTransport));
    let mut bad = tcp;
    bad[46] = 0xf0;
    assert_eq!(large_send(&bad, 100), Err(TransmitError::NoTransport));
}

proptest::proptest! {
    #[test]
    fn random_offload_requests_never_panic(bytes: Vec<u8>, info: u32, kind: bool) {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(if kind { &[8, 0, 0x45] } else { &[0x86, 0xdd, 0x60] });
        frame.extend_from_slice(&bytes);
        let mut one = buffer(&frame);
        let _ = prepare_checksum(&mut one, checksums(info));
        let _ = finished(&one);
        let mut other = buffer(&frame);
        let _ = prepare_large_send(&mut other, cut(info));
        let _ = finished(&other);
    }
}
