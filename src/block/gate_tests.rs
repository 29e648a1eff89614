use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::*;

#[test]
fn writes_run_together_and_an_atomic_request_runs_alone() {
    let gate = Arc::new(Gate::default());
    let shares = [gate.try_share(), gate.try_share()];
    assert!(shares.iter().all(Option::is_some));
    drop(shares);
    let alone = gate.exclusive();
    assert!(gate.try_share().is_none());
    drop(alone);
    assert!(gate.try_share().is_some());
}

#[test]
fn new_writes_wait_for_an_atomic_request_that_waits() {
    let gate = Arc::new(Gate::default());
    let share = gate.share();
    let entered = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _alone = gate.exclusive();
            entered.store(true, Ordering::SeqCst);
        });
        while gate.state.load(Ordering::SeqCst) & EXCLUSIVE == 0 {
            thread::yield_now();
        }
        assert!(gate.try_share().is_none());
        thread::sleep(Duration::from_millis(5));
        assert!(!entered.load(Ordering::SeqCst));
        drop(share);
    });
    assert!(entered.load(Ordering::SeqCst) && gate.try_share().is_some());
}

#[test]
fn exclusive_access_protects_a_counter() {
    let gate = Arc::new(Gate::default());
    let (counter, writers) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let _alone = gate.exclusive();
                    assert_eq!(writers.load(Ordering::SeqCst), 0);
                    let seen = counter.load(Ordering::SeqCst);
                    thread::yield_now();
                    counter.store(seen + 1, Ordering::SeqCst);
                }
            });
            scope.spawn(|| {
                for _ in 0..300 {
                    let _share = gate.share();
                    writers.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                    writers.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(counter.into_inner(), 600);
}
