use super::*;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// Waits until a timer for the calling thread has expired.
fn wait() {
    while !take_expired() {
        thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_timer_expires_on_its_own_thread_and_not_before_its_time() {
    prepare_kicks();
    let (sender, receiver) = mpsc::channel();
    let vp = thread::spawn(move || {
        sender.send(own_thread()).unwrap();
        wait();
        Instant::now()
    });
    let timer = VpTimer::new(receiver.recv().unwrap()).unwrap();
    let start = Instant::now();
    timer.set(Some(Duration::from_millis(20)));
    assert!(vp.join().unwrap() - start >= Duration::from_millis(20));
    assert!(!has_expired(), "the timer belongs to another thread");
}

#[test]
fn a_timer_that_was_moved_or_stopped_does_not_expire_at_its_first_time() {
    prepare_kicks();
    let (stopped, moved) = (VpTimer::new(own_thread()).unwrap(), VpTimer::new(own_thread()).unwrap());
    let start = Instant::now();
    stopped.set(Some(Duration::from_millis(5)));
    stopped.set(None);
    moved.set(Some(Duration::from_secs(3600)));
    moved.set(Some(Duration::from_millis(30)));
    if start.elapsed() < Duration::from_millis(5) {
        wait();
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
    stopped.set(Some(Duration::ZERO));
    wait();
}

#[test]
fn a_timer_of_a_thread_that_has_ended_expires_without_effect() {
    prepare_kicks();
    let (sender, receiver) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        sender.send(own_thread()).unwrap();
        ended.recv().unwrap();
    });
    let timer = VpTimer::new(receiver.recv().unwrap()).unwrap();
    end.send(()).unwrap();
    thread.join().unwrap();
    timer.set(Some(Duration::from_millis(1)));
    let later = VpTimer::new(own_thread()).unwrap();
    later.set(Some(Duration::from_millis(20)));
    wait();
}

#[test]
fn the_cpu_time_of_a_thread_grows_while_it_computes_and_only_then() {
    let start = cpu_time(own_thread());
    while cpu_time(own_thread()) < start + Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    let (sender, receiver) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let sleeper = thread::spawn(move || {
        sender.send(own_thread()).unwrap();
        ended.recv().unwrap();
    });
    let sleeping = receiver.recv().unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(50) {
        std::hint::spin_loop();
    }
    assert!(cpu_time(sleeping) < Duration::from_millis(50));
    end.send(()).unwrap();
    sleeper.join().unwrap();
    // The kernel removes a thread some time after it has woken those that join it.
    while cpu_time(sleeping) != Duration::ZERO {
        thread::yield_now();
    }
}
