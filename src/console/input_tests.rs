use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

fn take(input: &ConsoleInput, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let taken = input.take(&mut bytes);
    bytes.truncate(taken);
    bytes
}

#[test]
fn input_is_taken_in_the_order_in_which_it_was_typed() {
    let input = ConsoleInput::default();
    input.put(b"abc");
    input.put(b"de");
    assert_eq!(take(&input, 4), b"abcd");
    assert_eq!(take(&input, 4), b"e");
    assert_eq!(take(&input, 4), b"");
}

#[test]
fn the_listener_is_called_for_new_input_and_for_earlier_input() {
    let input = ConsoleInput::default();
    let heard = Arc::new(AtomicUsize::new(0));
    input.put(b"early");
    let ear = heard.clone();
    input.listen(Box::new(move || _ = ear.fetch_add(1, Ordering::Relaxed)));
    assert_eq!(heard.load(Ordering::Relaxed), 1);
    input.put(b"");
    input.put(b"late");
    assert_eq!(heard.load(Ordering::Relaxed), 2);
}

#[test]
fn a_source_that_was_held_back_is_woken_once_half_is_read() {
    let waker = Arc::new(Waker::new().unwrap());
    let input = ConsoleInput::new(Some(waker.clone()));
    let woken = || rustix::io::read(&*waker, &mut [0; 8]).is_ok();
    input.put(&[0; CAPACITY - 1]);
    assert_eq!(input.room(), 1);
    input.put(&[0]);
    assert_eq!(input.room(), 0);
    take(&input, CAPACITY / 2 - 1);
    assert!(!woken());
    take(&input, 1);
    assert!(woken());
    take(&input, 1);
    assert!(!woken(), "once is enough");
    assert_eq!(input.room(), CAPACITY / 2 + 1);
}
