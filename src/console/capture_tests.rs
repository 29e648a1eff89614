use super::super::Console;
use super::*;
use crate::patience::grown;
use std::io::Write;
use std::thread;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(5);

#[test]
fn a_wait_for_a_text_finds_it_when_it_arrives_in_pieces() {
    let (console, capture) = Console::capture();
    let mut output = console.output();
    let printer = thread::spawn(move || {
        for piece in ["lo", "ad login", ": ro", "ot"] {
            thread::sleep(Duration::from_millis(2));
            output.write_all(piece.as_bytes()).unwrap();
        }
    });
    assert_eq!(capture.wait_for("login: ", grown(LONG)).unwrap(), b"load login: ");
    assert_eq!(capture.wait_for("root", grown(LONG)).unwrap(), b"root");
    printer.join().unwrap();
    assert_eq!(capture.take(), b"");
}

#[test]
fn the_error_for_a_missing_text_contains_the_output() {
    let (console, capture) = Console::capture();
    console.output().write_all(b"Kernel panic").unwrap();
    let error = capture.wait_for("login:", SHORT).unwrap_err();
    assert!(error.to_string().ends_with("Kernel panic"), "{error}");
    assert_eq!(capture.take(), b"Kernel panic", "nothing was used up");
}

#[test]
fn unread_captured_output_is_bounded_and_keeps_its_end() {
    let (console, capture) = Console::capture();
    for _ in 0..CAPACITY / (1 << 20) + 1 {
        console.output().write_all(&[b'.'; 1 << 20]).unwrap();
    }
    console.output().write_all(b"end").unwrap();
    let kept = capture.take();
    assert!(kept.len() <= CAPACITY + (1 << 20));
    assert!(kept.ends_with(b"..end"));
}

#[test]
fn a_console_without_a_thread_is_finished_at_once() {
    let (console, _capture) = Console::capture();
    console.output().write_all(b"x").unwrap();
    assert!(console.finish(None));
}

#[test]
fn the_end_of_the_machine_ends_a_wait_with_an_error_that_has_the_last_output() {
    let (console, capture) = Console::capture();
    console.output().write_all(b"Kernel panic").unwrap();
    let waiting = capture.clone();
    let waiter = thread::spawn(move || waiting.wait_for("login:", Duration::MAX).unwrap_err());
    thread::sleep(SHORT);
    console.end("the guest took a triple fault");
    let error = waiter.join().unwrap();
    assert_eq!(error.end.as_deref(), Some("the guest took a triple fault"));
    let told = error.to_string();
    assert!(told.contains("before the machine ended: the guest took a triple fault"), "{told}");
    assert!(told.ends_with("Kernel panic"), "{told}");
    let error = capture.type_text("root\n").unwrap_err();
    assert!(
        error.to_string().contains("ended: the guest took a triple fault; the last output is:\n  | Kernel"),
        "{error}"
    );
    // A wait for output from before the end still succeeds.
    assert_eq!(capture.wait_for("panic", LONG).unwrap(), b"Kernel panic");
}
