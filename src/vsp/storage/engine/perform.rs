//! Doing a SCSI job on a disk, blocking: what there is no faster way for.

use std::io;
use std::sync::Arc;

use super::super::disk::{Aligned, CHUNK, Disk};
use super::super::scsi::{Action, Extent, Failure, Finished, Job};
use super::gate::Gate;
use crate::vmbus::buffer::{BufferError, GuestBuffer};

/// Does `job` on `disk`, with the initiator's `pages`.
pub fn perform(disk: &dyn Disk, gate: &Arc<Gate>, job: &Job, pages: &GuestBuffer) -> Result<Finished, Failure> {
    if let Action::Allocation { extent, limit, .. } = &job.action {
        return allocation(disk, *extent, *limit);
    }
    let work = Work { disk, pages };
    let (_share, _alone);
    let writes = match &job.action {
        Action::CompareAndWrite(_) | Action::Or(_) => {
            _alone = gate.exclusive();
            true
        }
        Action::Write(_) | Action::WriteAndVerify { .. } | Action::WriteSame { .. } => {
            _share = gate.share();
            true
        }
        Action::Zero { .. } | Action::Unmap(_) => {
            _share = gate.share();
            true
        }
        _ => false,
    };
    if job.durable && !writes {
        work.flush()?;
    }
    work.act(&job.action)?;
    if job.durable && writes {
        work.flush()?;
    }
    Ok(Finished::Done)
}

struct Work<'a> {
    disk: &'a dyn Disk,
    pages: &'a GuestBuffer,
}

impl Work<'_> {
    fn act(&self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Read(extent) => {
                let pages = self.part(0, extent.length)?;
                self.disk.read_pages(extent.offset, &pages).map_err(|error| read_failure(extent.offset, &error))
            }
            Action::Write(extent) => self.write(*extent, 0),
            // Done by whoever called.
            Action::Flush | Action::Allocation { .. } => Ok(()),
            Action::Check(extent) => self.chunks(*extent, |_, _| Ok(())),
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
                self.disk.prefetch(extent.offset, extent.length);
                Ok(())
            }
        }
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
        let zero = self.disk.zero(extent.offset, extent.length, deallocate);
        zero.map_err(|error| write_failure(extent.offset, &error))
    }

    /// Reads the extent a piece at a time, and shows each piece with its place in the extent.
    fn chunks(
        &self,
        extent: Extent,
        mut see: impl FnMut(u64, &mut [u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut chunk = Aligned::new(extent.length.min(CHUNK as u64) as usize);
        let mut at = 0;
        while at < extent.length {
            let now = (extent.length - at).min(CHUNK as u64);
            let bytes = &mut chunk.bytes()[..now as usize];
            let offset = extent.offset + at;
            self.disk.read(offset, bytes).map_err(|error| read_failure(offset, &error))?;
            see(at, bytes)?;
            at += now;
        }
        Ok(())
    }

    fn compare(&self, extent: Extent, repeat: Option<u32>) -> Result<(), Failure> {
        let mut expected = vec![0; extent.length.min(CHUNK as u64) as usize];
        self.chunks(extent, |at, bytes| {
            let expected = &mut expected[..bytes.len()];
            match repeat.map(|repeat| repeat as usize) {
                // A chunk is a whole number of blocks.
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
        let mut at = 0;
        while at < extent.length {
            let now = (extent.length - at).min(CHUNK as u64);
            let offset = extent.offset + at;
            let bytes = &chunk.bytes()[..now as usize];
            self.disk.write(offset, bytes).map_err(|error| write_failure(offset, &error))?;
            at += now;
        }
        Ok(())
    }
}

fn allocation(disk: &dyn Disk, extent: Extent, limit: usize) -> Result<Finished, Failure> {
    let mut map: Vec<(u64, bool)> = Vec::new();
    let mut at = 0;
    while at < extent.length {
        let offset = extent.offset + at;
        let found = disk.allocation(offset, extent.length - at).map_err(|error| read_failure(offset, &error))?;
        let (length, allocated) = found;
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

/// What the guest is told of a failed read at `offset`.
pub(in crate::vsp::storage) fn read_failure(offset: u64, error: &io::Error) -> Failure {
    log::debug!("reading the disk at {offset} failed: {error}");
    Failure::Read(offset)
}

/// What the guest is told of a failed write at `offset`.
pub(in crate::vsp::storage) fn write_failure(offset: u64, error: &io::Error) -> Failure {
    log::debug!("writing the disk at {offset} failed: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::NoSpace(offset)
        }
        _ => Failure::Write(offset),
    }
}

#[cfg(test)]
#[path = "perform_tests.rs"]
mod tests;
