use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Simulates `immediate_exit` and the signal: a VP that is "in the guest" spins on it.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Kick for Flag {
    fn kick(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn spawn_vp(gate: &Arc<Gate>, index: u32, turns: &Arc<AtomicU64>) -> thread::JoinHandle<()> {
    let (gate, turns) = (gate.clone(), turns.clone());
    let flag = Flag::default();
    gate.enter(index, Box::new(flag.clone()));
    thread::spawn(move || {
        while gate.pass() {
            while !flag.0.load(Ordering::SeqCst) {
                turns.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
            }
            flag.0.store(false, Ordering::SeqCst);
        }
        gate.leave(index);
    })
}

#[test]
fn a_pause_returns_when_every_vp_has_left_the_guest_and_a_resume_lets_them_enter() {
    let (gate, turns) = (Arc::new(Gate::new()), Arc::new(AtomicU64::new(0)));
    let vps: Vec<_> = (0..4).map(|index| spawn_vp(&gate, index, &turns)).collect();
    for _ in 0..200 {
        gate.pause();
        let seen = turns.load(Ordering::SeqCst);
        thread::yield_now();
        assert_eq!(turns.load(Ordering::SeqCst), seen, "a VP ran while the partition was paused");
        gate.resume();
        while turns.load(Ordering::SeqCst) == seen {
            thread::yield_now();
        }
    }
    gate.stop();
    vps.into_iter().for_each(|vp| vp.join().unwrap());
}

#[test]
fn a_waiting_vp_counts_as_paused_and_goes_on_waiting_after_the_resume() {
    let gate = Arc::new(Gate::new());
    let ready = Arc::new(AtomicBool::new(false));
    gate.enter(0, Box::new(Flag::default()));
    let vp = thread::spawn({
        let (gate, ready) = (gate.clone(), ready.clone());
        move || {
            let waited = gate.wait_for(|| ready.load(Ordering::SeqCst));
            gate.leave(0);
            waited
        }
    });
    gate.pause();
    gate.resume();
    assert!(!vp.is_finished());
    ready.store(true, Ordering::SeqCst);
    gate.wake();
    assert!(vp.join().unwrap());
}

#[test]
fn a_stop_ends_waits_and_pauses_and_is_final() {
    let gate = Arc::new(Gate::new());
    gate.enter(0, Box::new(Flag::default()));
    let vp = thread::spawn({
        let gate = gate.clone();
        move || gate.wait_for(|| false)
    });
    thread::sleep(Duration::from_millis(5));
    gate.stop();
    assert!(!vp.join().unwrap());
    gate.resume();
    assert!(!gate.is_open());
    gate.finish();
    assert!(!gate.pause());
}

#[test]
fn vps_do_not_resume_while_somebody_accesses_them() {
    let (gate, turns) = (Arc::new(Gate::new()), Arc::new(AtomicU64::new(0)));
    let vps: Vec<_> = (0..2).map(|index| spawn_vp(&gate, index, &turns)).collect();
    assert!(gate.while_paused(|| ()).is_none(), "they run");
    gate.pause();
    assert!(gate.is_pausing());
    let (resumed, before) = (gate.clone(), turns.load(Ordering::SeqCst));
    let resumer = gate.while_paused(|| {
        let resumer = thread::spawn(move || resumed.resume());
        thread::sleep(Duration::from_millis(5));
        assert_eq!(turns.load(Ordering::SeqCst), before, "a VP ran meanwhile");
        resumer
    });
    resumer.expect("they stand still").join().unwrap();
    assert!(!gate.is_pausing() && gate.while_paused(|| ()).is_none());
    gate.stop();
    assert!(gate.while_paused(|| ()).is_none(), "after a stop there is nobody to be reached");
    vps.into_iter().for_each(|vp| vp.join().unwrap());
}

/// A member thread that sleeps on a condition variable of its own.
struct Sleeper(Arc<(Mutex<bool>, Condvar)>);

impl Kick for Sleeper {
    fn kick(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }
}

#[test]
fn a_pause_waits_for_members_that_are_no_vps() {
    let gate = Arc::new(Gate::new());
    let turns = Arc::new(AtomicU64::new(0));
    let (joined, has_joined) = std::sync::mpsc::channel();
    let thread = thread::spawn({
        let (gate, turns) = (gate.clone(), turns.clone());
        move || {
            let woken = Arc::new((Mutex::new(false), Condvar::new()));
            let _member = gate.join(Box::new(Sleeper(woken.clone())));
            assert!(gate.is_own_thread());
            joined.send(()).unwrap();
            loop {
                let asleep = woken.0.lock().unwrap();
                *woken.1.wait_while(asleep, |woken| !*woken).unwrap() = false;
                turns.fetch_add(1, Ordering::SeqCst);
                if !gate.pass() {
                    return;
                }
            }
        }
    });
    has_joined.recv().unwrap();
    assert!(!gate.is_own_thread());
    for _ in 0..100 {
        assert!(gate.pause());
        let seen = turns.load(Ordering::SeqCst);
        assert!(seen > 0, "it has not parked");
        thread::yield_now();
        assert_eq!(turns.load(Ordering::SeqCst), seen);
        gate.resume();
    }
    gate.stop();
    thread.join().unwrap();
}

#[test]
fn a_pause_that_comes_after_a_stop_waits_for_the_next_life_or_the_end() {
    for is_reopened in [true, false] {
        let gate = Arc::new(Gate::new());
        gate.stop();
        let pause = thread::spawn({
            let gate = gate.clone();
            move || gate.pause()
        });
        thread::sleep(Duration::from_millis(5));
        if is_reopened {
            gate.reopen();
        } else {
            gate.finish();
        }
        assert_eq!(pause.join().unwrap(), is_reopened);
        assert_eq!(gate.is_pausing(), is_reopened);
    }
}

#[test]
fn a_resume_ends_a_pause_that_is_not_complete() {
    let gate = Arc::new(Gate::new());
    // This member never parks.
    gate.enter(0, Box::new(Flag::default()));
    let pause = thread::spawn({
        let gate = gate.clone();
        move || gate.pause()
    });
    while !gate.is_pausing() {
        thread::yield_now();
    }
    gate.resume();
    assert!(!pause.join().unwrap());
    assert!(gate.is_open());
    gate.leave(0);
}

#[test]
fn a_pause_waits_for_threads_that_are_being_started() {
    let gate = Arc::new(Gate::new());
    let hold = gate.hold();
    let (paused, is_paused) = std::sync::mpsc::channel();
    let pausing = {
        let gate = gate.clone();
        thread::spawn(move || paused.send(gate.pause()).unwrap())
    };
    assert!(is_paused.recv_timeout(Duration::from_millis(30)).is_err(), "somebody is still to come");
    drop(hold);
    assert!(is_paused.recv().unwrap());
    pausing.join().unwrap();
    gate.resume();
}

#[test]
fn a_pause_does_not_wait_for_a_member_that_has_stepped_out_and_whose_return_waits_for_the_resume() {
    let gate = Arc::new(Gate::new());
    let (entered, has_entered) = std::sync::mpsc::channel();
    let (goes_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let is_back = Arc::new(AtomicBool::new(false));
    let member = thread::spawn({
        let (gate, is_back) = (gate.clone(), is_back.clone());
        move || {
            let _member = gate.join(Box::new(Flag::default()));
            let outside = gate.step_out();
            entered.send(()).unwrap();
            may_go_on.recv().unwrap();
            drop(outside);
            is_back.store(true, Ordering::SeqCst);
        }
    });
    has_entered.recv().unwrap();
    assert!(gate.pause(), "it does not wait");
    goes_on.send(()).unwrap();
    thread::sleep(Duration::from_millis(5));
    assert!(gate.while_paused(|| is_back.load(Ordering::SeqCst)) == Some(false));
    gate.resume();
    member.join().unwrap();
    assert!(is_back.load(Ordering::SeqCst) && gate.pause(), "nobody is left");
}
