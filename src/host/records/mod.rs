//! Output files other than the console, written in whole records: lines of a trace, blocks of a capture.
//!
//! The writer is often a VP's or a channel's thread, and must not wait for a reader. A record is written at once if
//! possible. While the reader of a pipe or terminal is behind, up to [`CAPACITY`] bytes are kept, and a temporary
//! thread writes them. Beyond that, records are dropped and counted, and replaced by a note with their number. The end
//! of a run waits for a reader that makes progress, but not for one that has stopped.

pub(crate) mod endpoint;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::host::lock::{Condvar, Mutex};
use crate::host::paths;
use endpoint::Endpoint;

/// Maximum number of bytes that are kept for a slow reader.
pub const CAPACITY: usize = 1 << 20;
/// A reader that has taken nothing for this long has stopped: the end does not wait for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// Maximum time that the end waits for a reader.
const LONGEST_END: Duration = Duration::from_secs(2);
/// Interval at which the writing thread checks whether it is still needed.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Creates or truncates a file for writing. The descriptor is non-blocking, so a pipe without a reader is an error
/// (`ENXIO`).
pub(crate) fn create(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))
}

/// Returns a remedy for a file that cannot be opened for writing.
pub(crate) fn advice_on_opening(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT | Errno::NOTDIR => "create the directory that the file is to be in first",
        Errno::ACCESS | Errno::PERM | Errno::ROFS => "name a file where you may write",
        Errno::NOSPC | Errno::DQUOT => "free some space on its disk, or name a file on another",
        Errno::MFILE | Errno::NFILE => "raise the limit on open files: ulimit -n, or sysctl fs.file-max",
        Errno::NXIO => "it is a pipe, socket or device that nobody reads: start its reader first",
        _ => paths::remedy(&errno.into()).unwrap_or("name another file"),
    }
}

/// Returns a remedy for a file that can no longer be written.
pub(crate) fn advice_on_writing(errno: Errno) -> &'static str {
    match errno {
        Errno::PIPE => "its reader has gone; start the reader again",
        Errno::FBIG => "raise the limit on the size of files: ulimit -f",
        _ => advice_on_opening(errno),
    }
}

/// Returns a remedy, to be appended to the error's message, if a file would exceed the process' limit on the size of
/// files. Otherwise it returns an empty string. The limit also applies to a memfd.
pub(crate) fn advice_on_size(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::FBIG) => "; raise the limit on the size of files: ulimit -f",
        _ => "",
    }
}

/// Keeps the process alive when a file reaches its size limit (`ulimit -f`): the write then fails with `EFBIG`.
/// Otherwise SIGXFSZ would end the process and every machine in it. This changes the handling of that signal for the
/// whole process.
pub fn survive_file_size_limit() {
    static HANDLER: LazyLock<()> = LazyLock::new(|| {
        // Any handler is sufficient, and unlike an ignored signal it is not inherited by programs that are started. An existing handler of the program is still called.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    });
    LazyLock::force(&HANDLER);
}

/// Creates the record that replaces dropped ones, from their number since the last note and the total.
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
    /// Whether the output is standard error. Then there is no place to print that it failed or that its reader is slow.
    is_log: bool,
    note: Note,
}

struct State {
    /// `None` once writing has failed.
    output: Option<Endpoint>,
    kept: VecDeque<u8>,
    /// Number of records that were dropped and are not in a note yet.
    dropped: u64,
    total_dropped: u64,
    /// The time when bytes were last written, or the reader was found to be behind.
    last_progress: Instant,
    /// Whether the thread runs.
    draining: bool,
    /// The thread writes nothing more.
    closed: bool,
}

impl Records {
    /// Creates or truncates the file at `path`. `name` is its name in messages.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or is a pipe without a reader.
    pub(crate) fn create(path: &Path, name: String, note: Note) -> Result<Self, Errno> {
        Ok(Self::new(Endpoint::of_own(create(path)?), name, false, note))
    }

    /// Returns the standard error of this process, for lines.
    pub fn standard_error() -> &'static Self {
        static STANDARD_ERROR: LazyLock<Records> =
            LazyLock::new(|| Records::new(Endpoint::of_standard_error(), "standard error".into(), true, lines_dropped));
        &STANDARD_ERROR
    }

    /// Returns the standard output of this process, for lines.
    ///
    /// # Errors
    /// Returns an error if the process has no descriptor left.
    pub fn standard_output() -> io::Result<Self> {
        let output = Endpoint::for_writing(io::stdout().as_fd())?;
        Ok(Self::new(output, "standard output".into(), false, json_lines_dropped))
    }

    /// Creates or truncates a file for JSON lines.
    ///
    /// # Errors
    /// Returns an error, with the path and a remedy, if the file cannot be opened or is a pipe without a reader.
    pub fn create_lines(path: &Path) -> Result<Self, String> {
        Self::create(path, path.display().to_string(), json_lines_dropped).map_err(|errno| {
            let (path, error, advice) = (path.display(), io::Error::from(errno), advice_on_opening(errno));
            format!("cannot write {path}: {error}; {advice}")
        })
    }

    fn new(output: Endpoint, name: String, is_log: bool, note: Note) -> Self {
        let state = State {
            output: Some(output),
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
        let mut state = shared.state.lock();
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

    /// Waits until everything is written, unless the reader has stopped. Returns `true` if nothing is left.
    pub fn finish(&self) -> bool {
        self.0.shared.finish()
    }
}

/// Returns a line that reports dropped lines.
pub(crate) fn lines_dropped(dropped: u64, _total: u64) -> Vec<u8> {
    format!("viridian: {dropped} lines are missing here: their reader was too slow\n").into_bytes()
}

/// Returns a JSON line that reports dropped lines.
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
        let mut thread = self.thread.lock();
        // The previous thread has written everything and ended.
        let _ = thread.take().map(JoinHandle::join);
        match thread::Builder::new().name("records".into()).spawn(move || shared.drain()) {
            Ok(started) => *thread = Some(started),
            // Without a thread, the next record writes what is kept.
            Err(_) => self.shared.state.lock().draining = false,
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let written = self.shared.finish();
        let mut state = self.shared.state.lock();
        state.closed = true;
        let missing = state.total_dropped;
        drop(state);
        if !self.shared.is_log && (missing > 0 || !written) {
            let end = if written { "" } else { "its reader has stopped: the end is missing" };
            let dropped = if missing == 0 { String::new() } else { format!("{missing} records were dropped") };
            let both = if missing > 0 && !written { "; " } else { "" };
            log::warn!("{}: {dropped}{both}{end}", self.shared.name);
        }
        let _ = self.thread.get_mut().take().map(JoinHandle::join);
    }
}

impl Shared {
    /// Logs that the output has failed.
    fn tell(&self, error: Option<Errno>) {
        if let Some(errno) = error.filter(|_| !self.is_log) {
            log::warn!("{} ends here: {}; {}", self.name, io::Error::from(errno), advice_on_writing(errno));
        }
    }

    /// The thread: writes what is kept as the reader accepts it, and ends with the last byte.
    fn drain(&self) {
        loop {
            let mut state = self.state.lock();
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
            // The file is polled without the lock, so with a separate handle.
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
        let mut state = self.state.lock();
        while !state.kept.is_empty() && state.draining {
            let deadline = latest.min(state.last_progress + PATIENCE);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.progress.wait_timeout(state, left);
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
        // The rest of a partly written record is kept whatever its length, because a partial record is unreadable.
        if written > 0 || (self.dropped == 0 && self.kept.len() + records.len() <= CAPACITY) {
            self.kept.extend(&records[written..]);
            return Ok(());
        }
        self.dropped += count;
        self.total_dropped += count;
        Ok(())
    }

    /// Writes as much as possible of what is kept, then a note about dropped records.
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

    /// Writes as much as possible, and returns the number of bytes. After an error, the output ends.
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
