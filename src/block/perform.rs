//! Performs a request on a disk, blocking: for requests that have no faster path.

use std::sync::Arc;

use super::cancel::Cancel;
use super::gate::Gate;
use super::hold::Active;
use super::request::{Extent, MAX_PREFETCH, Operation, Request, RequestError, Success};
use super::{Aligned, CHUNK, Disk};
use crate::host::limited;
use crate::host::panics::caught;
use crate::memory::buffer::{BufferError, GuestBuffer};

/// Number of bytes that are zeroed or released in one step. Between steps, a request checks whether it is cancelled.
const ZERO_STEP: u64 = 32 << 20;
/// Number of bytes that are read ahead in one step.
const PREFETCH_STEP: u64 = 1 << 20;
/// Maximum number of pieces of an image that [`Operation::Map`] examines. The caller's next request can continue there.
const MAX_ALLOCATION_STEPS: usize = 4096;

/// Performs `request` on `disk` with the guest's `pages`, until `cancel` is set.
///
/// Never panics: if the disk panics, this returns [`RequestError::Broken`].
pub(super) fn perform(
    disk: &dyn Disk,
    gate: &Arc<Gate>,
    request: &Request,
    pages: &GuestBuffer,
    cancel: &Cancel,
) -> Result<Success, RequestError> {
    let active = cancel.hold.enter();
    // A request that holds the gate for all of its steps must not keep it through a pause, because others wait for it.
    let keeps_gate = matches!(
        request.operation,
        Operation::CompareAndWrite(_) | Operation::Or(_) | Operation::Write(_) | Operation::WriteAndVerify { .. }
    );
    let held = (!keeps_gate).then_some(&active);
    let work = Work { disk, gate, pages, cancel, held };
    let result = caught(|| cancel.scope(|| work.request(request))).unwrap_or_else(|message| {
        limited::error!("a disk's driver panicked: {message}: its present request fails");
        Err(RequestError::Broken)
    });
    match result {
        // The error of a cancelled request is irrelevant, because the cancellation may have caused it.
        Err(_) if cancel.is_set() => Err(RequestError::Cancelled),
        result => result,
    }
}

struct Work<'a> {
    disk: &'a dyn Disk,
    gate: &'a Arc<Gate>,
    pages: &'a GuestBuffer,
    cancel: &'a Cancel,
    /// The place at which the request waits between two steps while the machine is paused; `None` if it cannot wait.
    held: Option<&'a Active<'a>>,
}

impl Work<'_> {
    fn request(&self, request: &Request) -> Result<Success, RequestError> {
        self.go_on()?;
        if let Operation::Map { extent, limit } = &request.operation {
            return self.map(*extent, *limit);
        }
        let (_share, _alone);
        let writes = match &request.operation {
            Operation::CompareAndWrite(_) | Operation::Or(_) => {
                _alone = self.gate.exclusive();
                true
            }
            Operation::Write(_) | Operation::WriteAndVerify { .. } => {
                _share = self.gate.share();
                true
            }
            // These enter the gate for each step, so that an atomic request need not wait for all of them.
            Operation::Fill { .. } | Operation::Zero { .. } | Operation::Unmap(_) => true,
            _ => false,
        };
        if request.durable && !writes {
            self.flush()?;
        }
        self.act(&request.operation)?;
        if request.durable && writes {
            self.flush()?;
        }
        Ok(Success::Done)
    }

    fn act(&self, operation: &Operation) -> Result<(), RequestError> {
        match operation {
            Operation::Read(extent) => {
                let pages = self.part(0, extent.length)?;
                self.disk
                    .read_pages(extent.offset, &pages)
                    .map_err(|error| RequestError::of_read(extent.offset, &error))
            }
            Operation::Write(extent) => self.write(*extent, 0),
            // The caller does this.
            Operation::Flush | Operation::Map { .. } => Ok(()),
            Operation::Check(extent) => self.check(*extent),
            Operation::Compare { extent, repeat } => self.compare(*extent, *repeat),
            Operation::WriteAndVerify { extent, compare } => {
                self.write(*extent, 0)?;
                self.flush()?;
                if *compare { self.compare(*extent, None) } else { self.chunks(*extent, |_, _| Ok(())) }
            }
            Operation::CompareAndWrite(extent) => {
                self.compare(*extent, None)?;
                self.write(*extent, extent.length)
            }
            Operation::Or(extent) => self.or(*extent),
            Operation::Fill { extent, pattern } => self.fill(*extent, pattern),
            Operation::Zero { extent, deallocate } => self.zero(*extent, *deallocate),
            Operation::Unmap(extents) => extents.iter().try_for_each(|extent| self.zero(*extent, true)),
            Operation::Prefetch(extent) => {
                let extent = Extent { length: extent.length.min(MAX_PREFETCH), ..*extent };
                self.steps(extent, PREFETCH_STEP, |_, offset, length| {
                    self.disk.prefetch(offset, length);
                    Ok(())
                })
            }
        }
    }

    /// Returns an error if the request is cancelled.
    fn go_on(&self) -> Result<(), RequestError> {
        self.held.inspect(|held| held.point());
        if self.cancel.is_set() { Err(RequestError::Cancelled) } else { Ok(()) }
    }

    fn part(&self, offset: u64, length: u64) -> Result<GuestBuffer, RequestError> {
        self.pages.part(offset as usize, length as usize).map_err(|_: BufferError| RequestError::Buffer)
    }

    fn flush(&self) -> Result<(), RequestError> {
        self.disk.flush().map_err(|error| RequestError::of_write(0, &error))
    }

    fn write(&self, extent: Extent, from: u64) -> Result<(), RequestError> {
        let pages = self.part(from, extent.length)?;
        self.disk.write_pages(extent.offset, &pages).map_err(|error| RequestError::of_write(extent.offset, &error))
    }

    fn zero(&self, extent: Extent, deallocate: bool) -> Result<(), RequestError> {
        self.steps(extent, ZERO_STEP, |_, offset, length| {
            let _share = self.gate.share();
            self.disk.zero(offset, length, deallocate).map_err(|error| RequestError::of_write(offset, &error))
        })
    }

    /// Splits the extent into steps, and calls the function with the position in the extent, the offset and the length
    /// of each.
    fn steps(
        &self,
        extent: Extent,
        step: u64,
        mut act: impl FnMut(u64, u64, u64) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let mut at = 0;
        while at < extent.length {
            self.go_on()?;
            let now = (extent.length - at).min(step);
            act(at, extent.offset + at, now)?;
            at += now;
        }
        Ok(())
    }

    /// Reads the allocated parts of the extent. Holes cannot have errors.
    fn check(&self, extent: Extent) -> Result<(), RequestError> {
        let mut at = 0;
        while at < extent.length {
            self.go_on()?;
            let (offset, left) = (extent.offset + at, extent.length - at);
            let (length, allocated) = match self.disk.allocation(offset, left) {
                Ok((length, allocated)) if length > 0 => (length.min(left), allocated),
                _ => (left, true),
            };
            if allocated {
                self.chunks(Extent { offset, length }, |_, _| Ok(()))?;
            }
            at += length;
        }
        Ok(())
    }

    /// Reads the extent in pieces, and calls the function with each piece and its position in the extent.
    fn chunks(
        &self,
        extent: Extent,
        mut see: impl FnMut(u64, &mut [u8]) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let mut chunk = Aligned::new(extent.length.min(CHUNK as u64) as usize);
        self.steps(extent, CHUNK as u64, |at, offset, length| {
            let bytes = &mut chunk.bytes()[..length as usize];
            self.disk.read(offset, bytes).map_err(|error| RequestError::of_read(offset, &error))?;
            see(at, bytes)
        })
    }

    fn compare(&self, extent: Extent, repeat: Option<u32>) -> Result<(), RequestError> {
        let mut expected = vec![0; extent.length.min(CHUNK as u64) as usize];
        self.chunks(extent, |at, bytes| {
            let expected = &mut expected[..bytes.len()];
            match repeat.map(|repeat| repeat as usize) {
                // A chunk consists of whole blocks.
                Some(repeat) => {
                    for block in expected.chunks_mut(repeat) {
                        self.pages.read(0, block).map_err(|_: BufferError| RequestError::Buffer)?;
                    }
                }
                None => self.pages.read(at as usize, expected).map_err(|_: BufferError| RequestError::Buffer)?,
            }
            match bytes.iter().zip(expected.iter()).position(|(found, expected)| found != expected) {
                Some(place) => Err(RequestError::Miscompare(at + place as u64)),
                None => Ok(()),
            }
        })
    }

    fn or(&self, extent: Extent) -> Result<(), RequestError> {
        let mut data = vec![0; extent.length.min(CHUNK as u64) as usize];
        self.chunks(extent, |at, bytes| {
            let data = &mut data[..bytes.len()];
            self.pages.read(at as usize, data).map_err(|_: BufferError| RequestError::Buffer)?;
            bytes.iter_mut().zip(data).for_each(|(byte, data)| *byte |= *data);
            let offset = extent.offset + at;
            self.disk.write(offset, bytes).map_err(|error| RequestError::of_write(offset, &error))
        })
    }

    fn fill(&self, extent: Extent, pattern: &[u8]) -> Result<(), RequestError> {
        let mut chunk = Aligned::new(extent.length.min(CHUNK as u64) as usize);
        for block in chunk.bytes().chunks_mut(pattern.len().max(1)) {
            block.copy_from_slice(&pattern[..block.len()]);
        }
        self.steps(extent, CHUNK as u64, |_, offset, length| {
            let _share = self.gate.share();
            let bytes = &chunk.bytes()[..length as usize];
            self.disk.write(offset, bytes).map_err(|error| RequestError::of_write(offset, &error))
        })
    }

    fn map(&self, extent: Extent, limit: usize) -> Result<Success, RequestError> {
        let mut map: Vec<(u64, bool)> = Vec::new();
        let mut at = 0;
        for _ in 0..MAX_ALLOCATION_STEPS {
            if at >= extent.length {
                break;
            }
            self.go_on()?;
            let offset = extent.offset + at;
            let found = self.disk.allocation(offset, extent.length - at);
            let (length, allocated) = found.map_err(|error| RequestError::of_read(offset, &error))?;
            if length == 0 {
                break;
            }
            let full = map.len() == limit;
            match map.last_mut() {
                Some((last, same)) if *same == allocated => *last += length,
                _ if full => break,
                _ => map.push((length, allocated)),
            }
            at += length;
        }
        Ok(Success::Map(map))
    }
}

#[cfg(test)]
#[path = "perform_tests.rs"]
mod tests;
