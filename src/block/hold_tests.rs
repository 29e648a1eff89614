use super::*;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::patience::grown;

/// Returns a hold, and a receiver that is notified when no request is active.
fn hold() -> (Hold, mpsc::Receiver<()>) {
    let (sender, quiet) = mpsc::channel();
    let wake = move || {
        let _ = sender.send(());
    };
    (Hold::new(wake), quiet)
}

/// Waits until no request is active, as a channel's thread does.
fn settle(hold: &Hold, quiet: &mpsc::Receiver<()>) {
    hold.begin();
    while !hold.is_quiet() {
        quiet.recv_timeout(grown(Duration::from_secs(10))).expect("nobody says that it is quiet");
    }
}

#[test]
fn an_active_request_completes_and_a_later_one_waits() {
    let (hold, quiet) = hold();
    let (worked, done) = mpsc::channel();
    let first = hold.enter();
    hold.begin();
    assert!(!hold.is_quiet());
    let later = thread::spawn({
        let hold = hold.clone();
        move || {
            let _active = hold.enter();
            worked.send(()).unwrap();
        }
    });
    drop(first);
    settle(&hold, &quiet);
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err(), "a job has begun during the hold");
    hold.end();
    done.recv_timeout(grown(Duration::from_secs(10))).expect("the job has never begun");
    later.join().unwrap();
    assert!(hold.is_quiet());
}

#[test]
fn a_long_request_is_held_at_its_next_point_and_resumes() {
    let (hold, quiet) = hold();
    let (steps, taken) = mpsc::channel();
    let job = thread::spawn({
        let hold = hold.clone();
        move || {
            let active = hold.enter();
            while steps.send(()).is_ok() {
                active.point();
                thread::yield_now();
            }
        }
    });
    for _ in 0..20 {
        taken.recv_timeout(grown(Duration::from_secs(10))).expect("a step");
        settle(&hold, &quiet);
        while taken.try_recv().is_ok() {}
        assert!(taken.recv_timeout(Duration::from_millis(2)).is_err(), "a step was taken during the hold");
        assert!(hold.is_quiet());
        hold.end();
    }
    drop(taken);
    job.join().unwrap();
}
