use super::*;
use zerocopy::FromZeros;

fn context() -> InitialVpContext {
    InitialVpContext::new_zeroed()
}

#[test]
fn a_start_request_is_answered_and_the_answer_is_taken_once() {
    let inbox = Inbox::default();
    assert!(inbox.ask(&context()) && inbox.is_full());
    assert!(!inbox.ask(&context()), "another asks already");
    assert!(inbox.asked().is_some() && !inbox.is_answered());
    inbox.answer(Ok(()));
    assert!(inbox.is_answered());
    assert_eq!(inbox.take_answer(), Some(Ok(())));
    assert!(inbox.ask(&context()), "it is free again");
}

#[test]
fn a_vp_that_waits_for_the_start_of_another_takes_no_start_request() {
    let inbox = Inbox::default();
    assert!(!inbox.await_another(true), "nobody has asked");
    assert!(!inbox.ask(&context()));
    inbox.await_another(false);
    assert!(inbox.ask(&context()));
}

#[test]
fn a_start_request_is_refused_when_its_vp_begins_to_wait_for_another() {
    let inbox = Inbox::default();
    assert!(inbox.ask(&context()));
    assert!(inbox.await_another(true), "somebody must be told");
    assert_eq!(inbox.take_answer(), Some(Err(HvStatus::INVALID_VP_STATE)));
}

#[test]
fn pending_interrupts_are_taken_by_priority() {
    let inbox = Inbox::default();
    for vector in [0x31, 0xef, 0x80] {
        inbox.owe(vector);
    }
    for vector in [0xef, 0x80, 0x31] {
        assert_eq!(inbox.owed(), Some(vector));
        inbox.paid(vector);
    }
    assert_eq!(inbox.owed(), None);
}
