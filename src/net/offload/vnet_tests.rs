use super::super::headers::protocol;
use super::super::testing::packet;
use super::*;

#[test]
fn offloads_can_be_read_back_from_their_header() {
    let frame = packet(false, protocol::TCP, 3000);
    let offloads = [
        Offload::default(),
        Offload { checksum: Checksum::Verified, segmentation: None },
        Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, segmentation: None },
        Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            segmentation: Some(Segmentation { version: IpVersion::V4, size: 1448, headers: 58 }),
        },
    ];
    for offload in offloads {
        let header = VnetHeader::of(&Frame { bytes: &frame, offload });
        assert_eq!(header.offload(&frame), Some(offload));
    }
}

#[test]
fn the_fields_have_the_layout_of_linux() {
    let frame = packet(true, protocol::TCP, 3000);
    let offload = Offload {
        checksum: Checksum::Partial { start: 54, offset: 16 },
        segmentation: Some(Segmentation { version: IpVersion::V6, size: 1400, headers: 78 }),
    };
    let header = VnetHeader::of(&Frame { bytes: &frame, offload });
    assert_eq!(header.as_bytes(), [1, 4, 78, 0, 0x78, 5, 54, 0, 16, 0]);
}

#[test]
fn headers_that_contradict_the_frame_are_refused() {
    let frame = packet(false, protocol::TCP, 100);
    let good = VnetHeader {
        flags: 1,
        segmentation_type: 1,
        header_length: 58,
        segment_size: 50,
        checksum_start: 34,
        checksum_offset: 16,
    };
    assert!(good.offload(&frame).is_some());
    for bad in [
        VnetHeader { checksum_start: 200, ..good },
        VnetHeader { checksum_offset: u16::MAX, checksum_start: u16::MAX, ..good },
        VnetHeader { segmentation_type: VnetHeader::TCP6, ..good },
        VnetHeader { segmentation_type: 3, ..good },
        VnetHeader { segment_size: 0, ..good },
    ] {
        assert_eq!(bad.offload(&frame), None, "{bad:?}");
    }
    assert!(VnetHeader { segmentation_type: 1 | VnetHeader::CONGESTION, ..good }.offload(&frame).is_some());
}
