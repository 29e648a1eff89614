//! A console that writes to a file.

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
        let fd = records::create(path).map_err(|errno| ConsoleError::Open {
            path: path.into(),
            source: errno.into(),
            advice: records::advice_on_opening(errno),
        })?;
        Ok(Self { file: fd.into(), path: path.into() })
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
