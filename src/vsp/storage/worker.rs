//! One channel's work: packets in, disk I/O, completions out.
//!
//! A worker belongs to the thread of one channel. What goes straight to a file goes through its own ring, a batch with one
//! system call; the rest is left to the image's threads. How many requests are in its hands is bounded: at the bound
//! the channel leaves packets in the guest's ring.
//!
//! While the machine is paused, a worker [begins nothing and lets nothing go on](Worker::hold).
//!
//! A worker that is dropped cancels its long commands, and waits for all that it has begun, since the guest may have its pages back afterwards.
//! Where there is no guest any more, it waits a moment only: a disk that hangs does not keep a machine from its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::controller::{Controller, Execution, NEXUS, NoData};
use super::scsi::{self, Action, DataOut, Failure, Finished, Job, Response};
use super::storvsp::wire::{DataDirection, Operation as VstorOperation, Reply};
use super::storvsp::{self, PacketError, Request, Ticket};
use super::unit::{Image, Unit};
use crate::block::cancel::{Cancel, Flag};
use crate::block::gate::Share;
use crate::block::hold::Hold;
use crate::block::ring::{Completion, Operation, Ring};
use crate::block::vectored::Vectors;
use crate::host::limited;
use crate::memory::buffer::GuestBuffer;
use crate::vsp::storage::perform::{read_failure, write_failure};

/// How many requests a channel has in hand at most. Linux's driver does not come near it: its ring of 128 KiB bounds it to about 300.
pub const MAX_IN_FLIGHT: u32 = 512;

/// A packet's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The packet's transaction id.
    pub transaction_id: u64,
    /// What goes into the ring.
    pub reply: Reply,
}

/// A command whose job is under way.
struct Pending {
    transaction_id: u64,
    ticket: Ticket,
    unit: Arc<Unit>,
    job: Job,
    direction: DataDirection,
    length: u32,
    /// To write the answer into, if the job has one.
    pages: GuestBuffer,
    _share: Option<Share>,
}

/// Jobs that threads have done, until the worker looks.
struct Mailbox {
    done: Mutex<Vec<(u32, Result<Finished, Failure>)>>,
    /// The eventfd that the channel's thread sleeps on.
    doorbell: OwnedFd,
}

impl Mailbox {
    fn post(&self, tag: u32, result: Result<Finished, Failure>) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push((tag, result));
        self.wake();
    }

    fn wake(&self) {
        // A full counter wakes as well as one that is not.
        let _ = rustix::io::write(&self.doorbell, &1_u64.to_ne_bytes());
    }

    fn take(&self) -> Vec<(u32, Result<Finished, Failure>)> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// See the module's description.
pub struct Worker {
    controller: Arc<Controller>,
    primary: bool,
    /// Before what the ring's requests use goes.
    ring: Option<Ring>,
    pending: Vec<Option<Pending>>,
    free: Vec<u32>,
    mailbox: Arc<Mailbox>,
    answers: Vec<Answer>,
    /// The controller's changes that the guest was told of.
    noticed: u64,
    /// Cancels what this channel has begun: the long commands, and all of them.
    closed: Flag,
    abandoned: Flag,
    hold: Hold,
    /// Whether the guest that the channel served is gone for good.
    is_guest_gone: Box<dyn Fn() -> bool + Send>,
}

/// How long a worker waits for what it has begun where there is no guest any more.
const GRACE: Duration = Duration::from_millis(300);

impl Worker {
    /// Creates the worker of a channel. `doorbell` is the eventfd that the channel's thread sleeps on: it is signalled when jobs are done.
    ///
    /// # Errors
    /// Returns the host's error for the eventfd.
    pub fn new(controller: Arc<Controller>, primary: bool, doorbell: OwnedFd) -> io::Result<Self> {
        Self::with_ring(controller, primary, doorbell, new_ring())
    }

    fn with_ring(
        controller: Arc<Controller>,
        primary: bool,
        doorbell: OwnedFd,
        mut ring: Option<Ring>,
    ) -> io::Result<Self> {
        if let Some(ring) = &mut ring {
            ring.notify(doorbell.try_clone()?)?;
        }
        let noticed = controller.changes();
        let mailbox = Arc::new(Mailbox { done: Mutex::default(), doorbell });
        let hold = Hold::new({
            let mailbox = mailbox.clone();
            move || mailbox.wake()
        });
        Ok(Self {
            controller,
            primary,
            ring,
            pending: (0..MAX_IN_FLIGHT).map(|_| None).collect(),
            free: (0..MAX_IN_FLIGHT).rev().collect(),
            mailbox,
            answers: Vec::new(),
            noticed,
            closed: Flag::default(),
            abandoned: Flag::default(),
            hold,
            is_guest_gone: Box::new(|| false),
        })
    }

    /// Returns the same for a guest that may go: `is_guest_gone` tells when nothing can use the guest's memory any more.
    pub fn until(mut self, is_guest_gone: impl Fn() -> bool + Send + 'static) -> Self {
        self.is_guest_gone = Box::new(is_guest_gone);
        self
    }

    /// Returns `true` if another packet may come. If not, it has to stay where it is until there are answers, and they are taken.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty() && self.answers.len() < MAX_IN_FLIGHT as usize
    }

    /// Returns how many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.pending.len() - self.free.len()
    }

    /// Takes a packet, which came with `pages`. Besides, says how many subchannels the guest wants.
    ///
    /// # Errors
    /// A packet that cannot be answered.
    pub fn take(&mut self, transaction_id: u64, packet: &[u8], pages: GuestBuffer) -> Result<Option<u16>, PacketError> {
        if storvsp::operation(packet) != Some(VstorOperation::EXECUTE_SRB) || !self.controller.is_ready() {
            let (reply, subchannels) = self.controller.control(self.primary, packet)?;
            self.answers.push(Answer { transaction_id, reply });
            return Ok(subchannels);
        }
        match Request::parse(packet, pages.len()) {
            Ok(request) => self.execute(transaction_id, &request, pages),
            Err(reply) => self.answers.push(Answer { transaction_id, reply }),
        }
        Ok(None)
    }

    fn execute(&mut self, transaction_id: u64, request: &Request, pages: GuestBuffer) {
        let Request { lun, cdb, direction, length, ticket } = request;
        // Never fails: the length was checked.
        let pages = pages.shortened(*length as usize).unwrap_or_default();
        let goes_in = *direction == DataDirection::IN;
        let (data_out, room): (&dyn DataOut, usize) = if goes_in { (&NoData, pages.len()) } else { (&pages, 0) };
        let command = scsi::Request { nexus: NEXUS, cdb, data_out, room };
        match self.controller.execute(*lun, &command) {
            Execution::Answered(response) => {
                let reply = answer(ticket, &response, *direction, &pages);
                self.answers.push(Answer { transaction_id, reply });
            }
            Execution::NoUnit(response) => {
                self.answers.push(Answer { transaction_id, reply: ticket.no_such_unit(&response) });
            }
            Execution::Begun { unit, image, job, cancel } => {
                let pending = Pending {
                    transaction_id,
                    ticket: *ticket,
                    unit,
                    job,
                    direction: *direction,
                    length: *length,
                    pages,
                    _share: None,
                };
                let (channel, guest) = (self.closed.clone(), self.abandoned.clone());
                self.begin(pending, &image, Cancel { unit: cancel, channel, guest, hold: self.hold.clone() });
            }
        }
    }

    fn begin(&mut self, mut pending: Pending, image: &Arc<Image>, cancel: Cancel) {
        // The caller asked has_room.
        let Some(tag) = self.free.pop() else { return };
        let direct = self.ring.as_mut().and_then(|ring| {
            let (file, operation, share) = straight(&pending, image)?;
            ring.push(tag, file, operation).ok().map(|()| share)
        });
        match direct {
            Some(share) => pending._share = share,
            None => {
                let mailbox = self.mailbox.clone();
                let then = move |result| mailbox.post(tag, result);
                let (job, pages) = (pending.job.clone(), pending.pages.clone());
                image.perform(&self.controller, job, pages, cancel, then);
            }
        }
        self.pending[tag as usize] = Some(pending);
    }

    /// Submits what was taken, and finishes what is done, without sleeping.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn poll(&mut self) -> io::Result<()> {
        if let Some(ring) = &mut self.ring {
            ring.enter()?;
            let mut done = Vec::new();
            ring.reap(|completion| done.push(completion))?;
            for Completion { tag, result } in done {
                self.finish(tag, |job| match (result, &job.action) {
                    (Ok(()), _) => Ok(Finished::Done),
                    (Err((offset, error)), Action::Read(_)) => Err(read_failure(offset, &error)),
                    (Err((offset, error)), _) => Err(write_failure(offset, &error)),
                });
            }
        }
        for (tag, result) in self.mailbox.take() {
            self.finish(tag, |_| result);
        }
        Ok(())
    }

    fn finish(&mut self, tag: u32, result: impl FnOnce(&Job) -> Result<Finished, Failure>) {
        let Some(pending) = self.pending.get_mut(tag as usize).and_then(Option::take) else { return };
        self.free.push(tag);
        let result = result(&pending.job);
        let moved = match &pending.job.action {
            Action::Read(extent) => extent.length as u32,
            _ => pending.length,
        };
        let response = pending.unit.finish(&pending.job, result);
        let reply = if response.data.is_empty() {
            pending.ticket.complete(&response, moved, moved)
        } else {
            answer(&pending.ticket, &response, pending.direction, &pending.pages)
        };
        self.answers.push(Answer { transaction_id: pending.transaction_id, reply });
    }

    /// Begins no job and lets no job go on until [`release`](Self::release). Short jobs that are under way end; long ones stop
    /// at their next step. Returns `true` once nothing uses the disks and guest memory; until then, the doorbell is signalled
    /// when it is worth calling this again.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn hold(&mut self) -> io::Result<bool> {
        self.hold.begin();
        self.poll()?;
        Ok(self.hold.is_quiet() && self.ring.as_ref().is_none_or(|ring| ring.in_flight() == 0))
    }

    /// Ends a [`hold`](Self::hold).
    pub fn release(&mut self) {
        self.hold.end();
    }

    /// Returns the answers that there are. The channel sends them, or keeps them until there is room.
    pub fn answers(&mut self) -> impl Iterator<Item = Answer> + '_ {
        self.answers.drain(..)
    }

    /// Returns `true` if there may be a [`notice`](Self::notice).
    pub fn has_notice(&self) -> bool {
        self.primary && self.noticed != self.controller.changes()
    }

    /// Returns what the guest must be told without having asked, once: units have come or gone.
    pub fn notice(&mut self) -> Option<Reply> {
        let changes = self.controller.changes();
        if !self.primary || std::mem::replace(&mut self.noticed, changes) == changes {
            return None;
        }
        self.controller.notice()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.closed.set();
        self.hold.end();
        // The guest may have its pages back after this: nobody may use them any more.
        let mut alone_since = None;
        while self.in_flight() > 0 && self.poll().is_ok() {
            self.answers.clear();
            if (self.is_guest_gone)() && alone_since.get_or_insert_with(Instant::now).elapsed() > GRACE {
                self.abandon();
                break;
            }
            if self.in_flight() > 0 && sleep_on(&self.mailbox.doorbell, GRACE).is_err() {
                break;
            }
        }
        if self.primary {
            self.controller.reset_protocol();
        }
    }
}

impl Worker {
    /// Leaves what is still under way to itself. It keeps the guest's memory for as long as it takes, and harms nobody.
    fn abandon(&mut self) {
        self.abandoned.set();
        limited::warn!("{} requests of the guest have not completed: does one of its disks hang?", self.in_flight());
        let Some(ring) = self.ring.take().filter(|ring| ring.in_flight() > 0) else { return };
        // The ring waits for what the kernel has in hand, and this thread must not.
        let waiting = std::thread::Builder::new().name("disk-rest".into()).spawn(move || drop(ring));
        if let Err(error) = waiting {
            limited::warn!("a machine's end waits for its disks, because a thread cannot be started: {error}");
        }
    }
}

/// Writes the response's data into the guest's pages, and makes the reply.
fn answer(ticket: &Ticket, response: &Response, direction: DataDirection, pages: &GuestBuffer) -> Reply {
    let wanted = response.data.len();
    let moved = match direction {
        DataDirection::IN => wanted.min(pages.len()),
        // Data that came were all taken; data that nobody made room for are lost.
        _ if wanted == 0 => pages.len(),
        _ => 0,
    };
    if direction == DataDirection::IN && pages.write(0, &response.data[..moved]).is_err() {
        return ticket.complete(response, 0, 1);
    }
    ticket.complete(response, moved as u32, wanted as u32)
}

/// How a job goes straight to its file, if it can.
fn straight(pending: &Pending, image: &Arc<Image>) -> Option<(Arc<std::fs::File>, Operation, Option<Share>)> {
    let direct = image.disk().file()?;
    let Job { action, durable } = &pending.job;
    let vectors = |length: u64| Vectors::new(&pending.pages, length as usize).ok();
    let (operation, share) = match action {
        Action::Read(extent) if !durable => {
            let vectors = vectors(extent.length).filter(|vectors| direct.takes(extent.offset, vectors))?;
            (Operation::Read(vectors, extent.offset), None)
        }
        Action::Write(extent) => {
            let vectors = vectors(extent.length).filter(|vectors| direct.takes_write(extent.offset, vectors))?;
            let share = image.gate().try_share()?;
            (Operation::Write { vectors, offset: extent.offset, durable: *durable }, Some(share))
        }
        Action::Flush => (Operation::Flush, None),
        _ => return None,
    };
    Some((direct.file.clone(), operation, share))
}

impl DataOut for GuestBuffer {
    fn length(&self) -> usize {
        self.len()
    }

    fn copy(&self, offset: usize, into: &mut [u8]) -> bool {
        self.read(offset, into).is_ok()
    }
}

/// A ring, where the host allows one.
fn new_ring() -> Option<Ring> {
    static SAID: AtomicBool = AtomicBool::new(false);
    match Ring::new(MAX_IN_FLIGHT) {
        Ok(ring) => Some(ring),
        Err(error) => {
            if !SAID.swap(true, Ordering::Relaxed) {
                log::warn!("the host does not allow io_uring ({error}): disks use threads instead, which is slower");
            }
            None
        }
    }
}

/// Sleeps until the eventfd is signalled, and takes the signal; or until the time is over.
fn sleep_on(doorbell: &OwnedFd, most: Duration) -> io::Result<()> {
    let time = Timespec::try_from(most).ok();
    match poll(&mut [PollFd::new(&doorbell.as_fd(), PollFlags::IN)], time.as_ref()) {
        Ok(0) | Err(Errno::INTR) => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::io::read(doorbell, &mut [0; 8]) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
