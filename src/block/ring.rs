//! An io_uring: requests to files go in, and come back done. The other place here that needs `unsafe`.
//!
//! A [`Ring`] owns what the kernel uses (files, and guest pages through [`Vectors`]) for as long as it uses it.
//! Its thread sleeps elsewhere, on an eventfd that the ring signals.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::vectored::Vectors;

/// What is to be done to a file.
pub enum FileOperation {
    /// Fill the pages from that offset.
    Read(Vectors, u64),
    /// Write the pages at that offset; if `durable`, for good.
    Write {
        /// What to write.
        vectors: Vectors,
        /// Where to.
        offset: u64,
        /// Whether it is on stable storage when it is done.
        durable: bool,
    },
    /// Make durable what was written before.
    Flush,
}

/// A request that is done, or failed.
pub struct Completion {
    /// As given to [`Ring::push`].
    pub tag: u32,
    /// `Err` holds where it failed, as an offset in the file, and how.
    pub result: Result<(), (u64, io::Error)>,
}

/// A request that the kernel has.
struct InFlight {
    file: Arc<File>,
    operation: FileOperation,
}

/// See the module's description.
pub struct Ring {
    /// Before the requests: it must go first.
    ring: IoUring,
    /// By tag.
    requests: Vec<Option<InFlight>>,
    in_flight: usize,
}

impl Ring {
    /// A ring for up to `capacity` requests, with tags below it.
    ///
    /// # Errors
    /// The host forbids io_uring, or has one that is too old.
    pub fn new(capacity: u32) -> io::Result<Self> {
        let builder = || {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(2 * capacity + 2);
            builder
        };
        // Without interrupting the thread that runs: it looks soon enough by itself. Linux 5.19 can do that.
        let ring = match builder().setup_coop_taskrun().setup_taskrun_flag().build(capacity) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder().build(capacity)?,
            other => other?,
        };
        // Linux 5.13, which has polls that fire more than once, is the first with this feature.
        if !ring.params().is_feature_resource_tagging() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let requests = (0..capacity).map(|_| None).collect();
        Ok(Self { ring, requests, in_flight: 0 })
    }

    /// Signals `eventfd` each time that a request is done, for a thread that sleeps on that.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn notify(&mut self, eventfd: OwnedFd) -> io::Result<()> {
        self.ring.submitter().register_eventfd(eventfd.as_raw_fd())
    }

    /// How many requests are in the kernel's hands.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes a request, to be submitted with the next [`enter`](Self::enter). `tag` must be free.
    ///
    /// # Errors
    /// What the kernel says when it must be asked to make room.
    pub fn push(&mut self, tag: u32, file: Arc<File>, operation: FileOperation) -> io::Result<()> {
        let request = InFlight { file, operation };
        let entry = request.entry(tag);
        match self.requests.get_mut(tag as usize) {
            Some(free @ None) => *free = Some(request),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        self.in_flight += 1;
        let queued = self.queue(&entry);
        if queued.is_err() {
            // The kernel has not seen it.
            self.requests[tag as usize] = None;
            self.in_flight -= 1;
        }
        queued
    }

    fn queue(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.submit(0)?;
        }
        // SAFETY: what the entry points to is kept in `requests` under its tag until its completion was seen: the file,
        // and iovecs that lie on the heap and lead into guest memory that is kept mapped. `drop` waits for all.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    /// Submits all that was pushed.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn enter(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.submit(0) }
    }

    fn submit(&mut self, wait_for: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(wait_for) {
            Ok(_) => Ok(()),
            // Interrupted, or completions must be taken first: the caller does that and comes back.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands out what is done. What was done in part goes on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reap(&mut self, mut done: impl FnMut(Completion)) -> io::Result<()> {
        // The kernel has completions that it did not want to interrupt us with.
        if self.ring.submission().taskrun() {
            self.submit(0)?;
        }
        while let Some(entry) = self.next() {
            let tag = entry.user_data() as u32;
            let Some(mut request) = self.requests.get_mut(tag as usize).and_then(Option::take) else { continue };
            match request.progress(entry.result()) {
                Progress::Again => {
                    let entry = request.entry(tag);
                    self.requests[tag as usize] = Some(request);
                    self.queue(&entry)?;
                    self.submit(0)?;
                }
                Progress::Done(result) => {
                    self.in_flight -= 1;
                    done(Completion { tag, result });
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }
}

/// How a request stands after a completion.
enum Progress {
    Done(Result<(), (u64, io::Error)>),
    Again,
}

impl InFlight {
    fn entry(&self, tag: u32) -> squeue::Entry {
        let file = types::Fd(self.file.as_raw_fd());
        let entry = match &self.operation {
            FileOperation::Read(vectors, offset) => {
                let (pieces, count) = vectors.raw();
                opcode::Readv::new(file, pieces, count).offset(*offset).build()
            }
            FileOperation::Write { vectors, offset, durable } => {
                let (pieces, count) = vectors.raw();
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                opcode::Writev::new(file, pieces, count).offset(*offset).rw_flags(flags).build()
            }
            FileOperation::Flush => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        };
        entry.user_data(tag.into())
    }

    fn progress(&mut self, result: i32) -> Progress {
        let (vectors, offset, at_zero) = match &mut self.operation {
            FileOperation::Flush if result < 0 => return Self::failed(0, result),
            FileOperation::Flush => return Progress::Done(Ok(())),
            FileOperation::Read(vectors, offset) => (vectors, offset, io::ErrorKind::UnexpectedEof),
            FileOperation::Write { vectors, offset, .. } => (vectors, offset, io::ErrorKind::WriteZero),
        };
        if result < 0 {
            return Self::failed(*offset, result);
        }
        if result == 0 && vectors.left() > 0 {
            return Progress::Done(Err((*offset, at_zero.into())));
        }
        vectors.advance(result as usize);
        *offset += result as u64;
        if vectors.left() == 0 { Progress::Done(Ok(())) } else { Progress::Again }
    }

    fn failed(offset: u64, result: i32) -> Progress {
        match io::Error::from_raw_os_error(-result) {
            error if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => Progress::Again,
            error => Progress::Done(Err((offset, error))),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.submit(1).is_err() || self.reap(|_| {}).is_err() {
                // The kernel may still use the pages: rather keep them for ever than give them back too early.
                std::mem::forget(std::mem::take(&mut self.requests));
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
