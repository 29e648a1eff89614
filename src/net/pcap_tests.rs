use super::*;
use crate::need::{Need, ready};
use crate::net::offload::headers::{Headers, protocol};
use crate::net::offload::testing::packet;
use std::time::Duration;

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

/// Returns the blocks of a capture: type and body.
fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut blocks = Vec::new();
    while !bytes.is_empty() {
        let length = word(bytes, 4) as usize;
        assert!(length.is_multiple_of(4) && word(bytes, length - 4) as usize == length);
        blocks.push((word(bytes, 0), bytes[8..length - 4].to_vec()));
        bytes = &bytes[length..];
    }
    blocks
}

#[test]
fn a_capture_has_the_layout_of_pcapng() {
    let mut writer = Writer::new(Vec::new(), "net0").unwrap();
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    writer.add(time, Direction::Outbound, Frame::plain(&[0xab; 61])).unwrap();
    writer.add(time, Direction::Inbound, Frame::plain(&[0xcd; 64])).unwrap();
    let blocks = blocks(&writer.output);
    assert_eq!(
        blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [SECTION, INTERFACE, ENHANCED_PACKET, ENHANCED_PACKET]
    );
    assert_eq!(blocks[0].1[..8], [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
    assert_eq!(blocks[1].1[..16], [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4, 0, b'n', b'e', b't', b'0']);
    assert_eq!(blocks[1].1[16..24], [9, 0, 1, 0, 9, 0, 0, 0]);
    let packet = &blocks[2].1;
    let nanoseconds = u64::from(word(packet, 4)) << 32 | u64::from(word(packet, 8));
    assert_eq!(nanoseconds, 1_700_000_000_123_456_789);
    assert_eq!((word(packet, 12), word(packet, 16)), (61, 61));
    assert_eq!(packet[20..84], [&[0xab; 61][..], &[0; 3]].concat());
    assert_eq!(packet[84..96], [2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(blocks[3].1[84..92], [2, 0, 4, 0, 1, 0, 0, 0]);
}

#[test]
fn open_checksums_are_completed_in_the_capture() {
    let right = packet(false, protocol::TCP, 77);
    let mut open = right.clone();
    let headers = Headers::parse(&open).unwrap();
    let checksum = checksum::leave_open(&mut open, &headers).unwrap();
    let offload = crate::net::frame::Offload { checksum, segmentation: None };
    let mut writer = Writer::new(Vec::new(), "").unwrap();
    writer.add(UNIX_EPOCH, Direction::Inbound, Frame { bytes: &open, offload }).unwrap();
    let blocks = blocks(&writer.output);
    assert_eq!(blocks[2].1[20..20 + right.len()], right);
}

#[test]
fn the_error_for_a_capture_that_cannot_be_written_names_the_file() {
    let error = Capture::create(Path::new("/nowhere/at/all.pcapng"), "net0").unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all.pcapng") && error.contains("No such file"), "{error}");
}

/// Checks a capture with Wireshark.
#[test]
fn wireshark_reads_a_capture_and_finds_right_checksums() {
    if !ready(&[Need::Tool("tshark")]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.pcapng");
    let mut capture = Capture::create(&path, "net0").unwrap();
    for frame in [packet(false, protocol::TCP, 100), packet(true, protocol::UDP, 50)] {
        let mut open = frame.clone();
        let headers = Headers::parse(&open).unwrap();
        let checksum = checksum::leave_open(&mut open, &headers).unwrap();
        let offload = crate::net::frame::Offload { checksum, segmentation: None };
        capture.add(SystemTime::now(), Direction::Outbound, Frame { bytes: &open, offload });
    }
    drop(capture);
    let fields = [
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
        "-T",
        "fields",
        "-e",
        "frame.packet_flags_direction",
        "-e",
        "tcp.checksum.status",
        "-e",
        "udp.checksum.status",
    ];
    let output = std::process::Command::new("tshark").arg("-r").arg(&path).args(fields).output().expect("tshark");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0x00000002\t1\t\n0x00000002\t\t1\n", "{output:?}");
}
