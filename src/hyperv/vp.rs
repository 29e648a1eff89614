//! The Hyper-V state of one virtual processor: its MSRs, its SynIC, its timers.
//!
//! The input is an access or an event, with the time. The output is a list of [`Action`]s for the engine. The engine
//! keeps a lock for each VP, because device threads post messages and signal events to a running VP.

use smallvec::SmallVec;

use super::crash::CrashReport;
use super::features::Feature;
use super::message::{Message, MessageType};
use super::msr::{ApicRegister, Msr};
use super::overlay::{OverlayId, Overlays};
use super::partition::Partition;
use super::reftime::Reading;
use super::registers::PageRegister;
use super::status::HvResult;
use super::stimer::{Expiration, Timers};
use super::synic::{self, EventFlagsPage, MessagePage, Pages, Synic};
use super::types::{Fault, GP, Interrupt, PAGE_SIZE, SintIndex, VpIndex};

/// An action for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Raise an interrupt on this VP.
    Interrupt(Interrupt),
    /// Write a register of this VP's local APIC.
    ApicWrite(ApicRegister, u64),
    /// Reset the machine.
    Reset,
    /// The guest has reported a crash.
    Crash(Box<CrashReport>),
}

/// Actions to take, in this order.
pub type Actions = SmallVec<[Action; 2]>;

/// The result of an MSR read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrRead {
    /// The value.
    Value(u64),
    /// The value of this register of the VP's local APIC.
    Apic(ApicRegister),
    /// Zero, after an interrupt has arrived or the engine stops waiting (GUEST_IDLE).
    Idle,
}

/// The times that an access can need, read when it arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The host's clocks.
    pub reading: Reading,
    /// VP_RUNTIME: the time for which the VP has run, in units of 100 ns.
    pub runtime: u64,
}

/// The state of a VP.
#[derive(Debug)]
pub struct VpState {
    index: VpIndex,
    synic: Synic,
    timers: Timers,
    assist: PageRegister,
}

impl VpState {
    /// Creates a VP in the state after a reset.
    pub fn new(index: VpIndex) -> Self {
        Self { index, synic: Synic::default(), timers: Timers::default(), assist: PageRegister::default() }
    }

    /// Returns the VP's SynIC.
    pub fn synic(&self) -> &Synic {
        &self.synic
    }

    /// Returns the GPA of `HV_VIRTUAL_APIC_ASSIST` in the assist page, if there is one.
    pub fn eoi_field(&self) -> Option<u64> {
        self.assist.enabled().then(|| self.assist.gpa())
    }

    /// Returns the time of the next call to [`tick`](Self::tick), in reference time. It can change with every call that
    /// takes `&mut self`.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next_deadline()
    }

    /// Resets the VP to the state after creation, and removes its overlays.
    #[cfg(test)]
    pub fn reset(&mut self, partition: &Partition) {
        for id in [OverlayId::Simp(self.index), OverlayId::Siefp(self.index), OverlayId::VpAssist(self.index)] {
            partition.overlays().hide(partition.memory(), id);
        }
        *self = Self::new(self.index);
    }

    /// Handles RDMSR.
    ///
    /// # Errors
    /// Returns #GP if there is no such MSR, the privilege is missing, or the MSR is not readable.
    pub fn read_msr(&self, number: u32, partition: &Partition, now: Moment) -> Result<MsrRead, Fault> {
        let msr = Msr::decode(number).filter(|msr| msr.is_accessible(partition.features())).ok_or(GP)?;
        self.read(msr, partition, now)
    }

    /// Reads a register for which the guest has the privilege.
    ///
    /// # Errors
    /// Returns #GP if it is not readable.
    pub fn read(&self, msr: Msr, partition: &Partition, now: Moment) -> Result<MsrRead, Fault> {
        Ok(MsrRead::Value(match msr {
            Msr::VpIndex => self.index.0.into(),
            Msr::VpRuntime => now.runtime,
            Msr::Apic(ApicRegister::Eoi) => return Err(GP),
            Msr::Apic(register) => return Ok(MsrRead::Apic(register)),
            Msr::VpAssistPage => self.assist.0,
            Msr::Scontrol => self.synic.scontrol(),
            Msr::Sversion => synic::VERSION,
            Msr::Siefp => self.synic.siefp.0,
            Msr::Simp => self.synic.simp.0,
            Msr::Eom => 0,
            Msr::Sint(sint) => self.synic.sint(sint).0,
            Msr::StimerConfig(timer) => self.timers.config(timer),
            Msr::StimerCount(timer) => self.timers.count(timer),
            Msr::GuestIdle => return Ok(MsrRead::Idle),
            shared => partition.read(shared, now.reading)?,
        }))
    }

    /// Handles WRMSR.
    ///
    /// # Errors
    /// Returns #GP, and changes nothing, if there is no such MSR, the privilege is missing, the MSR is not writable, or
    /// the value is invalid.
    pub fn write_msr(&mut self, number: u32, value: u64, partition: &Partition, now: Moment) -> Result<Actions, Fault> {
        let msr = Msr::decode(number).filter(|msr| msr.is_accessible(partition.features())).ok_or(GP)?;
        self.write(msr, value, partition, now)
    }

    /// Writes a register for which the guest has the privilege.
    ///
    /// # Errors
    /// Returns #GP, and changes nothing, if it is not writable or the value is invalid.
    pub fn write(&mut self, msr: Msr, value: u64, partition: &Partition, now: Moment) -> Result<Actions, Fault> {
        match msr {
            Msr::VpIndex | Msr::VpRuntime | Msr::Sversion | Msr::GuestIdle => return Err(GP),
            Msr::Apic(register) => return apic_write(register, value),
            Msr::VpAssistPage => {
                self.lay(OverlayId::VpAssist(self.index), value, partition)?;
                self.assist = PageRegister(value);
            }
            Msr::Siefp => {
                self.lay(OverlayId::Siefp(self.index), value, partition)?;
                self.synic.siefp = PageRegister(value);
            }
            Msr::Simp => {
                self.lay(OverlayId::Simp(self.index), value, partition)?;
                self.synic.simp = PageRegister(value);
                return Ok(self.rescan_all(partition, now));
            }
            Msr::Scontrol => {
                self.synic.set_scontrol(value);
                return Ok(self.rescan_all(partition, now));
            }
            Msr::Sint(sint) => self.synic.set_sint(sint, value)?,
            // Any value triggers a rescan.
            Msr::Eom => return Ok(self.rescan_all(partition, now)),
            Msr::StimerConfig(timer) => {
                let direct = partition.features().has(Feature::DirectSyntheticTimers);
                self.timers.set_config(timer, value, direct, partition.reference_time(now.reading))?;
                return Ok(self.tick(partition, now));
            }
            Msr::StimerCount(timer) => {
                self.timers.set_count(timer, value, partition.reference_time(now.reading));
                return Ok(self.tick(partition, now));
            }
            shared => return Ok(partition.write(shared, value)?.into_iter().collect()),
        }
        Ok(Actions::new())
    }

    /// Expires all timers that are due. Call it at the deadline, on any thread; an earlier call is harmless.
    pub fn tick(&mut self, partition: &Partition, now: Moment) -> Actions {
        let mut actions = Actions::new();
        let time = partition.reference_time(now.reading);
        // The loop is bounded: an expired timer is due again half a MIN_PERIOD later at the earliest.
        while let Some(expiration) = self.timers.expire(time) {
            actions.extend(self.deliver_expiration(expiration, partition, time).map(Action::Interrupt));
        }
        actions
    }

    /// Posts a message to a SINT of this VP, from any thread. Returns the interrupt to raise, if any.
    ///
    /// # Errors
    /// Returns an error if the SynIC or its page is disabled, or if too many messages wait.
    pub fn post_message(
        &mut self,
        sint: SintIndex,
        message: Message,
        partition: &Partition,
    ) -> HvResult<Option<Interrupt>> {
        let timer_waits = self.waiting_timers(sint).next().is_some();
        let overlays = partition.overlays();
        let pages = self.pages(&overlays);
        self.synic.post(partition.memory(), pages, sint, message, timer_waits)
    }

    /// Drops the messages of a type that wait for a SINT's slot.
    pub fn withdraw_messages(&mut self, sint: SintIndex, message_type: MessageType) {
        self.synic.withdraw(sint, message_type);
    }

    /// Returns `true`, once, if there is room again for messages that were refused.
    pub fn take_message_room(&mut self) -> bool {
        self.synic.take_room()
    }

    /// Sets an event flag of a SINT of this VP, from any thread. Returns the interrupt to raise, if any.
    ///
    /// # Errors
    /// Returns an error if there is no such flag, or if the SynIC, its page or the SINT is disabled.
    pub fn signal_event(&self, sint: SintIndex, flag: u16, partition: &Partition) -> HvResult<Option<Interrupt>> {
        let overlays = partition.overlays();
        let pages = self.pages(&overlays);
        self.synic.signal(partition.memory(), pages, sint, flag)
    }

    /// Handles the end of the interrupt with this vector: delivers messages that wait for its SINTs.
    pub fn end_of_interrupt(&mut self, vector: u8, partition: &Partition, now: Moment) -> Actions {
        let sints: SmallVec<[SintIndex; 2]> = self.synic.sints_of_vector(vector).collect();
        let time = partition.reference_time(now.reading);
        sints.into_iter().filter_map(|sint| self.rescan(sint, partition, time)).map(Action::Interrupt).collect()
    }

    fn rescan_all(&mut self, partition: &Partition, now: Moment) -> Actions {
        let time = partition.reference_time(now.reading);
        SintIndex::all().filter_map(|sint| self.rescan(sint, partition, time)).map(Action::Interrupt).collect()
    }

    /// Delivers what waits for the slot of `sint`: first posted messages, then those of timers.
    fn rescan(&mut self, sint: SintIndex, partition: &Partition, time: u64) -> Option<Interrupt> {
        if self.synic.waiting(sint) > 0 {
            let timer_waits = self.waiting_timers(sint).next().is_some();
            let overlays = partition.overlays();
            let pages = self.pages(&overlays);
            return self.synic.rescan(partition.memory(), pages, sint, timer_waits);
        }
        let waiting: SmallVec<[Expiration; 4]> = self.waiting_timers(sint).collect();
        let due = waiting.into_iter().find(|late| !self.timers.skip_if_stale(late.timer, time))?;
        self.deliver_expiration(due, partition, time)
    }

    fn waiting_timers(&self, sint: SintIndex) -> impl Iterator<Item = Expiration> {
        self.timers.undelivered().filter(move |late| !late.config.direct() && late.config.sint() == sint)
    }

    /// Delivers an expired timer's interrupt or message, or leaves the message waiting.
    fn deliver_expiration(&mut self, expiration: Expiration, partition: &Partition, time: u64) -> Option<Interrupt> {
        let Expiration { timer, nominal, config } = expiration;
        if config.direct() {
            self.timers.delivered(timer, time);
            return Some(Interrupt { vector: config.vector(), auto_eoi: false });
        }
        let sint = config.sint();
        if self.synic.waiting(sint) > 0 {
            // The slot is busy and MessagePending is set: this message is delivered after those that wait.
            return None;
        }
        let more = self.waiting_timers(sint).any(|other| other.timer != timer);
        let message = Message::timer_expired(timer, nominal, time);
        let overlays = partition.overlays();
        if !self.synic.place(partition.memory(), self.pages(&overlays), sint, &message, more) {
            return None;
        }
        self.timers.delivered(timer, time);
        self.synic.interrupt(sint)
    }

    /// Returns the addresses of the SynIC's pages, which are valid while the overlays are locked.
    pub(crate) fn pages(&self, overlays: &Overlays) -> Pages {
        Pages {
            messages: overlays.visible(OverlayId::Simp(self.index)).map(MessagePage),
            event_flags: overlays.visible(OverlayId::Siefp(self.index)).map(EventFlagsPage),
        }
    }

    fn lay(&self, id: OverlayId, value: u64, partition: &Partition) -> Result<(), Fault> {
        let register = PageRegister(value);
        partition.lay(id, register.enabled(), register.gpa(), &[0; PAGE_SIZE])
    }
}

/// Checks the bits that the TLFS reserves ("Local APIC MSR Accesses"); the APIC checks the rest.
fn apic_write(register: ApicRegister, value: u64) -> Result<Actions, Fault> {
    let reserved = match register {
        ApicRegister::Eoi => !u64::from(u32::MAX),
        ApicRegister::Icr => 0,
        ApicRegister::Tpr => !0xff,
    };
    if value & reserved != 0 {
        return Err(GP);
    }
    Ok(Actions::from_iter([Action::ApicWrite(register, value)]))
}

#[cfg(test)]
#[path = "vp_tests.rs"]
mod tests;
