//! One channel's work: packets in, requests to disks, completions out.
//!
//! A worker belongs to the thread of one channel. It decodes each SCSI command and submits the request that follows from it to
//! its [`Queue`]. The number of requests in flight is bounded: at the bound the channel leaves packets in the guest's
//! ring.
//!
//! A worker that is dropped cancels its long commands and waits for all of them: see [`Queue::close`].

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::controller::{Controller, Execution, NEXUS, NoData};
use super::scsi::{self, DataOut, Job, Response};
use super::storvsp::wire::{DataDirection, Operation as VstorOperation, Reply};
use super::storvsp::{self, PacketError, Srb, Ticket};
use super::unit::Unit;
use crate::block::Queue;
use crate::block::queue::Completed;
use crate::block::request::Operation;
use crate::memory::buffer::GuestBuffer;

/// Maximum number of requests in flight of a channel. Linux's driver stays below it: its ring of 128 KiB holds about 300.
pub const MAX_IN_FLIGHT: u32 = 512;

/// A packet's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The packet's transaction id.
    pub transaction_id: u64,
    /// The completion packet for the ring.
    pub reply: Reply,
}

/// A command whose request is in flight.
struct Pending {
    transaction_id: u64,
    ticket: Ticket,
    unit: Arc<Unit>,
    direction: DataDirection,
    length: u32,
    allocation_length: usize,
}

/// See the module's description.
pub struct Worker {
    controller: Arc<Controller>,
    primary: bool,
    queue: Queue<Pending>,
    answers: Vec<Answer>,
    /// Number of the controller's changes that the guest was notified of.
    noticed: u64,
}

impl Worker {
    /// Creates the worker of a channel. `doorbell` is the eventfd that the channel's thread sleeps on: it is signalled when
    /// requests have completed. `is_guest_gone` returns `true` once nothing can use the guest's memory any more.
    ///
    /// # Errors
    /// Returns the host's error for the eventfd.
    pub fn new(
        controller: Arc<Controller>,
        primary: bool,
        doorbell: OwnedFd,
        is_guest_gone: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Queue::new(MAX_IN_FLIGHT, doorbell, controller.threads().clone(), is_guest_gone)?;
        Ok(Self::with_queue(controller, primary, queue))
    }

    fn with_queue(controller: Arc<Controller>, primary: bool, queue: Queue<Pending>) -> Self {
        let noticed = controller.changes();
        Self { controller, primary, queue, answers: Vec::new(), noticed }
    }

    /// Returns `true` if there is room for another packet. If not, it stays in the ring until answers have been taken.
    pub fn has_room(&self) -> bool {
        self.queue.has_room() && self.answers.len() < MAX_IN_FLIGHT as usize
    }

    /// Processes a packet, with the guest memory `pages` that it lists. Returns the number of subchannels if it requests
    /// some.
    ///
    /// # Errors
    /// Returns an error if the packet cannot be answered.
    pub fn take(&mut self, transaction_id: u64, packet: &[u8], pages: GuestBuffer) -> Result<Option<u16>, PacketError> {
        if storvsp::operation(packet) != Some(VstorOperation::EXECUTE_SRB) || !self.controller.is_ready() {
            let (reply, subchannels) = self.controller.control(self.primary, packet)?;
            self.answers.push(Answer { transaction_id, reply });
            return Ok(subchannels);
        }
        match Srb::parse(packet, pages.len()) {
            Ok(srb) => self.execute(transaction_id, &srb, pages),
            Err(reply) => self.answers.push(Answer { transaction_id, reply }),
        }
        Ok(None)
    }

    fn execute(&mut self, transaction_id: u64, srb: &Srb, pages: GuestBuffer) {
        let Srb { lun, cdb, direction, length, ticket } = srb;
        // Cannot fail: `Srb::parse` has checked the length.
        let pages = pages.shortened(*length as usize).unwrap_or_default();
        let goes_in = *direction == DataDirection::IN;
        let (data_out, room): (&dyn DataOut, usize) = if goes_in { (&NoData, pages.len()) } else { (&pages, 0) };
        let command = scsi::Command { nexus: NEXUS, cdb, data_out, room };
        match self.controller.execute(*lun, &command) {
            Execution::Answered(response) => {
                let reply = answer(ticket, &response, *direction, &pages);
                self.answers.push(Answer { transaction_id, reply });
            }
            Execution::NoUnit(response) => {
                self.answers.push(Answer { transaction_id, reply: ticket.no_such_unit(&response) });
            }
            Execution::Begun { unit, image, job, cancel } => {
                let Job { request, allocation_length } = job;
                let (ticket, direction, length) = (*ticket, *direction, *length);
                let pending = Pending { transaction_id, ticket, unit, direction, length, allocation_length };
                // The caller has checked `has_room`.
                self.queue.submit(image, request, pages, cancel, pending);
            }
        }
    }

    /// Submits the batch, and makes answers of the requests that have completed, without sleeping.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn poll(&mut self) -> io::Result<()> {
        let answers = &mut self.answers;
        self.queue.poll(|completed| answers.push(finish(completed)))
    }

    /// Begins no request, and pauses long ones, until [`release`](Self::release). Returns `true` once nothing uses the disks
    /// and guest memory; until then, the doorbell is signalled when it is worth calling this again.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn hold(&mut self) -> io::Result<bool> {
        self.queue.hold();
        self.poll()?;
        Ok(self.queue.is_quiet())
    }

    /// Ends a [`hold`](Self::hold).
    pub fn release(&mut self) {
        self.queue.release();
    }

    /// Takes the answers. The channel sends them, or keeps them until there is room.
    pub fn answers(&mut self) -> impl Iterator<Item = Answer> + '_ {
        self.answers.drain(..)
    }

    /// Returns `true` if there may be a [`notice`](Self::notice).
    pub fn has_notice(&self) -> bool {
        self.primary && self.noticed != self.controller.changes()
    }

    /// Returns, once, the packet that notifies the guest of units that have come or gone.
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
        self.queue.close();
        if self.primary {
            self.controller.reset_protocol();
        }
    }
}

/// Returns the answer to a command whose request has completed.
fn finish(completed: Completed<Pending>) -> Answer {
    let Completed { request, pages, result, context } = completed;
    let Pending { transaction_id, ticket, unit, direction, length, allocation_length } = context;
    let moved = match &request.operation {
        Operation::Read(extent) => extent.length as u32,
        _ => length,
    };
    let response = unit.finish(&Job { request, allocation_length }, result);
    let reply = if response.data.is_empty() {
        ticket.complete(&response, moved, moved)
    } else {
        answer(&ticket, &response, direction, &pages)
    };
    Answer { transaction_id, reply }
}

/// Writes the response's data into the guest's pages, and makes the reply.
fn answer(ticket: &Ticket, response: &Response, direction: DataDirection, pages: &GuestBuffer) -> Reply {
    let wanted = response.data.len();
    let moved = match direction {
        DataDirection::IN => wanted.min(pages.len()),
        // The guest's data were all taken. A response without room is lost.
        _ if wanted == 0 => pages.len(),
        _ => 0,
    };
    if direction == DataDirection::IN && pages.write(0, &response.data[..moved]).is_err() {
        return ticket.complete(response, 0, 1);
    }
    ticket.complete(response, moved as u32, wanted as u32)
}

impl DataOut for GuestBuffer {
    fn length(&self) -> usize {
        self.len()
    }

    fn copy(&self, offset: usize, into: &mut [u8]) -> bool {
        self.read(offset, into).is_ok()
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
