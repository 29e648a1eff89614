use super::super::service::State;
use super::super::table::Kind as Services;
use super::super::testing::Pair;
use super::super::wire::Status;
use super::*;

fn shutdown(kind: Kind) -> Request {
    Request::Shutdown(Shutdown { force: true, text: "bye".into(), ..Shutdown::new(kind) })
}

#[test]
fn each_kind_of_shutdown_has_the_flags_of_linux() {
    for (kind, flags) in [(Kind::PowerOff, 1), (Kind::Restart, 3), (Kind::Hibernate, 5)] {
        let mut pair = Pair::connected(Services::Shutdown);
        pair.request(shutdown(kind));
        let message: Message = pair.message();
        assert_eq!((message.flags, message.reason, message.limit_seconds), (flags, PLANNED, 0));
        assert_eq!(message.text[..8], *b"b\0y\0e\0\0\0");
        pair.send_back(Status::SUCCESS);
        assert_eq!(pair.outcome(), Ok(Answer::Done));
        assert_eq!(pair.status().details, Details::Shutdown(Facts { accepted: Some(kind) }));
        assert_eq!(pair.status().state, State::Ready);
    }
}

#[test]
fn an_error_is_returned_for_a_guest_that_cannot_hibernate() {
    let mut pair = Pair::connected(Services::Shutdown);
    pair.request(shutdown(Kind::Hibernate));
    pair.sent();
    assert_eq!(pair.service.request(&pair.now, shutdown(Kind::PowerOff)), Err(Failure::Busy));
    pair.send_back(Status::FAIL);
    assert_eq!(pair.outcome(), Err(Failure::Guest(Status::FAIL)));
    assert_eq!(pair.status().details, Details::Shutdown(Facts { accepted: None }));
    pair.request(shutdown(Kind::PowerOff));
}

#[test]
fn a_text_that_does_not_fit_and_another_services_request_are_refused() {
    let mut pair = Pair::connected(Services::Shutdown);
    let long = Shutdown { text: "x".repeat(1024), ..Shutdown::new(Kind::Restart) };
    let error = pair.service.request(&pair.now, Request::Shutdown(long)).unwrap_err();
    assert_eq!(error.to_string(), "the text of the shutdown has 1024 UTF-16 units; at most 1023 fit");
    assert!(matches!(pair.service.request(&pair.now, Request::Thaw), Err(Failure::Invalid(_))));
    assert_eq!(pair.take(), None);
}

#[test]
fn a_reset_clears_the_acceptance_of_the_previous_guest() {
    let mut pair = Pair::connected(Services::Shutdown);
    pair.request(shutdown(Kind::Restart));
    pair.sent();
    pair.send_back(Status::SUCCESS);
    pair.service.reset();
    assert_eq!(pair.status().details, Details::Shutdown(Facts { accepted: None }));
}
