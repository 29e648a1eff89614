//! A console into a file.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::ConsoleError;
use super::backend::Backend;

pub(super) struct FileBackend {
    file: File,
    path: PathBuf,
}

impl FileBackend {
    /// Creates the file, or empties it.
    pub fn open(path: &Path) -> Result<Self, ConsoleError> {
        // Without O_NONBLOCK, opening a named pipe would wait for a reader.
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)).map_err(|errno| ConsoleError::Open {
            path: path.into(),
            source: errno.into(),
            advice: advice(errno),
        })?;
        Ok(Self { file: fd.into(), path: path.into() })
    }
}

fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ISDIR => "name a file in that directory",
        Errno::NOENT | Errno::NOTDIR => "create the directory that the file is to be in first",
        Errno::ACCESS | Errno::PERM | Errno::ROFS => "name a file where you may write",
        Errno::NOSPC | Errno::DQUOT => "free some space on its disk, or name a file on another",
        Errno::NXIO => "it is a pipe or device that nobody reads: start its reader first",
        _ => "name another file",
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
        let advice = match errno {
            Errno::PIPE => "its reader has gone; start the reader again",
            Errno::FBIG => "raise the limit on the size of files: ulimit -f",
            _ => advice(errno),
        };
        (self.path.display().to_string(), advice)
    }
}
