use super::super::headers::protocol;
use super::super::segment::finish;
use super::super::testing::packet;
use super::*;
use crate::vsp::network::frame::Offload;

const IPV4: u32 = 1;
const IPV6: u32 = 2;
const TCP: u32 = 4;
const UDP: u32 = 8;
const IP_HEADER: u32 = 0x10;

fn buffer(bytes: &[u8]) -> FrameBuffer {
    FrameBuffer { bytes: bytes.to_vec(), offload: Offload::default() }
}

fn finished(buffer: &FrameBuffer) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    finish(&buffer.frame(), &mut FrameBuffer::default(), |frame| frames.push(frame.to_vec()));
    frames
}

#[test]
fn what_a_guest_leaves_open_is_completed_whatever_it_left_there() {
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
        prepare_checksum(&mut buffer, TransmitChecksum(wanted)).unwrap();
        assert!(matches!(buffer.offload.checksum, Checksum::Partial { .. }));
        assert_eq!(finished(&buffer), [right]);
    }
}

#[test]
fn a_large_segment_is_cut_into_right_ones() {
    for is_ipv6 in [false, true] {
        let whole = packet(is_ipv6, protocol::TCP, 4000);
        let headers = Headers::parse(&whole).unwrap();
        // As Linux leaves it: no length, no checksums.
        let mut open = whole.clone();
        set_be16(&mut open, if is_ipv6 { 18 } else { 16 }, 0);
        set_be16(&mut open, headers.transport + 16, 0x1111);
        let mut buffer = buffer(&open);
        let info = LargeSend(1000 | 1 << 30 | u32::from(is_ipv6) << 31);
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
fn a_segment_that_needs_no_cut_is_an_ordinary_one() {
    let mut buffer = buffer(&packet(false, protocol::TCP, 500));
    prepare_large_send(&mut buffer, LargeSend(1000 | 1 << 30)).unwrap();
    assert_eq!(buffer.offload.segmentation, None);
    assert_eq!(finished(&buffer).len(), 1);
}

#[test]
fn claims_that_do_not_fit_the_frame_are_refused() {
    let tcp = packet(false, protocol::TCP, 10);
    let checksum = |bytes: &[u8], wanted| prepare_checksum(&mut buffer(bytes), TransmitChecksum(wanted));
    assert_eq!(checksum(&tcp, IPV6 | TCP), Err(TransmitError::OtherVersion));
    assert_eq!(checksum(&tcp, IPV4 | UDP), Err(TransmitError::NoTransport));
    assert_eq!(checksum(&tcp[..40], IPV4 | TCP), Err(TransmitError::NotIp));
    assert_eq!(checksum(&[0; 60], IPV4 | TCP), Err(TransmitError::NotIp));
    let cut = |bytes: &[u8], info| prepare_large_send(&mut buffer(bytes), LargeSend(info));
    assert_eq!(cut(&tcp, 0), Err(TransmitError::SegmentSize(0)));
    assert_eq!(cut(&tcp, 0xf_ffff), Err(TransmitError::SegmentSize(0xf_ffff)));
    assert_eq!(cut(&tcp, 100 | 1 << 31), Err(TransmitError::OtherVersion));
    assert_eq!(cut(&packet(false, protocol::UDP, 10), 100), Err(TransmitError::NoTransport));
    let mut bad = tcp.clone();
    bad[46] = 0xf0;
    assert_eq!(cut(&bad, 100), Err(TransmitError::NoTransport));
}

proptest::proptest! {
    #[test]
    fn no_claim_does_harm(bytes: Vec<u8>, info: u32, kind: bool) {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(if kind { &[8, 0, 0x45] } else { &[0x86, 0xdd, 0x60] });
        frame.extend_from_slice(&bytes);
        let mut one = buffer(&frame);
        let _ = prepare_checksum(&mut one, TransmitChecksum(info));
        let _ = finished(&one);
        let mut other = buffer(&frame);
        let _ = prepare_large_send(&mut other, LargeSend(info));
        let _ = finished(&other);
    }
}
