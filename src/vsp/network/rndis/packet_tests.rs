use super::*;
use proptest::prelude::*;

/// Returns a message as Linux sends it: per-packet information, frame, padding.
fn message(information: &Information, frame: &[u8], padding: usize) -> Vec<u8> {
    let (head, length) = header(information, frame.len() + padding);
    let mut bytes = [&head[..length], frame, &vec![0; padding]].concat();
    bytes[12..16].copy_from_slice(&(frame.len() as u32).to_le_bytes());
    bytes
}

#[test]
fn a_message_has_the_layout_that_linux_reads() {
    let information = Information { hash: Some(7), ..Information::default() };
    let (head, length) = header(&information, 100);
    let words: Vec<u32> = head[..length].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [1, 160, 52, 100, 0, 0, 0, 36, 16, 0, 0, 16, 8, 12, 7]);
    let (head, length) = header(&Information::default(), 5);
    assert_eq!(length, PACKET_HEADER);
    assert_eq!(u32::from_le_bytes(head[28..32].try_into().unwrap()), 0);
}

#[test]
fn several_messages_of_one_transfer_are_returned_one_by_one() {
    let notes = Information { checksum: Some(1), ..Information::default() };
    let transfer =
        [message(&notes, b"first", 3), message(&Information::default(), b"second", 2), message(&notes, b"", 0)]
            .concat();
    let frames: Vec<_> = DataMessages::new(&transfer).map(|message| message.unwrap().frame.to_vec()).collect();
    assert_eq!(frames, [&b"first"[..], b"second", b""]);
}

#[test]
fn an_error_ends_the_transfer() {
    let good = message(&Information::default(), b"good", 0);
    let mut bad = good.clone();
    bad[4..8].copy_from_slice(&1000_u32.to_le_bytes());
    let transfer = [&good[..], &bad, &good].concat();
    let results: Vec<_> = DataMessages::new(&transfer).collect();
    assert_eq!(results.len(), 2);
    assert_eq!(results[1], Err(PacketError::Length { length: 1000, left: 96 }));
}

#[test]
fn messages_with_inconsistent_lengths_are_refused() {
    let good = message(&Information { hash: Some(1), ..Information::default() }, b"frame", 3);
    let with = |place: usize, value: u32| {
        let mut bad = good.clone();
        bad[place..place + 4].copy_from_slice(&value.to_le_bytes());
        DataMessages::new(&bad).next().unwrap().map(|message| message.frame.len())
    };
    assert_eq!(with(0, 2), Err(PacketError::Type(MessageType::INITIALIZE)));
    for length in [0, 7, 9, 43, u32::MAX] {
        assert!(with(4, length).is_err(), "{length}");
    }
    for (place, value) in
        [(8, 60), (8, u32::MAX), (12, 9), (12, u32::MAX), (28, 61), (28, u32::MAX), (32, 17), (32, 100), (36, 8)]
    {
        let result = with(place, value);
        assert!(result.is_err() || place == 36, "{place}: {value} gives {result:?}");
    }
    assert!(DataMessages::new(&good[..20]).next().unwrap().is_err());
}

proptest! {
    #[test]
    fn random_transfers_never_panic(bytes: Vec<u8>, good in 0..3_usize) {
        let mut transfer = message(&Information::default(), b"frame", 0).repeat(good);
        transfer.extend_from_slice(&bytes);
        let count = DataMessages::new(&transfer).count();
        prop_assert!(count >= good);
    }

    #[test]
    fn changing_any_byte_of_a_message_never_panics(place: proptest::sample::Index, value: u8) {
        let mut bytes = message(&Information { hash: Some(1), vlan: None, ..Information::default() }, b"frame", 3);
        let index = place.index(bytes.len());
        bytes[index] = value;
        for message in DataMessages::new(&bytes) {
            prop_assert!(message.is_err() || message.unwrap().frame.len() <= bytes.len());
        }
    }
}
