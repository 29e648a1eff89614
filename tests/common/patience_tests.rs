//! The tests of `patience.rs`. They run with the unit tests, and so once instead of in each test binary.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::patience::*;

#[test]
fn time_limits_never_shrink_on_a_fast_host() {
    assert!((1.0..=MOST).contains(&slowness()));
    assert!(grown(Duration::from_secs(1)) >= Duration::from_secs(2));
}

#[test]
fn a_wait_ends_at_its_limit_and_not_early() {
    let begin = Instant::now();
    assert!(!holds_within(Duration::from_millis(300), || false));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert!(holds_within(Duration::ZERO, || true));
    let mut looks = 0;
    assert!(holds_within(Duration::from_secs(60), || {
        looks += 1;
        looks == 3
    }));
}

#[test]
fn a_pause_of_the_whole_host_counts_as_a_short_time() {
    let mut patience = Patience::new(Duration::from_secs(5));
    patience.looked -= Duration::from_secs(3600);
    assert!(!patience.is_over());
}

#[test]
fn a_received_value_ends_the_wait_at_once() {
    let (sender, receiver) = channel();
    sender.send(7).unwrap();
    assert_eq!(receive_within(&receiver, Duration::from_secs(60)), Ok(7));
    assert_eq!(receive_within(&receiver, Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    drop(sender);
    assert_eq!(receive_within(&receiver, Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
}
