use super::*;
use crate::patience::grown;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

struct Fifo {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fifo {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self { _folder: folder, path }
    }

    /// Opens a reader without waiting for a writer. It reads nothing yet.
    fn reader(&self) -> File {
        rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap().into()
    }

    fn create(&self) -> Records {
        Records::create(&self.path, "a test's records".into(), lines_dropped).unwrap()
    }
}

fn line(number: usize) -> Vec<u8> {
    format!("{number:099}\n").into_bytes()
}

/// Reads everything that is written to a pipe until its writer closes it.
fn read_all(mut reader: File) -> String {
    rustix::fs::fcntl_setfl(&reader, OFlags::empty()).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_pipe_without_a_reader_is_an_error_at_once() {
    let fifo = Fifo::new();
    let errno = Records::create(&fifo.path, String::new(), lines_dropped).unwrap_err();
    assert_eq!(errno, Errno::NXIO);
    assert!(advice_on_opening(errno).contains("start its reader first"));
}

#[test]
fn records_reach_a_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let records = Records::create(&path, String::new(), lines_dropped).unwrap();
    for number in 0..3 {
        records.put(&line(number), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 100 * (number as u64 + 1));
    }
    assert!(records.finish());
}

#[test]
fn records_before_the_reader_opens_are_kept_and_written_in_order() {
    let fifo = Fifo::new();
    let (reader, records) = (fifo.reader(), fifo.create());
    // More bytes than a pipe holds, and fewer than are kept.
    for number in 0..5_000 {
        records.put(&line(number), 1);
    }
    let reading = thread::spawn(move || read_all(reader));
    // Read concurrently, because the end waits only for a limited time for a reader.
    while !records.finish() {
        thread::yield_now();
    }
    drop(records);
    let text = reading.join().unwrap();
    assert!(text.lines().map(|line| line.parse::<usize>().unwrap()).eq(0..5_000), "{} bytes", text.len());
}

#[test]
fn a_stalled_reader_delays_nobody_and_gets_a_note_about_lost_records() {
    const LINES: usize = 100_000;
    let fifo = Fifo::new();
    let (reader, records) = (fifo.reader(), fifo.create());
    for number in 0..LINES {
        records.put(&line(number), 1);
    }
    assert!(records.0.shared.state.lock().kept.len() <= CAPACITY);
    assert!(!records.finish(), "the end does not wait for it");
    let reading = thread::spawn(move || read_all(reader));
    while !records.finish() {
        thread::yield_now();
    }
    drop(records);
    let text = reading.join().unwrap();
    let (lines, notes): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.parse::<usize>().is_ok());
    let missing: usize = notes.iter().map(|note| note.split(' ').nth(1).unwrap().parse::<usize>().unwrap()).sum();
    assert!(missing > 0 && lines.len() + missing == LINES, "{} lines, {notes:?}", lines.len());
}

#[test]
fn a_closed_reader_ends_the_output_and_not_the_writer() {
    let fifo = Fifo::new();
    let (reader, records) = (fifo.reader(), fifo.create());
    records.put(&line(0), 1);
    drop(reader);
    for number in 0..10 {
        records.put(&line(number), 1);
    }
    assert!(records.0.shared.state.lock().output.is_none());
    assert!(records.finish());
}

#[test]
fn an_output_that_is_dropped_leaves_no_thread_behind() {
    let fifo = Fifo::new();
    let (_reader, records) = (fifo.reader(), fifo.create());
    while records.0.shared.state.lock().kept.is_empty() {
        records.put(&line(0), 1);
    }
    let shared = Arc::downgrade(&records.0.shared);
    let begin = Instant::now();
    drop(records);
    assert!(shared.upgrade().is_none(), "the thread has ended");
    assert!(begin.elapsed() < grown(Duration::from_secs(10)));
}
