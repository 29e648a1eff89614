//! Files that a machine writes beside its console, whole records at a time: lines of a trace, blocks of a capture.
//!
//! Whoever writes is often a VP's or a channel's thread, and must not wait for a reader. A record is written at once where that works. While the reader of
//! a pipe or terminal is behind, up to [`CAPACITY`] bytes are kept, and a thread that exists only meanwhile writes them; beyond that records are dropped, counted,
//! and replaced by a note that says how many are missing. The end of a run waits for a reader that makes progress, but never for one that has stopped.

pub(crate) mod endpoint;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use endpoint::Endpoint;

/// Bytes that are kept for a reader that is behind.
pub const CAPACITY: usize = 1 << 20;
/// A reader that has taken nothing for so long has stopped: the end does not wait for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// The end waits no longer for any reader.
const LONGEST_END: Duration = Duration::from_secs(2);
/// How long the thread that writes what is kept sleeps before it looks whether it is still wanted.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Creates or empties a file for writing. The descriptor is non-blocking: a pipe without a reader is an error (`ENXIO`).
pub(crate) fn create(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))
}

/// Says what to do about a file that cannot be opened for writing.
pub(crate) fn advice_on_opening(errno: Errno) -> &'static str {
    match errno {
        Errno::ISDIR => "name a file in that directory",
        Errno::NOENT | Errno::NOTDIR => "create the directory that the file is to be in first",
        Errno::ACCESS | Errno::PERM | Errno::ROFS => "name a file where you may write",
        Errno::NOSPC | Errno::DQUOT => "free some space on its disk, or name a file on another",
        Errno::NXIO => "it is a pipe, socket or device that nobody reads: start its reader first",
        _ => "name another file",
    }
}

/// Says what to do about a file that cannot be written any more.
pub(crate) fn advice_on_writing(errno: Errno) -> &'static str {
    match errno {
        Errno::PIPE => "its reader has gone; start the reader again",
        Errno::FBIG => "raise the limit on the size of files: ulimit -f",
        _ => advice_on_opening(errno),
    }
}

/// Keeps the process alive when a file reaches the limit on its size (`ulimit -f`): the write then fails with `EFBIG`, where
/// otherwise SIGXFSZ ends the process and every machine in it. Changes how the whole process handles that signal.
pub fn survive_file_size_limit() {
    static HANDLER: LazyLock<()> = LazyLock::new(|| {
        // Any handler will do. A program's own one, if there is one, is still called.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    });
    LazyLock::force(&HANDLER);
}

/// Makes the record that stands for dropped ones: how many since the last note, and how many in all.
pub(crate) type Note = fn(dropped: u64, total: u64) -> Vec<u8>;

/// An output of whole records. Clones share it. See the module's description.
#[derive(Clone)]
pub struct Records(Arc<Owner>);

/// Ends the thread, if there is one, with the last handle.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when bytes were written, or none will be.
    progress: Condvar,
    name: String,
    /// What is told when the output fails or its reader is behind. Standard error, where this would be printed, has nobody to tell.
    is_log: bool,
    note: Note,
}

struct State {
    /// None once writing has failed.
    output: Option<Endpoint>,
    kept: VecDeque<u8>,
    /// Records that were dropped and not noted yet.
    dropped: u64,
    total_dropped: u64,
    /// When bytes were last written, or the reader was found behind.
    last_progress: Instant,
    /// The thread runs.
    draining: bool,
    /// Nothing more is written by the thread.
    closed: bool,
}

impl Records {
    /// Creates or empties the file at `path`. `name` says in messages what it is.
    ///
    /// # Errors
    /// The file cannot be opened, or is a pipe that nobody reads.
    pub(crate) fn create(path: &Path, name: String, note: Note) -> Result<Self, Errno> {
        Ok(Self::new(Some(Endpoint::of_own(create(path)?)), name, false, note))
    }

    /// Standard error of this process, for lines.
    pub fn standard_error() -> &'static Self {
        static STANDARD_ERROR: LazyLock<Records> = LazyLock::new(|| {
            let output = Endpoint::for_writing(io::stderr().as_fd()).ok();
            Records::new(output, "standard error".into(), true, lines_dropped)
        });
        &STANDARD_ERROR
    }

    /// Standard output of this process, for lines.
    pub fn standard_output() -> Self {
        let output = Endpoint::for_writing(io::stdout().as_fd()).ok();
        Self::new(output, "standard output".into(), false, json_lines_dropped)
    }

    /// Creates or empties a file for lines of JSON.
    ///
    /// # Errors
    /// The file cannot be opened, or is a pipe that nobody reads; with the path, and what to do.
    pub fn create_lines(path: &Path) -> Result<Self, String> {
        Self::create(path, path.display().to_string(), json_lines_dropped).map_err(|errno| {
            let (path, error, advice) = (path.display(), io::Error::from(errno), advice_on_opening(errno));
            format!("cannot write {path}: {error}; {advice}")
        })
    }

    fn new(output: Option<Endpoint>, name: String, is_log: bool, note: Note) -> Self {
        let state = State {
            output,
            kept: VecDeque::new(),
            dropped: 0,
            total_dropped: 0,
            last_progress: Instant::now(),
            draining: false,
            closed: false,
        };
        let shared = Shared { state: Mutex::new(state), progress: Condvar::new(), name, is_log, note };
        Self(Arc::new(Owner { shared: Arc::new(shared), thread: Mutex::default() }))
    }

    /// Writes `count` whole records, or keeps them, or drops and counts them. Never waits for a reader.
    pub fn put(&self, records: &[u8], count: u64) {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        let dropped_before = state.total_dropped;
        let result = state.put(records, count, shared.note);
        let first_drop = dropped_before == 0 && state.total_dropped > 0;
        let wants_thread = !state.kept.is_empty() && !state.draining && !state.closed && state.output.is_some();
        state.draining |= wants_thread;
        drop(state);
        if wants_thread {
            self.0.start_thread();
        }
        shared.tell(result.err());
        if first_drop && !shared.is_log {
            log::warn!("{}: its reader is too slow: records are dropped", shared.name);
        }
    }

    /// Waits until all is written, but not for a reader that has stopped. Returns `true` if nothing is left.
    pub fn finish(&self) -> bool {
        self.0.shared.finish()
    }
}

/// A line for lines that were dropped.
pub(crate) fn lines_dropped(dropped: u64, _total: u64) -> Vec<u8> {
    format!("viridian: {dropped} lines are missing here: their reader was too slow\n").into_bytes()
}

/// The same as a line of JSON.
pub(crate) fn json_lines_dropped(dropped: u64, _total: u64) -> Vec<u8> {
    format!("{{\"dropped\":{dropped}}}\n").into_bytes()
}

impl fmt::Debug for Records {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Records").field("name", &self.0.shared.name).finish_non_exhaustive()
    }
}

/// Each write is one record.
impl Write for Records {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.put(record, 1);
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Owner {
    fn start_thread(&self) {
        let shared = self.shared.clone();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before has written all that it had, and ended.
        let _ = thread.take().map(JoinHandle::join);
        match thread::Builder::new().name("records".into()).spawn(move || shared.drain()) {
            Ok(started) => *thread = Some(started),
            // Without a thread the next record takes along what is kept.
            Err(_) => self.shared.lock().draining = false,
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let written = self.shared.finish();
        let mut state = self.shared.lock();
        state.closed = true;
        let missing = state.total_dropped;
        drop(state);
        if !self.shared.is_log && (missing > 0 || !written) {
            let end = if written { "" } else { "its reader has stopped: the end is missing" };
            let dropped = if missing == 0 { String::new() } else { format!("{missing} records were dropped") };
            let both = if missing > 0 && !written { "; " } else { "" };
            log::warn!("{}: {dropped}{both}{end}", self.shared.name);
        }
        let _ = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the output has failed.
    fn tell(&self, error: Option<Errno>) {
        if let Some(errno) = error.filter(|_| !self.is_log) {
            log::warn!("{} ends here: {}; {}", self.name, io::Error::from(errno), advice_on_writing(errno));
        }
    }

    /// The thread: writes what is kept as the reader takes it, and ends with the last byte.
    fn drain(&self) {
        loop {
            let mut state = self.lock();
            if state.closed {
                break;
            }
            let result = state.write_kept(self.note);
            if state.kept.is_empty() && state.dropped == 0 {
                state.draining = false;
                self.progress.notify_all();
                drop(state);
                return self.tell(result.err());
            }
            // The file is polled without the lock, so by a handle of its own.
            let file = state.output.as_ref().and_then(|output| output.as_fd().try_clone_to_owned().ok());
            drop(state);
            self.progress.notify_all();
            match file {
                Some(file) => drop(poll(&mut [PollFd::new(&file, PollFlags::OUT)], Some(&INTERVAL))),
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
        self.progress.notify_all();
    }

    fn finish(&self) -> bool {
        let latest = Instant::now() + LONGEST_END;
        let mut state = self.lock();
        while !state.kept.is_empty() && state.draining {
            let deadline = latest.min(state.last_progress + PATIENCE);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.progress.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.kept.is_empty()
    }
}

impl State {
    /// Writes or keeps `records`, or drops and counts them.
    fn put(&mut self, records: &[u8], count: u64, note: Note) -> Result<(), Errno> {
        if self.output.is_none() {
            return Ok(());
        }
        if !self.kept.is_empty() || self.dropped > 0 {
            self.write_kept(note)?;
        }
        let mut written = 0;
        if self.kept.is_empty() && self.dropped == 0 {
            written = self.write(records)?;
        }
        if written == records.len() {
            return Ok(());
        }
        if self.kept.is_empty() {
            self.last_progress = Instant::now();
        }
        // What is written in part is kept whatever its length: nobody could read on behind it.
        if written > 0 || (self.dropped == 0 && self.kept.len() + records.len() <= CAPACITY) {
            self.kept.extend(&records[written..]);
            return Ok(());
        }
        self.dropped += count;
        self.total_dropped += count;
        Ok(())
    }

    /// Writes as much of what is kept as goes, and then notes what was dropped.
    fn write_kept(&mut self, note: Note) -> Result<(), Errno> {
        loop {
            while !self.kept.is_empty() {
                let (first, _) = self.kept.as_slices();
                let first = first[..first.len().min(64 << 10)].to_vec();
                let count = self.write(&first)?;
                self.kept.drain(..count);
                if count < first.len() {
                    return Ok(());
                }
            }
            self.kept = VecDeque::new();
            match std::mem::take(&mut self.dropped) {
                0 => return Ok(()),
                dropped => self.kept.extend(note(dropped, self.total_dropped)),
            }
        }
    }

    /// Writes as much as goes, and says how much. With an error the output ends.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut written = 0;
        while let Some(output) = self.output.as_ref().filter(|_| written < bytes.len()) {
            match output.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.output = None;
                    (self.kept, self.dropped) = (VecDeque::new(), 0);
                    return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
                }
            }
        }
        if written > 0 {
            self.last_progress = Instant::now();
        }
        Ok(written)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
