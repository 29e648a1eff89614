use super::super::terminal::tests::{is_raw, terminal};
use super::super::tests::typed;
use super::super::{Console, ConsoleEvent};
use super::*;
use crate::patience::receive_within;
use std::fs::File;
use std::io::{Read, Write, pipe};
use std::sync::mpsc;
use std::time::Duration;

fn open(input: impl AsFd, output: impl AsFd) -> (Console, mpsc::Receiver<ConsoleEvent>) {
    let (sender, events) = mpsc::channel();
    let backend = StdioBackend::on(input.as_fd(), output.as_fd()).unwrap();
    let console = Console::start(Box::new(backend), None, Box::new(move |event| _ = sender.send(event)));
    (console.unwrap(), events)
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

#[test]
fn pipes_carry_bytes_unchanged_both_ways() {
    let ((input, mut typist), (mut reader, output)) = (pipe().unwrap(), pipe().unwrap());
    let (console, _events) = open(&input, &output);
    drop((input, output));
    let all: Vec<u8> = (0..=255).collect();
    typist.write_all(&all).unwrap();
    assert_eq!(typed(&console, 256), all);
    console.output().write_all(&all).unwrap();
    assert!(console.finish(None));
    drop(console);
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, all);
}

#[test]
fn the_end_of_input_does_not_end_the_output() {
    let (mut reader, output) = pipe().unwrap();
    let (console, events) = open(null(), &output);
    let mut seen = [0; 4];
    for text in [b"one ", b"two "] {
        std::thread::sleep(Duration::from_millis(5));
        console.output().write_all(text).unwrap();
        reader.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, text);
    }
    assert!(events.try_recv().is_err());
}

#[test]
fn sockets_and_files_work_as_well() {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (console, _events) = open(&theirs, &theirs);
    ours.write_all(b"typed").unwrap();
    assert_eq!(typed(&console, 5), b"typed");
    console.output().write_all(&[b'.'; 10_000]).unwrap();
    let mut seen = [0; 10_000];
    ours.read_exact(&mut seen).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("both");
    std::fs::write(&path, "script\n").unwrap();
    let output = File::options().append(true).open(&path).unwrap();
    let (console, _events) = open(File::open(&path).unwrap(), &output);
    assert_eq!(typed(&console, 7), b"script\n");
    console.output().write_all(b"answer\n").unwrap();
    assert!(console.finish(None));
    assert_eq!(std::fs::read(&path).unwrap(), b"script\nanswer\n");
}

#[test]
fn a_pasted_megabyte_waits_for_the_guest_and_arrives_whole() {
    let (input, mut typist) = pipe().unwrap();
    let (console, _events) = open(&input, null());
    let text: Vec<u8> = (0..1 << 20).map(|number: u32| (number / 7) as u8).collect();
    std::thread::scope(|scope| {
        let typing = scope.spawn(|| typist.write_all(&text).unwrap());
        std::thread::sleep(Duration::from_millis(10));
        assert!(!typing.is_finished(), "the source is held back");
        assert!(typed(&console, text.len()) == text);
    });
}

#[test]
fn only_our_own_description_of_a_file_is_non_blocking() {
    use rustix::fs::{OFlags, fcntl_getfl};
    let (_reader, output) = pipe().unwrap();
    let (_master, slave) = terminal();
    let (_console, _events) = open(&slave, &output);
    assert!(!fcntl_getfl(&slave).unwrap().contains(OFlags::NONBLOCK));
    assert!(!fcntl_getfl(&output).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn a_stalled_reader_does_not_delay_the_end() {
    for careful in [false, true] {
        let (reader, output) = pipe().unwrap();
        let (socket, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (console, _events) = if careful { open(null(), &socket) } else { open(null(), &output) };
        for _ in 0..200 {
            console.output().write_all(&[b'.'; 4096]).unwrap();
        }
        let soon = std::time::Instant::now() + Duration::from_millis(20);
        assert!(!console.finish(Some(soon)));
        std::thread::scope(|scope| {
            let finish = scope.spawn(|| console.finish(None));
            std::thread::sleep(Duration::from_millis(5));
            assert!(!finish.is_finished());
            console.cancel();
            assert!(!finish.join().unwrap());
        });
        drop(console);
        drop(reader);
    }
}

#[test]
fn a_closed_reader_is_reported_once_and_blocks_nobody() {
    let (reader, output) = pipe().unwrap();
    let (console, events) = open(null(), &output);
    drop(reader);
    console.output().write_all(b"to nobody").unwrap();
    let event = receive_within(&events, Duration::from_secs(20)).unwrap();
    let ConsoleEvent::Failed(error) = event else { panic!("{event:?}") };
    let text = error.to_string();
    assert!(text.contains("standard output") && text.contains("its reader has gone"), "{text}");
    for _ in 0..100 {
        console.output().write_all(&[b'.'; 4096]).unwrap();
        console.output().wait_for_room(&Default::default());
    }
    assert!(!console.finish(None));
    drop(console);
    assert!(events.recv().is_err(), "it was reported once");
}

#[test]
fn a_reader_that_closed_before_the_start_is_reported_too() {
    let (reader, output) = pipe().unwrap();
    drop(reader);
    let (console, events) = open(null(), &output);
    console.output().write_all(b"x").unwrap();
    assert!(matches!(receive_within(&events, Duration::from_secs(20)), Ok(ConsoleEvent::Failed(_))));
}

#[test]
fn a_terminal_is_raw_and_interprets_ctrl_a_while_the_console_exists() {
    let (master, slave) = terminal();
    let mut user = File::from(master);
    let (console, events) = open(&slave, &slave);
    assert!(is_raw(&slave));
    user.write_all(b"ls\r\x01\x01\x1a\x01c").unwrap();
    assert_eq!(typed(&console, 6), b"ls\r\x01\x1a\x03");
    console.output().write_all(b"prompt").unwrap();
    let mut seen = [0; 6];
    user.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"prompt", "there is no echo");
    user.write_all(b"\x01x").unwrap();
    assert!(matches!(receive_within(&events, Duration::from_secs(20)), Ok(ConsoleEvent::Quit)));
    drop(console);
    assert!(!is_raw(&slave));
}

#[test]
fn ctrl_a_on_a_pipe_is_passed_to_the_guest() {
    let (input, mut typist) = pipe().unwrap();
    let (console, _events) = open(&input, null());
    typist.write_all(b"\x01x").unwrap();
    assert_eq!(typed(&console, 2), b"\x01x");
}
