use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::*;

fn source() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
}

fn write(source: &OwnedFd) {
    rustix::io::write(source, &1_u64.to_ne_bytes()).expect("room");
}

fn read(source: &OwnedFd) {
    rustix::io::read(source, &mut [0; 8]).expect("a count");
}

/// Returns `true` if the bell rings, and consumes the ring.
fn rings(bell: &Bell) -> bool {
    let ready =
        poll(&mut [PollFd::new(&bell.readiness(), PollFlags::IN)], Some(&Timespec::default())).expect("a bell") > 0;
    if ready {
        bell.wait(None).expect("a bell");
    }
    ready
}

/// Returns a bell that listens to a source. The ring for adding the source is consumed.
fn listening(source: &OwnedFd) -> Bell {
    let bell = Bell::new().expect("a bell");
    bell.ring_on(source.as_fd()).expect("an epoll");
    assert!(rings(&bell) && !rings(&bell));
    bell
}

#[test]
fn several_rings_are_one_wake_up_with_and_without_sources() {
    let source = source();
    for bell in [Bell::new().expect("a bell"), listening(&source)] {
        assert!(!rings(&bell));
        for _ in 0..2 {
            (0..3).for_each(|_| bell.ring());
            assert!(rings(&bell) && !rings(&bell));
        }
        bell.eventfd().expect("a copy").signal();
        assert!(rings(&bell) && !rings(&bell));
    }
}

#[test]
fn a_source_rings_once_for_each_call_of_ring_on() {
    let source = source();
    let bell = listening(&source);
    write(&source);
    assert!(rings(&bell) && !rings(&bell));
    write(&source);
    assert!(!rings(&bell), "nobody has asked");
    bell.ring_on(source.as_fd()).expect("an epoll");
    assert!(rings(&bell), "it is readable already");
    read(&source);
    bell.ring_on(source.as_fd()).expect("an epoll");
    bell.ring_on(source.as_fd()).expect("an epoll");
    assert!(!rings(&bell));
    write(&source);
    assert!(rings(&bell) && !rings(&bell));
}

#[test]
fn a_source_that_was_read_empty_rings_when_it_is_readable_again() {
    let source = source();
    let bell = listening(&source);
    write(&source);
    read(&source);
    assert!(!rings(&bell));
    bell.ring_on(source.as_fd()).expect("an epoll");
    write(&source);
    assert!(rings(&bell));
}

#[test]
fn a_source_that_is_closed_is_forgotten() {
    let (kept, closed) = (source(), source());
    let bell = listening(&kept);
    bell.ring_on(closed.as_fd()).expect("an epoll");
    write(&closed);
    drop(closed);
    assert!(!rings(&bell));
    write(&kept);
    assert!(rings(&bell));
}

#[test]
fn a_source_added_during_a_wait_is_noticed() {
    let (source, bell) = (source(), Arc::new(Bell::new().expect("a bell")));
    let sleeper = {
        let bell = bell.clone();
        thread::spawn(move || {
            // The first ring is for adding the source, the second is from the source itself.
            (0..2).for_each(|_| bell.wait(None).expect("a bell"));
        })
    };
    thread::sleep(Duration::from_millis(20));
    bell.ring_on(source.as_fd()).expect("an epoll");
    thread::sleep(Duration::from_millis(20));
    write(&source);
    sleeper.join().expect("it ends");
}

#[test]
fn adding_a_descriptor_that_cannot_be_polled_is_an_error() {
    let file = tempfile::tempfile().expect("a file");
    assert!(Bell::new().expect("a bell").ring_on(file.as_fd()).is_err());
}

#[test]
fn a_wait_with_a_limit_ends_without_a_ring() {
    let source = source();
    for bell in [Bell::new().expect("a bell"), listening(&source)] {
        let start = std::time::Instant::now();
        bell.wait(Some(Duration::from_millis(20))).expect("a bell");
        assert!(start.elapsed() >= Duration::from_millis(20));
        bell.ring();
        bell.wait(Some(Duration::from_secs(3600))).expect("a bell");
        assert!(!rings(&bell), "the ring was heard");
        bell.ring();
        bell.wait(Some(Duration::MAX)).expect("a bell");
    }
}
