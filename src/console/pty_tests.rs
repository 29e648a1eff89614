use super::super::tests::typed_text as typed;
use super::super::{Console, ConsoleConfig};
use super::*;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

fn open() -> (Console, PathBuf) {
    let console = Console::open(&ConsoleConfig::Pty, |event| panic!("{event:?}")).unwrap();
    let path = console.pty_path().unwrap().to_owned();
    (console, path)
}

fn open_slave(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn read(slave: &mut File, count: usize) -> String {
    let mut bytes = vec![0; count];
    slave.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_pty_is_raw_and_carries_bytes_both_ways() {
    let (console, path) = open();
    let mut slave = open_slave(&path);
    slave.write_all(b"\x03\x04ls\r").unwrap();
    assert_eq!(typed(&console, 5), "\x03\x04ls\r");
    console.output().write_all(b"a\nb").unwrap();
    assert_eq!(read(&mut slave, 3), "a\nb");
}

#[test]
fn a_slave_that_is_opened_again_shows_the_output_in_between() {
    let (console, path) = open();
    console.output().write_all(b"boot ").unwrap();
    assert!(console.finish(None), "nobody is waited for");
    for text in ["one", "two", "three"] {
        let mut slave = open_slave(&path);
        assert_eq!(read(&mut slave, 5), "boot ");
        slave.write_all(text.as_bytes()).unwrap();
        assert_eq!(typed(&console, text.len()), text);
        drop(slave);
        console.output().write_all(b"boot ").unwrap();
    }
}

#[test]
fn a_flood_of_unread_output_is_bounded_and_its_end_is_kept() {
    let (console, path) = open();
    let gate = std::sync::Arc::new(crate::kvm::gate::Gate::new());
    struct NoKick;
    impl crate::kvm::gate::Kick for NoKick {
        fn kick(&self) {}
    }
    gate.enter(0, Box::new(NoKick));
    for _ in 0..1000 {
        console.output().write_all(&[b'.'; 1000]).unwrap();
        console.output().wait_for_room(&gate);
    }
    console.output().write_all(b"end").unwrap();
    assert!(console.finish(None));
    let mut slave = open_slave(&path);
    let mut seen = Vec::new();
    while !seen.ends_with(b"end") {
        let mut buffer = [0; 1000];
        let count = slave.read(&mut buffer).unwrap();
        seen.extend(&buffer[..count]);
    }
    assert_eq!(seen.len(), 64 << 10);
}

#[test]
fn dropping_the_console_removes_the_slave() {
    let (console, path) = open();
    drop(console);
    assert!(!path.exists());
}
