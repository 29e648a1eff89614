//! A console that writes to a file, and the file for the newest output at the end of a machine.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::ConsoleError;
use super::backend::Backend;
use crate::host::records;

pub(super) struct FileBackend {
    file: File,
    path: PathBuf,
}

impl FileBackend {
    /// Creates or truncates the file.
    pub fn open(path: &Path) -> Result<Self, ConsoleError> {
        create(path).map(|file| Self { file, path: path.into() })
    }
}

/// Creates or truncates a file.
fn create(path: &Path) -> Result<File, ConsoleError> {
    let fd = records::create(path).map_err(|errno| ConsoleError::Open {
        path: path.into(),
        source: errno.into(),
        advice: records::advice_on_opening(errno),
    })?;
    Ok(fd.into())
}

/// The file for the newest output at the end of a machine.
pub(super) struct LastOutput {
    file: File,
    path: PathBuf,
}

impl LastOutput {
    /// Creates or truncates the file.
    pub fn open(path: &Path) -> Result<Self, ConsoleError> {
        create(path).map(|file| Self { file, path: path.into() })
    }

    /// Writes the output.
    pub fn write(&self, bytes: &[u8]) -> Result<(), ConsoleError> {
        (&self.file).write_all(bytes).map_err(|source| {
            let errno = Errno::from_io_error(&source).unwrap_or(Errno::IO);
            let (to, advice) = (self.path.display().to_string(), records::advice_on_writing(errno));
            ConsoleError::Write { to, source, advice }
        })
    }
}

impl Backend for FileBackend {
    fn sink(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn explain(&self, error: &io::Error) -> (String, &'static str) {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        (self.path.display().to_string(), records::advice_on_writing(errno))
    }
}
