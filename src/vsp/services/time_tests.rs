use super::super::service::Forced;
use super::super::table::Kind;
use super::super::testing::Pair;
use super::super::wire::Status;
use super::super::{create, protocol::HostTime};
use super::*;

fn sample(pair: &mut Pair) -> u8 {
    let sample: ReferenceSample = pair.message();
    assert_eq!((sample.host_time, sample.reference_time), (pair.now.host.0, 77));
    pair.send_back(Status::SUCCESS);
    sample.flags
}

#[test]
fn the_clock_is_set_when_the_channel_opens_and_sent_every_five_seconds() {
    let mut pair = Pair::connected(Kind::Time);
    assert_eq!(sample(&mut pair), flags::SYNC);
    for _ in 0..3 {
        assert_eq!(pair.take(), None);
        assert_eq!(pair.service.deadline(true), Some(pair.now.running + PERIOD));
        pair.wait(PERIOD);
        assert_eq!(sample(&mut pair), flags::SAMPLE);
    }
    assert_eq!(pair.status().details, Details::Time(Facts { syncs: 1, samples: 3 }));
}

#[test]
fn before_version_4_a_message_has_no_reference_time() {
    let mut pair = Pair::opened(Kind::Time, Forced { framework: None, version: Some(Version::new(3, 0)) });
    pair.negotiate();
    let (header, body) = pair.sent();
    assert_eq!((header.version, body.len()), (Version::new(3, 0), 25));
    assert_eq!((&body[..8], body[24]), (&pair.now.host.0.to_le_bytes()[..], flags::SYNC));
}

#[test]
fn a_host_that_cannot_read_the_reference_time_does_not_offer_version_4() {
    let mut service = create(Kind::Time, Forced::default(), &[]);
    service.opened();
    let packet = service.next_packet(&Moment::default()).unwrap();
    assert_eq!(packet[28..32], [2, 0, 2, 0], "two framework versions, two message versions");
    assert_eq!(packet[packet.len() - 8..], [1, 0, 0, 0, 3, 0, 0, 0]);
}

#[test]
fn the_clock_is_set_after_a_pause_even_if_a_sample_was_under_way() {
    let mut pair = Pair::connected(Kind::Time);
    sample(&mut pair);
    pair.wait(PERIOD);
    pair.sent();
    pair.service.resumed(&pair.now);
    assert_eq!(pair.take(), None);
    pair.send_back(Status::SUCCESS);
    assert_eq!(sample(&mut pair), flags::SYNC);
}

#[test]
fn a_requested_sync_is_completed_only_by_a_message_sent_after_the_request() {
    let mut pair = Pair::connected(Kind::Time);
    pair.sent();
    let ticket = pair.request(Request::SyncTime);
    pair.send_back(Status::SUCCESS);
    assert!(pair.outcomes().is_empty(), "the first SYNC was sent before");
    assert_eq!(sample(&mut pair), flags::SYNC);
    assert_eq!(pair.outcomes(), [(ticket, Ok(Answer::Done))]);
}

#[test]
fn a_guest_that_does_not_answer_gets_few_samples_and_is_set_when_it_answers() {
    let mut pair = Pair::connected(Kind::Time);
    sample(&mut pair);
    pair.wait(PERIOD);
    pair.sent();
    let ticket = pair.request(Request::SyncTime);
    pair.wait(PATIENCE);
    assert!(pair.outcomes().is_empty());
    assert_eq!(pair.take(), None, "it is asked again only after a period");
    pair.wait(PERIOD);
    assert_eq!(sample(&mut pair), flags::SYNC);
    assert_eq!(pair.outcomes(), [(ticket, Ok(Answer::Done))]);
}

#[test]
fn requests_for_a_sync_are_bounded_and_end_with_the_channel() {
    let mut pair = Pair::connected(Kind::Time);
    pair.sent();
    for _ in 0..MAX_WAITING {
        pair.request(Request::SyncTime);
    }
    assert_eq!(pair.service.request(&pair.now, Request::SyncTime), Err(Failure::Busy));
    pair.service.closed();
    assert_eq!(pair.outcomes().len(), MAX_WAITING);
}

#[test]
fn the_hosts_clock_counts_from_1601() {
    assert_eq!(HostTime::from_unix(Duration::ZERO).0, 116_444_736_000_000_000, "WLTIMEDELTA");
    assert_eq!(HostTime::from_unix(Duration::from_nanos(1_234_567_890)).0 - HostTime::UNIX_EPOCH.0, 12_345_678);
    assert_eq!(HostTime::from_unix(Duration::MAX).0, u64::MAX);
}
