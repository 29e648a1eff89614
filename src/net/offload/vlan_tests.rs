use super::super::headers::{Headers, IpVersion, protocol};
use super::super::testing::packet;
use super::*;
use crate::net::frame::Segmentation;

#[test]
fn inserting_and_removing_a_tag_adjusts_the_offsets() {
    let bytes = packet(false, protocol::TCP, 100);
    let mut buffer = FrameBuffer { bytes, ..FrameBuffer::default() };
    buffer.offload.checksum = Checksum::Partial { start: 34, offset: 16 };
    buffer.offload.segmentation = Some(Segmentation { version: IpVersion::V4, size: 50, headers: 58 });
    let before = buffer.clone();
    insert(&mut buffer, TagControl(0xe123));
    assert_eq!(buffer.bytes[12..18], [0x81, 0, 0xe1, 0x23, 8, 0]);
    assert_eq!(buffer.offload.checksum, Checksum::Partial { start: 38, offset: 16 });
    assert_eq!(Headers::parse(&buffer.bytes).unwrap().transport, 38);
    assert_eq!(buffer.offload.segmentation.unwrap().headers, 62);
    assert_eq!(remove(&mut buffer), Some(TagControl(0xe123)));
    assert_eq!((buffer.bytes, buffer.offload), (before.bytes, before.offload));
}

#[test]
fn a_frame_without_tag_stays_as_it_is() {
    for bytes in [vec![], vec![0; 13], packet(true, protocol::UDP, 1), [&[0; 12][..], &[0x81, 0, 0, 1]].concat()] {
        let mut buffer = FrameBuffer { bytes: bytes.clone(), ..FrameBuffer::default() };
        assert_eq!(remove(&mut buffer), None);
        assert_eq!(buffer.bytes, bytes);
    }
}
