//! A logical unit, and the processing that all commands have in common.

use smallvec::SmallVec;

use super::mode::ModePages;
use super::reservation::{Nexus, Reservations};
use super::sense::Sense;
use super::table::{self, Access, Lookup};
use super::{Command, CommandOutcome, Job, Reply, Response, Status, blocks, provisioning};
use crate::block::request::{Operation, RequestError, Success};

/// What kind of device a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A disk (SBC-3).
    Disk,
    /// A DVD drive (MMC-6).
    Optical,
}

/// The identity of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The unit's serial number: printable ASCII, at most 36 characters.
    pub serial: String,
    /// A number that is unique to the unit, for the NAA designator.
    pub unique: u64,
    /// Whether the content is disposable, so that a guest may write test data.
    pub scratch: bool,
}

/// The medium in the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Size of a logical block in bytes: a power of two from 512 to 4096.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// Whether the medium cannot be written.
    pub read_only: bool,
    /// Whether blocks can be released on the host.
    pub provisioning: bool,
}

impl Medium {
    /// Returns the number of the last block. A medium has at least one.
    pub(super) fn last_block(&self) -> u64 {
        self.blocks.saturating_sub(1)
    }
}

/// Maximum number of unit attentions that are pending for one initiator. Each condition is pending at most once, and
/// there are few.
const MAX_ATTENTIONS: usize = 8;

/// One logical unit. See [`LogicalUnit::execute`].
#[derive(Debug)]
pub struct LogicalUnit {
    pub(super) kind: DeviceKind,
    pub(super) identity: Identity,
    /// The medium in the drive, whether the tray is open or not.
    pub(super) medium: Option<Medium>,
    /// The tray is open, so the medium cannot be accessed.
    pub(super) tray_open: bool,
    /// START STOP UNIT stopped the unit.
    pub(super) stopped: bool,
    /// PREVENT ALLOW MEDIUM REMOVAL locked the tray.
    pub(super) removal_prevented: bool,
    /// The event that GET EVENT STATUS NOTIFICATION has not reported yet.
    pub(super) media_event: Option<super::optical::MediaEvent>,
    pub(super) mode: ModePages,
    pub(super) reservations: Reservations,
    attentions: SmallVec<[(Nexus, Sense); 2]>,
}

impl LogicalUnit {
    /// Creates a unit in the power-on state, with `medium` in it. A disk always has one.
    pub fn new(kind: DeviceKind, identity: Identity, medium: Option<Medium>) -> Self {
        let mut unit = Self {
            kind,
            identity,
            medium,
            tray_open: false,
            stopped: false,
            removal_prevented: false,
            media_event: None,
            mode: ModePages::default(),
            reservations: Reservations::default(),
            attentions: SmallVec::new(),
        };
        unit.raise(Nexus::GUEST, Sense::POWER_ON);
        unit
    }

    /// Executes a command.
    pub fn execute(&mut self, command: &Command<'_>) -> CommandOutcome {
        let outcome = match self.dispatch(command) {
            Ok(Reply::Good) => CommandOutcome::Done(Response::GOOD),
            Ok(Reply::Data(data)) => CommandOutcome::Done(Response::with_data(data)),
            Ok(Reply::Conflict) => {
                CommandOutcome::Done(Response { status: Status::ReservationConflict, ..Response::GOOD })
            }
            Ok(Reply::Perform(job)) => CommandOutcome::Perform(job),
            Err(sense) => CommandOutcome::Done(self.check(&sense)),
        };
        match outcome {
            CommandOutcome::Perform(mut job) => {
                // If the write cache is off, an acknowledged write must be durable.
                job.request.durable |= !self.mode.write_cache;
                CommandOutcome::Perform(job)
            }
            done => done,
        }
    }

    /// Returns the response for a finished job.
    pub fn finish(&self, job: &Job, result: Result<Success, RequestError>) -> Response {
        match result {
            Ok(Success::Done) => Response::GOOD,
            Ok(Success::Map(map)) => match (&job.request.operation, &self.medium) {
                (Operation::Map { extent, limit }, Some(medium)) => {
                    let mut data = provisioning::lba_status(medium, *extent, &map, *limit);
                    data.truncate(job.allocation_length);
                    Response::with_data(data)
                }
                _ => self.check(&Sense::INTERNAL_TARGET_FAILURE),
            },
            Err(error) => self.check(&self.sense_of(error)),
        }
    }

    fn sense_of(&self, error: RequestError) -> Sense {
        let block = |byte: u64| byte / self.medium.map_or(512, |medium| u64::from(medium.block_size));
        match error {
            RequestError::Read(byte) => Sense::UNRECOVERED_READ_ERROR.with_information(block(byte)),
            RequestError::Write(byte) => Sense::WRITE_ERROR.with_information(block(byte)),
            RequestError::Protected(byte) => Sense::WRITE_PROTECTED.with_information(block(byte)),
            RequestError::NoSpace(byte) => Sense::SPACE_ALLOCATION_FAILED.with_information(block(byte)),
            RequestError::Miscompare(offset) => Sense::MISCOMPARE.with_information(offset),
            RequestError::Buffer | RequestError::Unsupported => Sense::INVALID_FIELD_IN_CDB,
            RequestError::Cancelled => Sense::IO_PROCESS_TERMINATED,
            RequestError::Broken => Sense::INTERNAL_TARGET_FAILURE,
        }
    }

    /// Returns CHECK CONDITION in the sense format that the initiator chose.
    fn check(&self, sense: &Sense) -> Response {
        Response::check(sense, self.mode.descriptor_sense)
    }

    fn dispatch(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        // A unit attention is reported before anything else is checked (SAM-5, 5.14).
        let found = table::find(self, command);
        let patient = matches!(found, Lookup::Found(definition) if definition.access == Access::Patient);
        if !patient && let Some(attention) = self.take_attention(command.nexus) {
            return Err(attention);
        }
        let definition = match found {
            Lookup::Found(definition) => definition,
            Lookup::NoSuchServiceAction => return Err(Sense::INVALID_FIELD_IN_CDB),
            Lookup::NoSuchOpcode => return Err(Sense::INVALID_OPCODE),
        };
        if !self.reservations.admit(command.nexus, definition.access) {
            return Ok(Reply::Conflict);
        }
        definition.check(self.kind, command)?;
        (definition.run)(self, command)
    }

    /// Returns the medium, if it is accessible.
    pub(super) fn ready(&self) -> Result<Medium, Sense> {
        let absent = if self.tray_open { Sense::MEDIUM_NOT_PRESENT_TRAY_OPEN } else { Sense::MEDIUM_NOT_PRESENT };
        let medium = self.medium.filter(|_| !self.tray_open).ok_or(absent)?;
        if self.stopped { Err(Sense::INITIALIZING_COMMAND_REQUIRED) } else { Ok(medium) }
    }

    /// Returns the medium, if it is writable.
    pub(super) fn writable(&self) -> Result<Medium, Sense> {
        let medium = self.ready()?;
        if medium.read_only || self.mode.software_write_protect { Err(Sense::WRITE_PROTECTED) } else { Ok(medium) }
    }

    /// Reports `condition` to `nexus` with its next command.
    pub(super) fn raise(&mut self, nexus: Nexus, condition: Sense) {
        // A reset supersedes earlier conditions.
        if condition.code == Sense::POWER_ON.code {
            self.attentions.retain(|(whose, _)| *whose != nexus);
        }
        let known = self.attentions.contains(&(nexus, condition));
        if !known && self.attentions.iter().filter(|(whose, _)| *whose == nexus).count() < MAX_ATTENTIONS {
            self.attentions.push((nexus, condition));
        }
    }

    /// Reports `condition` to all initiators except `except`.
    pub(super) fn raise_for_others(&mut self, except: Option<Nexus>, condition: Sense) {
        let mut all: SmallVec<[Nexus; 4]> = self.reservations.registered().collect();
        all.push(Nexus::GUEST);
        for nexus in all {
            if Some(nexus) != except {
                self.raise(nexus, condition);
            }
        }
    }

    pub(super) fn take_attention(&mut self, nexus: Nexus) -> Option<Sense> {
        let first = self.attentions.iter().position(|(whose, _)| *whose == nexus)?;
        Some(self.attentions.remove(first).1)
    }

    /// Clears the condition that REPORT LUNS has resolved (SPC-4, 6.33).
    pub fn luns_reported(&mut self, nexus: Nexus) {
        self.attentions.retain(|(whose, condition)| (*whose, *condition) != (nexus, Sense::REPORTED_LUNS_CHANGED));
    }

    /// Handles a change of the target's list of units.
    pub fn luns_changed(&mut self) {
        self.raise_for_others(None, Sense::REPORTED_LUNS_CHANGED);
    }

    /// Resets the unit, and reports `condition`. Persistent reservations stay (SPC-4, 5.13).
    pub fn reset(&mut self, condition: Sense) {
        self.stopped = false;
        self.removal_prevented = false;
        self.mode = ModePages::default();
        self.reservations.reset();
        self.raise_for_others(None, condition);
    }

    /// Changes the size of the medium, and reports it to all initiators.
    pub fn resize(&mut self, blocks: u64) {
        if let Some(medium) = &mut self.medium
            && medium.blocks != blocks
        {
            medium.blocks = blocks;
            self.raise_for_others(None, Sense::CAPACITY_CHANGED);
        }
    }

    /// Replaces or removes the medium in the drive.
    #[cfg(test)]
    pub fn change_medium(&mut self, medium: Option<Medium>) {
        self.medium = medium;
        self.tray_open = false;
        self.stopped = false;
        self.medium_changed();
    }

    /// Returns what kind of device the unit is.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Returns the medium that is in the drive, whether the tray is open or not.
    pub fn medium(&self) -> Option<&Medium> {
        self.medium.as_ref()
    }

    pub(super) fn medium_changed(&mut self) {
        let present = self.medium.is_some() && !self.tray_open;
        self.media_event = Some(super::optical::MediaEvent::of(present));
        if present {
            self.raise_for_others(None, Sense::MEDIUM_MAY_HAVE_CHANGED);
        }
    }

    /// TEST UNIT READY.
    pub(super) fn test_unit_ready(&mut self, _: &Command<'_>) -> Result<Reply, Sense> {
        self.ready().map(|_| Reply::Good)
    }

    /// REQUEST SENSE: reports the condition that would stop the next command (SPC-4, 6.39).
    pub(super) fn request_sense(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let descriptor = command.bit(1, 0);
        let sense = self.take_attention(command.nexus).or_else(|| self.ready().err()).unwrap_or(Sense::NONE);
        super::answer(sense.encode(descriptor).to_vec(), command.byte(4).into())
    }

    /// START STOP UNIT (SBC-3, 5.25).
    pub(super) fn start_stop(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let (start, load_eject, power_condition) = (command.bit(4, 0), command.bit(4, 1), command.byte(4) >> 4);
        if power_condition != 0 {
            // There are no power conditions, so all are accepted.
            return Ok(Reply::Good);
        }
        if load_eject {
            if self.kind != DeviceKind::Optical {
                return Err(Sense::INVALID_FIELD_IN_CDB);
            }
            return self.move_tray(!start);
        }
        self.stopped = !start;
        Ok(if start || self.medium.is_none() { Reply::Good } else { blocks::flush() })
    }

    fn move_tray(&mut self, open: bool) -> Result<Reply, Sense> {
        if open && self.removal_prevented {
            return Err(Sense::MEDIUM_REMOVAL_PREVENTED);
        }
        if open != self.tray_open {
            self.tray_open = open;
            self.stopped = false;
            self.medium_changed();
        }
        Ok(Reply::Good)
    }

    /// PREVENT ALLOW MEDIUM REMOVAL (SPC-4, 6.17).
    pub(super) fn prevent_allow(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        self.removal_prevented = command.bit(4, 0);
        Ok(Reply::Good)
    }
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
