use super::*;
use crate::vmbus::connection::test_guest::*;
use crate::vmbus::wire::MessageType;
use zerocopy::IntoBytes;

#[test]
fn a_gpadl_arrives_in_pieces() {
    let mut guest = Guest::connected(2);
    let words = [&[40 * 4096][..], &(0..40).collect::<Vec<u64>>()].concat();
    let header = gpadl_header(1, 7, 8 * 41, 1);
    let parts: Vec<&[u8]> = words.as_bytes().chunks(8 * 20).collect();
    let body = |part: &[u8]| [GpadlBody { message_number: 0, gpadl: GpadlId(7) }.as_bytes(), part].concat();
    assert!(guest.post(MessageType::GPADL_HEADER, &[header.as_bytes(), parts[0]].concat()[..]).is_empty());
    assert_eq!(refused(&guest.gpadl(2, 7, &[0])), Refusal::DuplicateGpadl(GpadlId(7)));
    assert_eq!(guest.messages(), [created(2, 7, false)], "a body could be for either");
    assert!(guest.post(MessageType::GPADL_BODY, &body(parts[1])[..]).is_empty());
    assert_eq!(guest.messages(), []);
    assert!(guest.post(MessageType::GPADL_BODY, &body(parts[2])[..]).is_empty());
    assert_eq!(guest.messages(), [created(1, 7, true)]);
    let actions = guest.post(MessageType::GPADL_BODY, &body(parts[2])[..]);
    assert_eq!(refused(&actions), Refusal::NoSuchGpadl(GpadlId(7)), "one body too many");
    assert_eq!(guest.messages(), []);
}

#[test]
fn an_invalid_gpadl_is_refused_with_an_answer_and_removed() {
    let mut guest = Guest::connected(1);
    let words = [8192u64, 0, 1, 2];
    for (range_bytes, range_count, list) in [
        (24, 1, &words[..]),        // more than announced
        (32, 1, &words[..]),        // more than the range wants
        (17, 1, &words[..2]),       // torn
        (16, 0, &words[..2]),       // no ranges
        (24, 1, &[8192, 0, PAGES]), // a page beyond memory
        (24, 2, &words[..3]),       // a range too many
    ] {
        let header = gpadl_header(1, 7, range_bytes, range_count);
        let actions = guest.post(MessageType::GPADL_HEADER, &[header.as_bytes(), list.as_bytes()].concat()[..]);
        assert!(matches!(refused(&actions), Refusal::Gpadl { gpadl: GpadlId(7), .. }), "{actions:?}");
        assert_eq!(guest.messages(), [created(1, 7, false)]);
    }
    let actions = guest.gpadl(5, 7, &[0]);
    assert_eq!(refused(&actions), Refusal::NoSuchChannel(ChannelId(5)));
    assert_eq!(guest.messages(), [created(5, 7, false)]);
    assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
    assert!(guest.gpadl(1, 7, &[0]).is_empty(), "the id is free");
    assert_eq!(refused(&guest.gpadl(1, 7, &[0])), Refusal::DuplicateGpadl(GpadlId(7)));
}

#[test]
fn a_guest_has_a_bounded_number_of_gpadls_and_of_words_in_them() {
    let mut guest = Guest::connected(1);
    let unfinished = |guest: &mut Guest, gpadl: u32, range_bytes| {
        guest.post(MessageType::GPADL_HEADER, &gpadl_header(1, gpadl, range_bytes, 1))
    };
    for gpadl in 0..MAX_BUILDING as u32 {
        let range_bytes = if gpadl < 128 { 0xfff8 } else { 8 };
        assert!(unfinished(&mut guest, gpadl, range_bytes).is_empty(), "{gpadl}");
    }
    assert_eq!(refused(&unfinished(&mut guest, 1000, 16)), Refusal::TooManyGpadls(GpadlId(1000)));
    assert!(guest.host.gpadl_words > MAX_GPADL_WORDS - 0x2000);

    let mut guest = Guest::connected(1);
    for gpadl in 0..MAX_GPADLS as u32 {
        assert!(guest.gpadl(1, gpadl, &[0]).is_empty());
        guest.messages();
    }
    let one_more = GpadlId(MAX_GPADLS as u32);
    assert_eq!(refused(&guest.gpadl(1, one_more.0, &[0])), Refusal::TooManyGpadls(one_more));
    assert!(guest.teardown(1, 0).is_empty());
    assert!(guest.gpadl(1, one_more.0, &[0]).is_empty());
}

#[test]
fn a_rings_gpadl_is_torn_down_only_after_the_device_has_released_it() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    assert!(matches!(guest.close(1)[..], [BusAction::Close(_)]));
    assert!(guest.teardown(1, 1).is_empty());
    assert_eq!(guest.messages(), [], "the device may still write there");
    assert_eq!(refused(&guest.teardown(1, 1)), Refusal::NoSuchGpadl(GpadlId(1)));
    assert_eq!(refused(&guest.gpadl(1, 1, &[0])), Refusal::DuplicateGpadl(GpadlId(1)));
    assert_eq!(guest.messages(), [created(1, 1, false)]);
    assert!(guest.host.closed(ChannelId(1)).is_empty());
    assert_eq!(guest.messages(), [torndown(1)]);
    assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
}

#[test]
fn a_device_is_asked_to_release_a_gpadl_before_its_teardown() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    guest.gpadl(1, 2, &[8]);
    guest.gpadl(1, 3, &[9]);
    guest.messages();
    assert!(matches!(guest.teardown(1, 2)[..], [BusAction::ReleaseGpadl(ChannelId(1), GpadlId(2))]));
    assert!(matches!(guest.teardown(1, 3)[..], [BusAction::ReleaseGpadl(ChannelId(1), GpadlId(3))]));
    assert_eq!(guest.messages(), []);
    guest.host.gpadl_released(ChannelId(1), GpadlId(2));
    guest.host.gpadl_released(ChannelId(1), GpadlId(2));
    guest.host.gpadl_released(ChannelId(1), GpadlId(1));
    assert_eq!(guest.messages(), [torndown(2)]);
    guest.close(1);
    guest.host.closed(ChannelId(1));
    assert_eq!(guest.messages(), [torndown(3)], "a closed channel uses nothing");
}
