use super::super::options::ImageOptions;
use super::super::testing::{SlowDisk, VectorDisk, extent};
use super::*;
use crate::memory::{self, GuestMemory};

const CAPACITY: u32 = 8;
/// Time after which a wait checks again, in case a signal was missed.
const SOON: Duration = Duration::from_millis(100);

/// Waits until the eventfd is signalled, and consumes the signal. Returns after `most` at the latest.
pub(crate) fn sleep(bell: &EventFd, most: Duration) {
    if bell.is_signalled_within(Some(most)).expect("an eventfd") {
        bell.take();
    }
}

struct User {
    queue: Queue<u64>,
    bell: EventFd,
    memory: GuestMemory,
}

impl User {
    fn new(with_ring: bool) -> Self {
        let bell = EventFd::new().expect("an eventfd");
        let ring = if with_ring { new_ring(CAPACITY) } else { None };
        let copy = bell.try_clone().expect("a copy").into();
        let queue = Queue::with_ring(ring, CAPACITY, copy, Arc::default(), || false).expect("a queue");
        Self { queue, bell, memory: memory::create(1 << 20, memory::Backing::Private).expect("memory") }
    }

    fn pages(&self, frame: u64) -> GuestBuffer {
        GuestBuffer::new(&self.memory, [frame].into_iter(), 0, 4096).expect("pages")
    }

    fn submit(&mut self, image: &Arc<Image>, operation: Operation, context: u64) {
        let pages = self.pages(context);
        self.queue.submit(image.clone(), Request { operation, durable: false }, pages, Flag::default(), context);
    }

    /// Waits until `count` requests have completed, and returns their results, sorted by context.
    fn wait(&mut self, count: usize) -> Vec<(u64, Result<Success, RequestError>)> {
        let mut found = Vec::new();
        while found.len() < count {
            self.queue.poll(|done| found.push((done.context, done.result))).expect("a working ring");
            if found.len() < count {
                sleep(&self.bell, SOON);
            }
        }
        found.sort_by_key(|(context, _)| *context);
        found
    }
}

fn scratch() -> Arc<Image> {
    let options = ImageOptions { path: "memory:1M".into(), ..ImageOptions::default() };
    Image::open(&options).expect("a disk")
}

fn both_ways(test: impl Fn(User)) {
    for with_ring in [true, false] {
        test(User::new(with_ring));
    }
}

#[test]
fn every_request_completes_once_with_its_context_and_result() {
    both_ways(|mut user| {
        let images = [scratch(), Image::new(Box::new(VectorDisk::new(1 << 20)), 512)];
        for (context, operation) in [
            Operation::Write(extent(0, 4096)),
            Operation::Flush,
            Operation::Read(extent(8192, 4096)),
            Operation::Zero { extent: extent(4096, 4096), deallocate: true },
            Operation::Map { extent: extent(0, 1 << 20), limit: 1 },
            Operation::Read(extent(0, 8192)),
        ]
        .into_iter()
        .enumerate()
        {
            for image in &images {
                user.submit(image, operation.clone(), context as u64);
                let done = user.wait(1).remove(0);
                match (context, &done) {
                    (4, (4, Ok(Success::Map(parts)))) => assert_eq!(parts.len(), 1),
                    // The buffer has one page.
                    (5, done) => assert_eq!(*done, (5, Err(RequestError::Buffer))),
                    (_, done) => assert_eq!(*done, (context as u64, Ok(Success::Done))),
                }
            }
        }
        assert_eq!(user.queue.in_flight(), 0);
    });
}

#[test]
fn the_number_of_requests_in_flight_is_bounded() {
    both_ways(|mut user| {
        let image = scratch();
        for round in 0..3 {
            for tag in 0..u64::from(CAPACITY) {
                assert!(user.queue.has_room());
                user.submit(&image, Operation::Write(extent(tag * 4096, 4096)), tag);
            }
            assert!(!user.queue.has_room(), "round {round}");
            let done = user.wait(CAPACITY as usize);
            assert!(done.into_iter().eq((0..u64::from(CAPACITY)).map(|tag| (tag, Ok(Success::Done)))));
        }
    });
}

#[test]
fn written_data_is_read_back_and_compared() {
    both_ways(|mut user| {
        let image = scratch();
        user.pages(0).write(0, &[7; 4096]).expect("room");
        user.submit(&image, Operation::Write(extent(512, 4096)), 0);
        user.wait(1);
        user.submit(&image, Operation::Read(extent(512, 4096)), 1);
        user.wait(1);
        assert_eq!(user.pages(1).read_value::<[u8; 64]>(4000), Ok([7; 64]));
        user.pages(1).write(100, &[8]).expect("room");
        user.submit(&image, Operation::Compare { extent: extent(512, 4096), repeat: None }, 1);
        assert_eq!(user.wait(1), [(1, Err(RequestError::Miscompare(100)))]);
    });
}

#[test]
fn a_read_beyond_the_end_of_the_file_says_where_it_failed() {
    both_ways(|mut user| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(8192).expect("room");
        let options = ImageOptions { path: file.path().into(), ..ImageOptions::default() };
        let image = Image::open(&options).expect("a disk");
        file.as_file().set_len(4096).expect("a shorter file");
        user.submit(&image, Operation::Read(extent(4096, 4096)), 3);
        assert_eq!(user.wait(1), [(3, Err(RequestError::Read(4096)))]);
    });
}

fn slow() -> (Arc<SlowDisk>, Arc<Image>) {
    let disk = SlowDisk::new();
    (disk.clone(), Image::new(Box::new(disk), 512))
}

#[test]
fn a_cancelled_request_stops_at_its_next_step_and_others_go_on() {
    let mut user = User::new(false);
    let (disk, image) = slow();
    let cancel = Flag::default();
    let check = Request { operation: Operation::Check(extent(0, 1 << 40)), durable: false };
    user.queue.submit(image.clone(), check, GuestBuffer::default(), cancel.clone(), 1);
    disk.gate.wait();
    cancel.set();
    disk.gate.wait();
    assert_eq!(user.wait(1), [(1, Err(RequestError::Cancelled))]);
    assert_eq!(disk.reads.load(Ordering::SeqCst), 1);
    user.submit(&image, Operation::Read(extent(0, 4096)), 2);
    disk.let_read();
    assert_eq!(user.wait(1), [(2, Ok(Success::Done))]);
}

#[test]
fn a_held_queue_starts_no_request_until_it_is_released() {
    both_ways(|mut user| {
        let (disk, image) = slow();
        user.submit(&image, Operation::Read(extent(0, 4096)), 0);
        disk.gate.wait();
        user.queue.hold();
        // The request that has started completes. The one after the hold does not start.
        user.submit(&image, Operation::Read(extent(0, 4096)), 1);
        disk.gate.wait();
        assert_eq!(user.wait(1), [(0, Ok(Success::Done))]);
        while !user.queue.is_quiet() {
            sleep(&user.bell, SOON);
        }
        assert_eq!((disk.reads.load(Ordering::SeqCst), user.queue.in_flight()), (1, 1));
        user.queue.release();
        disk.let_read();
        assert_eq!(user.wait(1), [(1, Ok(Success::Done))]);
    });
}

#[test]
fn a_queue_that_is_closed_has_nothing_in_flight() {
    both_ways(|mut user| {
        let image = scratch();
        for tag in 0..u64::from(CAPACITY) {
            user.submit(&image, Operation::Write(extent(tag * 4096, 4096)), tag);
        }
        user.queue.close();
        assert_eq!(user.queue.in_flight(), 0);
        assert!(Arc::strong_count(&image) == 1);
    });
}

#[test]
fn the_report_of_an_image_has_its_options_and_its_counters() {
    both_ways(|mut user| {
        let (file, start) = (tempfile::NamedTempFile::new().expect("a file"), Instant::now());
        file.as_file().set_len(1 << 20).expect("room");
        let image = Image::open(&ImageOptions { path: file.path().into(), ..ImageOptions::default() }).expect("a disk");
        user.submit(&image, Operation::Write(extent(0, 4096)), 0);
        user.submit(&image, Operation::Read(extent(4096, 2048)), 1);
        assert_eq!(image.report().counters.in_flight, 2);
        user.wait(2);
        user.submit(&image, Operation::Unmap([extent(0, 4096)].into_iter().collect()), 2);
        user.submit(&image, Operation::Read(extent(1 << 20, 512)), 3);
        user.wait(2);
        let report = image.report();
        let counts = &report.counters;
        assert_eq!((report.path.as_path(), report.sector, report.read_only), (file.path(), 512, false));
        assert_eq!((counts.writes, counts.written_bytes, counts.reads, counts.read_bytes), (1, 4096, 1, 2048));
        assert_eq!((counts.unmaps, counts.errors, counts.in_flight, counts.max_in_flight), (1, 1, 0, 2));
        // No request took longer than all of them together.
        let longest = counts.latency.iter().rposition(|count| *count > 0).expect("four requests");
        assert_eq!(counts.latency.iter().sum::<u64>(), 4);
        assert!(longest == 0 || start.elapsed() >= Duration::from_micros(1 << (longest - 1)));
        let json = serde_json::to_value(&report).expect("plain values");
        assert_eq!((&json["format"], &json["counters"]["read-bytes"]), (&"raw".into(), &2048.into()));
    });
}
