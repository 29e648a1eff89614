use super::*;

#[test]
fn a_vp_runs_freely_for_a_bounded_number_of_rounds() {
    let (mut watch, mut now) = (Watch::default(), Instant::now());
    for round in 0..FREE_ROUNDS {
        let time = FIRST_ROUND * (1 << round);
        assert_eq!(watch.fail(now), Wait::For(time));
        assert_eq!(watch.fail(now + time / 2), Wait::Rest, "an exit of the guest's own does not count");
        now += time;
    }
    for later in 0..10 {
        for step in 0..STEPS {
            assert_eq!(watch.fail(now), Wait::Enough, "step {step} of round {later}");
        }
        let Wait::For(time) = watch.fail(now) else { panic!("it runs freely again") };
        assert!(time <= Duration::from_millis(2), "{time:?}");
        now += time;
    }
}

#[test]
fn while_a_sent_interrupt_is_awaited_the_watch_only_waits() {
    let (mut watch, mut now) = (Watch { sent: Some(0x50), ..Watch::default() }, Instant::now());
    for round in 0..100 {
        let Wait::For(time) = watch.fail(now) else { panic!("round {round}") };
        now += time;
    }
}

#[test]
fn a_timer_interrupts_a_vp_that_is_watched_and_no_other() {
    timer::prepare_kicks();
    let watches = Watches::new(2, Arc::default());
    assert!(matches!(watches.wait(1), Wait::For(_)));
    while !timer::take_expired() {
        std::thread::sleep(FIRST_ROUND);
    }
    watches.end(1);
    assert_eq!(watches.wait(1), Wait::For(FIRST_ROUND), "it begins anew");
    watches.end(1);
    timer::take_expired();
    std::thread::sleep(FIRST_ROUND * 20);
    assert!(!timer::take_expired(), "nobody waits any more");
}
