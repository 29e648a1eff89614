use std::io::Write;

use super::*;
use crate::console::Console;

fn read(client: &mut Attached) -> String {
    let (mut all, mut bytes) = (Vec::new(), Vec::new());
    while client.read(&mut bytes) == Seen::Output {
        all.append(&mut bytes);
    }
    String::from_utf8(all).unwrap()
}

fn is_woken(client: &Attached) -> bool {
    let mut polled = [rustix::event::PollFd::new(client, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).unwrap() > 0
}

#[test]
fn every_client_gets_the_kept_output_and_all_that_follows() {
    let console = Console::open(&crate::console::ConsoleConfig::None, |_| {}).unwrap();
    console.output().write_all(b"before ").unwrap();
    let mut first = console.attach(Part::Watch).unwrap();
    let mut second = console.attach(Part::Type).unwrap();
    assert_eq!((read(&mut first), read(&mut second)), ("before ".into(), "before ".into()));
    assert_eq!(first.read(&mut Vec::new()), Seen::Nothing);
    assert!(!is_woken(&first));
    console.output().write_all(b"after").unwrap();
    assert!(is_woken(&first));
    first.clear();
    assert_eq!((read(&mut first), read(&mut second)), ("after".into(), "after".into()));
    assert_eq!(first.read(&mut Vec::new()), Seen::Nothing);
    console.end("the guest powered off");
    assert!(is_woken(&first));
    assert_eq!(first.read(&mut Vec::new()), Seen::Over);
}

#[test]
fn a_slow_client_loses_the_oldest_output_and_is_notified() {
    let (console, _capture) = Console::capture();
    let mut client = console.attach(Part::Watch).unwrap();
    for _ in 0..3 {
        console.output().write_all(&vec![b'x'; KEPT]).unwrap();
    }
    console.output().write_all(b"last").unwrap();
    let text = read(&mut client);
    assert!(text.contains(&format!("[viridian: {} bytes are missing here", 2 * KEPT + 4)), "{}", &text[..100]);
    assert!(text.ends_with("last") && text.len() < KEPT + 100);
    console.output().write_all(&vec![b'y'; 2 * KEPT]).unwrap();
    assert!(read(&mut client).contains(&format!("[viridian: {KEPT} bytes are missing here")));
}

#[test]
fn one_client_types_until_it_leaves_or_another_takes_over() {
    let (console, _capture) = Console::capture();
    let first = console.attach(Part::Type).unwrap();
    assert!(matches!(console.attach(Part::Type), Err(NotAttached::Taken)));
    let watcher = console.attach(Part::Watch).unwrap();
    watcher.type_bytes(b"dropped");
    first.type_bytes(b"a");
    drop(first);
    let mut second = console.attach(Part::Type).unwrap();
    second.type_bytes(b"b");
    let third = console.attach(Part::TakeOver).unwrap();
    second.type_bytes(b"dropped, too");
    third.type_bytes(b"c");
    assert!(read(&mut second).contains("taken the keyboard over"));
    assert_eq!(read(&mut second), "", "it is told once");
    let mut buffer = [0; 16];
    let count = console.input().take(&mut buffer);
    assert_eq!(&buffer[..count], b"abc");
    drop(second);
    third.type_bytes(b"d");
    assert_eq!(console.input().take(&mut buffer), 1, "who only watches takes nothing along");
}

#[test]
fn a_client_that_was_held_back_is_woken_when_the_guest_has_read() {
    let (console, _capture) = Console::capture();
    let client = console.attach(Part::Type).unwrap();
    client.type_bytes(&[b'x'; input::CAPACITY]);
    assert_eq!(client.room(), 0);
    assert!(!is_woken(&client));
    console.input().take(&mut [0; input::CAPACITY]);
    assert!(is_woken(&client));
    assert_eq!(client.room(), input::CAPACITY);
}
