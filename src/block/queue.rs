//! A queue of requests: one user's requests to any number of disks, from submission to completion.
//!
//! A queue belongs to one thread. It signals an eventfd (the doorbell) on which that thread sleeps. Requests that map directly
//! to a file go through the queue's own io_uring, a batch per system call. All other requests go to threads. The number of
//! requests in flight is bounded.
//!
//! While the machine is paused, a queue is [held](Queue::hold): it starts no requests and stops long ones at their next step.
//!
//! Closing a queue cancels its long requests and waits for all requests in flight, because the guest may reuse its pages
//! afterwards. If the guest is gone, it waits only for `GRACE`, so that a disk that hangs does not keep the machine from
//! ending.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cancel::{Cancel, Flag};
use super::gate::Share;
use super::hold::Hold;
use super::image::Image;
use super::request::{Operation, Request, RequestError, Success};
use super::ring::{Completion, FileOperation, Ring};
use super::threads::SharedThreads;
use super::vectored::Vectors;
use crate::host::event::EventFd;
use crate::host::limited;
use crate::host::lock::Mutex;
use crate::memory::buffer::GuestBuffer;

/// Maximum time that closing a queue waits for its requests once the guest is gone.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// A request that has completed.
pub struct Completed<T> {
    /// The request, as it was submitted.
    pub request: Request,
    /// The guest memory of the request.
    pub pages: GuestBuffer,
    /// The result of the request.
    pub result: Result<Success, RequestError>,
    /// A value of the submitter, returned with the result.
    pub context: T,
}

/// A request in flight.
struct InFlight<T> {
    request: Request,
    pages: GuestBuffer,
    context: T,
    begun: Begun,
    /// The permission to write beside other writes, if the request goes through the ring.
    _share: Option<Share>,
}

/// Counts a request as in flight until it is dropped.
struct Begun {
    image: Arc<Image>,
    at: Instant,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.image.counters.end();
    }
}

/// The results of requests that threads have performed, until the queue's thread takes them.
struct Mailbox {
    results: Mutex<Vec<(u32, Result<Success, RequestError>)>>,
    /// The eventfd that the queue's thread sleeps on.
    doorbell: EventFd,
}

impl Mailbox {
    fn post(&self, tag: u32, result: Result<Success, RequestError>) {
        self.results.lock().push((tag, result));
        self.wake();
    }

    fn wake(&self) {
        self.doorbell.signal();
    }

    fn take(&self) -> Vec<(u32, Result<Success, RequestError>)> {
        std::mem::take(&mut *self.results.lock())
    }
}

/// A queue of requests; see the module's description. Each request carries a `T`, which is returned when it completes.
pub struct Queue<T> {
    /// Declared first, so that it is dropped before the memory that its requests use.
    ring: Option<Ring>,
    /// The requests in flight, by tag.
    requests: Vec<Option<InFlight<T>>>,
    free: Vec<u32>,
    mailbox: Arc<Mailbox>,
    threads: Arc<SharedThreads>,
    /// The ring's completions of one poll. Empty between polls.
    reaped: Vec<Completion>,
    /// Start time of the batch that the next poll submits. Its requests share it, because reading the clock for each one
    /// would cost more than counting it.
    batch: Option<Instant>,
    /// Cancels the long requests.
    closed: Flag,
    /// Cancels all requests.
    abandoned: Flag,
    hold: Hold,
    is_guest_gone: Box<dyn Fn() -> bool + Send>,
}

impl<T> Queue<T> {
    /// Creates a queue for up to `capacity` requests in flight. The eventfd `doorbell` is signalled when requests have
    /// completed; `is_guest_gone` returns `true` once nothing can use the guest's memory any more.
    ///
    /// # Errors
    /// Returns the host's error if the eventfd cannot be used.
    pub fn new(
        capacity: u32,
        doorbell: OwnedFd,
        threads: Arc<SharedThreads>,
        is_guest_gone: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        Self::with_ring(new_ring(capacity), capacity, doorbell, threads, is_guest_gone)
    }

    /// Creates a queue with the given ring, or one that uses threads only.
    pub(crate) fn with_ring(
        mut ring: Option<Ring>,
        capacity: u32,
        doorbell: OwnedFd,
        threads: Arc<SharedThreads>,
        is_guest_gone: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        if let Some(ring) = &mut ring {
            ring.notify(doorbell.try_clone()?)?;
        }
        let mailbox = Arc::new(Mailbox { results: Mutex::default(), doorbell: doorbell.into() });
        let hold = Hold::new({
            let mailbox = mailbox.clone();
            move || mailbox.wake()
        });
        Ok(Self {
            ring,
            requests: (0..capacity).map(|_| None).collect(),
            free: (0..capacity).rev().collect(),
            mailbox,
            threads,
            reaped: Vec::new(),
            batch: None,
            closed: Flag::default(),
            abandoned: Flag::default(),
            hold,
            is_guest_gone: Box::new(is_guest_gone),
        })
    }

    /// Returns `true` if another request may be submitted.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.requests.len() - self.free.len()
    }

    /// Submits a request to `image`, with the guest memory `pages`. It completes in [`poll`](Self::poll). The flag `cancel`
    /// cancels it if it has not started or is long.
    ///
    /// The queue must [have room](Self::has_room); otherwise the request is dropped.
    pub fn submit(&mut self, image: Arc<Image>, request: Request, pages: GuestBuffer, cancel: Flag, context: T) {
        let Some(tag) = self.free.pop() else { return };
        let direct = self.ring.as_mut().and_then(|ring| {
            let (file, operation, share) = direct_operation(&request, &pages, &image)?;
            ring.push(tag, file, operation).ok().map(|()| share)
        });
        let share = direct.unwrap_or_else(|| {
            let mailbox = self.mailbox.clone();
            let then = move |result| mailbox.post(tag, result);
            let (closed, abandoned) = (self.closed.clone(), self.abandoned.clone());
            let cancel = Cancel { target: cancel, queue: closed, guest: abandoned, hold: self.hold.clone() };
            image.perform(&self.threads, request.clone(), pages.clone(), cancel, then);
            None
        });
        image.counters.begin();
        let begun = Begun { image, at: *self.batch.get_or_insert_with(Instant::now) };
        self.requests[tag as usize] = Some(InFlight { request, pages, context, begun, _share: share });
    }

    /// Submits the batch to the kernel and calls `each` with every completed request. Does not block.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn poll(&mut self, mut each: impl FnMut(Completed<T>)) -> io::Result<()> {
        self.batch = None;
        let mut now = None;
        if let Some(ring) = &mut self.ring {
            ring.enter()?;
            let mut reaped = std::mem::take(&mut self.reaped);
            let outcome = ring.reap(|completion| reaped.push(completion));
            for Completion { tag, result } in reaped.drain(..) {
                let result = |request: &Request| match (result, &request.operation) {
                    (Ok(()), _) => Ok(Success::Done),
                    (Err((offset, error)), Operation::Read(_)) => Err(RequestError::of_read(offset, &error)),
                    (Err((offset, error)), _) => Err(RequestError::of_write(offset, &error)),
                };
                self.complete(tag, result, &mut now, &mut each);
            }
            self.reaped = reaped;
            outcome?;
        }
        for (tag, result) in self.mailbox.take() {
            self.complete(tag, |_| result, &mut now, &mut each);
        }
        Ok(())
    }

    fn complete(
        &mut self,
        tag: u32,
        result: impl FnOnce(&Request) -> Result<Success, RequestError>,
        now: &mut Option<Instant>,
        each: &mut impl FnMut(Completed<T>),
    ) {
        let Some(done) = self.requests.get_mut(tag as usize).and_then(Option::take) else { return };
        self.free.push(tag);
        let InFlight { request, pages, context, begun, _share } = done;
        let result = result(&request);
        let took = now.get_or_insert_with(Instant::now).duration_since(begun.at);
        begun.image.counters.count(&request, &result, took);
        drop((begun, _share));
        each(Completed { request, pages, result, context });
    }

    /// Starts no further requests until [`release`](Self::release). Short requests in flight complete; long ones wait at
    /// their next step.
    pub fn hold(&self) {
        self.hold.begin();
    }

    /// Returns `true` if no request uses a disk or guest memory at present. During a [`hold`](Self::hold), the doorbell is
    /// signalled when the caller should poll and check again.
    pub fn is_quiet(&self) -> bool {
        self.hold.is_quiet() && self.ring.as_ref().is_none_or(|ring| ring.in_flight() == 0)
    }

    /// Ends a [`hold`](Self::hold).
    pub fn release(&self) {
        self.hold.end();
    }

    /// Cancels the long requests and waits until no request is in flight. The results are lost. If the guest is gone and
    /// requests do not complete within `GRACE`, abandons them.
    pub fn close(&mut self) {
        self.closed.set();
        self.hold.end();
        // The guest may reuse its pages after this call, so no request may still use them.
        let mut alone_since = None;
        while self.in_flight() > 0 && self.poll(drop).is_ok() && self.in_flight() > 0 {
            if (self.is_guest_gone)() && alone_since.get_or_insert_with(Instant::now).elapsed() > GRACE {
                self.abandon();
                break;
            }
            let doorbell = &self.mailbox.doorbell;
            if doorbell.is_signalled_within(Some(GRACE)).unwrap_or(false) {
                doorbell.take();
            }
        }
    }

    /// Stops waiting for the requests in flight. They keep the guest's memory mapped until they complete.
    fn abandon(&mut self) {
        self.abandoned.set();
        let (count, plural) = (self.in_flight(), if self.in_flight() == 1 { "" } else { "s" });
        limited::warn!("the machine ends before {count} disk request{plural}: does a disk hang, or is the host busy?");
        let Some(ring) = self.ring.take().filter(|ring| ring.in_flight() > 0) else { return };
        // Dropping the ring waits for the kernel, so another thread does it.
        let waiting = std::thread::Builder::new().name("disk-rest".into()).spawn(move || drop(ring));
        if let Err(error) = waiting {
            limited::warn!(
                "waiting for disk requests before the machine can end, because no thread can be started: {error}"
            );
        }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns the file operation that performs the request without a copy, or `None` if a thread must perform it.
fn direct_operation(
    request: &Request,
    pages: &GuestBuffer,
    image: &Image,
) -> Option<(Arc<File>, FileOperation, Option<Share>)> {
    let direct = image.disk().file()?;
    let Request { operation, durable } = request;
    let vectors = |length: u64| Vectors::new(pages, length as usize).ok();
    let (operation, share) = match operation {
        Operation::Read(extent) if !durable => {
            let vectors = vectors(extent.length).filter(|vectors| direct.takes(extent.offset, vectors))?;
            (FileOperation::Read(vectors, extent.offset), None)
        }
        Operation::Write(extent) => {
            let vectors = vectors(extent.length).filter(|vectors| direct.takes_write(extent.offset, vectors))?;
            let share = image.gate.try_share()?;
            (FileOperation::Write { vectors, offset: extent.offset, durable: *durable }, Some(share))
        }
        Operation::Flush => (FileOperation::Flush, None),
        _ => return None,
    };
    Some((direct.file.clone(), operation, share))
}

/// Creates a ring. Returns `None`, with a warning the first time, if the host does not allow io_uring.
pub(crate) fn new_ring(capacity: u32) -> Option<Ring> {
    static SAID: AtomicBool = AtomicBool::new(false);
    match Ring::new(capacity) {
        Ok(ring) => Some(ring),
        Err(error) => {
            if !SAID.swap(true, Ordering::Relaxed) {
                log::warn!(
                    "the host does not allow io_uring ({error}): disk I/O uses threads instead, which is slower"
                );
            }
            None
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
pub(crate) mod tests;
