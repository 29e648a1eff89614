//! The part of the engines that is the same for both. It passes each request to the state that they share, to their
//! [`Backend`], or to both.

use std::ops::Range;
use std::sync::Arc;

use super::common::Common;
use super::{Child, Engine, GuestRequest, PortError};
use crate::host::event::EventFd;
use crate::hyperv::connections::MessagePort;
use crate::hyperv::cpuid::Leaf;
use crate::hyperv::features::Features;
use crate::hyperv::hypercall::{Host, InitialVpContext, VpRegister, VpSet};
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::msr::{ApicRegister, Msr};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::trace::MsrResult;
use crate::hyperv::types::{ConnectionId, Fault, GP, Interrupt, SintIndex, VpIndex};
use crate::hyperv::vp::{Action, Actions, Moment, MsrRead};
use crate::kvm::host::HostError;
use crate::kvm::vp::Vp;
use crate::memory::GuestMemory;

/// The operations that the engines implement differently. A `place` is the index of an existing VP.
pub(super) trait Backend: Send + Sync {
    /// Returns the state that both engines have.
    fn common(&self) -> &Common;

    /// Prepares a VP: see [`Engine::adopt`].
    fn adopt(&self, vp: &mut Vp) -> Result<(), HostError>;

    /// Records that the calling thread runs a VP: see [`Engine::enter`].
    fn enter(&self, place: usize);

    /// Returns `true` if timers of the calling thread's VP may be due. This is one load.
    fn is_due(&self) -> bool;

    /// Delivers what is due to a VP, on the VP's own thread.
    fn tick(&self, place: usize);

    /// Delivers what only the VP's own thread can deliver, before the VP enters the guest.
    fn deliver(&self, place: usize);

    /// Posts a message, and returns the interrupt to raise: see [`Child::post_message`].
    fn post_message(&self, place: usize, sint: SintIndex, message: Message) -> HvResult<Option<Interrupt>>;

    /// Drops messages of a VP: see [`Child::withdraw_messages`].
    fn withdraw_messages(&self, place: usize, sint: SintIndex, message_type: MessageType);

    /// Sets an event flag, and returns the interrupt to raise: see [`Child::signal_event`].
    fn signal_event(&self, place: usize, sint: SintIndex, flag: u16) -> HvResult<Option<Interrupt>>;

    /// Interrupts a VP: see [`Child::raise_sint`].
    fn raise_sint(&self, place: usize, sint: SintIndex);

    /// Returns the guest's reference time: see [`Child::reference_time`].
    fn reference_time(&self) -> Option<u64>;

    /// Reads an MSR for the guest.
    fn read_msr(&self, place: usize, vp: &Vp, number: u32, now: Moment) -> Result<MsrRead, Fault>;

    /// Writes an MSR for the guest, on the VP's own thread, and returns what is left to do.
    fn write_msr(&self, place: usize, vp: &mut Vp, number: u32, value: u64) -> Result<Actions, Fault>;

    /// Raises an interrupt that a VP's own access caused.
    fn interrupt(&self, place: usize, interrupt: Interrupt);

    /// Reads a register of the local APIC for the guest. `None` is #GP.
    fn read_apic(&self, place: usize, vp: &Vp, register: ApicRegister) -> Result<Option<u64>, HostError>;

    /// Writes a register of the local APIC for the guest. `false` is #GP.
    fn write_apic(&self, place: usize, vp: &mut Vp, register: ApicRegister, value: u64) -> Result<bool, HostError>;

    /// Reads a register of a VP for a hypercall of `caller`.
    fn read_register(&self, caller: Caller<'_>, place: usize, msr: Msr) -> HvResult<u64>;

    /// Writes a register of a VP for a hypercall of `caller`. The register is one that can be written.
    fn write_register(&self, caller: Caller<'_>, place: usize, msr: Msr, value: u64) -> HvResult<()>;

    /// Does what a pause requires besides stopping the partition's time.
    fn pause(&self);

    /// Undoes [`pause`](Self::pause), before the partition's time goes on.
    fn prepare_resume(&self);

    /// Delivers timer expirations that became due while the partition's time was stopped.
    fn resumed(&self);

    /// Ends the engine's own threads.
    fn shut_down(&self);
}

/// The VP that makes a hypercall.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub index: VpIndex,
    pub vp: &'a Vp,
}

impl Caller<'_> {
    /// Returns `true` if the VP is at `place`.
    pub fn is_at(self, place: usize) -> bool {
        self.index.0 as usize == place
    }
}

impl<B: Backend> Child for B {
    fn memory(&self) -> &GuestMemory {
        self.common().partition.memory()
    }

    fn vp_count(&self) -> u32 {
        self.common().apic_ids.len() as u32
    }

    fn post_message(&self, vp: VpIndex, sint: SintIndex, message: Message) -> HvResult<()> {
        let place = self.common().place(vp)?;
        let traced = (message.header.message_type, message.payload().len());
        let posted = Backend::post_message(self, place, sint, message);
        self.common().trace_message(vp, sint, traced, posted.map(drop));
        posted?.into_iter().for_each(|interrupt| self.common().interrupt(place, interrupt));
        Ok(())
    }

    fn withdraw_messages(&self, sint: SintIndex, message_type: MessageType) {
        let places = 0..self.common().apic_ids.len();
        places.for_each(|place| Backend::withdraw_messages(self, place, sint, message_type));
    }

    fn announce_room(&self, event: Option<EventFd>) {
        self.common().announce_room(event);
    }

    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()> {
        let place = self.common().place(vp)?;
        let signalled = Backend::signal_event(self, place, sint, flag);
        self.common().trace_flag(vp, sint, flag, signalled.map(drop));
        signalled?.into_iter().for_each(|interrupt| self.common().interrupt(place, interrupt));
        Ok(())
    }

    fn raise_sint(&self, vp: VpIndex, sint: SintIndex) -> HvResult<()> {
        Backend::raise_sint(self, self.common().place(vp)?, sint);
        Ok(())
    }

    fn reference_time(&self) -> Option<u64> {
        Backend::reference_time(self)
    }

    fn connect_messages(&self, id: ConnectionId, port: Arc<dyn MessagePort>) -> Result<(), PortError> {
        self.common().connect_messages(id, port)
    }

    fn connect_events(&self, id: ConnectionId, event: EventFd) -> Result<(), PortError> {
        self.common().connect_events(id, event)
    }

    fn disconnect(&self, id: ConnectionId) {
        self.common().disconnect(id);
    }
}

impl<B: Backend> Engine for B {
    fn leaves(&self) -> Vec<Leaf> {
        self.common().leaves.clone()
    }

    fn adopt(&self, _index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        vp.sync_registers();
        Backend::adopt(self, vp)
    }

    fn enter(&self, index: VpIndex) {
        Backend::enter(self, index.0 as usize);
    }

    fn needs_attention(&self, index: VpIndex) -> bool {
        self.is_due() || self.common().inboxes[index.0 as usize].is_full()
    }

    fn attend(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        if self.is_due() {
            self.tick(index.0 as usize);
        }
        self.common().attend(index, vp)?;
        self.deliver(index.0 as usize);
        Ok(())
    }

    fn interrupt_window(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        self.common().interrupt_window(index, vp)
    }

    fn read_msr(&self, index: VpIndex, vp: &mut Vp, number: u32) -> Result<Option<u64>, HostError> {
        let place = index.0 as usize;
        let now = match Msr::decode(number) {
            Some(Msr::VpRuntime) => self.common().moment_on_vp(),
            _ => self.common().moment(),
        };
        let read = Backend::read_msr(self, place, vp, number, now);
        self.common().trace_msr(index, number, || MsrResult::Read(read));
        match read {
            Ok(MsrRead::Value(value)) => Ok(Some(value)),
            Ok(MsrRead::Apic(register)) => self.read_apic(place, vp, register),
            // The guest continues at once.
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
        let place = index.0 as usize;
        let written = Backend::write_msr(self, place, vp, number, value);
        self.common()
            .trace_msr(index, number, || MsrResult::Written(value, written.as_ref().map(drop).map_err(|_| GP)));
        match written {
            Ok(actions) => perform(self, place, vp, actions),
            Err(_) => Ok(None),
        }
    }

    fn hypercall(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        let services = Services { backend: self, caller: Caller { index, vp } };
        let answer = self.common().calls(&services).hypercall(index, vp)?;
        answer.into_iter().for_each(|answer| answer.apply(vp));
        Ok(())
    }

    fn doorbell(&self, index: VpIndex, vp: &mut Vp, connection: u32) -> Result<(), HostError> {
        let services = Services { backend: self, caller: Caller { index, vp } };
        let answer = self.common().calls(&services).doorbell(index, vp, connection);
        answer.into_iter().for_each(|answer| answer.apply(vp));
        Ok(())
    }

    fn pause(&self) {
        self.common().partition.pause(self.common().reading());
        Backend::pause(self);
    }

    fn resume(&self) {
        self.prepare_resume();
        self.common().partition.resume(self.common().reading());
        self.resumed();
    }

    fn shut_down(&self) {
        Backend::shut_down(self);
        self.common().watches.close();
    }
}

/// Performs the actions that follow from a VP's own access, on the VP's thread. `None` is #GP.
fn perform<B: Backend>(
    backend: &B,
    place: usize,
    vp: &mut Vp,
    actions: Actions,
) -> Result<Option<Option<GuestRequest>>, HostError> {
    for action in &actions {
        if let Action::Interrupt(interrupt) = action {
            backend.interrupt(place, *interrupt);
        }
    }
    let mut request = None;
    for action in actions {
        match action {
            Action::Interrupt(_) => {}
            Action::ApicWrite(register, value) => {
                if !backend.write_apic(place, vp, register, value)? {
                    return Ok(None);
                }
            }
            Action::Reset => request = Some(GuestRequest::Reset),
            Action::Crash(report) => request = Some(GuestRequest::Crash(report)),
        }
    }
    Ok(Some(request))
}

/// Returns `true` for registers that are never writable.
fn is_read_only(msr: Msr) -> bool {
    matches!(
        msr,
        Msr::VpIndex | Msr::VpRuntime | Msr::Sversion | Msr::TimeRefCount | Msr::TscFrequency | Msr::ApicFrequency
    )
}

/// The machine, as hypercalls see it.
struct Services<'a, B> {
    backend: &'a B,
    caller: Caller<'a>,
}

impl<B: Backend> Host for Services<'_, B> {
    fn features(&self) -> Features {
        self.backend.common().partition.features()
    }

    fn guest_os_id(&self) -> u64 {
        self.backend.common().partition.guest_os_id()
    }

    fn vp_count(&self) -> u32 {
        self.backend.common().apic_ids.len() as u32
    }

    fn post_message(&self, id: ConnectionId, message_type: MessageType, payload: &[u8]) -> HvResult<()> {
        let port = self.backend.common().connections().message_port(id)?;
        port.post(message_type, payload)
    }

    fn signal_event(&self, id: ConnectionId, flag: u16) -> HvResult<()> {
        let port = self.backend.common().connections().event_port(id, flag)?;
        port.signal(flag);
        Ok(())
    }

    fn send_interrupt(&self, targets: &VpSet, vector: u8) {
        for vp in targets.members(self.vp_count()) {
            self.backend.common().interrupt(vp.0 as usize, Interrupt { vector, auto_eoi: false });
        }
    }

    fn long_spin_wait(&self, _spin_count: u32) {
        std::thread::yield_now();
    }

    /// Asks the VP's own thread to start the VP, and waits for the result.
    fn start_vp(&self, caller: VpIndex, vp: VpIndex, context: &InitialVpContext) -> HvResult<()> {
        let Common { inboxes, gate, .. } = self.backend.common();
        let (own, inbox) = (&inboxes[self.backend.common().place(caller)?], &inboxes[self.backend.common().place(vp)?]);
        if own.await_another(true) {
            gate.wake();
        }
        let mut answer = None;
        if inbox.ask(context) {
            gate.kick(vp.0);
            // The caller counts as paused meanwhile, because the other VP may be paused.
            gate.wait_for(|| inbox.is_answered());
            answer = inbox.take_answer();
        }
        own.await_another(false);
        answer.unwrap_or(Err(HvStatus::INVALID_VP_STATE))
    }

    fn vp_of_apic_id(&self, apic_id: u32) -> Option<VpIndex> {
        let place = self.backend.common().apic_ids.iter().position(|id| *id == apic_id)?;
        Some(VpIndex(place as u32))
    }

    fn read_register(&self, vp: VpIndex, register: VpRegister) -> HvResult<u128> {
        match register {
            VpRegister::Cpuid(function) => {
                let leaf = self
                    .backend
                    .common()
                    .leaves
                    .iter()
                    .find(|leaf| leaf.function == function)
                    .copied()
                    .unwrap_or_default();
                Ok([leaf.edx, leaf.ecx, leaf.ebx, leaf.eax]
                    .into_iter()
                    .fold(0, |value, part| value << 32 | u128::from(part)))
            }
            VpRegister::Msr(msr) => {
                let place = self.backend.common().place(vp)?;
                self.backend.read_register(self.caller, place, msr).map(u128::from)
            }
        }
    }

    fn write_register(&self, vp: VpIndex, msr: Msr, value: u64) -> HvResult<()> {
        let place = self.backend.common().place(vp)?;
        // A hypercall cannot have the effect of writing these MSRs.
        if is_read_only(msr) || matches!(msr, Msr::Reset | Msr::CrashControl) {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        self.backend.write_register(self.caller, place, msr, value)
    }

    fn zeroed_pages(&self) -> Vec<Range<u64>> {
        self.backend.common().zeroed.clone()
    }
}
