use super::*;
use crate::patience::receive_within;
use std::fs;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

fn file(path: &Path) -> Result<Console, ConsoleError> {
    Console::open(&ConsoleConfig::File(path.into()), |event| panic!("{event:?}"))
}

/// Waits until `count` bytes have been typed, and returns them.
pub fn typed(console: &Console, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let mut buffer = [0; 1000];
        let taken = console.input().take(&mut buffer);
        bytes.extend(&buffer[..taken]);
        thread::yield_now();
    }
    bytes
}

/// Like [`typed`], for text.
pub fn typed_text(console: &Console, count: usize) -> String {
    String::from_utf8(typed(console, count)).unwrap()
}

#[test]
fn the_newest_output_is_in_a_file_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("last");
    fs::write(&path, "of an older run").unwrap();
    let console = Console::open(&ConsoleConfig::None, |event| panic!("{event:?}")).unwrap();
    assert!(console.keep_last(&directory.path().join("none/last")).is_err());
    console.keep_last(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"", "nothing is left of an older run");
    let all: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    console.output().write_all(all.as_bytes()).unwrap();
    // It is told more than once.
    console.end("the guest powered off");
    console.end("the guest powered off");
    let written = fs::read(&path).unwrap();
    assert!(written == all.as_bytes()[all.len() - (64 << 10)..], "{} bytes", written.len());
}

#[test]
fn a_file_is_truncated_and_gets_the_output() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console.log");
    fs::write(&path, "an older and longer run").unwrap();
    let console = file(&path).unwrap();
    for number in 0..50_000 {
        writeln!(console.output(), "{number}").unwrap();
    }
    assert!(console.finish(None));
    let seen = fs::read_to_string(&path).unwrap();
    assert!(seen.lines().map(|line| line.parse::<u32>().unwrap()).eq(0..50_000));
}

#[test]
fn the_error_for_a_file_that_cannot_be_opened_has_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| file(&directory.path().join(name)).err().unwrap().to_string();
    assert!(at("").contains("name a file in that directory"));
    assert!(at("missing/file").contains("create the directory"));
    fs::write(directory.path().join("plain"), "").unwrap();
    assert!(at("plain/file").contains("create the directory"));
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(at("pipe").contains("start its reader first"));
    let error = file(Path::new("/proc/nowhere/file")).err().unwrap().to_string();
    assert!(error.starts_with("cannot open /proc/nowhere/file for the console: "), "{error}");
}

#[test]
fn a_full_disk_is_reported_once_with_the_files_name() {
    let (sender, events) = mpsc::channel();
    let config = ConsoleConfig::File("/dev/full".into());
    let console = Console::open(&config, move |event| _ = sender.send(event)).unwrap();
    console.output().write_all(b"x").unwrap();
    let event = receive_within(&events, Duration::from_secs(20)).unwrap();
    let ConsoleEvent::Failed(error) = event else { panic!("{event:?}") };
    let text = error.to_string();
    assert!(text.contains("to /dev/full: No space left") && text.contains("free some space"), "{text}");
    console.output().write_all(b"y").unwrap();
    assert!(!console.finish(None));
    drop(console);
    assert!(events.recv().is_err());
}

#[test]
fn the_console_none_discards_output_and_starts_no_thread() {
    let console = Console::open(&ConsoleConfig::None, |event| panic!("{event:?}")).unwrap();
    console.output().write_all(&[0; 1 << 20]).unwrap();
    console.output().wait_for_room(&Default::default());
    assert!(console.finish(None));
    assert!(console.thread.is_none());
}
