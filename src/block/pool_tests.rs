use std::sync::mpsc;
use std::time::Duration;

use super::super::budget;
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
    assert_eq!(pool.shared.state.lock().threads.len(), MAX_THREADS);
}

#[test]
fn dropping_a_pool_waits_for_its_tasks() {
    let pool = Pool::default();
    let (done, all) = mpsc::channel();
    for number in 0..100 {
        let done = done.clone();
        pool.run(move || done.send(number).expect("a listener"));
    }
    drop((pool, done));
    assert_eq!(all.into_iter().count(), 100);
}

/// Runs `MAX_THREADS` blocking tasks on each pool, and returns the nice values of each pool's threads.
fn threads_of(pools: &[Pool], budget: &Arc<Budget>) -> Vec<Vec<i32>> {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    let (told, nices) = mpsc::channel();
    for (number, pool) in pools.iter().enumerate() {
        for _ in 0..MAX_THREADS {
            let (gone, told) = (gone.clone(), told.clone());
            pool.run_within(Some(budget), move || {
                told.send((number, rustix::process::getpriority_process(None).expect("a nice value")))
                    .expect("a listener");
                // Nothing is sent, so this returns when the sender is dropped.
                let _ = gone.lock().recv();
            });
        }
    }
    let started: usize = pools.iter().map(|pool| pool.shared.state.lock().threads.len()).sum();
    let mut all = vec![Vec::new(); pools.len()];
    for _ in 0..started {
        let (number, nice) = receive_within(&nices, Duration::from_secs(10)).expect("every thread");
        all[number].push(nice);
    }
    drop(go);
    all
}

#[test]
fn the_disks_of_a_controller_share_their_threads_and_each_has_one() {
    let budget = Arc::default();
    let pools: Vec<Pool> = (0..64).map(|_| Pool::default()).collect();
    let all = threads_of(&pools, &budget);
    assert!(all.iter().all(|threads| (1..=MAX_THREADS).contains(&threads.len())), "{all:?}");
    assert_eq!(all.iter().flatten().count(), 64 + budget::MAX_MORE, "{all:?}");
    let own = rustix::process::getpriority_process(None).unwrap();
    let heavy = all.iter().flatten().filter(|nice| **nice == own).count();
    assert_eq!(heavy, budget::MAX_FIRST + budget::MAX_MORE, "{all:?}");
    assert!(all.iter().flatten().all(|nice| [own, LATE_NICE].contains(nice)), "{all:?}");

    // A dropped disk returns its share of the budget.
    drop(pools);
    assert_eq!(threads_of(&[Pool::default()], &budget), [vec![own; MAX_THREADS]]);
}
