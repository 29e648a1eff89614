use super::super::testing::packet_with;
use super::*;
use crate::net::frame::Segmentation;
use proptest::prelude::*;

fn cut(frame: &[u8], size: u16) -> Vec<Vec<u8>> {
    let headers = Headers::parse(frame).unwrap();
    let segmentation = Some(Segmentation { version: headers.version, size, headers: 0 });
    let frame = Frame { bytes: frame, offload: Offload { checksum: Checksum::Unverified, segmentation } };
    let mut pieces = Vec::new();
    finish(&frame, &mut FrameBuffer::default(), |piece| pieces.push(piece.to_vec()));
    assert_eq!(pieces.len(), Segmenter::new(&frame).unwrap().pieces());
    pieces
}

fn flags(frame: &[u8]) -> u8 {
    frame[Headers::parse(frame).unwrap().transport + FLAGS]
}

#[test]
fn tcp_flags_and_ip_identifications_of_segments_are_right() {
    let frame = packet_with(false, protocol::TCP, &[1; 250]);
    let pieces = cut(&frame, 100);
    assert_eq!(pieces.iter().map(|piece| flags(piece)).collect::<Vec<_>>(), [0x90, 0x10, 0x19]);
    let identifications: Vec<_> = pieces.iter().map(|piece| be16(piece, 18).unwrap()).collect();
    assert_eq!(identifications, [0x1234, 0x1235, 0x1236]);
}

#[test]
fn a_frame_without_segmentation_is_passed_on_unchanged() {
    let frame = packet_with(true, protocol::UDP, b"x");
    let mut seen = Vec::new();
    finish(&Frame::plain(&frame), &mut FrameBuffer::default(), |piece| seen.push(piece.to_vec()));
    assert_eq!(seen, [frame]);
}

#[test]
fn only_tcp_is_segmented() {
    let frame = packet_with(false, protocol::UDP, &[0; 100]);
    let segmentation = Some(Segmentation { version: IpVersion::V4, size: 10, headers: 42 });
    let offload = Offload { checksum: Checksum::Unverified, segmentation };
    assert!(Segmenter::new(&Frame { bytes: &frame, offload }).is_none());
}

proptest! {
    #[test]
    fn the_segments_together_are_the_frame(is_ipv6: bool, payload in proptest::collection::vec(any::<u8>(), 0..5000), size in 1..1600_u16) {
        let frame = packet_with(is_ipv6, protocol::TCP, &payload);
        let whole = Headers::parse(&frame).unwrap();
        let start = whole.transport + 24;
        let sequence = |frame: &[u8]| u32::from_be_bytes(frame[whole.transport + 4..][..4].try_into().unwrap());
        let mut together = Vec::new();
        for piece in cut(&frame, size) {
            let headers = Headers::parse(&piece).unwrap();
            prop_assert_eq!(headers.end, piece.len());
            prop_assert_eq!(checksum::is_right(&piece, &headers), Some(true));
            prop_assert!(is_ipv6 || checksum::is_ipv4_header_right(&piece, &headers));
            prop_assert!(piece.len() - start <= usize::from(size));
            prop_assert_eq!(sequence(&piece), sequence(&frame).wrapping_add(together.len() as u32));
            together.extend_from_slice(&piece[start..]);
        }
        prop_assert_eq!(together, payload);
    }
}
