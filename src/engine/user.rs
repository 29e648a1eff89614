//! The user engine: implements the whole interface in Viridian, on plain KVM.
//!
//! MSR accesses arrive through KVM's MSR filter, hypercalls through a port that the hypercall page writes to. Interrupts are
//! sent to the local APICs as messages, each by an ioctl. An irqfd would take longer, and needs a new route whenever the
//! vector of its SINT changes (`docs/engines.md`). An interrupt with AutoEOI is injected as already acknowledged, so that
//! nothing stays in service.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::common::Common;
use super::deadlines::Deadlines;
use super::shell::{Backend, Caller};
use crate::host::lock::{Mutex, MutexGuard};
use crate::hyperv::features::Feature;
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::msr::{self, ApicRegister, Msr};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{Fault, Interrupt, SintIndex, VpIndex};
use crate::hyperv::vp::{Action, Actions, Moment, MsrRead, VpState};
use crate::kvm::host::HostError;
use crate::kvm::routes::Message as ApicMessage;
use crate::kvm::vp::Vp;

/// Called with the vector when the guest has ended a level-triggered interrupt through the EOI MSR.
pub(super) type LevelEoi = Box<dyn Fn(u8) + Send + Sync>;

/// The engine of one partition.
pub(super) struct UserEngine {
    common: Common,
    vps: Vec<Mutex<VpState>>,
    deadlines: Deadlines,
    level_eoi: LevelEoi,
    /// For each VP, whether KVM tells the guest in the assist page which interrupts need no EOI.
    skips_eois: Vec<AtomicBool>,
    /// The value that each VP last wrote to ICR. It is kept here because the resulting messages do not change the local APIC's
    /// register.
    commands: Vec<AtomicU64>,
}

impl UserEngine {
    /// The MSRs whose accesses exit.
    pub const FILTERED: &'static [(u32, u32)] = &[(msr::FIRST, msr::COUNT)];

    pub fn new(common: Common, level_eoi: LevelEoi) -> Arc<Self> {
        let (count, gate) = (common.apic_ids.len(), common.gate.clone());
        let vps = (0..count).map(|index| Mutex::new(VpState::new(VpIndex(index as u32)))).collect();
        Arc::new_cyclic(|engine: &Weak<Self>| {
            let engine = engine.clone();
            // Weak, because the engine ends the alarm's thread when it is dropped.
            let wake = move |vp| {
                if let Some(engine) = engine.upgrade() {
                    engine.expire(vp, Common::interrupt);
                }
            };
            let commands = (0..count).map(|_| AtomicU64::new(0)).collect();
            let deadlines = Deadlines::new(count, gate, Arc::new(wake));
            let skips_eois = (0..count).map(|_| AtomicBool::new(false)).collect();
            Self { common, vps, deadlines, level_eoi, skips_eois, commands }
        })
    }

    fn state(&self, vp: usize) -> MutexGuard<'_, VpState> {
        self.vps[vp].lock()
    }

    /// Tells KVM where the VP's assist page is. Called on the VP's own thread.
    fn set_eoi_field(&self, place: usize, vp: &Vp) {
        let field =
            self.state(place).eoi_field().filter(|_| self.common.partition.features().has(Feature::UseApicMsrs));
        self.skips_eois[place].store(vp.set_eoi_field(field), Ordering::Relaxed);
    }

    /// Changes a VP's state, and sets the deadline for its timers. Returns the result of `change`.
    fn change<T>(&self, vp: usize, now: Moment, change: impl FnOnce(&mut VpState) -> T) -> T {
        let mut state = self.state(vp);
        let result = change(&mut state);
        let next = state.next_deadline();
        // Under the lock, so that the deadline that is set last belongs to the latest state.
        let until = |deadline| self.common.partition.nanoseconds_until(deadline, now.reading).map(Duration::from_nanos);
        self.deadlines.set(vp, next, until);
        if state.take_message_room() {
            self.common.has_room();
        }
        result
    }

    /// Delivers the expirations of a VP's timers, and raises the resulting interrupts by `interrupt`.
    fn expire(&self, vp: usize, interrupt: fn(&Common, usize, Interrupt)) {
        self.deadlines.woken(vp);
        let now = self.common.moment();
        self.change(vp, now, |state| {
            let actions = state.tick(&self.common.partition, now);
            // Under the lock, so that a timer causes no interrupt after the guest has stopped it.
            interrupts(&actions).for_each(|raised| interrupt(&self.common, vp, raised));
        });
    }
}

/// Returns the interrupts among the actions.
fn interrupts(actions: &Actions) -> impl Iterator<Item = Interrupt> {
    actions.iter().filter_map(|action| match action {
        Action::Interrupt(interrupt) => Some(*interrupt),
        _ => None,
    })
}

/// Returns the messages to local APICs that an interrupt command causes (Intel SDM volume 3, "Interrupt Command Register").
fn command_messages(command: u64, own: u32, all: &[u32]) -> Vec<ApicMessage> {
    const LEVEL: u32 = 1 << 15;
    const ASSERT: u32 = 1 << 14;
    let low = command as u32;
    // De-asserting INIT has no effect on current processors.
    if low >> 8 & 7 == 5 && low & (LEVEL | ASSERT) == LEVEL {
        return Vec::new();
    }
    // Vector and delivery mode have the same layout in both.
    let data = low & 0x7ff;
    let to = |destination: u32, logical: u32| ApicMessage { address: 0xfee0_0000 | destination << 12 | logical, data };
    let physical = |id: &u32| to(*id & 0xff, 0);
    match low >> 18 & 3 {
        0 => vec![to((command >> 56) as u32, low >> 11 << 2 & 1 << 2)],
        1 => vec![physical(&own)],
        2 => all.iter().map(physical).collect(),
        _ => all.iter().filter(|id| **id != own).map(physical).collect(),
    }
}

impl Backend for UserEngine {
    fn common(&self) -> &Common {
        &self.common
    }

    fn adopt(&self, _vp: &mut Vp) -> Result<(), HostError> {
        Ok(())
    }

    fn deliver(&self, _place: usize) {}

    fn enter(&self, place: usize) {
        self.deadlines.enter(place);
    }

    fn is_due(&self) -> bool {
        Deadlines::is_due()
    }

    fn tick(&self, place: usize) {
        if Deadlines::take_due() {
            self.expire(place, Common::interrupt_outside);
        }
    }

    fn post_message(&self, place: usize, sint: SintIndex, message: Message) -> HvResult<Option<Interrupt>> {
        self.state(place).post_message(sint, message, &self.common.partition)
    }

    fn withdraw_messages(&self, place: usize, sint: SintIndex, message_type: MessageType) {
        self.state(place).withdraw_messages(sint, message_type);
    }

    fn signal_event(&self, place: usize, sint: SintIndex, flag: u16) -> HvResult<Option<Interrupt>> {
        self.state(place).signal_event(sint, flag, &self.common.partition)
    }

    fn raise_sint(&self, place: usize, sint: SintIndex) {
        let interrupt = self.state(place).synic().interrupt(sint);
        interrupt.into_iter().for_each(|interrupt| self.common.interrupt(place, interrupt));
    }

    fn reference_time(&self) -> Option<u64> {
        Some(self.common.partition.reference_time(self.common.reading()))
    }

    fn read_msr(&self, place: usize, _vp: &Vp, number: u32, now: Moment) -> Result<MsrRead, Fault> {
        self.state(place).read_msr(number, &self.common.partition, now)
    }

    fn write_msr(&self, place: usize, vp: &mut Vp, number: u32, value: u64) -> Result<Actions, Fault> {
        let now = self.common.moment();
        let actions = self.change(place, now, |state| state.write_msr(number, value, &self.common.partition, now))?;
        match Msr::decode(number) {
            Some(Msr::VpAssistPage) => self.set_eoi_field(place, vp),
            // Linux sets its next tick before it ends the interrupt of the last one.
            Some(Msr::StimerCount(_)) if self.skips_eois[place].load(Ordering::Relaxed) => vp.renew_eoi_field(),
            _ => {}
        }
        Ok(actions)
    }

    fn interrupt(&self, place: usize, interrupt: Interrupt) {
        self.common.interrupt_outside(place, interrupt);
    }

    fn read_apic(&self, place: usize, vp: &Vp, register: ApicRegister) -> Result<Option<u64>, HostError> {
        Ok(match register {
            ApicRegister::Eoi => None,
            ApicRegister::Icr => Some(self.commands[place].load(Ordering::Relaxed)),
            ApicRegister::Tpr => Some(vp.task_priority()?.into()),
        })
    }

    fn write_apic(&self, place: usize, vp: &mut Vp, register: ApicRegister, value: u64) -> Result<bool, HostError> {
        match register {
            ApicRegister::Tpr => vp.set_task_priority(value as u8)?,
            ApicRegister::Eoi => {
                if let Some((vector, level)) = vp.end_of_interrupt()? {
                    if level {
                        (self.level_eoi)(vector);
                    }
                    let now = self.common.moment();
                    let actions =
                        self.change(place, now, |state| state.end_of_interrupt(vector, &self.common.partition, now));
                    interrupts(&actions).for_each(|raised| self.interrupt(place, raised));
                }
            }
            ApicRegister::Icr => {
                self.commands[place].store(value, Ordering::Relaxed);
                for message in command_messages(value, self.common.apic_ids[place], &self.common.apic_ids) {
                    if let Err(error) = self.common.kvm.send(message) {
                        log::debug!("VP {place}: an interrupt command is lost: {error}");
                    }
                }
            }
        }
        Ok(true)
    }

    fn read_register(&self, caller: Caller<'_>, place: usize, msr: Msr) -> HvResult<u64> {
        let now = match msr {
            Msr::VpRuntime if caller.is_at(place) => self.common.moment_on_vp(),
            // A thread can only read its own CPU time.
            Msr::VpRuntime => return Err(HvStatus::INVALID_VP_STATE),
            _ => self.common.moment(),
        };
        match self.state(place).read(msr, &self.common.partition, now) {
            Ok(MsrRead::Value(value)) => Ok(value),
            _ => Err(HvStatus::INVALID_PARAMETER),
        }
    }

    fn write_register(&self, caller: Caller<'_>, place: usize, msr: Msr, value: u64) -> HvResult<()> {
        match msr {
            Msr::Apic(_) => return Err(HvStatus::INVALID_PARAMETER),
            // KVM needs its address, and takes it only from the thread of the VP.
            Msr::VpAssistPage if !caller.is_at(place) => return Err(HvStatus::INVALID_VP_STATE),
            _ => {}
        }
        let now = self.common.moment();
        let written = self.change(place, now, |state| state.write(msr, value, &self.common.partition, now));
        let actions = written.map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?;
        if msr == Msr::VpAssistPage {
            self.set_eoi_field(place, caller.vp);
        }
        // The VP may not be the caller, and may be in the guest.
        interrupts(&actions).for_each(|interrupt| self.common.interrupt(place, interrupt));
        Ok(())
    }

    fn pause(&self) {}

    fn prepare_resume(&self) {}

    fn resumed(&self) {
        // Delivers deadlines that passed while time was stopped.
        (0..self.vps.len()).for_each(|vp| self.expire(vp, Common::interrupt_outside));
    }

    fn shut_down(&self) {
        self.deadlines.close();
    }
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
