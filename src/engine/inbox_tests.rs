use super::*;
use zerocopy::FromZeros;

fn context() -> InitialVpContext {
    InitialVpContext::new_zeroed()
}

#[test]
fn a_start_is_asked_for_answered_and_taken() {
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
fn a_vp_that_waits_for_anothers_start_is_not_started_itself() {
    let inbox = Inbox::default();
    assert!(!inbox.await_another(true), "nobody has asked");
    assert!(!inbox.ask(&context()));
    inbox.await_another(false);
    assert!(inbox.ask(&context()));
}

#[test]
fn whoever_asked_before_the_vp_waits_is_refused() {
    let inbox = Inbox::default();
    assert!(inbox.ask(&context()));
    assert!(inbox.await_another(true), "somebody must be told");
    assert_eq!(inbox.take_answer(), Some(Err(HvStatus::INVALID_VP_STATE)));
}

#[test]
fn interrupts_that_are_owed_come_by_priority() {
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
