#![allow(clippy::single_range_in_vec_init)]
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::wire::{BalloonRequest, HotAddRequest, UnballoonRequest};
use super::*;

/// Pages in a MiB.
const MIB: u64 = 256;
const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { startup: 256 * MIB, min: 128 * MIB, max: 640 * MIB };
const ALL: u64 = Capabilities::BALLOON | Capabilities::HOT_ADD | 7 << 2;

fn protocol() -> Protocol {
    Protocol::new(LIMITS, Layout::of(&LIMITS))
}

fn put(protocol: &mut Protocol, message_type: MessageType, body: &(impl IntoBytes + Immutable), ranges: &[PageRange]) {
    protocol.receive(SECOND, &message(message_type, 1, body, ranges)).unwrap();
}

fn steps(protocol: &mut Protocol, now: Duration) -> Vec<Step> {
    std::iter::from_fn(|| protocol.next_step(now)).collect()
}

fn kinds(steps: &[Step]) -> Vec<MessageType> {
    let kind = |step: &Step| match step {
        Step::Send(message) => Some(Header::read_from_prefix(message).unwrap().0.message_type),
        _ => None,
    };
    steps.iter().filter_map(kind).collect()
}

fn request(version: Version, last: bool) -> VersionRequest {
    VersionRequest { version, is_last_attempt: last.into() }
}

fn status(committed: u64) -> StatusReport {
    StatusReport { available: 1000, committed, page_file_size: 0, zero_free: 0, page_file_writes: 0, io_difference: 0 }
}

/// Returns a protocol whose guest is ready.
fn ready(bits: u64) -> Protocol {
    ready_with(LIMITS, bits)
}

fn ready_with(limits: Limits, bits: u64) -> Protocol {
    let mut protocol = Protocol::new(limits, Layout::of(&limits));
    protocol.opened();
    put(&mut protocol, MessageType::VERSION_REQUEST, &request(Version::V2_0, false), &[]);
    put(
        &mut protocol,
        MessageType::CAPABILITIES_REPORT,
        &Capabilities { bits, min_pages: 0, max_page_number: u64::MAX },
        &[],
    );
    put(&mut protocol, MessageType::STATUS_REPORT, &status(100 * MIB), &[]);
    steps(&mut protocol, SECOND);
    protocol
}

fn ranges(pages: &[Range<u64>]) -> Vec<PageRange> {
    pages.iter().map(PageRange::new).collect()
}

/// Sends pages in one message.
fn give(protocol: &mut Protocol, more: bool, pages: &[Range<u64>]) {
    let response = BalloonResponse { reserved: 0, more_and_count: u32::from(more) | (pages.len() as u32) << 1 };
    put(protocol, MessageType::BALLOON_RESPONSE, &response, &ranges(pages));
}

#[test]
fn the_guest_proposes_versions_until_one_is_known() {
    for version in [Version::V0_3, Version::V1_0, Version::V2_0] {
        let mut protocol = protocol();
        protocol.opened();
        put(&mut protocol, MessageType::VERSION_REQUEST, &request(Version(0x0003_0000), false), &[]);
        assert_eq!(
            steps(&mut protocol, SECOND),
            [Step::Send(message(MessageType::VERSION_RESPONSE, 1, &Verdict { is_accepted: 0 }, &[]))]
        );
        put(&mut protocol, MessageType::VERSION_REQUEST, &request(version, true), &[]);
        assert_eq!(
            steps(&mut protocol, SECOND),
            [Step::Send(message(MessageType::VERSION_RESPONSE, 2, &Verdict { is_accepted: 1 }, &[]))]
        );
        put(
            &mut protocol,
            MessageType::CAPABILITIES_REPORT,
            &Capabilities { bits: ALL, min_pages: 0, max_page_number: 0 },
            &[],
        );
        let expected: &[MessageType] = match version {
            Version::V0_3 => &[MessageType::CAPABILITIES_RESPONSE],
            _ => &[MessageType::CAPABILITIES_RESPONSE, MessageType::INFORMATION],
        };
        assert_eq!(kinds(&steps(&mut protocol, SECOND)), expected, "{version}");
        assert_eq!(protocol.status(SECOND).driver, "ready");
    }
}

#[test]
fn a_guest_that_knows_none_of_the_versions_is_left_alone() {
    let mut protocol = protocol();
    protocol.opened();
    put(&mut protocol, MessageType::VERSION_REQUEST, &request(Version(5), true), &[]);
    assert_eq!(kinds(&steps(&mut protocol, SECOND)), [MessageType::VERSION_RESPONSE]);
    assert_eq!(protocol.take_events(), [Event::NoVersion]);
    let again = protocol.receive(SECOND, &message(MessageType::VERSION_REQUEST, 1, &request(Version::V2_0, true), &[]));
    assert!(again.is_err());
}

#[test]
fn no_memory_is_requested_before_the_first_report() {
    let mut protocol = protocol();
    protocol.opened();
    protocol.set_target(LIMITS.min);
    put(&mut protocol, MessageType::VERSION_REQUEST, &request(Version::V2_0, false), &[]);
    put(
        &mut protocol,
        MessageType::CAPABILITIES_REPORT,
        &Capabilities { bits: ALL, min_pages: 0, max_page_number: 0 },
        &[],
    );
    assert!(!kinds(&steps(&mut protocol, 100 * SECOND)).contains(&MessageType::BALLOON_REQUEST));
    assert_eq!(protocol.deadline(), None);
    put(&mut protocol, MessageType::STATUS_REPORT, &status(1), &[]);
    assert_eq!(kinds(&steps(&mut protocol, 100 * SECOND)), [MessageType::BALLOON_REQUEST]);
}

#[test]
fn a_guest_releases_exactly_the_requested_pages_and_gets_them_back() {
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.startup - 1000);
    let asked = message(MessageType::BALLOON_REQUEST, 4, &BalloonRequest { pages: 1000, reserved: 0 }, &[]);
    assert_eq!(steps(&mut protocol, SECOND), [Step::Send(asked)]);
    give(&mut protocol, true, &[5000..5512]);
    assert_eq!(steps(&mut protocol, SECOND), [Step::Discard(5000..5512)]);
    give(&mut protocol, false, &[5512..5900, 6000..6100]);
    assert_eq!(steps(&mut protocol, SECOND), [Step::Discard(5512..5900), Step::Discard(6000..6100)]);
    assert_eq!(protocol.take_events().last(), Some(&Event::Reached(LIMITS.startup - 1000)));
    protocol.set_target(LIMITS.startup);
    let back = UnballoonRequest { more: 0, range_count: 2 };
    let back = message(MessageType::UNBALLOON_REQUEST, 5, &back, &ranges(&[5000..5900, 6000..6100]));
    assert_eq!(steps(&mut protocol, SECOND), [Step::Send(back)]);
    assert_eq!(protocol.deadline(), Some(SECOND + super::super::plan::PATIENCE));
    put(&mut protocol, MessageType::UNBALLOON_RESPONSE, &[0_u8; 0], &[]);
    assert_eq!(steps(&mut protocol, SECOND), []);
    assert_eq!((protocol.assigned(), protocol.deadline()), (LIMITS.startup, None));
}

#[test]
fn pages_that_a_guest_lacks_or_has_released_are_ignored() {
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.min);
    steps(&mut protocol, SECOND);
    let end = LIMITS.startup;
    give(&mut protocol, true, &[0..4, 2..6, 2..6, end - 1..end + 7, end..end, 1 << 20..(1 << 20) + 9]);
    assert_eq!(steps(&mut protocol, SECOND), [Step::Discard(0..6), Step::Discard(end - 1..end)]);
    assert_eq!((protocol.ballooned.count(), protocol.ignored), (7, 2 + 4 + 7 + 9));
    give(&mut protocol, false, &[(1 << 40) - 1..(1 << 40) + 5]);
    assert_eq!(protocol.assigned(), LIMITS.startup - 7);
}

#[test]
fn a_guest_that_releases_too_little_is_asked_again_later() {
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.min);
    steps(&mut protocol, SECOND);
    give(&mut protocol, false, &[0..10]);
    steps(&mut protocol, SECOND);
    assert_eq!(protocol.deadline(), Some(11 * SECOND));
    assert_eq!(steps(&mut protocol, 10 * SECOND), []);
    assert_eq!(kinds(&steps(&mut protocol, 11 * SECOND)), [MessageType::BALLOON_REQUEST]);
}

#[test]
fn a_guest_is_not_made_smaller_than_it_needs() {
    let limits = Limits { min: MIB, ..LIMITS };
    let mut protocol = Protocol { limits, ..ready(ALL) };
    protocol.set_target(MIB);
    // A guest of 256 MiB needs 104.
    let asked = message(MessageType::BALLOON_REQUEST, 4, &BalloonRequest { pages: 152 * MIB as u32, reserved: 0 }, &[]);
    assert_eq!(steps(&mut protocol, SECOND), [Step::Send(asked)]);
}

fn add_reply(protocol: &mut Protocol, pages: u64, result: u32) {
    put(protocol, MessageType::HOT_ADD_RESPONSE, &HotAddResponse { pages: pages as u32, result }, &[]);
}

#[test]
fn hot_added_memory_starts_at_an_aligned_address_and_is_contiguous() {
    let mut protocol = ready(ALL);
    let window = 1 << 20;
    protocol.set_target(LIMITS.startup + 100 * MIB);
    let pages = window..window + 100 * MIB;
    assert_eq!(steps(&mut protocol, SECOND), [Step::Populate(pages.clone())]);
    protocol.populated(SECOND, true);
    let region = PageRange::new(&(window..window + 128 * MIB));
    let request = HotAddRequest { range: PageRange::new(&pages), region };
    assert_eq!(steps(&mut protocol, SECOND), [Step::Send(message(MessageType::HOT_ADD_REQUEST, 4, &request, &[]))]);
    add_reply(&mut protocol, 100 * MIB, 1);
    assert_eq!(protocol.assigned(), LIMITS.startup + 100 * MIB);
    protocol.set_target(LIMITS.max);
    let pages = pages.end..window + (LIMITS.max - LIMITS.startup);
    assert_eq!(steps(&mut protocol, SECOND), [Step::Populate(pages.clone())]);
    protocol.populated(SECOND, true);
    let request = message(MessageType::HOT_ADD_REQUEST, 5, &PageRange::new(&pages), &[]);
    assert_eq!(steps(&mut protocol, SECOND), [Step::Send(request)]);
    add_reply(&mut protocol, pages.end - pages.start, 1);
    assert_eq!(protocol.assigned(), LIMITS.max);
    // Added memory can be released, too.
    protocol.set_target(LIMITS.max - 5);
    steps(&mut protocol, SECOND);
    give(&mut protocol, false, &[window..window + 5]);
    assert_eq!(protocol.assigned(), LIMITS.max - 5);
}

#[test]
fn a_guest_may_accept_hot_added_memory_later_or_never() {
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.max);
    steps(&mut protocol, SECOND);
    protocol.populated(SECOND, true);
    steps(&mut protocol, SECOND);
    add_reply(&mut protocol, 0, 0);
    assert_eq!(steps(&mut protocol, 10 * SECOND), []);
    assert_eq!(steps(&mut protocol, 11 * SECOND).len(), 1);
    protocol.populated(11 * SECOND, true);
    steps(&mut protocol, 11 * SECOND);
    add_reply(&mut protocol, 0, 1);
    assert_eq!(
        protocol.take_events().last(),
        Some(&Event::HotAddRefused { pages: LIMITS.max - LIMITS.startup, never: true })
    );
    assert_eq!(steps(&mut protocol, 1000 * SECOND), []);
    assert_eq!(protocol.deadline(), None);
}

#[test]
fn memory_that_the_host_cannot_map_is_not_offered() {
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.max);
    assert!(matches!(steps(&mut protocol, SECOND)[..], [Step::Populate(_)]));
    protocol.populated(SECOND, false);
    assert_eq!(steps(&mut protocol, 1000 * SECOND), []);
    assert!(matches!(protocol.take_events()[..], [.., Event::NotMapped { .. }]));
}

#[test]
fn memory_is_not_added_if_the_guest_cannot_use_its_address() {
    for bits in [Capabilities::BALLOON, 0, Capabilities::HOT_ADD | 12 << 2] {
        let mut protocol = ready(bits);
        protocol.set_target(LIMITS.max);
        assert_eq!(steps(&mut protocol, 1000 * SECOND), [], "{bits:#x}");
    }
    let mut protocol = ready(Capabilities::HOT_ADD);
    protocol.set_target(LIMITS.min);
    assert_eq!(steps(&mut protocol, 1000 * SECOND), [], "it cannot give");
}

#[test]
fn unsolicited_replies_violate_the_protocol() {
    for (kind, length) in
        [(MessageType::BALLOON_RESPONSE, 8), (MessageType::UNBALLOON_RESPONSE, 0), (MessageType::HOT_ADD_RESPONSE, 8)]
    {
        let mut protocol = ready(ALL);
        let error = protocol.receive(SECOND, &message(kind, 1, &vec![0_u8; length][..], &[])).unwrap_err();
        assert!(error.to_string().contains("without a request"), "{error}");
    }
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.startup + 5);
    steps(&mut protocol, SECOND);
    protocol.populated(SECOND, true);
    let more = message(MessageType::HOT_ADD_RESPONSE, 1, &HotAddResponse { pages: 6, result: 1 }, &[]);
    let error = protocol.receive(SECOND, &more).unwrap_err();
    assert_eq!(error.to_string(), "the guest added 6 pages of 5");
}

#[test]
fn a_reply_that_never_comes_is_reported_once() {
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.min);
    steps(&mut protocol, SECOND);
    protocol.take_events();
    assert_eq!(steps(&mut protocol, 60 * SECOND), []);
    assert!(protocol.take_events().is_empty());
    assert_eq!(steps(&mut protocol, 61 * SECOND), []);
    assert_eq!(steps(&mut protocol, 99 * SECOND), []);
    assert_eq!(protocol.take_events(), [Event::NoAnswer("balloon")]);
    assert_eq!(protocol.deadline(), None);
    give(&mut protocol, false, &[0..(LIMITS.startup - LIMITS.min)]);
    assert_eq!(protocol.assigned(), LIMITS.min, "a late reply counts");
}

#[test]
fn a_closed_channel_forgets_released_pages_and_a_restart_forgets_everything() {
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.startup + MIB);
    steps(&mut protocol, SECOND);
    protocol.populated(SECOND, true);
    steps(&mut protocol, SECOND);
    add_reply(&mut protocol, MIB, 1);
    protocol.set_target(LIMITS.min);
    steps(&mut protocol, SECOND);
    give(&mut protocol, true, &[0..100]);
    protocol.closed();
    assert_eq!((protocol.assigned(), protocol.ballooned.count()), (LIMITS.startup + MIB, 0));
    assert_eq!(protocol.next_page, (1 << 20) + 128 * MIB, "the rest of the block stays out");
    assert_eq!(protocol.plan.target, LIMITS.min, "it is still wanted");
    protocol.reset();
    assert_eq!((protocol.assigned(), protocol.plan.target), (LIMITS.startup, LIMITS.startup));
    assert_eq!(protocol.next_page, 1 << 20);
}

#[test]
fn short_and_long_messages_are_refused() {
    for bytes in
        [vec![], vec![0; 7], vec![1, 0, 7, 0, 0, 0, 0, 0], vec![1, 0, 17, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0]]
    {
        let mut protocol = protocol();
        protocol.opened();
        assert!(protocol.receive(SECOND, &bytes).is_err(), "{bytes:?}");
    }
    let mut protocol = ready(ALL);
    protocol.set_target(LIMITS.min);
    steps(&mut protocol, SECOND);
    let response = BalloonResponse { reserved: 0, more_and_count: 3 << 1 };
    let two = message(MessageType::BALLOON_RESPONSE, 1, &response, &ranges(&[0..1, 2..3]));
    assert!(protocol.receive(SECOND, &two).unwrap_err().to_string().contains("does not fit"));
    let many = BalloonResponse { reserved: 0, more_and_count: u32::MAX };
    assert!(protocol.receive(SECOND, &message(MessageType::BALLOON_RESPONSE, 1, &many, &[])).is_err());
}

/// Limits of a small guest, whose pages are counted quickly. At its maximum, it needs its minimum.
const SMALL: Limits = Limits { startup: 64 * MIB, min: 56 * MIB, max: 96 * MIB };

/// A guest that fulfils all requests, and records which pages it has.
struct Guest {
    has: BTreeSet<u64>,
}

impl Guest {
    /// Answers the steps of the host until there are none.
    fn serve(&mut self, protocol: &mut Protocol, at_once: u64) {
        let mut rounds = 0;
        while let Some(step) = protocol.next_step(SECOND) {
            rounds += 1;
            assert!(rounds < 5_000, "it comes to an end");
            match step {
                Step::Populate(_) => protocol.populated(SECOND, true),
                Step::Discard(pages) => assert!(pages.into_iter().all(|page| !self.has.contains(&page))),
                Step::Send(bytes) => self.answer(protocol, &bytes, at_once),
            }
        }
    }

    fn answer(&mut self, protocol: &mut Protocol, bytes: &[u8], at_once: u64) {
        let (header, body) = Header::read_from_prefix(bytes).unwrap();
        match header.message_type {
            MessageType::BALLOON_REQUEST => {
                let asked = BalloonRequest::read_from_prefix(body).unwrap().0.pages;
                let mut left: Vec<u64> = self.has.iter().rev().take(asked as usize).copied().collect();
                left.iter().for_each(|page| assert!(self.has.remove(page)));
                while left.len() as u64 > at_once {
                    let part = left.split_off(left.len() - at_once as usize);
                    give(protocol, true, &part.iter().map(|page| *page..page + 1).collect::<Vec<_>>());
                }
                give(protocol, false, &left.iter().map(|page| *page..page + 1).collect::<Vec<_>>());
            }
            MessageType::UNBALLOON_REQUEST => {
                let (request, rest) = UnballoonRequest::read_from_prefix(body).unwrap();
                assert_eq!(rest.len(), request.range_count as usize * 8);
                for range in rest.as_chunks().0 {
                    for page in PageRange(u64::from_le_bytes(*range)).pages() {
                        assert!(self.has.insert(page), "only what it gave");
                    }
                }
                if request.more == 0 {
                    put(protocol, MessageType::UNBALLOON_RESPONSE, &[0_u8; 0], &[]);
                }
            }
            MessageType::HOT_ADD_REQUEST => {
                let pages = PageRange(u64::from_le_bytes(*body.first_chunk().unwrap())).pages();
                let count = pages.end - pages.start;
                pages.for_each(|page| assert!(self.has.insert(page), "only new pages"));
                add_reply(protocol, count, 1);
            }
            other => panic!("{other}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_host_counts_exactly_the_memory_that_a_guest_has(
        targets in prop::collection::vec((SMALL.min..=SMALL.max, 20_u64..500), 1..5),
    ) {
        let mut protocol = ready_with(SMALL, ALL);
        let mut guest = Guest { has: (0..SMALL.startup).collect() };
        for (target, at_once) in targets {
            prop_assert_eq!(protocol.set_target(target), target);
            guest.serve(&mut protocol, at_once);
            prop_assert_eq!(guest.has.len() as u64, target);
            prop_assert_eq!(protocol.assigned(), target);
        }
    }
}

/// A message that a hostile guest may send.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        (any::<u32>(), prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 24), 0..20)).prop_map(|(count, list)| {
            let ranges: Vec<_> = list.iter().map(|(start, count)| PageRange(start | count << 40)).collect();
            let count = if count % 3 == 0 { count } else { (ranges.len() as u32) << 1 | count & 1 };
            [BalloonResponse { reserved: 0, more_and_count: count }.as_bytes(), ranges.as_bytes()].concat()
        }),
    ];
    let length = prop_oneof![4 => Just(None), 1 => any::<u16>().prop_map(Some)];
    (0_u16..14, length, body).prop_map(|(kind, length, body)| {
        let mut bytes = message(MessageType(kind), 1, &body[..], &[]);
        if let Some(length) = length {
            bytes[2..4].copy_from_slice(&length.to_le_bytes());
        }
        bytes
    })
}

proptest! {
    #[test]
    fn random_messages_never_panic_and_never_exceed_the_limits(
        messages in prop::collection::vec((hostile(), LIMITS.min..=LIMITS.max, any::<bool>()), 1..60),
    ) {
        let mut protocol = ready(ALL);
        let mut now = SECOND;
        for (bytes, target, sets) in messages {
            now += SECOND;
            if sets {
                protocol.set_target(target);
            }
            while let Some(step) = protocol.next_step(now) {
                match step {
                    Step::Populate(pages) => {
                        prop_assert!(pages.start >= protocol.layout.window.start && pages.end <= protocol.layout.window.end);
                        protocol.populated(now, true);
                    }
                    Step::Discard(pages) => {
                        let parts: Vec<_> = protocol.layout.within(&pages, protocol.next_page).collect();
                        prop_assert_eq!(parts, [pages], "it is the guest's");
                    }
                    Step::Send(bytes) => prop_assert!(bytes.len() <= MAX_MESSAGE),
                }
            }
            let before = protocol.assigned();
            if protocol.receive(now, &bytes).is_err() {
                prop_assert_eq!(protocol.assigned(), before);
                protocol.closed();
                protocol = ready(ALL);
            }
            prop_assert!(protocol.assigned() <= LIMITS.max);
            prop_assert!(protocol.steps.len() <= 600, "it does not grow");
            let status = protocol.status(now);
            prop_assert!(status.assigned_bytes <= status.maximum_bytes);
        }
    }
}
