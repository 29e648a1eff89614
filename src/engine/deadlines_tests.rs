use super::*;
use std::sync::mpsc;
use std::thread;

fn milliseconds(time: u64) -> impl FnOnce(u64) -> Option<Duration> {
    move |_| Some(Duration::from_millis(time))
}

/// Returns the deadlines of one VP, which the calling thread runs, and the VPs that the alarm wakes.
fn entered() -> (Deadlines, mpsc::Receiver<usize>) {
    timer::prepare_kicks();
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let wake = Arc::new(move |vp| sender.lock().send(vp).unwrap());
    let deadlines = Deadlines::new(1, Arc::default(), wake);
    deadlines.enter(0);
    (deadlines, receiver)
}

fn set_busy(deadlines: &Deadlines, busy: bool) {
    let mut slot = deadlines.slot(0);
    let (_, usage) = slot.thread.as_mut().unwrap();
    // The stretch does not end in this test.
    usage.start.0 = Instant::now() + Duration::from_secs(3600);
    usage.busy = busy;
}

fn wait_for_timer() {
    while !Deadlines::take_due() {
        thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_vp_counts_as_computing_if_it_used_an_eighth_of_an_interval() {
    let start = Instant::now();
    let mut usage = Usage { start: (start, Duration::ZERO), busy: false };
    assert!(!usage.is_busy(start + STRETCH / 2, || panic!("the stretch is too short")));
    assert!(usage.is_busy(start + STRETCH, || STRETCH / 8));
    assert!(usage.is_busy(start + STRETCH + STRETCH / 2, || panic!("the stretch is too short")));
    assert!(!usage.is_busy(start + STRETCH * 3, || STRETCH / 8 + STRETCH / 5));
}

#[test]
fn a_vp_that_computes_is_woken_by_its_own_timer() {
    let (deadlines, woken) = entered();
    set_busy(&deadlines, true);
    let start = Instant::now();
    deadlines.set(0, Some(1), |_| Some(NEAR));
    wait_for_timer();
    assert!(start.elapsed() >= NEAR);
    deadlines.close();
    assert!(woken.try_recv().is_err(), "the alarm is not set");
}

#[test]
fn the_alarm_wakes_a_vp_at_a_later_deadline() {
    let (deadlines, woken) = entered();
    set_busy(&deadlines, true);
    deadlines.set(0, Some(1), |_| Some(NEAR * 2));
    assert_eq!(woken.recv().unwrap(), 0);
    assert!(deadlines.slot(0).timer.is_none());
    deadlines.close();
}

#[test]
fn a_vp_that_sleeps_is_woken_by_the_alarm() {
    let (deadlines, woken) = entered();
    set_busy(&deadlines, false);
    let start = Instant::now();
    deadlines.set(0, Some(1), milliseconds(20));
    assert_eq!(woken.recv().unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(deadlines.slot(0).timer.is_none());
    deadlines.close();
}

#[test]
fn a_deadline_that_moves_between_timer_and_alarm_is_removed_from_the_first() {
    let (deadlines, woken) = entered();
    set_busy(&deadlines, false);
    deadlines.set(0, Some(1), milliseconds(3_600_000));
    set_busy(&deadlines, true);
    deadlines.set(0, Some(2), milliseconds(1));
    wait_for_timer();
    deadlines.woken(0);
    deadlines.set(0, Some(3), milliseconds(15));
    set_busy(&deadlines, false);
    deadlines.set(0, Some(4), milliseconds(3_600_000));
    assert!(!deadlines.slot(0).in_timer);
    // On a slow host, it may have expired before it was stopped.
    Deadlines::take_due();
    thread::sleep(Duration::from_millis(30));
    assert!(!Deadlines::take_due(), "the timer is stopped");
    deadlines.close();
    assert!(woken.try_recv().is_err());
}

#[test]
fn an_unchanged_deadline_is_not_set_again_until_the_vp_was_woken() {
    let (deadlines, woken) = entered();
    set_busy(&deadlines, false);
    deadlines.set(0, Some(7), milliseconds(1));
    deadlines.set(0, Some(7), |_| panic!("it is set"));
    assert_eq!(woken.recv().unwrap(), 0);
    deadlines.woken(0);
    deadlines.set(0, Some(7), milliseconds(1));
    assert_eq!(woken.recv().unwrap(), 0);
    deadlines.close();
}

#[test]
fn no_deadline_is_set_while_time_is_stopped() {
    let (deadlines, woken) = entered();
    set_busy(&deadlines, true);
    deadlines.set(0, Some(1), milliseconds(3_600_000));
    deadlines.set(0, Some(2), |_| None);
    assert_eq!(deadlines.slot(0).deadline, None);
    deadlines.set(0, Some(2), milliseconds(1));
    wait_for_timer();
    deadlines.close();
    assert!(woken.try_recv().is_err());
}
