use super::super::testing::{Pair, versions};
use super::super::{Answer, shutdown};
use super::*;
use crate::vsp::services::wire::MAX_PACKET;

const SECOND: Duration = Duration::from_secs(1);

fn power_off() -> Request {
    Request::Shutdown(shutdown::Shutdown::new(shutdown::Kind::PowerOff))
}

#[test]
fn linux_negotiates_the_newest_version_of_every_service() {
    let expected = [(3, 2), (4, 0), (3, 0), (4, 0), (5, 0), (1, 1)];
    for (kind, (major, minor)) in Kind::ALL.into_iter().zip(expected) {
        let pair = Pair::connected(kind);
        assert_eq!(versions(&pair), Some((Version::new(3, 0), Version::new(major, minor))), "{kind}");
        assert_eq!(pair.status().state, State::Ready);
    }
}

#[test]
fn each_version_can_be_forced() {
    for kind in Kind::ALL {
        for version in kind.profile().versions {
            let forced = Forced { framework: Some(Version::new(3, 0)), version: Some(*version) };
            let mut pair = Pair::opened(kind, forced);
            pair.negotiate();
            assert_eq!(versions(&pair), Some((Version::new(3, 0), *version)), "{kind}");
        }
    }
    let mut old = Pair::opened(Kind::Heartbeat, Forced { framework: Some(Version::new(1, 0)), version: None });
    old.negotiate();
    assert_eq!(versions(&old), Some((Version::new(1, 0), Version::new(3, 0))));
}

#[test]
fn a_guest_without_a_common_version_gets_no_requests() {
    let mut pair = Pair::opened(Kind::Vss, Forced { framework: Some(Version::new(1, 0)), version: None });
    pair.negotiate();
    assert_eq!(pair.service.take_events(), [Event::NoVersion]);
    assert_eq!(pair.status().state, State::NoVersion);
    assert_eq!(pair.take(), None);
    assert_eq!(pair.service.request(&pair.now, Request::Thaw), Err(Failure::NoVersion("vss")));
}

#[test]
fn a_version_that_was_not_offered_is_refused() {
    let mut pair = Pair::opened(Kind::Heartbeat, Forced::default());
    pair.sent();
    let choice = [1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0];
    pair.send_back_with(WireStatus::SUCCESS, |body| body[..16].copy_from_slice(&choice));
    assert_eq!(pair.status().state, State::NoVersion);
}

#[test]
fn a_guest_whose_daemon_does_not_run_is_waited_for_without_limit() {
    let mut pair = Pair::opened(Kind::KeyValue, Forced::default());
    assert_eq!(pair.service.request(&pair.now, Request::SyncTime), Err(Failure::NoContact("kvp")));
    assert!(pair.take().is_some());
    assert_eq!(pair.service.deadline(true), None);
    pair.wait(100_000 * SECOND);
    assert_eq!((pair.take(), pair.status().state), (None, State::Negotiating));
}

#[test]
fn one_request_is_with_the_guest_at_a_time_and_ids_differ() {
    let mut pair = Pair::connected(Kind::FileCopy);
    let copy = super::super::file_copy::Copy {
        target: "/tmp/a".into(),
        overwrite: false,
        make_path: false,
        size: 10,
        source: Box::new(&[7; 10][..]),
    };
    pair.request(Request::Copy(copy));
    let (first, _) = pair.sent();
    assert_eq!(pair.take(), None);
    pair.send_back(WireStatus::SUCCESS);
    let (second, _) = pair.sent();
    assert_ne!(first.transaction_id, second.transaction_id);
    assert_eq!((second.flags, second.framework), (Header::TRANSACTION | Header::REQUEST, Version::new(3, 0)));
}

#[test]
fn a_request_that_is_not_answered_fails_and_its_late_reply_is_dropped() {
    let mut pair = Pair::connected(Kind::Shutdown);
    pair.request(power_off());
    pair.sent();
    let late = pair.reply_with(WireStatus::SUCCESS, |_| ());
    assert_eq!(pair.service.deadline(true), Some(pair.now.running + 30 * SECOND));
    pair.wait(29 * SECOND);
    assert!(pair.outcomes().is_empty());
    pair.wait(SECOND);
    assert_eq!(pair.outcome(), Err(Failure::NoAnswer(30 * SECOND)));
    pair.request(power_off());
    pair.sent();
    pair.service.receive(&pair.now, &late).unwrap();
    assert!(pair.outcomes().is_empty());
    pair.send_back(WireStatus::SUCCESS);
    assert_eq!(pair.outcome(), Ok(Answer::Done));
    let status = pair.status();
    assert_eq!((status.requests, status.unanswered, status.unexpected), (3, 1, 1));
}

#[test]
fn messages_that_are_not_the_reply_to_the_request_are_dropped() {
    let mut pair = Pair::connected(Kind::Shutdown);
    pair.request(power_off());
    pair.sent();
    let change = |at: usize, value: u8| {
        let mut reply = pair.reply_with(WireStatus::SUCCESS, |_| ());
        reply[at] = value;
        reply
    };
    let wrong = [change(24, 200), change(25, Header::TRANSACTION | Header::REQUEST), change(12, 4)];
    for (index, reply) in wrong.iter().enumerate() {
        pair.service.receive(&pair.now, reply).unwrap();
        assert!(pair.outcomes().is_empty(), "{index}");
    }
    assert_eq!(pair.status().unexpected, 3);
    assert_eq!(pair.service.receive(&pair.now, &[0; 28]), Err(Violation::Kind(0)));
}

#[test]
fn closing_a_channel_fails_its_requests_and_the_next_opening_negotiates_again() {
    let mut pair = Pair::connected(Kind::Shutdown);
    let ticket = pair.request(power_off());
    pair.sent();
    let late = pair.reply_with(WireStatus::SUCCESS, |_| ());
    pair.service.closed();
    assert_eq!(pair.service.take_events(), [Event::Finished(ticket, Err(Failure::Closed)), Event::Disconnected]);
    assert_eq!((pair.take(), pair.service.deadline(true), pair.status().state), (None, None, State::Closed));
    pair.service.opened();
    pair.sent();
    pair.service.receive(&pair.now, &late).unwrap();
    assert_eq!(pair.status().state, State::Negotiating, "a reply of before is none to the negotiation");
    pair.service.opened();
    pair.negotiate();
    assert_eq!(pair.status().state, State::Ready);
}

#[test]
fn the_longest_messages_fit_into_the_rings_of_linux() {
    const RING: usize = 12 << 10;
    let longest = super::super::wire::HEADERS + size_of::<super::super::file_copy::Data>();
    assert!(longest <= MAX_PACKET && MAX_PACKET + 24 < RING);
}

#[test]
fn the_status_of_a_service_has_its_state_versions_and_counters() {
    let mut pair = Pair::connected(Kind::Heartbeat);
    pair.wait(3 * SECOND);
    let status = serde_json::to_value(pair.status()).unwrap();
    let expected = serde_json::json!({
        "service": "heartbeat", "state": "ready", "framework": "3.0", "version": "3.0", "last-contact-seconds": 3,
        "requests": 1, "unanswered": 0, "unexpected": 0, "health": "NoContact", "beats": 0,
    });
    assert_eq!(status, expected);
}
