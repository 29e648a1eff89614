use std::io::{Read, pipe};
use std::time::{Duration, Instant};

use super::super::{Console, ConsoleEvent};
use super::*;
use crate::patience::receive_within;

/// Returns the output of a console that got these pieces, after its end.
fn printed(pieces: &[&[u8]]) -> String {
    let (mut reader, writer) = pipe().unwrap();
    let backend = LinesBackend::on("lab", writer.as_fd()).unwrap();
    let console = Console::start(Box::new(backend), None, Box::new(|event| panic!("{event:?}"))).unwrap();
    for piece in pieces {
        io::Write::write_all(&mut console.output(), piece).unwrap();
    }
    assert!(console.finish(None));
    drop((console, writer));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn each_line_gets_the_label_and_a_newline() {
    assert_eq!(printed(&[b"one\r\ntwo\n\nth", b"ree\n"]), "lab: one\nlab: two\nlab: \nlab: three\n");
}

#[test]
fn the_last_line_needs_no_newline() {
    assert_eq!(printed(&[b"login: "]), "lab: login: \n");
    assert_eq!(printed(&[]), "");
}

#[test]
fn an_incomplete_line_is_shown_after_a_while() {
    let (mut reader, writer) = pipe().unwrap();
    let backend = LinesBackend::on("lab", writer.as_fd()).unwrap();
    let console = Console::start(Box::new(backend), None, Box::new(|_| {})).unwrap();
    let start = Instant::now();
    io::Write::write_all(&mut console.output(), b"login: ").unwrap();
    let mut text = [0; 12];
    reader.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"lab: login: ");
    assert!(start.elapsed() > Duration::from_millis(100), "it could have ended meanwhile");
}

#[test]
fn a_long_line_is_split_without_loss() {
    let text = printed(&[&[b'x'; 10_000], b"\n"]);
    assert!(text.lines().all(|line| line.starts_with("lab: x") && line.len() < 4096), "{text}");
    assert_eq!(text.matches('x').count(), 10_000);
}

#[test]
fn a_guest_cannot_overwrite_its_label_or_move_the_cursor() {
    assert_eq!(printed(&[b"10%\rserver: forged\r\r\n"]), "lab: 10%\\x0dserver: forged\n");
    assert_eq!(printed(&[b"\x1b[2A\x1b]0;title\x07x\n"]), "lab: \\x1b[2A\\x1b]0;title\\x07x\n");
    assert_eq!(printed(&[b"\x9b1A \xc2\x9b1A \xc3\xbc\n"]), "lab: \\x9b1A \\x9b1A \u{fc}\n");
}

#[test]
fn colours_stay_and_end_with_their_line() {
    assert_eq!(printed(&[b"\x1b[0;32mOK\x1b[0m\n"]), "lab: \x1b[0;32mOK\x1b[0m\x1b[0m\n");
    assert_eq!(printed(&[b"\x1b[31mred\nplain\n"]), "lab: \x1b[31mred\x1b[0m\nlab: plain\n");
}

#[test]
fn a_line_that_escapes_make_too_long_is_split_and_each_part_has_the_label() {
    let text = printed(&[&[0x1b; 3000], b"\x1b[3", b"1m\n"]);
    assert!(text.lines().all(|line| line.starts_with("lab: ") && line.len() < 4096), "{text}");
    assert_eq!(text.matches("\\x1b").count(), 3000);
    assert!(text.ends_with("\x1b[31m\x1b[0m\n"));
}

#[test]
fn a_late_reader_gets_all_output() {
    let (mut reader, writer) = pipe().unwrap();
    let backend = LinesBackend::on("lab", writer.as_fd()).unwrap();
    let console = Console::start(Box::new(backend), None, Box::new(|_| {})).unwrap();
    let lines = 20_000;
    (0..lines).for_each(|line| io::Write::write_all(&mut console.output(), format!("{line}\n").as_bytes()).unwrap());
    assert!(!console.finish(Some(Instant::now() + Duration::from_millis(20))), "more than a pipe takes");
    drop(writer);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(console.finish(None));
    drop(console);
    let text = reading.join().unwrap();
    assert!(text.lines().eq((0..lines).map(|line| format!("lab: {line}"))));
}

#[test]
fn a_closed_reader_is_an_error() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let (tell, told) = std::sync::mpsc::channel();
    let backend = LinesBackend::on("lab", writer.as_fd()).unwrap();
    let events = Box::new(move |event| tell.send(event).unwrap());
    let console = Console::start(Box::new(backend), None, events).unwrap();
    io::Write::write_all(&mut console.output(), b"x\n").unwrap();
    let event = receive_within(&told, Duration::from_secs(20)).unwrap();
    assert!(
        matches!(&event, ConsoleEvent::Failed(error) if error.to_string().contains("its reader has gone")),
        "{event:?}"
    );
}
