//! The content of a kernel or initrd: a regular file, or an image that is embedded in this program.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::error::{BootError, Occupant};
use crate::host::paths;
use crate::memory::{GuestMemory, PAGE_SIZE};

/// An open kernel or initrd.
#[derive(Debug)]
pub(super) struct ImageFile {
    name: String,
    length: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(File),
    Embedded(&'static [u8]),
}

impl ImageFile {
    /// Opens `path`, which must be a regular file that is not empty. Never blocks on a pipe or a device.
    pub(super) fn open(path: &Path) -> Result<Self, BootError> {
        let name = path.display().to_string();
        let failed = |source| open_error(&name, source);
        // Checked before opening, because opening a device can have effects, and again afterwards, because the name may
        // refer to another file by then.
        refuse_irregular(&name, std::fs::metadata(path).map_err(failed)?.file_type())?;
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        refuse_irregular(&name, metadata.file_type())?;
        Self::with_content(name, metadata.len(), Content::File(file))
    }

    /// Creates an image that is embedded in this program.
    pub(super) fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self, BootError> {
        Self::with_content(format!("the embedded image {name}"), bytes.len() as u64, Content::Embedded(bytes))
    }

    fn with_content(name: String, length: u64, content: Content) -> Result<Self, BootError> {
        if length == 0 {
            return Err(BootError::Empty { file: name, advice: "copy or build it again" });
        }
        Ok(Self { name, length, content })
    }

    /// Returns its name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns its length when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns its first bytes, at most `limit`.
    pub(super) fn head(&self, limit: usize) -> Result<Vec<u8>, BootError> {
        let mut head = vec![0; usize::try_from(self.length).map_or(limit, |length| length.min(limit))];
        self.read(0, &mut head)?;
        Ok(head)
    }

    /// Returns an error unless the file reaches to `offset + length`, the end of `part`.
    pub(super) fn require(&self, part: &str, offset: u64, length: u64) -> Result<(), BootError> {
        let end = offset.saturating_add(length);
        if end <= self.length {
            return Ok(());
        }
        Err(BootError::Truncated { file: self.name.clone(), part: part.into(), end, length: self.length })
    }

    /// Reads `buffer.len()` bytes at `offset`.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BootError> {
        let length = buffer.len() as u64;
        match &self.content {
            Content::File(file) => file.read_exact_at(buffer, offset),
            Content::Embedded(bytes) => slice(bytes, offset, length).map(|part| buffer.copy_from_slice(part)),
        }
        .map_err(|source| BootError::Read { file: self.name.clone(), offset, length, source })
    }

    /// Copies `length` bytes from `offset` into the claimed range `to` of fresh memory. Of short parts, pages of zeroes
    /// are not written, so that the host need not allocate them.
    pub(super) fn load(&self, memory: &GuestMemory, to: &Occupant, offset: u64, length: u64) -> Result<(), BootError> {
        let failed = |source| BootError::Read { file: self.name.clone(), offset, length, source };
        let result = match &self.content {
            Content::File(file) if length >= READ_FROM => copy(file, offset, memory, to.range.start, length),
            Content::File(file) => copy_without_zeroes(file, offset, memory, to.range.start, length),
            Content::Embedded(bytes) => {
                memory.write_slice(slice(bytes, offset, length).map_err(failed)?, GuestAddress(to.range.start))
            }
        };
        result.map_err(|error| match error {
            GuestMemoryError::IOError(source) => failed(source),
            source => BootError::Write { what: to.what.clone(), source },
        })
    }
}

/// Parts of this length and more are read straight into guest memory. Most of it has huge pages there, so leaving out a
/// page of zeroes would save little.
const READ_FROM: u64 = 1 << 20;
/// Number of bytes of a shorter part that are read at a time.
const PIECE: u64 = 64 << 10;

/// Reads `length` bytes at `offset` into guest memory, except pages of zeroes.
///
/// The file is not mapped: a program that builds or copies it anew may truncate it now, and an access to a page of a mapping
/// that the file no longer has ends the process, and all machines in it.
fn copy_without_zeroes(
    file: &File,
    offset: u64,
    memory: &GuestMemory,
    address: u64,
    length: u64,
) -> Result<(), GuestMemoryError> {
    let mut buffer = vec![0; PIECE.min(length) as usize];
    let mut done = 0;
    while done < length {
        let piece = &mut buffer[..PIECE.min(length - done) as usize];
        file.read_exact_at(piece, offset + done).map_err(GuestMemoryError::IOError)?;
        let mut rest = &piece[..];
        while !rest.is_empty() {
            // Up to the end of the guest's page.
            let target = address + done;
            let (page, after) = rest.split_at(rest.len().min((PAGE_SIZE - target % PAGE_SIZE) as usize));
            if page.iter().any(|byte| *byte != 0) {
                memory.write_slice(page, GuestAddress(target))?;
            }
            done += page.len() as u64;
            rest = after;
        }
    }
    Ok(())
}

/// Reads `length` bytes at `offset` into guest memory.
fn copy(mut file: &File, offset: u64, memory: &GuestMemory, address: u64, length: u64) -> Result<(), GuestMemoryError> {
    file.seek(SeekFrom::Start(offset)).map_err(GuestMemoryError::IOError)?;
    let mut done = 0;
    // A read can return fewer bytes: Linux reads at most 2 GiB at a time.
    while done < length {
        let count = usize::try_from(length - done).unwrap_or(usize::MAX);
        done += match memory.read_volatile_from(GuestAddress(address + done), &mut file, count)? {
            0 => return Err(GuestMemoryError::IOError(ErrorKind::UnexpectedEof.into())),
            read => read as u64,
        };
    }
    Ok(())
}

fn slice(bytes: &'static [u8], offset: u64, length: u64) -> io::Result<&'static [u8]> {
    let start = usize::try_from(offset).ok();
    let end = offset.checked_add(length).and_then(|end| usize::try_from(end).ok());
    start.zip(end).and_then(|(start, end)| bytes.get(start..end)).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

fn open_error(name: &str, source: io::Error) -> BootError {
    let advice = paths::remedy(&source).unwrap_or("check that other programs can read it");
    BootError::Open { file: name.into(), advice, source }
}

fn refuse_irregular(name: &str, file_type: FileType) -> Result<(), BootError> {
    let (kind, advice) = match file_type {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => ("a directory", "name a file in it"),
        kind if kind.is_fifo() => ("a pipe", "copy what comes out of it to a file, and name that"),
        kind if kind.is_socket() => ("a socket", "name a regular file"),
        _ => ("a device", "copy what is needed of it to a file, and name that"),
    };
    Err(BootError::NotRegular { file: name.into(), kind, advice })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
