use super::super::table::Kind;
use super::super::testing::Pair;
use super::super::wire::Status;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const FREEZE: Freeze = Freeze { patience: Duration::from_secs(100), limit: Duration::from_secs(20) };

/// Expects this operation, and answers it.
fn answer(pair: &mut Pair, operation: Operation, status: Status) {
    let message: Message = pair.message();
    assert_eq!(message.operation, operation);
    pair.send_back_with(status, |body| {
        if operation == Operation::HOT_BACKUP {
            body[8..12].copy_from_slice(&5_u32.to_le_bytes());
        }
    });
}

/// Returns a service whose guest is frozen.
fn frozen() -> Pair {
    let mut pair = Pair::connected(Kind::Vss);
    pair.request(Request::Freeze(FREEZE));
    answer(&mut pair, Operation::HOT_BACKUP, Status::SUCCESS);
    answer(&mut pair, Operation::FREEZE, Status::SUCCESS);
    assert_eq!(pair.outcome(), Ok(Answer::Frozen));
    assert_eq!(facts(&pair), Facts { file_systems: FileSystems::Frozen, freezes: 1, flags: Some(5) });
    pair
}

fn facts(pair: &Pair) -> Facts {
    let Details::Vss(facts) = pair.status().details else { panic!("the details are another service's") };
    facts
}

#[test]
fn a_guest_is_frozen_and_thawed() {
    let mut pair = frozen();
    assert_eq!(pair.take(), None);
    assert_eq!(pair.service.request(&pair.now, Request::Freeze(FREEZE)), Err(Failure::Busy));
    let ticket = pair.request(Request::Thaw);
    answer(&mut pair, Operation::THAW, Status::SUCCESS);
    assert_eq!(pair.service.take_events(), [Event::Finished(ticket, Ok(Answer::Done)), Event::Thawed]);
    assert_eq!(facts(&pair).file_systems, FileSystems::Thawed);
    let nothing = Failure::Invalid("the guest's file systems are not frozen".into());
    assert_eq!(pair.service.request(&pair.now, Request::Thaw), Err(nothing));
}

#[test]
fn a_message_has_the_length_that_linux_expects() {
    let mut pair = Pair::connected(Kind::Vss);
    pair.request(Request::Freeze(FREEZE));
    let (header, body) = pair.sent();
    assert_eq!((header.body_length, body.len(), body[0]), (12, 12, 2));
    assert!(super::super::wire::HEADERS + body.len() >= 40);
}

#[test]
fn a_guest_that_cannot_freeze_gets_no_request_to_freeze() {
    let mut pair = Pair::connected(Kind::Vss);
    pair.request(Request::Freeze(FREEZE));
    // Linux's answer if the daemon does not run.
    answer(&mut pair, Operation::HOT_BACKUP, Status::FAIL);
    assert_eq!(pair.outcome(), Err(Failure::Guest(Status::FAIL)));
    assert_eq!((pair.take(), facts(&pair).file_systems), (None, FileSystems::Thawed));
}

#[test]
fn a_freeze_ends_at_its_time_limit() {
    let mut pair = frozen();
    assert_eq!(pair.service.deadline(true), Some(pair.now.running + FREEZE.limit));
    pair.wait(FREEZE.limit - SECOND);
    assert_eq!(pair.take(), None);
    pair.wait(SECOND);
    answer(&mut pair, Operation::THAW, Status::SUCCESS);
    assert_eq!(pair.service.take_events(), [Event::FreezeExpired, Event::Thawed]);
}

#[test]
fn a_failed_freeze_is_followed_by_a_thaw() {
    let mut pair = Pair::connected(Kind::Vss);
    pair.request(Request::Freeze(FREEZE));
    answer(&mut pair, Operation::HOT_BACKUP, Status::SUCCESS);
    answer(&mut pair, Operation::FREEZE, Status::FAIL);
    assert_eq!(pair.outcome(), Err(Failure::Guest(Status::FAIL)));
    answer(&mut pair, Operation::THAW, Status::SUCCESS);
    assert_eq!(facts(&pair), Facts { file_systems: FileSystems::Thawed, freezes: 0, flags: Some(5) });
}

#[test]
fn an_unanswered_freeze_is_followed_by_a_thaw_and_its_late_answer_is_ignored() {
    let mut pair = Pair::connected(Kind::Vss);
    pair.request(Request::Freeze(FREEZE));
    answer(&mut pair, Operation::HOT_BACKUP, Status::SUCCESS);
    pair.sent();
    let late = pair.reply_with(Status::SUCCESS, |_| ());
    pair.wait(FREEZE.patience);
    assert_eq!(pair.outcome(), Err(Failure::NoAnswer(FREEZE.patience)));
    let message: Message = pair.message();
    assert_eq!(message.operation, Operation::THAW);
    pair.service.receive(&pair.now, &late).unwrap();
    assert_eq!(facts(&pair).file_systems, FileSystems::Thawing);
    pair.send_back(Status::SUCCESS);
    assert_eq!(facts(&pair).file_systems, FileSystems::Thawed);
}

#[test]
fn a_thaw_is_repeated_until_the_guest_confirms_it() {
    let mut pair = frozen();
    let ticket = pair.request(Request::Thaw);
    answer(&mut pair, Operation::THAW, Status::FAIL);
    let outcome = Err(Failure::Guest(Status::FAIL));
    assert_eq!(pair.service.take_events(), [Event::Finished(ticket, outcome), Event::StaysFrozen]);
    for _ in 0..3 {
        assert_eq!(pair.take(), None, "not at once");
        assert_eq!(pair.service.deadline(true), Some(pair.now.running + THAW_AGAIN));
        pair.wait(THAW_AGAIN);
        assert_eq!(pair.message::<Message>().operation, Operation::THAW);
        pair.wait(PATIENCE);
    }
    pair.wait(THAW_AGAIN);
    let ticket = pair.request(Request::Thaw);
    answer(&mut pair, Operation::THAW, Status::SUCCESS);
    assert_eq!(pair.outcomes(), [(ticket, Ok(Answer::Done))]);
    assert_eq!(facts(&pair).file_systems, FileSystems::Thawed);
}

#[test]
fn a_guest_that_closes_the_channel_while_frozen_is_thawed_when_it_opens_it_again() {
    let mut pair = frozen();
    pair.service.closed();
    pair.wait(1000 * SECOND);
    assert_eq!(facts(&pair).file_systems, FileSystems::Thawing);
    pair.service.opened();
    pair.negotiate();
    answer(&mut pair, Operation::THAW, Status::SUCCESS);
    assert_eq!(facts(&pair).file_systems, FileSystems::Thawed);
}

#[test]
fn another_guest_is_not_thawed() {
    let mut pair = frozen();
    pair.service.reset();
    pair.service.opened();
    pair.negotiate();
    assert_eq!((pair.take(), facts(&pair).file_systems), (None, FileSystems::Thawed));
}

#[test]
fn a_freeze_that_is_cancelled_leaves_the_guest_thawed() {
    // Before anything was sent, while HOT_BACKUP is with the guest, and while FREEZE is.
    for sent in 0..3 {
        let mut pair = Pair::connected(Kind::Vss);
        let ticket = pair.request(Request::Freeze(FREEZE));
        if sent > 0 {
            pair.sent();
        }
        if sent > 1 {
            pair.send_back(Status::SUCCESS);
            pair.sent();
        }
        pair.service.cancel(ticket);
        assert_eq!(pair.outcomes(), [(ticket, Err(Failure::Cancelled))]);
        pair.service.cancel(ticket);
        if sent > 0 {
            pair.send_back(Status::SUCCESS);
        }
        if sent > 1 {
            answer(&mut pair, Operation::THAW, Status::SUCCESS);
        }
        assert_eq!((pair.take(), facts(&pair).file_systems), (None, FileSystems::Thawed), "{sent}");
        assert!(pair.outcomes().is_empty());
        pair.request(Request::Freeze(FREEZE));
    }
}
