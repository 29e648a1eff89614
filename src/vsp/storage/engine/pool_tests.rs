use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::patience::receive_within;

#[test]
fn as_many_tasks_as_there_are_threads_run_at_once() {
    let pool = Pool::default();
    let barrier = Arc::new(std::sync::Barrier::new(MAX_THREADS));
    let (done, all) = mpsc::channel();
    for _ in 0..MAX_THREADS {
        let (barrier, done) = (barrier.clone(), done.clone());
        pool.run(move || {
            barrier.wait();
            done.send(()).expect("a listener");
        });
    }
    for _ in 0..MAX_THREADS {
        receive_within(&all, Duration::from_secs(10)).expect("every task");
    }
    assert_eq!(pool.shared.lock().threads.len(), MAX_THREADS);
}

#[test]
fn a_pool_that_goes_does_first_what_it_was_given() {
    let pool = Pool::default();
    let (done, all) = mpsc::channel();
    for number in 0..100 {
        let done = done.clone();
        pool.run(move || done.send(number).expect("a listener"));
    }
    drop((pool, done));
    assert_eq!(all.into_iter().count(), 100);
}
