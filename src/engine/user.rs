//! The user engine: the whole interface in Viridian, on plain KVM.
//!
//! MSRs arrive through a filter, hypercalls through the port that our page writes to. Interrupts leave as messages
//! to the local APICs, each by an ioctl. An irqfd would take longer, and its route would have to follow the vector of
//! its SINT (`docs/engines.md`). An interrupt with AutoEOI is handed to the VP, between two of its
//! instructions, as one that has been acknowledged, so that nothing stays in service.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use super::alarm::{Alarm, Wake};
use super::common::{Common, Services, VpRegisters};
use super::{Child, Engine, GuestRequest, PortError};
use crate::hyperv::connections::MessagePort;
use crate::hyperv::cpuid::Leaf;
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::msr::{self, ApicRegister, Msr};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::trace::MsrResult;
use crate::hyperv::types::{ConnectionId, GP, SintIndex, VpIndex};
use crate::hyperv::vp::{Action, Actions, Moment, MsrRead, Vp as VpState};
use crate::kvm::host::HostError;
use crate::kvm::routes::Message as ApicMessage;
use crate::kvm::vp::Vp;
use crate::memory::GuestMemory;

/// Told of the end of a level-triggered interrupt that the guest ended through the EOI MSR.
pub(super) type LevelEoi = Box<dyn Fn(u8) + Send + Sync>;

/// The engine of one partition.
pub(super) struct UserEngine {
    common: Common,
    vps: Vec<Mutex<VpState>>,
    alarm: Arc<Alarm>,
    wake: Wake,
    level_eoi: LevelEoi,
    /// What each VP last wrote to ICR: the messages that it became leave no trace in the local APIC.
    commands: Vec<AtomicU64>,
}

impl UserEngine {
    /// The MSRs that exits are wanted for.
    pub const FILTERED: &'static [(u32, u32)] = &[(msr::FIRST, msr::COUNT)];

    pub fn new(common: Common, level_eoi: LevelEoi) -> Arc<Self> {
        let (count, gate) = (common.apic_ids.len(), common.gate.clone());
        let vps = (0..count).map(|index| Mutex::new(VpState::new(VpIndex(index as u32)))).collect();
        Arc::new_cyclic(|engine: &Weak<Self>| {
            let engine = engine.clone();
            // Weak: the alarm's thread must not keep alive what ends it.
            let wake = move |vp| {
                if let Some(engine) = engine.upgrade() {
                    engine.tick(vp);
                }
            };
            let commands = (0..count).map(|_| AtomicU64::new(0)).collect();
            Self { common, vps, alarm: Arc::new(Alarm::new(count, gate)), wake: Arc::new(wake), level_eoi, commands }
        })
    }

    fn state(&self, vp: usize) -> MutexGuard<'_, VpState> {
        self.vps[vp].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a VP's state, has its timers waked in time, and raises the interrupts. Gives what is left to do.
    fn change<T>(&self, vp: usize, now: Moment, change: impl FnOnce(&mut VpState) -> T) -> T {
        let mut state = self.state(vp);
        let result = change(&mut state);
        let next = state.next_deadline();
        // Under the lock, so that the alarm's last word is the state's.
        let time = next.and_then(|deadline| self.common.partition.nanoseconds_until(deadline, now.reading));
        self.alarm.set(vp, time.map(Duration::from_nanos), &self.wake);
        if state.take_message_room() {
            self.common.has_room();
        }
        result
    }

    /// A VP's timers may be due.
    fn tick(&self, vp: usize) {
        let now = self.common.moment();
        self.change(vp, now, |state| {
            let actions = state.tick(&self.common.partition, now);
            // Under the lock: once the guest has stopped a timer, nothing more comes of it.
            self.interrupts(vp, &actions);
        });
    }

    fn interrupts(&self, vp: usize, actions: &Actions) {
        for action in actions {
            if let Action::Interrupt(interrupt) = action {
                self.common.interrupt(vp, *interrupt);
            }
        }
    }

    /// Does what a VP's own access asks for, on the VP's thread. `None` is #GP.
    fn perform(&self, place: usize, vp: &mut Vp, actions: Actions) -> Result<Option<Option<GuestRequest>>, HostError> {
        self.interrupts(place, &actions);
        let mut request = None;
        for action in actions {
            match action {
                Action::Interrupt(_) => {}
                Action::ApicWrite(register, value) => {
                    if !self.write_apic(place, vp, register, value)? {
                        return Ok(None);
                    }
                }
                Action::Reset => request = Some(GuestRequest::Reset),
                Action::Crash(report) => request = Some(GuestRequest::Crash(report)),
            }
        }
        Ok(Some(request))
    }

    fn read_apic(&self, place: usize, vp: &Vp, register: ApicRegister) -> Result<Option<u64>, HostError> {
        Ok(match register {
            ApicRegister::Eoi => None,
            ApicRegister::Icr => Some(self.commands[place].load(Ordering::Relaxed)),
            ApicRegister::Tpr => Some(vp.task_priority()?.into()),
        })
    }

    /// Writes a register of the local APIC as the guest would. False is #GP.
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
                    self.interrupts(place, &actions);
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

    fn services<'a>(&'a self, registers: &'a Registers<'a>) -> Services<'a> {
        Services { common: &self.common, registers }
    }
}

/// What an interrupt command (Intel SDM volume 3, "Interrupt Command Register") is as messages to local APICs.
fn command_messages(command: u64, own: u32, all: &[u32]) -> Vec<ApicMessage> {
    const LEVEL: u32 = 1 << 15;
    const ASSERT: u32 = 1 << 14;
    let low = command as u32;
    // An INIT that is de-asserted does nothing on any processor of our time.
    if low >> 8 & 7 == 5 && low & (LEVEL | ASSERT) == LEVEL {
        return Vec::new();
    }
    // Vector and delivery mode lie alike in both.
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

/// All VPs' registers, as one of them sees them.
struct Registers<'a> {
    engine: &'a UserEngine,
    caller: VpIndex,
}

impl VpRegisters for Registers<'_> {
    fn read_register(&self, vp: VpIndex, msr: Msr) -> HvResult<u64> {
        let Common { partition, .. } = &self.engine.common;
        let place = self.engine.common.place(vp)?;
        let moment = match msr {
            Msr::VpRuntime if vp == self.caller => self.engine.common.moment_on_vp(),
            // A thread's time is for itself to ask.
            Msr::VpRuntime => return Err(HvStatus::INVALID_VP_STATE),
            _ => self.engine.common.moment(),
        };
        match self.engine.state(place).read(msr, partition, moment) {
            Ok(MsrRead::Value(value)) => Ok(value),
            _ => Err(HvStatus::INVALID_PARAMETER),
        }
    }

    fn write_register(&self, vp: VpIndex, msr: Msr, value: u64) -> HvResult<()> {
        let Common { partition, .. } = &self.engine.common;
        let place = self.engine.common.place(vp)?;
        if matches!(msr, Msr::Apic(_) | Msr::Reset | Msr::CrashControl) {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let now = self.engine.common.moment();
        let written = self.engine.change(place, now, |state| state.write(msr, value, partition, now));
        self.engine.interrupts(place, &written.map_err(|_| refusal(msr))?);
        Ok(())
    }
}

/// Why a register was not written.
fn refusal(msr: Msr) -> HvStatus {
    match msr {
        // Nobody can write these, whatever the value.
        Msr::VpIndex | Msr::VpRuntime | Msr::Sversion | Msr::TimeRefCount | Msr::TscFrequency | Msr::ApicFrequency => {
            HvStatus::INVALID_PARAMETER
        }
        _ => HvStatus::INVALID_REGISTER_VALUE,
    }
}

impl Child for UserEngine {
    fn memory(&self) -> &GuestMemory {
        self.common.partition.memory()
    }

    fn vp_count(&self) -> u32 {
        self.common.apic_ids.len() as u32
    }

    fn post_message(&self, vp: VpIndex, sint: SintIndex, message: Message) -> HvResult<()> {
        let place = self.common.place(vp)?;
        let traced = (message.header.message_type, message.payload().len());
        let posted = self.state(place).post_message(sint, message, &self.common.partition);
        self.common.trace_message(vp, sint, traced, posted.map(|_| ()));
        if let Some(interrupt) = posted? {
            self.common.interrupt(place, interrupt);
        }
        Ok(())
    }

    fn withdraw_messages(&self, sint: SintIndex, message_type: MessageType) {
        (0..self.vps.len()).for_each(|vp| self.state(vp).withdraw_messages(sint, message_type));
    }

    fn announce_room(&self, event: Option<EventFd>) {
        self.common.announce_room(event);
    }

    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()> {
        let place = self.common.place(vp)?;
        let signalled = self.state(place).signal_event(sint, flag, &self.common.partition);
        self.common.trace_flag(vp, sint, flag, signalled.map(|_| ()));
        if let Some(interrupt) = signalled? {
            self.common.interrupt(place, interrupt);
        }
        Ok(())
    }

    fn raise_sint(&self, vp: VpIndex, sint: SintIndex) -> HvResult<()> {
        let place = self.common.place(vp)?;
        let interrupt = self.state(place).synic().interrupt(sint);
        interrupt.inspect(|interrupt| self.common.interrupt(place, *interrupt));
        Ok(())
    }

    fn connect_messages(&self, id: ConnectionId, port: Arc<dyn MessagePort>) -> Result<(), PortError> {
        self.common.connect_messages(id, port)
    }

    fn connect_events(&self, id: ConnectionId, event: EventFd) -> Result<(), PortError> {
        self.common.connect_events(id, event)
    }

    fn disconnect(&self, id: ConnectionId) {
        self.common.disconnect(id);
    }
}

impl Engine for UserEngine {
    fn leaves(&self) -> Vec<Leaf> {
        self.common.leaves.clone()
    }

    fn adopt(&self, _index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        vp.sync_registers();
        Ok(())
    }

    fn needs_attention(&self, index: VpIndex) -> bool {
        self.common.inboxes[index.0 as usize].is_full()
    }

    fn attend(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        self.common.attend(index, vp)
    }

    fn interrupt_window(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        self.common.interrupt_window(index, vp)
    }

    fn read_msr(&self, index: VpIndex, vp: &mut Vp, number: u32) -> Result<Option<u64>, HostError> {
        let moment = match Msr::decode(number) {
            Some(Msr::VpRuntime) => self.common.moment_on_vp(),
            _ => self.common.moment(),
        };
        let read = self.state(index.0 as usize).read_msr(number, &self.common.partition, moment);
        self.common.trace_msr(index, number, || MsrResult::Read(read));
        match read {
            Ok(MsrRead::Value(value)) => Ok(Some(value)),
            Ok(MsrRead::Apic(register)) => self.read_apic(index.0 as usize, vp, register),
            // The guest goes on at once; its next HLT waits as long as it likes.
            Ok(MsrRead::Idle) => Ok(Some(0)),
            Err(_) => Ok(None),
        }
    }

    fn write_msr(
        &self,
        index: VpIndex,
        vp: &mut Vp,
        number: u32,
        value: u64,
    ) -> Result<Option<Option<GuestRequest>>, HostError> {
        let (place, now) = (index.0 as usize, self.common.moment());
        let written = self.change(place, now, |state| state.write_msr(number, value, &self.common.partition, now));
        self.common.trace_msr(index, number, || MsrResult::Written(value, written.as_ref().map(drop).map_err(|_| GP)));
        match written {
            Ok(actions) => self.perform(place, vp, actions),
            Err(_) => Ok(None),
        }
    }

    fn hypercall(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        let registers = Registers { engine: self, caller: index };
        let answer = self.common.calls(&self.services(&registers)).hypercall(index, vp)?;
        answer.into_iter().for_each(|answer| answer.apply(vp));
        Ok(())
    }

    fn doorbell(&self, index: VpIndex, vp: &mut Vp, connection: u32) -> Result<(), HostError> {
        let registers = Registers { engine: self, caller: index };
        let answer = self.common.calls(&self.services(&registers)).doorbell(index, vp, connection);
        answer.into_iter().for_each(|answer| answer.apply(vp));
        Ok(())
    }

    fn pause(&self) {
        self.common.partition.pause(self.common.reading());
    }

    fn resume(&self) {
        self.common.partition.resume(self.common.reading());
        // Deadlines that could not be waited for while time stood still.
        (0..self.vps.len()).for_each(|vp| self.tick(vp));
    }

    fn shut_down(&self) {
        self.alarm.close();
        self.common.watches.close();
    }
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
