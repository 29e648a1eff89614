use super::*;

#[test]
fn messages_have_the_layout_of_linux() {
    assert_eq!(MAX_RANGES, 510);
    let verdict = message(MessageType::VERSION_RESPONSE, 7, &Verdict { is_accepted: 1 }, &[]);
    assert_eq!(verdict, [2, 0, 16, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let request = UnballoonRequest { more: 0, range_count: 1 };
    let unballoon =
        message(MessageType::UNBALLOON_REQUEST, 1, &request, &[PageRange::new(&(0x12_3456_789a..0x12_3456_789c))]);
    assert_eq!(unballoon[..16], [8, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(unballoon[16..], [0x9a, 0x78, 0x56, 0x34, 0x12, 2, 0, 0]);
}

#[test]
fn a_range_can_be_read_back_from_the_wire() {
    for pages in [0..1, 0x100..0x100, 5..5 + PageRange::MAX_PAGES, (1 << 40) - 1..1 << 40] {
        assert_eq!(PageRange::new(&pages).pages(), pages);
    }
    assert_eq!(PageRange(u64::MAX).pages(), (1 << 40) - 1..(1 << 40) - 1 + PageRange::MAX_PAGES, "no overflow");
}

#[test]
fn the_alignment_is_in_pages() {
    let capabilities = |bits| Capabilities { bits, min_pages: 0, max_page_number: 0 };
    assert_eq!(capabilities(3 | 7 << 2).alignment(), 32 << 10, "128 MiB");
    assert_eq!(capabilities(3).alignment(), 256, "1 MiB");
    assert_eq!(capabilities(u64::MAX).alignment(), 1 << 23, "32 GiB");
}
