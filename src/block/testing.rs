//! Helpers that the tests of requests share.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use super::cancel::Cancel;
use super::request::{Extent, Request, RequestError, Success};
use super::{Disk, perform};
use crate::memory::GuestMemory;
use crate::memory::buffer::GuestBuffer;

/// A disk in a vector, which can be told to fail.
pub(crate) struct VectorDisk {
    pub bytes: Mutex<Vec<u8>>,
    pub fails_at: Option<(u64, io::ErrorKind)>,
}

impl VectorDisk {
    pub fn new(size: usize) -> Self {
        Self { bytes: Mutex::new((0..size).map(|at| (at / 7) as u8).collect()), fails_at: None }
    }

    fn range<R>(&self, offset: u64, length: usize, see: impl FnOnce(&mut [u8]) -> R) -> io::Result<R> {
        match self.fails_at {
            Some((at, kind)) if (offset..offset + length as u64).contains(&at) => Err(kind.into()),
            _ => Ok(see(&mut self.bytes.lock().expect("a lock")[offset as usize..offset as usize + length])),
        }
    }
}

impl Disk for VectorDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().expect("a lock").len() as u64)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn can_discard(&self) -> bool {
        true
    }
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.range(offset, bytes.len(), |range| bytes.copy_from_slice(range))
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.range(offset, bytes.len(), |range| range.copy_from_slice(bytes))
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn zero(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.range(offset, length as usize, |range| range.fill(0))
    }
}

/// A disk whose reads wait at `gate` twice: when they begin, and before they return.
pub(crate) struct SlowDisk {
    pub reads: AtomicU64,
    pub gate: Barrier,
}

impl SlowDisk {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { reads: AtomicU64::new(0), gate: Barrier::new(2) })
    }

    /// Waits until one read has begun, and lets it return.
    pub fn let_read(&self) {
        self.gate.wait();
        self.gate.wait();
    }
}

impl Disk for Arc<SlowDisk> {
    fn size(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn can_discard(&self) -> bool {
        false
    }
    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        self.gate.wait();
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.gate.wait();
        Ok(())
    }
    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn zero(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a buffer of `length` bytes in every other page of guest memory, so that it consists of pieces.
pub(crate) fn pages(memory: &GuestMemory, length: usize) -> GuestBuffer {
    let frames: Vec<u64> = (0..length.div_ceil(4096) as u64).map(|page| 2 * page).collect();
    GuestBuffer::new(memory, frames.into_iter(), 0, length).expect("pages")
}

pub(crate) fn extent(offset: u64, length: u64) -> Extent {
    Extent { offset, length }
}

/// Performs a request on this thread.
pub(crate) fn perform(disk: &dyn Disk, request: &Request, pages: &GuestBuffer) -> Result<Success, RequestError> {
    perform::perform(disk, &Arc::default(), request, pages, &Cancel::default())
}
