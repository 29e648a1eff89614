use super::*;
use std::sync::mpsc;

fn alarm(vps: usize) -> (Arc<Alarm>, Wake, mpsc::Receiver<usize>) {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let wake = Arc::new(move |vp| sender.lock().send(vp).unwrap());
    (Arc::new(Alarm::new(vps, Arc::default())), wake, receiver)
}

#[test]
fn deadlines_expire_in_order_and_not_early() {
    let (alarm, wake, woken) = alarm(3);
    let start = Instant::now();
    alarm.set(0, Some(Duration::from_millis(30)), &wake);
    alarm.set(1, Some(Duration::from_millis(10)), &wake);
    alarm.set(2, Some(Duration::from_millis(20)), &wake);
    for (vp, milliseconds) in [(1, 10), (2, 20), (0, 30)] {
        assert_eq!(woken.recv().unwrap(), vp);
        assert!(start.elapsed() >= Duration::from_millis(milliseconds));
    }
    alarm.close();
}

#[test]
fn a_deadline_that_is_moved_or_cancelled_does_not_wake() {
    let (alarm, wake, woken) = alarm(2);
    alarm.set(0, Some(Duration::from_millis(5)), &wake);
    alarm.set(0, None, &wake);
    alarm.set(1, Some(Duration::from_secs(3600)), &wake);
    alarm.set(1, Some(Duration::from_millis(20)), &wake);
    assert_eq!(woken.recv().unwrap(), 1);
    alarm.close();
    assert!(woken.try_recv().is_err());
    alarm.set(0, Some(Duration::ZERO), &wake);
    assert!(woken.recv_timeout(Duration::from_millis(20)).is_err(), "it is closed");
}

#[test]
fn the_thread_starts_when_the_first_deadline_is_set() {
    let (alarm, ..) = alarm(1);
    assert!(alarm.thread.lock().is_none());
    alarm.close();
}
