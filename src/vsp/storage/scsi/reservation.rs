//! Reservations of the unit (SPC-4, 5.13, 6.14 and 6.15), and RESERVE and RELEASE of SPC-2.
//!
//! A guest is one initiator, but the rules are implemented for any number of them: [`Nexus`] distinguishes
//! registrations and access rights.

use super::sense::Sense;
use super::table::Access;
use super::unit::LogicalUnit;
use super::{Command, Reply, answer, array};

/// An initiator as this unit sees it (SAM-5: an I_T nexus).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nexus(pub u16);

impl Nexus {
    /// The guest that owns the controller.
    pub const GUEST: Self = Self(0);
}

/// Maximum number of registered initiators.
const MAX_REGISTRANTS: usize = 64;
/// Length of the parameter list of PERSISTENT RESERVE OUT (SPC-4, table 219).
const PARAMETER_LIST: u32 = 24;

/// The types of reservations (SPC-4, table 64).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl Kind {
    fn parse(scope_and_type: u8) -> Result<Self, Sense> {
        Ok(match scope_and_type {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            _ => return Err(Sense::INVALID_FIELD_IN_CDB),
        })
    }

    fn reads_are_free(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::WriteExclusiveRegistrantsOnly | Self::WriteExclusiveAllRegistrants)
    }

    fn is_for_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    fn is_for_holder_alone(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registrant {
    nexus: Nexus,
    key: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reservation {
    /// The initiator that made it. With the all-registrants types, every registrant holds it.
    nexus: Nexus,
    kind: Kind,
}

/// All registrations and reservations of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reservations {
    generation: u32,
    registrants: Vec<Registrant>,
    reservation: Option<Reservation>,
    /// The initiator that used RESERVE (6) or (10).
    reserved_by: Option<Nexus>,
}

/// Unit attentions for other initiators after a change.
type Notices = Vec<(Nexus, Sense)>;

/// The reason why a service action is refused.
enum Refusal {
    Conflict,
    Sense(Sense),
}

impl Reservations {
    /// Returns `true` if `nexus` may use a command with this kind of access.
    pub fn admit(&self, nexus: Nexus, access: Access) -> bool {
        if self.reserved_by.is_some_and(|holder| holder != nexus) {
            return access == Access::Patient;
        }
        let Some(reservation) = self.reservation else { return true };
        let enters = match access {
            Access::Patient | Access::Free | Access::Reserving => return true,
            Access::Read if reservation.kind.reads_are_free() => return true,
            Access::Read | Access::Write => self.key_of(nexus).is_some() && !reservation.kind.is_for_holder_alone(),
        };
        enters || self.holds(nexus)
    }

    /// Returns the registered initiators.
    pub fn registered(&self) -> impl Iterator<Item = Nexus> + '_ {
        self.registrants.iter().map(|registrant| registrant.nexus)
    }

    /// Handles a reset, which ends RESERVE; persistent reservations stay.
    pub fn reset(&mut self) {
        self.reserved_by = None;
    }

    fn key_of(&self, nexus: Nexus) -> Option<u64> {
        self.registrants.iter().find(|registrant| registrant.nexus == nexus).map(|registrant| registrant.key)
    }

    fn holds(&self, nexus: Nexus) -> bool {
        self.reservation.is_some_and(|reservation| {
            reservation.nexus == nexus || reservation.kind.is_for_all_registrants() && self.key_of(nexus).is_some()
        })
    }

    fn others(&self, nexus: Nexus) -> impl Iterator<Item = Nexus> + '_ {
        self.registered().filter(move |other| *other != nexus)
    }

    /// REGISTER, and with `ignore` REGISTER AND IGNORE EXISTING KEY.
    fn register(&mut self, nexus: Nexus, key: u64, new: u64, ignore: bool) -> Result<Notices, Refusal> {
        let current = self.key_of(nexus);
        if !ignore && key != current.unwrap_or(0) {
            return Err(Refusal::Conflict);
        }
        match (current, new) {
            (None, 0) => return Ok(Vec::new()),
            (Some(_), 0) => {
                let notices = self.unregister(nexus);
                self.bump();
                return Ok(notices);
            }
            (Some(_), _) => {
                for registrant in self.registrants.iter_mut().filter(|registrant| registrant.nexus == nexus) {
                    registrant.key = new;
                }
            }
            (None, _) if self.registrants.len() >= MAX_REGISTRANTS => {
                return Err(Refusal::Sense(Sense::INSUFFICIENT_REGISTRATION_RESOURCES));
            }
            (None, _) => self.registrants.push(Registrant { nexus, key: new }),
        }
        self.bump();
        Ok(Vec::new())
    }

    /// Removes a registration, and the reservation that ends with it (SPC-4, 5.13.11.2.3).
    fn unregister(&mut self, nexus: Nexus) -> Notices {
        self.registrants.retain(|registrant| registrant.nexus != nexus);
        match self.reservation {
            Some(reservation) if reservation.kind.is_for_all_registrants() => {
                if self.registrants.is_empty() {
                    self.reservation = None;
                }
                Vec::new()
            }
            Some(reservation) if reservation.nexus == nexus => {
                self.reservation = None;
                if reservation.kind.is_for_holder_alone() {
                    return Vec::new();
                }
                self.others(nexus).map(|other| (other, Sense::RESERVATIONS_RELEASED)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reserve(&mut self, nexus: Nexus, kind: Kind) -> Result<Notices, Refusal> {
        match self.reservation {
            None => self.reservation = Some(Reservation { nexus, kind }),
            Some(reservation) if self.holds(nexus) && reservation.kind == kind => {}
            Some(_) => return Err(Refusal::Conflict),
        }
        Ok(Vec::new())
    }

    fn release(&mut self, nexus: Nexus, kind: Kind) -> Result<Notices, Refusal> {
        let Some(reservation) = self.reservation.filter(|_| self.holds(nexus)) else { return Ok(Vec::new()) };
        if reservation.kind != kind {
            return Err(Refusal::Sense(Sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION));
        }
        self.reservation = None;
        if kind.is_for_holder_alone() {
            return Ok(Vec::new());
        }
        Ok(self.others(nexus).map(|other| (other, Sense::RESERVATIONS_RELEASED)).collect())
    }

    fn clear(&mut self, nexus: Nexus) -> Notices {
        let notices = self.others(nexus).map(|other| (other, Sense::RESERVATIONS_PREEMPTED)).collect();
        self.registrants.clear();
        self.reservation = None;
        self.bump();
        notices
    }

    /// PREEMPT (SPC-4, 5.13.11.2.6). There is never a command to abort, so PREEMPT AND ABORT is the same.
    fn preempt(&mut self, nexus: Nexus, victim: u64, kind: Kind) -> Result<Notices, Refusal> {
        let takes_over = match self.reservation {
            Some(reservation) if reservation.kind.is_for_all_registrants() => victim == 0,
            Some(reservation) => self.key_of(reservation.nexus) == Some(victim),
            None => false,
        };
        if victim == 0 && !takes_over {
            return Err(Refusal::Sense(Sense::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        if victim != 0 && !self.registrants.iter().any(|registrant| registrant.key == victim) {
            return Err(Refusal::Conflict);
        }
        let goes = |registrant: &Registrant| registrant.nexus != nexus && (victim == 0 || registrant.key == victim);
        let gone: Vec<_> = self.registrants.iter().copied().filter(goes).collect();
        self.registrants.retain(|registrant| !goes(registrant));
        let mut notices: Notices =
            gone.iter().map(|registrant| (registrant.nexus, Sense::REGISTRATIONS_PREEMPTED)).collect();
        if takes_over {
            let before = self.reservation.replace(Reservation { nexus, kind });
            if before.is_some_and(|before| before.kind != kind && !before.kind.is_for_holder_alone()) {
                notices.extend(self.others(nexus).map(|other| (other, Sense::RESERVATIONS_RELEASED)));
            }
        }
        self.bump();
        Ok(notices)
    }

    fn bump(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn header(&self, additional: usize) -> Vec<u8> {
        let mut data = self.generation.to_be_bytes().to_vec();
        data.extend_from_slice(&(additional as u32).to_be_bytes());
        data
    }
}

impl LogicalUnit {
    /// PERSISTENT RESERVE OUT.
    pub(super) fn persistent_reserve_out(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        if command.be32(5) != PARAMETER_LIST {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        let list = command.parameters(PARAMETER_LIST as usize)?;
        let (key, service_key) = (u64::from_be_bytes(array(&list, 0)), u64::from_be_bytes(array(&list, 8)));
        // SPEC_I_PT and APTPL are not supported; ALL_TG_PT has no effect with one port.
        if list[20] & 0x09 != 0 {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
        }
        let (nexus, action) = (command.nexus, command.byte(1) & 0x1f);
        let held = &mut self.reservations;
        let registers = matches!(action, 0 | 6);
        if held.reserved_by.is_some() || !registers && held.key_of(nexus) != Some(key) {
            return Ok(Reply::Conflict);
        }
        let kind = Kind::parse(command.byte(2));
        let result = match action {
            0 | 6 => held.register(nexus, key, service_key, action == 6),
            1 => held.reserve(nexus, kind?),
            2 => held.release(nexus, kind?),
            3 => Ok(held.clear(nexus)),
            _ => held.preempt(nexus, service_key, kind?),
        };
        match result {
            Ok(notices) => {
                notices.into_iter().for_each(|(nexus, condition)| self.raise(nexus, condition));
                Ok(Reply::Good)
            }
            Err(Refusal::Conflict) => Ok(Reply::Conflict),
            Err(Refusal::Sense(sense)) => Err(sense),
        }
    }

    /// READ KEYS.
    pub(super) fn read_keys(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let held = &self.reservations;
        let mut data = held.header(held.registrants.len() * 8);
        held.registrants.iter().for_each(|registrant| data.extend_from_slice(&registrant.key.to_be_bytes()));
        answer(data, command.be16(7).into())
    }

    /// READ RESERVATION.
    pub(super) fn read_reservation(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let held = &self.reservations;
        let mut data = held.header(if held.reservation.is_some() { 16 } else { 0 });
        if let Some(reservation) = held.reservation {
            let holder = held.key_of(reservation.nexus).filter(|_| !reservation.kind.is_for_all_registrants());
            data.extend_from_slice(&holder.unwrap_or(0).to_be_bytes());
            data.extend_from_slice(&[0, 0, 0, 0, 0, reservation.kind as u8, 0, 0]);
        }
        answer(data, command.be16(7).into())
    }

    /// REPORT CAPABILITIES: all six types, and nothing else.
    pub(super) fn report_capabilities(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        answer(vec![0, 8, 0, 0x80, 0xea, 0x01, 0, 0], command.be16(7).into())
    }

    /// READ FULL STATUS.
    pub(super) fn read_full_status(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        const DESCRIPTOR: usize = 24;
        const TRANSPORT_ID: usize = 24;
        let held = &self.reservations;
        let mut data = held.header(held.registrants.len() * (DESCRIPTOR + TRANSPORT_ID));
        for registrant in &held.registrants {
            let mut descriptor = [0; DESCRIPTOR + TRANSPORT_ID];
            descriptor[..8].copy_from_slice(&registrant.key.to_be_bytes());
            if let Some(reservation) = held.reservation.filter(|_| held.holds(registrant.nexus)) {
                descriptor[12] = 0x01;
                descriptor[13] = reservation.kind as u8;
            }
            descriptor[19] = 1; // the one target port
            descriptor[23] = TRANSPORT_ID as u8;
            // A parallel SCSI transport ID, which holds a small number (SPC-4, 7.6.4.3).
            descriptor[24] = 0x01;
            descriptor[26..28].copy_from_slice(&registrant.nexus.0.to_be_bytes());
            descriptor[31] = 1;
            data.extend_from_slice(&descriptor);
        }
        answer(data, command.be16(7).into())
    }

    /// RESERVE (6) and (10) of SPC-2. They do not mix with persistent reservations (SPC-4, 5.13.3).
    pub(super) fn reserve(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        if !self.reservations.registrants.is_empty() {
            return Ok(Reply::Conflict);
        }
        self.reservations.reserved_by = Some(command.nexus);
        Ok(Reply::Good)
    }

    /// RELEASE (6) and (10). An initiator that holds no reservation gets GOOD, without effect.
    pub(super) fn release(&mut self, _: &Command<'_>) -> Result<Reply, Sense> {
        if !self.reservations.registrants.is_empty() {
            return Ok(Reply::Conflict);
        }
        self.reservations.reserved_by = None;
        Ok(Reply::Good)
    }
}

#[cfg(test)]
#[path = "reservation_tests.rs"]
mod tests;
