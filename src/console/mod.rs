//! A machine's console: the guest's output, and the input that is typed to it.
//!
//! [`Console::open`] opens a console at a [`ConsoleConfig`] destination, with one thread for all its I/O (for
//! [`ConsoleConfig::None`] there is none); [`Console::capture`] creates one for a program. Devices print to its
//! [`ConsoleOutput`] and read from its [`ConsoleInput`]. At the end of a run, [`Console::finish`] waits until all
//! output is written. Dropping the console ends its thread and closes what it opened.
//!
//! Other processes [attach](Console::attach) to a console while it is open.
//!
//! While a `pty` or `unix` console has no reader, the newest 64 KiB of output are kept for the next one. The file of a
//! `unix` socket is removed at the end. After a SIGKILL it stays, and the next machine replaces it.

mod attached;
mod backend;
mod capture;
mod clean;
mod config;
mod device;
mod file;
pub mod foreground;
mod input;
mod jobs;
mod keys;
mod lines;
mod output;
mod pty;
mod pump;
pub mod signals;
mod stdio;
pub mod terminal;
mod unix;
mod wake;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::host::limited;
use crate::host::lock::Mutex;
use crate::kvm::gate::Gate;
use attached::History;
pub(crate) use attached::{Attached, NotAttached, Part, Seen};
use backend::Backend;
pub use capture::{Capture, NotSeen, NotTyped};
pub use config::ConsoleConfig;
pub(crate) use device::ConsoleDevice;
pub use input::ConsoleInput;
use output::OutputQueue;
use pump::Pump;
use wake::Waker;

/// An error of a console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The file or socket cannot be opened.
    #[error("cannot open {} for the console: {source}; {advice}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// The error of the host.
        source: io::Error,
        /// A remedy.
        advice: &'static str,
    },
    /// Another process listens on the socket.
    #[error("cannot open {} for the console: another process listens there; name another path, or end that process", path.display())]
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
    /// The host cannot create a pseudo-terminal.
    #[error("cannot create a pseudo-terminal for the console: {0}; is /dev/pts mounted?")]
    Pty(#[source] io::Error),
    /// The guest's output cannot be written.
    #[error("cannot write the guest's console to {to}: {source}; {advice}")]
    Write {
        /// The destination.
        to: String,
        /// The error of the host.
        source: io::Error,
        /// A remedy.
        advice: &'static str,
    },
    /// The host lacks a thread or file descriptor for the console.
    #[error("cannot start the console: {0}; raise the limits on open files and processes (ulimit -n, ulimit -u)")]
    Start(#[source] io::Error),
}

/// An event that a console reports to its machine, on the console's thread.
#[derive(Debug)]
pub enum ConsoleEvent {
    /// The user typed Ctrl-A x to end the machine.
    Quit,
    /// The output cannot be written. Reported once; further output is dropped.
    Failed(ConsoleError),
}

type EventSink = Box<dyn Fn(ConsoleEvent) + Send>;

/// An open console; see the module's description.
pub struct Console {
    output: ConsoleOutput,
    input: Arc<ConsoleInput>,
    pty: Option<PathBuf>,
    thread: Option<JoinHandle<()>>,
    /// The file for the newest output at the end.
    last: Mutex<Option<file::LastOutput>>,
}

impl Console {
    /// Opens the console that `config` describes. `events` must not wait for the console.
    ///
    /// # Errors
    /// Returns an error if the destination cannot be opened.
    pub fn open(config: &ConsoleConfig, events: impl Fn(ConsoleEvent) + Send + 'static) -> Result<Self, ConsoleError> {
        let (backend, pty): (Box<dyn Backend>, _) = match config {
            ConsoleConfig::None => return Ok(Self::without_thread(Sink::Nowhere)),
            ConsoleConfig::Stdio => (Box::new(stdio::StdioBackend::open()?), None),
            ConsoleConfig::File(path) => (Box::new(file::FileBackend::open(path)?), None),
            ConsoleConfig::Unix(path) => (Box::new(unix::UnixBackend::open(path)?), None),
            ConsoleConfig::Pty => {
                let backend = pty::PtyBackend::open()?;
                let path = backend.path().to_owned();
                (Box::new(backend), Some(path))
            }
        };
        Self::start(backend, pty, Box::new(events))
    }

    /// Returns a console that shares standard output with others. It prints whole lines, each with `label` before it, and has no
    /// input. `events` as for [`open`](Self::open).
    ///
    /// # Errors
    /// Returns an error if standard output is not writable.
    pub fn labelled(label: &str, events: impl Fn(ConsoleEvent) + Send + 'static) -> Result<Self, ConsoleError> {
        Self::start(Box::new(lines::LinesBackend::open(label)?), None, Box::new(events))
    }

    /// Returns a console for a program, which reads and types through the [`Capture`].
    pub fn capture() -> (Self, Capture) {
        let transcript = Arc::new(capture::Transcript::default());
        let console = Self::without_thread(Sink::Capture(transcript.clone()));
        let input = console.input.clone();
        (console, Capture { transcript, input })
    }

    fn without_thread(sink: Sink) -> Self {
        let output = ConsoleOutput { sink, history: Arc::default() };
        Self { output, input: Arc::new(ConsoleInput::new(None)), pty: None, thread: None, last: Mutex::default() }
    }

    fn start(backend: Box<dyn Backend>, pty: Option<PathBuf>, events: EventSink) -> Result<Self, ConsoleError> {
        let waker = Arc::new(Waker::new().map_err(ConsoleError::Start)?);
        let output = Arc::new(OutputQueue::new(waker.clone()));
        let input = Arc::new(ConsoleInput::new(Some(waker.clone())));
        let pump = Pump {
            backend,
            output: output.clone(),
            input: input.clone(),
            waker,
            events,
            batch: Default::default(),
            held_since: None,
        };
        let thread = thread::Builder::new().name("console".into()).spawn(move || pump.run());
        let thread = Some(thread.map_err(ConsoleError::Start)?);
        let output = ConsoleOutput { sink: Sink::Queue(output), history: Arc::default() };
        Ok(Self { output, input, pty, thread, last: Mutex::default() })
    }

    /// Keeps the newest 64 KiB of output, and writes them to a file at the end of the machine.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn keep_last(&self, path: &Path) -> Result<(), ConsoleError> {
        *self.last.lock() = Some(file::LastOutput::open(path)?);
        Ok(())
    }

    /// Returns the output to which devices print.
    pub fn output(&self) -> ConsoleOutput {
        self.output.clone()
    }

    /// Returns the input from which the serial port reads.
    pub fn input(&self) -> Arc<ConsoleInput> {
        self.input.clone()
    }

    /// Attaches a client.
    ///
    /// # Errors
    /// Returns an error if it is to type and another one does.
    pub(crate) fn attach(&self, part: Part) -> Result<Attached, NotAttached> {
        Attached::new(self.output.history.clone(), self.input.clone(), part)
    }

    /// Returns the path of the other end of a `pty` console.
    pub fn pty_path(&self) -> Option<&Path> {
        self.pty.as_deref()
    }

    /// Waits until all output is written, and returns `true` if it was. Call it when no VP is running.
    ///
    /// Without a deadline, it waits as long as the reader takes. A call of [`cancel`](Self::cancel) on another thread
    /// ends the wait, and so does a failed write. It does not wait for a console that nobody has opened.
    pub fn finish(&self, deadline: Option<Instant>) -> bool {
        match &self.output.sink {
            Sink::Queue(queue) => queue.finish(deadline),
            Sink::Nowhere | Sink::Capture(_) => true,
        }
    }

    /// Reports the machine's end to threads that wait at a [`Capture`], and to attached clients, and writes the newest output to its
    /// file, if there is one. Further calls do nothing.
    pub fn end(&self, how: &str) {
        self.output.history.end();
        let last = self.last.lock().take();
        let written = last.map_or(Ok(()), |last| last.write(&self.output.history.kept()));
        written.unwrap_or_else(|error| limited::warn!("{error}"));
        if let Sink::Capture(transcript) = &self.output.sink {
            transcript.end(how);
        }
    }

    /// Drops unwritten and further output, and ends the console's I/O. Never blocks.
    pub fn cancel(&self) {
        if let Sink::Queue(queue) = &self.output.sink {
            queue.close();
        }
    }
}

impl Drop for Console {
    /// Ends the thread, without waiting for a reader.
    fn drop(&mut self) {
        self.cancel();
        self.output.history.end();
        if let Some(thread) = self.thread.take() {
            // If it panicked, the panic's message has been printed.
            let _ = thread.join();
        }
    }
}

/// The output for devices. Writing to it never fails and never blocks: see [`wait_for_room`](Self::wait_for_room).
#[derive(Clone)]
pub struct ConsoleOutput {
    sink: Sink,
    /// The output for attached clients.
    history: Arc<History>,
}

#[derive(Clone)]
enum Sink {
    Nowhere,
    Queue(Arc<OutputQueue>),
    Capture(Arc<capture::Transcript>),
}

impl ConsoleOutput {
    /// Makes the calling VP wait, at its partition's gate, while there is more output than can be written.
    ///
    /// Call it after a VP's access to a device, without holding a lock.
    pub fn wait_for_room(&self, gate: &Arc<Gate>) {
        if let Sink::Queue(queue) = &self.sink {
            queue.wait_for_room(gate);
        }
    }
}

impl io::Write for ConsoleOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.history.push(bytes);
        match &self.sink {
            Sink::Nowhere => {}
            Sink::Queue(queue) => queue.push(bytes),
            Sink::Capture(transcript) => transcript.push(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
