use super::super::Console;
use super::*;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Records the time and the length of each write.
#[derive(Clone)]
struct Recorder {
    writes: Arc<Mutex<Vec<(Instant, usize)>>>,
    always_ready: Arc<std::fs::File>,
}

impl Recorder {
    fn new() -> Self {
        let always_ready = std::fs::File::open("/dev/null").unwrap().into();
        Self { writes: Arc::default(), always_ready }
    }

    fn count(&self) -> usize {
        self.writes.lock().unwrap().len()
    }

    fn bytes(&self) -> usize {
        self.writes.lock().unwrap().iter().map(|(_, length)| length).sum()
    }
}

impl Backend for Recorder {
    fn sink(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        Some(self.always_ready.as_fd())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.lock().unwrap().push((Instant::now(), bytes.len()));
        Ok(bytes.len())
    }

    fn explain(&self, _error: &io::Error) -> (String, &'static str) {
        unreachable!()
    }
}

fn console(backend: &Recorder) -> Console {
    Console::start(Box::new(backend.clone()), None, Box::new(|event| panic!("{event:?}"))).unwrap()
}

#[test]
fn the_first_byte_after_a_pause_is_written_at_once() {
    let recorder = Recorder::new();
    let console = console(&recorder);
    for number in 1..=5 {
        thread::sleep(Duration::from_millis(10));
        console.output().write_all(b"x").unwrap();
        assert!(console.finish(None));
        assert_eq!(recorder.count(), number);
    }
}

#[test]
fn single_bytes_are_combined_into_few_writes() {
    const BYTES: usize = 20_000;
    let recorder = Recorder::new();
    let console = console(&recorder);
    let start = Instant::now();
    for _ in 0..BYTES {
        console.output().write_all(b"x").unwrap();
        // About the duration of an exit.
        let next = Instant::now() + Duration::from_micros(3);
        while Instant::now() < next {}
    }
    assert!(console.finish(None));
    let (writes, milliseconds) = (recorder.count(), start.elapsed().as_millis() as usize);
    println!("{BYTES} bytes in {milliseconds} ms: {writes} writes");
    assert_eq!(recorder.bytes(), BYTES);
    assert!(writes <= milliseconds + 10, "{writes} writes in {milliseconds} ms");
}

#[test]
fn finish_writes_at_once_without_waiting_for_more_bytes() {
    let recorder = Recorder::new();
    let start = Instant::now();
    for _ in 0..20 {
        let console = console(&recorder);
        console.output().write_all(b"x").unwrap();
        console.output().write_all(b"y").unwrap();
        assert!(console.finish(None));
    }
    assert_eq!(recorder.bytes(), 40);
    println!("20 consoles opened, used and finished in {:?}", start.elapsed());
}

#[test]
fn a_panic_on_the_consoles_thread_releases_all_waiting_threads() {
    struct Broken(std::fs::File);
    impl Backend for Broken {
        fn sink(&self) -> Option<BorrowedFd<'_>> {
            use std::os::fd::AsFd;
            Some(self.0.as_fd())
        }
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            // Resume a panic without the panic hook, which would restore the terminals of other tests.
            std::panic::resume_unwind(Box::new("a broken backend"))
        }
        fn explain(&self, _error: &io::Error) -> (String, &'static str) {
            unreachable!()
        }
    }
    let backend = Broken(std::fs::File::open("/dev/null").unwrap());
    let console = Console::start(Box::new(backend), None, Box::new(|_| {})).unwrap();
    console.output().write_all(b"x").unwrap();
    assert!(!console.finish(None));
}
