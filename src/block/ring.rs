//! An io_uring for reads, writes and flushes of files. Besides `vectored` and `qcow2::guard`, the only part of `block` with
//! `unsafe` code.
//!
//! A [`Ring`] owns the files and (through [`Vectors`]) the guest pages of a request until the kernel has completed it.
//! The ring's thread does not sleep in the kernel's ring, but on an eventfd that the ring signals.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::vectored::Vectors;

/// An operation on a file.
pub enum FileOperation {
    /// Read into the pages, from this offset of the file.
    Read(Vectors, u64),
    /// Write the pages.
    Write {
        /// The pages.
        vectors: Vectors,
        /// Offset in the file.
        offset: u64,
        /// `true` if the data must be on stable storage before the request completes.
        durable: bool,
    },
    /// Make all earlier writes durable.
    Flush,
}

/// The completion of a request.
pub struct Completion {
    /// The tag that was passed to [`Ring::push`].
    pub tag: u32,
    /// The result. An error has the offset in the file at which the request failed.
    pub result: Result<(), (u64, io::Error)>,
}

/// A request that the kernel performs.
struct InFlight {
    file: Arc<File>,
    operation: FileOperation,
}

/// An io_uring with its requests in flight.
pub struct Ring {
    /// Declared before `requests`, because it must be dropped first.
    ring: IoUring,
    /// By tag.
    requests: Vec<Option<InFlight>>,
    in_flight: usize,
}

impl Ring {
    /// Creates a ring for up to `capacity` requests, with tags below `capacity`.
    ///
    /// # Errors
    /// Returns an error if the host forbids io_uring or its version is too old.
    pub fn new(capacity: u32) -> io::Result<Self> {
        let builder = || {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(2 * capacity + 2);
            builder
        };
        // With these flags (Linux 5.19), completions do not interrupt the thread, which polls soon enough by itself.
        let ring = match builder().setup_coop_taskrun().setup_taskrun_flag().build(capacity) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder().build(capacity)?,
            other => other?,
        };
        // The oldest supported kernel is Linux 5.13, which introduced this feature.
        if !ring.params().is_feature_resource_tagging() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let requests = (0..capacity).map(|_| None).collect();
        Ok(Self { ring, requests, in_flight: 0 })
    }

    /// Registers `eventfd` with the kernel, which signals it for each completion.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn notify(&mut self, eventfd: OwnedFd) -> io::Result<()> {
        self.ring.submitter().register_eventfd(eventfd.as_raw_fd())
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Queues a request, which the next [`enter`](Self::enter) submits. No request in flight may have the same `tag`.
    ///
    /// # Errors
    /// Returns an error if the tag is in use or out of range, or if the queue is full and the kernel takes no requests.
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
            // The kernel does not know of the request.
            self.requests[tag as usize] = None;
            self.in_flight -= 1;
        }
        queued
    }

    fn queue(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.submit(0)?;
        }
        // SAFETY: `requests` keeps everything that the entry points to until its completion has been reaped: the file, and
        // iovecs on the heap that point into guest memory, which stays mapped. `drop` waits for all completions.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    /// Submits all queued requests.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn enter(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.submit(0) }
    }

    fn submit(&mut self, wait_for: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(wait_for) {
            Ok(_) => Ok(()),
            // Interrupted, or the completion queue is full. The caller reaps completions and calls again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Calls `done` with each completion. Resubmits requests that completed only in part.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn reap(&mut self, mut done: impl FnMut(Completion)) -> io::Result<()> {
        // Completions are pending that need a system call to become visible (`setup_coop_taskrun`).
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

/// The state of a request after a completion from the kernel.
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
                // The kernel may still use the pages, so they are leaked instead of being released too early.
                std::mem::forget(std::mem::take(&mut self.requests));
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
