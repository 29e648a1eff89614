//! Performs a SCSI job on a disk, blocking: for jobs that have no faster path.

use std::io;
use std::sync::Arc;

use crate::block::cancel::Cancel;
use crate::block::gate::Gate;
use crate::block::hold::Active;
use crate::block::{Aligned, CHUNK, Disk};
use crate::host::limited;
use crate::host::panics::caught;
use crate::memory::buffer::{BufferError, GuestBuffer};
use crate::vsp::storage::scsi::{Action, Extent, Failure, Finished, Job};

/// Number of bytes that are zeroed or released in one step. Between steps, a job checks whether it is cancelled.
const ZERO_STEP: u64 = 32 << 20;
/// Maximum number of bytes that PRE-FETCH reads ahead. It is a hint, and must not fill the host's memory.
const MAX_PREFETCH: u64 = 8 << 20;
/// Maximum number of pieces of an image that GET LBA STATUS examines. The next command continues there.
const MAX_ALLOCATION_STEPS: usize = 4096;

/// Performs `job` on `disk` with the initiator's `pages`, until `cancel` is set.
///
/// Never panics: if the disk panics, this returns [`Failure::Broken`].
pub fn perform(
    disk: &dyn Disk,
    gate: &Arc<Gate>,
    job: &Job,
    pages: &GuestBuffer,
    cancel: &Cancel,
) -> Result<Finished, Failure> {
    let active = cancel.hold.enter();
    // A job that has leave of the gate for all of its steps must not keep it through a pause: others wait for it.
    let keeps_gate = matches!(
        job.action,
        Action::CompareAndWrite(_) | Action::Or(_) | Action::Write(_) | Action::WriteAndVerify { .. }
    );
    let held = (!keeps_gate).then_some(&active);
    let work = Work { disk, gate, pages, cancel, held };
    let result = caught(|| cancel.scope(|| work.job(job))).unwrap_or_else(|message| {
        limited::error!("a disk's driver panicked: {message}: its present command fails");
        Err(Failure::Broken)
    });
    match result {
        // The error of a cancelled job is irrelevant, because the cancellation may have caused it.
        Err(_) if cancel.is_set() => Err(Failure::Aborted),
        result => result,
    }
}

struct Work<'a> {
    disk: &'a dyn Disk,
    gate: &'a Arc<Gate>,
    pages: &'a GuestBuffer,
    cancel: &'a Cancel,
    /// Where the job waits between two steps while the machine is paused, if it can.
    held: Option<&'a Active<'a>>,
}

impl Work<'_> {
    fn job(&self, job: &Job) -> Result<Finished, Failure> {
        self.go_on()?;
        if let Action::Allocation { extent, limit, .. } = &job.action {
            return self.allocation(*extent, *limit);
        }
        let (_share, _alone);
        let writes = match &job.action {
            Action::CompareAndWrite(_) | Action::Or(_) => {
                _alone = self.gate.exclusive();
                true
            }
            Action::Write(_) | Action::WriteAndVerify { .. } => {
                _share = self.gate.share();
                true
            }
            // These enter the gate for each step, so that an atomic command need not wait for all of them.
            Action::WriteSame { .. } | Action::Zero { .. } | Action::Unmap(_) => true,
            _ => false,
        };
        if job.durable && !writes {
            self.flush()?;
        }
        self.act(&job.action)?;
        if job.durable && writes {
            self.flush()?;
        }
        Ok(Finished::Done)
    }

    fn act(&self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Read(extent) => {
                let pages = self.part(0, extent.length)?;
                self.disk.read_pages(extent.offset, &pages).map_err(|error| read_failure(extent.offset, &error))
            }
            Action::Write(extent) => self.write(*extent, 0),
            // The caller does this.
            Action::Flush | Action::Allocation { .. } => Ok(()),
            Action::Check(extent) => self.check(*extent),
            Action::Compare { extent, repeat } => self.compare(*extent, *repeat),
            Action::WriteAndVerify { extent, compare } => {
                self.write(*extent, 0)?;
                self.flush()?;
                if *compare { self.compare(*extent, None) } else { self.chunks(*extent, |_, _| Ok(())) }
            }
            Action::CompareAndWrite(extent) => {
                self.compare(*extent, None)?;
                self.write(*extent, extent.length)
            }
            Action::Or(extent) => self.or(*extent),
            Action::WriteSame { extent, pattern } => self.write_same(*extent, pattern),
            Action::Zero { extent, deallocate } => self.zero(*extent, *deallocate),
            Action::Unmap(extents) => extents.iter().try_for_each(|extent| self.zero(*extent, true)),
            Action::Prefetch(extent) => {
                self.disk.prefetch(extent.offset, extent.length.min(MAX_PREFETCH));
                Ok(())
            }
        }
    }

    /// Returns an error if the job is cancelled.
    fn go_on(&self) -> Result<(), Failure> {
        self.held.inspect(|held| held.point());
        if self.cancel.is_set() { Err(Failure::Aborted) } else { Ok(()) }
    }

    fn part(&self, offset: u64, length: u64) -> Result<GuestBuffer, Failure> {
        self.pages.part(offset as usize, length as usize).map_err(|_: BufferError| Failure::Buffer)
    }

    fn flush(&self) -> Result<(), Failure> {
        self.disk.flush().map_err(|error| write_failure(0, &error))
    }

    fn write(&self, extent: Extent, from: u64) -> Result<(), Failure> {
        let pages = self.part(from, extent.length)?;
        self.disk.write_pages(extent.offset, &pages).map_err(|error| write_failure(extent.offset, &error))
    }

    fn zero(&self, extent: Extent, deallocate: bool) -> Result<(), Failure> {
        self.steps(extent, ZERO_STEP, |_, offset, length| {
            let _share = self.gate.share();
            self.disk.zero(offset, length, deallocate).map_err(|error| write_failure(offset, &error))
        })
    }

    /// Splits the extent into steps, and calls the function with the position in the extent, the offset and the length
    /// of each.
    fn steps(
        &self,
        extent: Extent,
        step: u64,
        mut act: impl FnMut(u64, u64, u64) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
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
    fn check(&self, extent: Extent) -> Result<(), Failure> {
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
        mut see: impl FnMut(u64, &mut [u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut chunk = Aligned::new(extent.length.min(CHUNK as u64) as usize);
        self.steps(extent, CHUNK as u64, |at, offset, length| {
            let bytes = &mut chunk.bytes()[..length as usize];
            self.disk.read(offset, bytes).map_err(|error| read_failure(offset, &error))?;
            see(at, bytes)
        })
    }

    fn compare(&self, extent: Extent, repeat: Option<u32>) -> Result<(), Failure> {
        let mut expected = vec![0; extent.length.min(CHUNK as u64) as usize];
        self.chunks(extent, |at, bytes| {
            let expected = &mut expected[..bytes.len()];
            match repeat.map(|repeat| repeat as usize) {
                // A chunk consists of whole blocks.
                Some(repeat) => {
                    for block in expected.chunks_mut(repeat) {
                        self.pages.read(0, block).map_err(|_: BufferError| Failure::Buffer)?;
                    }
                }
                None => self.pages.read(at as usize, expected).map_err(|_: BufferError| Failure::Buffer)?,
            }
            match bytes.iter().zip(expected.iter()).position(|(found, expected)| found != expected) {
                Some(place) => Err(Failure::Miscompare(at + place as u64)),
                None => Ok(()),
            }
        })
    }

    fn or(&self, extent: Extent) -> Result<(), Failure> {
        let mut data = vec![0; extent.length.min(CHUNK as u64) as usize];
        self.chunks(extent, |at, bytes| {
            let data = &mut data[..bytes.len()];
            self.pages.read(at as usize, data).map_err(|_: BufferError| Failure::Buffer)?;
            bytes.iter_mut().zip(data).for_each(|(byte, data)| *byte |= *data);
            let offset = extent.offset + at;
            self.disk.write(offset, bytes).map_err(|error| write_failure(offset, &error))
        })
    }

    fn write_same(&self, extent: Extent, pattern: &[u8]) -> Result<(), Failure> {
        let mut chunk = Aligned::new(extent.length.min(CHUNK as u64) as usize);
        for block in chunk.bytes().chunks_mut(pattern.len().max(1)) {
            block.copy_from_slice(&pattern[..block.len()]);
        }
        self.steps(extent, CHUNK as u64, |_, offset, length| {
            let _share = self.gate.share();
            let bytes = &chunk.bytes()[..length as usize];
            self.disk.write(offset, bytes).map_err(|error| write_failure(offset, &error))
        })
    }

    fn allocation(&self, extent: Extent, limit: usize) -> Result<Finished, Failure> {
        let mut map: Vec<(u64, bool)> = Vec::new();
        let mut at = 0;
        for _ in 0..MAX_ALLOCATION_STEPS {
            if at >= extent.length {
                break;
            }
            self.go_on()?;
            let offset = extent.offset + at;
            let found = self.disk.allocation(offset, extent.length - at);
            let (length, allocated) = found.map_err(|error| read_failure(offset, &error))?;
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
        Ok(Finished::Allocation(map))
    }
}

/// Returns the failure to report for a failed read at `offset`.
pub(in crate::vsp::storage) fn read_failure(offset: u64, error: &io::Error) -> Failure {
    log::debug!("reading the disk at {offset} failed: {error}");
    match error.kind() {
        io::ErrorKind::Unsupported => Failure::Unsupported,
        _ => Failure::Read(offset),
    }
}

/// Returns the failure to report for a failed write at `offset`.
pub(in crate::vsp::storage) fn write_failure(offset: u64, error: &io::Error) -> Failure {
    log::debug!("writing the disk at {offset} failed: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::NoSpace(offset)
        }
        io::ErrorKind::Unsupported => Failure::Unsupported,
        _ => Failure::Write(offset),
    }
}

#[cfg(test)]
#[path = "perform_tests.rs"]
mod tests;
