//! A SCSI controller: up to 64 units, and the state that its channels share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::scsi::{self, CommandOutcome, DataOut, Nexus, Response, Sense, opcode};
use super::storvsp::wire::Reply;
use super::storvsp::{Demand, Negotiation, PacketError, Scope};
use super::unit::Unit;
use crate::block::Image;
use crate::block::cancel::Flag;
use crate::block::threads::SharedThreads;
use crate::host::limited;
use crate::host::lock::{Mutex, RwLock};

/// Maximum number of units of a controller: LUNs 0 to 63, as on Hyper-V.
pub const MAX_LUNS: usize = 64;

/// The reason why a unit cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LunError {
    /// The LUN is too high.
    #[error("lun={0} is too high: a controller has LUNs 0 to 63")]
    NoSuchLun(u8),
    /// Another unit has that LUN.
    #[error("lun={0} is taken; give the disk another lun=, or another controller=")]
    Taken(u8),
}

/// A SCSI controller; see the module's description. Any thread may use it.
pub struct Controller {
    units: RwLock<[Option<Arc<Unit>>; MAX_LUNS]>,
    protocol: Mutex<Negotiation>,
    /// Whether commands are accepted: a copy of the protocol's state that is read without its lock.
    ready: AtomicBool,
    /// Number of times that units were attached, detached or resized.
    changes: AtomicU64,
    /// Called after each such change.
    listener: Mutex<Option<Listener>>,
    /// The threads that its disks share.
    threads: Arc<SharedThreads>,
}

type Listener = Box<dyn Fn() + Send + Sync>;

impl Controller {
    /// Creates a controller without units, and up to `max_subchannels` beside its primary channel.
    pub fn new(max_subchannels: u16) -> Arc<Self> {
        Arc::new(Self {
            units: RwLock::new([const { None }; MAX_LUNS]),
            protocol: Mutex::new(Negotiation::new(max_subchannels)),
            ready: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            listener: Mutex::default(),
            threads: Arc::default(),
        })
    }

    /// Attaches a unit. A running guest is notified: see [`changes`](Self::changes).
    ///
    /// # Errors
    /// Returns an [`LunError`].
    pub fn attach(&self, lun: u8, unit: Arc<Unit>) -> Result<(), LunError> {
        {
            let mut units = self.units.write();
            let slot = units.get_mut(usize::from(lun)).ok_or(LunError::NoSuchLun(lun))?;
            if slot.is_some() {
                return Err(LunError::Taken(lun));
            }
            *slot = Some(unit);
        }
        self.units_changed();
        Ok(())
    }

    /// Detaches a unit. Commands under way are cancelled, or finish if they are short. Later commands find no unit.
    pub fn detach(&self, lun: u8) -> Option<Arc<Unit>> {
        let gone = {
            let mut units = self.units.write();
            units.get_mut(usize::from(lun))?.take()
        };
        if let Some(unit) = &gone {
            unit.cancel_jobs();
            self.units_changed();
        }
        gone
    }

    /// Returns the unit with that LUN.
    pub fn unit(&self, lun: u8) -> Option<Arc<Unit>> {
        self.units.read().get(usize::from(lun))?.clone()
    }

    /// Checks whether the sizes of disks have changed. The guest learns of a change from its next command, and is
    /// notified so that it sends one.
    pub fn check_sizes(&self) {
        let mut resized = false;
        for (lun, unit) in self.all() {
            match unit.check_size() {
                Ok(true) => {
                    resized = true;
                    limited::info!("the disk with lun={lun} has a new size");
                }
                Ok(false) => {}
                Err(error) => limited::warn!("cannot determine the size of the disk with lun={lun}: {error}"),
            }
        }
        if resized {
            self.announce();
        }
    }

    /// Returns the threads that its disks share.
    pub(super) fn threads(&self) -> &Arc<SharedThreads> {
        &self.threads
    }

    /// Calls `listener` whenever [`changes`](Self::changes) changes. Replaces the previous listener.
    pub fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        *self.listener.lock() = Some(Box::new(listener));
    }

    /// Returns a number that changes when units are attached, detached or resized. The primary channel then sends
    /// [`notice`](Self::notice).
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Returns the packet that asks the guest to rescan its units, if its driver supports that.
    pub fn notice(&self) -> Option<Reply> {
        use super::storvsp::wire::Operation;
        self.protocol.lock().wants_notices().then(|| Reply::notice(Operation::ENUMERATE_BUS))
    }

    /// Returns `true` if commands are accepted.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Resets the protocol, because the primary channel was opened or closed.
    pub fn reset_protocol(&self) {
        let mut protocol = self.protocol.lock();
        protocol.reset();
        self.ready.store(false, Ordering::Release);
        *self.listener.lock() = None;
    }

    /// Processes a packet that is not a SCSI command. Returns the reply, and the number of subchannels to offer.
    ///
    /// # Errors
    /// Returns an error if the packet cannot be answered.
    pub fn control(&self, primary: bool, packet: &[u8]) -> Result<(Reply, Option<u16>), PacketError> {
        let (reply, demand) = {
            let mut protocol = self.protocol.lock();
            let answer = protocol.control(primary, packet)?;
            self.ready.store(protocol.is_ready(), Ordering::Release);
            answer
        };
        match demand {
            Demand::Nothing => {}
            Demand::OfferSubchannels(count) => return Ok((reply, Some(count))),
            Demand::Begin => self.reset(None, Sense::POWER_ON),
            Demand::Reset(Scope::Lun(lun)) => self.reset(Some(lun), Sense::DEVICE_RESET),
            Demand::Reset(Scope::Bus) => self.reset(None, Sense::BUS_RESET),
            Demand::Reset(Scope::Adapter) => self.reset(None, Sense::POWER_ON_OR_RESET),
        }
        Ok((reply, None))
    }

    fn reset(&self, lun: Option<u8>, condition: Sense) {
        for (_, unit) in self.all().filter(|(found, _)| lun.is_none_or(|lun| lun == *found)) {
            unit.reset(condition);
        }
    }

    /// Executes a SCSI command on the unit at `lun`, if there is one.
    pub(super) fn execute(&self, lun: Option<u8>, command: &scsi::Command<'_>) -> Execution {
        if command.cdb[0] == opcode::REPORT_LUNS {
            return Execution::Answered(self.report_luns(lun, command));
        }
        let Some(unit) = lun.and_then(|lun| self.unit(lun)) else { return no_unit(command) };
        let (outcome, begun) = unit.with(|logical, image, cancel| {
            let outcome = logical.execute(command);
            let image = image.filter(|_| matches!(outcome, CommandOutcome::Perform(_)));
            (outcome, image.map(|image| (image.clone(), cancel.clone())))
        });
        match (outcome, begun) {
            (CommandOutcome::Done(response), _) => Execution::Answered(response),
            (CommandOutcome::Perform(job), Some((image, cancel))) => Execution::Begun { unit, image, job, cancel },
            // A medium always has an image.
            (CommandOutcome::Perform(_), None) => {
                Execution::Answered(Response::check(&Sense::MEDIUM_NOT_PRESENT, false))
            }
        }
    }

    /// REPORT LUNS is answered even if the unit does not exist, so that Linux finds the other units when there is no
    /// LUN 0.
    fn report_luns(&self, lun: Option<u8>, command: &scsi::Command<'_>) -> Response {
        let luns = self.all().map(|(lun, _)| lun).filter(|_| lun.is_some());
        match scsi::report_luns(command.cdb, luns) {
            Some(data) => {
                if let Some(unit) = lun.and_then(|lun| self.unit(lun)) {
                    unit.with(|logical, _, _| logical.luns_reported(command.nexus));
                }
                Response::with_data(data)
            }
            None => Response::check(&Sense::INVALID_FIELD_IN_CDB, false),
        }
    }

    fn units_changed(&self) {
        for (_, unit) in self.all() {
            unit.with(|logical, _, _| logical.luns_changed());
        }
        self.announce();
    }

    /// Notifies the guest.
    fn announce(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        if let Some(listener) = &*self.listener.lock() {
            listener();
        }
    }

    /// Returns the units, with their LUNs.
    pub fn all(&self) -> impl Iterator<Item = (u8, Arc<Unit>)> {
        let units = self.units.read().clone();
        (0..).zip(units).filter_map(|(lun, unit)| Some((lun, unit?)))
    }
}

/// The result of a command.
pub(super) enum Execution {
    /// The command is complete.
    Answered(Response),
    /// There is no such unit.
    NoUnit(Response),
    /// This job must be performed.
    Begun { unit: Arc<Unit>, image: Arc<Image>, job: scsi::Job, cancel: Flag },
}

/// Returns the response if there is no unit (SPC-4, 6.6.1 and 6.39). INQUIRY succeeds, because Linux treats its error
/// as success.
fn no_unit(command: &scsi::Command<'_>) -> Execution {
    let sense = Sense::LOGICAL_UNIT_NOT_SUPPORTED;
    match command.cdb[0] {
        opcode::INQUIRY if command.cdb[1] & 1 == 0 => {
            let allocation_length = u16::from_be_bytes([command.cdb[3], command.cdb[4]]);
            Execution::Answered(Response::with_data(scsi::absent_unit_inquiry(allocation_length.into())))
        }
        opcode::REQUEST_SENSE => {
            let mut data = sense.encode(command.cdb[1] & 1 != 0).to_vec();
            data.truncate(command.cdb[4].into());
            Execution::Answered(Response::with_data(data))
        }
        _ => Execution::NoUnit(Response::check(&sense, false)),
    }
}

/// No data, for commands that transfer data to the initiator.
pub(super) struct NoData;

impl DataOut for NoData {
    fn length(&self) -> usize {
        0
    }

    fn copy(&self, _: usize, into: &mut [u8]) -> bool {
        into.is_empty()
    }
}

/// The nexus of the guest, which is the only initiator.
pub(super) const NEXUS: Nexus = Nexus::GUEST;

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
