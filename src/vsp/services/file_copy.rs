//! File copy ("Guest Service Interface"): writes a file into the guest.
//!
//! The host names the file (START), sends it in fragments of 6 KiB, each of which the guest confirms (DATA), and ends the copy
//! (COMPLETE). If something fails in between, the guest is told to remove what it has (CANCEL).

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use serde::Serialize;
use zerocopy::{IntoBytes, little_endian};

use super::protocol::{Failure, Moment, Outgoing, Protocol, Reply, Ticket};
use super::wire::Version;
use super::{Answer, Details, Event, Request, text};
use crate::wire::{open_enum, wire};

/// Linux gives its daemon 30 s for each message.
const PATIENCE: Duration = Duration::from_secs(60);

/// Length of a fragment.
pub const FRAGMENT: usize = 6144;

/// Maximum length of a name and of a folder. Linux cuts off longer ones, in UTF-8, without an error.
const MAX_PATH: usize = 259;

open_enum! {
/// An operation in the guest.
Operation: u32, "operation {}";
    /// It opens the file.
    START = 0, "START";
    /// It writes a fragment.
    DATA = 1, "DATA";
    /// It closes the file.
    COMPLETE = 2, "COMPLETE";
    /// It removes the file.
    CANCEL = 3, "CANCEL";
}

wire! { 36,
/// The start of each message, and all of COMPLETE and CANCEL.
pub struct Head {
    /// The operation.
    pub operation: Operation,
    /// 0.
    pub reserved: [[u8; 16]; 2],
}}

wire! { 1088,
/// `START`
pub struct Start {
    /// The start of the message.
    pub head: Head,
    /// The name of the file.
    pub name: [u8; 520],
    /// Its folder.
    pub folder: [u8; 520],
    /// See [`Start::OVERWRITE`].
    pub flags: u32,
    /// Length of the file, in bytes.
    pub size: u64,
}}

impl Start {
    /// In [`flags`](Self::flags): a file with that name is replaced.
    pub const OVERWRITE: u32 = 1;
    /// In [`flags`](Self::flags): the folder is created if it does not exist.
    pub const MAKE_PATH: u32 = 2;
}

wire! { 6196,
/// `DATA`
pub struct Data {
    /// The start of the message.
    pub head: Head,
    /// 0.
    pub reserved: u32,
    /// Offset of the fragment in the file, in bytes.
    pub offset: little_endian::U64,
    /// Length of the fragment, in bytes.
    pub length: u32,
    /// The fragment.
    pub fragment: [u8; FRAGMENT],
}}

impl Head {
    fn new(operation: Operation) -> Self {
        Self { operation, reserved: [[0; 16]; 2] }
    }
}

/// A copy of a file.
pub struct Copy {
    /// Path of the file in the guest.
    pub target: String,
    /// A file with that name is replaced.
    pub overwrite: bool,
    /// The folder is created if it does not exist.
    pub make_path: bool,
    /// Length of the file, in bytes.
    pub size: u64,
    /// The content. It is read on the thread that sends the messages.
    pub source: Box<dyn Read + Send>,
}

impl fmt::Debug for Copy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, overwrite, make_path, size, source: _ } = self;
        write!(formatter, "Copy {{ {target}, {size} bytes, overwrite: {overwrite}, make_path: {make_path} }}")
    }
}

impl Copy {
    fn start(&self) -> Result<Start, Failure> {
        let invalid = |why: &str| Failure::Invalid(format!("'{}' {why}", self.target));
        let Some(slash) = self.target.rfind(['/', '\\']) else {
            return Err(invalid("is not a path in the guest; write it like /folder/file"));
        };
        // Linux checks and creates only folders that end with a slash.
        let (folder, name) = self.target.split_at(slash + 1);
        if matches!(name, "" | "." | "..") {
            return Err(invalid("has no file name"));
        }
        if name.len() > MAX_PATH || folder.len() > MAX_PATH {
            return Err(invalid("is too long: a name and a folder have at most 259 bytes each"));
        }
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = flag(self.overwrite, Start::OVERWRITE) | flag(self.make_path, Start::MAKE_PATH);
        let head = Head::new(Operation::START);
        let mut start = Start { head, name: [0; 520], folder: [0; 520], flags, size: self.size };
        text::put(&mut start.name, name, "the file name")?;
        text::put(&mut start.folder, folder, "the folder")?;
        Ok(start)
    }
}

#[derive(Debug)]
enum Phase {
    /// This is to be sent.
    Start(Box<Start>),
    Starting,
    /// The next fragment, or COMPLETE, is to be sent.
    Data,
    /// A fragment of this length is sent.
    Sending(u64),
    Completing,
    /// CANCEL is to be sent, for this reason.
    Cancel(Failure),
    Cancelling(Failure),
}

struct Job {
    ticket: Ticket,
    copy: Copy,
    phase: Phase,
    copied: u64,
    cancelled: bool,
}

/// The service.
#[derive(Default)]
pub struct FileCopyService {
    job: Option<Job>,
    files: u64,
}

/// The status of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Number of files that were copied.
    pub files: u64,
    /// The copy that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copying: Option<Progress>,
}

/// The progress of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Path of the file in the guest.
    pub target: String,
    /// Number of bytes that the guest has confirmed.
    pub copied_bytes: u64,
    /// Total number of bytes.
    pub total_bytes: u64,
}

impl Job {
    /// Returns the body of the next message.
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.cancelled && matches!(self.phase, Phase::Data) {
            self.phase = Phase::Cancel(Failure::Cancelled);
        }
        if let Phase::Data = self.phase {
            match self.fragment() {
                Ok(Some((body, length))) => {
                    self.phase = Phase::Sending(length);
                    return Some(body);
                }
                Ok(None) => {
                    self.phase = Phase::Completing;
                    return Some(Head::new(Operation::COMPLETE).as_bytes().to_vec());
                }
                Err(error) => self.phase = Phase::Cancel(Failure::Source(error.to_string())),
            }
        }
        match std::mem::replace(&mut self.phase, Phase::Starting) {
            Phase::Start(start) => Some(start.as_bytes().to_vec()),
            Phase::Cancel(failure) => {
                self.phase = Phase::Cancelling(failure);
                Some(Head::new(Operation::CANCEL).as_bytes().to_vec())
            }
            phase => {
                self.phase = phase;
                None
            }
        }
    }

    /// Reads the next fragment and returns its message and its length, `None` at the end of the file.
    fn fragment(&mut self) -> io::Result<Option<(Vec<u8>, u64)>> {
        let left = self.copy.size.saturating_sub(self.copied).min(FRAGMENT as u64);
        if left == 0 {
            return Ok(None);
        }
        let mut data = Data {
            head: Head::new(Operation::DATA),
            reserved: 0,
            offset: self.copied.into(),
            length: left as u32,
            fragment: [0; FRAGMENT],
        };
        self.copy.source.read_exact(&mut data.fragment[..left as usize]).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("it has become shorter"),
            _ => error,
        })?;
        Ok(Some((data.as_bytes().to_vec(), left)))
    }

    /// Processes a reply. Returns the outcome if the job is finished.
    fn reply(&mut self, result: Result<(), Failure>) -> Option<Result<Answer, Failure>> {
        match (std::mem::replace(&mut self.phase, Phase::Data), result) {
            (Phase::Starting, Err(failure @ Failure::Guest(_))) => return Some(Err(failure)),
            (Phase::Cancelling(failure), _) => return Some(Err(failure)),
            (Phase::Completing, Ok(())) => return Some(Ok(Answer::Copied(self.copied))),
            (Phase::Sending(length), Ok(())) => self.copied += length,
            (_, Ok(())) => {}
            // The guest may have opened the file.
            (_, Err(failure)) => self.phase = Phase::Cancel(failure),
        }
        None
    }
}

impl FileCopyService {
    fn end(&mut self, outcome: Result<Answer, Failure>, events: &mut Vec<Event>) {
        if let Some(job) = self.job.take() {
            self.files += u64::from(outcome.is_ok());
            events.push(Event::Finished(job.ticket, outcome));
        }
    }
}

impl Protocol for FileCopyService {
    fn request(&mut self, _now: &Moment, ticket: Ticket, request: Request) -> Result<(), Failure> {
        let Request::Copy(copy) = request else { return Err(request.is_misplaced()) };
        if self.job.is_some() {
            return Err(Failure::Busy);
        }
        let phase = Phase::Start(Box::new(copy.start()?));
        self.job = Some(Job { ticket, copy, phase, copied: 0, cancelled: false });
        Ok(())
    }

    fn cancel(&mut self, ticket: Ticket, events: &mut Vec<Event>) {
        let Some(job) = self.job.as_mut().filter(|job| job.ticket == ticket) else { return };
        job.cancelled = true;
        if let Phase::Start(_) = job.phase {
            self.end(Err(Failure::Cancelled), events);
        }
    }

    fn connected(&mut self, _now: &Moment) {}

    fn disconnected(&mut self, events: &mut Vec<Event>) {
        self.end(Err(Failure::Closed), events);
    }

    fn next(&mut self, _now: &Moment, _version: Version) -> Option<Outgoing> {
        let body = self.job.as_mut()?.next()?;
        Some(Outgoing { body, patience: Some(PATIENCE) })
    }

    fn reply(&mut self, _now: &Moment, reply: Result<Reply<'_>, Failure>, events: &mut Vec<Event>) {
        let result = reply.and_then(|reply| reply.succeeded());
        if let Some(outcome) = self.job.as_mut().and_then(|job| job.reply(result)) {
            self.end(outcome, events);
        }
    }

    fn next_send(&self) -> Option<Duration> {
        let is_due = |job: &&Job| matches!(job.phase, Phase::Start(_) | Phase::Data | Phase::Cancel(_));
        self.job.as_ref().filter(is_due).map(|_| Duration::ZERO)
    }

    fn details(&self) -> Details {
        let progress = |job: &Job| Progress {
            target: job.copy.target.clone(),
            copied_bytes: job.copied,
            total_bytes: job.copy.size,
        };
        Details::FileCopy(Facts { files: self.files, copying: self.job.as_ref().map(progress) })
    }
}

#[cfg(test)]
#[path = "file_copy_tests.rs"]
mod tests;
