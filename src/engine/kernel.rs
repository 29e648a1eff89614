//! The kernel engine: KVM's own emulation, and Viridian for what KVM leaves out.
//!
//! KVM keeps SynIC, timers and reference time. The few MSRs that are [filtered](KernelEngine::FILTERED) come to us, and so does
//! every hypercall that KVM would refuse: our hypercall page passes KVM only those that it answers.
//!
//! SCONTROL, SIEFP and SIMP are filtered as well, checked, and passed on: KVM takes any address for the pages, and does not lay
//! them over what is there. So is EOM: a guest writes it only when a slot is marked MessagePending, so it exits
//! only when we have a message to deliver; a resampling irqfd would wake us after every interrupt of the SINT instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::common::{Common, Services, VpRegisters};
use super::{Child, Engine, GuestRequest, PortError};
use crate::host::limited;
use crate::hyperv::connections::MessagePort;
use crate::hyperv::cpuid::Leaf;
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::msr::Msr;
use crate::hyperv::registers::SintRegister;
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::synic::{EVENT_FLAGS, MessageQueue};
use crate::hyperv::trace::MsrResult;
use crate::hyperv::types::{ConnectionId, Fault, GP, SINT_COUNT, SintIndex, VpIndex};
use crate::hyperv::vp::{Action, Actions, MsrRead, Vp as VpState};
use crate::kvm::host::HostError;
use crate::kvm::vp::Vp;
use crate::memory::GuestMemory;

const SCONTROL: u32 = 0x4000_0080;

/// Raise a VP's SINTs inside KVM; made when first needed.
type SintEvents = [Option<EventFd>; SINT_COUNT];

/// What we keep of one VP.
struct VpSide {
    /// For the MSRs that are ours.
    state: VpState,
    messages: [MessageQueue; SINT_COUNT],
    interrupts: SintEvents,
}

/// The engine of one partition.
pub(super) struct KernelEngine {
    common: Common,
    vps: Vec<Mutex<VpSide>>,
    /// KVM's clock while the partition is paused.
    paused: Mutex<Option<u64>>,
}

impl KernelEngine {
    /// GUEST_OS_ID and HYPERCALL, RESET, SCONTROL to EOM, GUEST_IDLE, the crash registers, TSC_INVARIANT_CONTROL.
    pub const FILTERED: &'static [(u32, u32)] =
        &[(0x4000_0000, 2), (0x4000_0003, 1), (SCONTROL, 5), (0x4000_00f0, 1), (0x4000_0100, 6), (0x4000_0118, 1)];

    pub fn new(common: Common) -> Arc<Self> {
        let side = |index| VpSide {
            state: VpState::new(VpIndex(index)),
            messages: Default::default(),
            interrupts: Default::default(),
        };
        let vps = (0..common.apic_ids.len() as u32).map(|index| Mutex::new(side(index))).collect();
        Arc::new(Self { common, vps, paused: Mutex::default() })
    }

    fn side(&self, vp: usize) -> MutexGuard<'_, VpSide> {
        self.vps[vp].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises a SINT of a VP.
    fn raise(&self, place: usize, interrupts: &mut SintEvents, sint: SintIndex) {
        let event = &mut interrupts[sint.index()];
        if event.is_none() {
            let made = EventFd::new(0).map_err(|source| HostError::Call { call: "an eventfd", source });
            let connected = made
                .and_then(|event| self.common.kvm.connect_sint(&event, place as u32, sint.get().into()).map(|_| event));
            let machine = &self.common.machine;
            let complain = |error: &HostError| {
                limited::warn!(of: machine, "{machine}: no interrupts for {sint} of VP {place}: {error}");
            };
            *event = connected.inspect_err(complain).ok();
        }
        if let Some(event) = event {
            // Fails only when the count is full: then the interrupt is on its way.
            let _ = event.write(1);
        }
    }

    /// Puts waiting messages into free slots. On the VP's own thread: KVM's timers use the slots too, from there.
    fn deliver(&self, place: usize) {
        let VpSide { state, messages, interrupts } = &mut *self.side(place);
        let overlays = self.common.partition.overlays();
        let Some(page) = state.pages(&overlays).messages.filter(|_| state.synic().enabled()) else { return };
        for (queue, sint) in messages.iter_mut().zip(SintIndex::all()) {
            if !queue.is_empty() && queue.deliver(self.memory(), page, sint, false) {
                if queue.take_room() {
                    self.common.has_room();
                }
                self.raise(place, interrupts, sint);
            }
        }
    }

    /// Sets an event flag of a VP that exists.
    fn set_flag(&self, place: usize, sint: SintIndex, flag: u16) -> HvResult<()> {
        let VpSide { state, interrupts, .. } = &mut *self.side(place);
        if flag >= EVENT_FLAGS {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let overlays = self.common.partition.overlays();
        let page = state.pages(&overlays).event_flags.filter(|_| state.synic().enabled());
        if page.ok_or(HvStatus::INVALID_SYNIC_STATE)?.set(self.memory(), sint, flag) {
            self.raise(place, interrupts, sint);
        }
        Ok(())
    }

    /// Writes an MSR that is ours, on the VP's own thread, with KVM told where it must know.
    fn write(&self, index: VpIndex, vp: &Vp, msr: Msr, value: u64) -> Result<Actions, Fault> {
        let place = index.0 as usize;
        let now = self.common.moment();
        let actions = self.side(place).state.write(msr, value, &self.common.partition, now)?;
        if is_shared(msr) {
            if number_of(msr).is_none_or(|number| !vp.write_msr(number, value)) {
                let machine = &self.common.machine;
                limited::warn!(of: machine, "{machine}: KVM does not take {value:#x} for {msr}");
            }
            self.deliver(place);
        }
        Ok(actions)
    }

    fn services<'a>(&'a self, registers: &'a OwnRegisters<'a>) -> Services<'a> {
        Services { common: &self.common, registers }
    }

    fn registers<'a>(&'a self, index: VpIndex, vp: &'a Vp) -> OwnRegisters<'a> {
        OwnRegisters { engine: self, index, vp }
    }
}

/// The registers that a caller may name: ours of any VP, and of its own those that KVM keeps.
struct OwnRegisters<'a> {
    engine: &'a KernelEngine,
    index: VpIndex,
    vp: &'a Vp,
}

impl VpRegisters for OwnRegisters<'_> {
    fn read_register(&self, vp: VpIndex, msr: Msr) -> HvResult<u64> {
        let place = self.engine.common.place(vp)?;
        if is_ours(msr) || msr == Msr::VpIndex {
            let now = self.engine.common.moment();
            return match self.engine.side(place).state.read(msr, &self.engine.common.partition, now) {
                Ok(MsrRead::Value(value)) => Ok(value),
                _ => Err(HvStatus::INVALID_PARAMETER),
            };
        }
        let number = self.kept_by_kvm(vp, msr)?;
        self.vp.read_msr(number).ok_or(HvStatus::INVALID_PARAMETER)
    }

    fn write_register(&self, vp: VpIndex, msr: Msr, value: u64) -> HvResult<()> {
        let place = self.engine.common.place(vp)?;
        match msr {
            // What these do, a hypercall cannot; the others are not to be written by anybody.
            Msr::Reset | Msr::CrashControl | Msr::GuestOsId => return Err(HvStatus::INVALID_PARAMETER),
            Msr::VpIndex
            | Msr::VpRuntime
            | Msr::Sversion
            | Msr::TimeRefCount
            | Msr::TscFrequency
            | Msr::ApicFrequency => {
                return Err(HvStatus::INVALID_PARAMETER);
            }
            // KVM lets the host write what it would refuse the guest.
            Msr::Sint(_) if !SintRegister(value).is_valid() => return Err(HvStatus::INVALID_REGISTER_VALUE),
            _ => {}
        }
        if is_ours(msr) && !is_shared(msr) {
            let Common { partition, .. } = &self.engine.common;
            let written = self.engine.side(place).state.write(msr, value, partition, self.engine.common.moment());
            return written.map(drop).map_err(|_| HvStatus::INVALID_REGISTER_VALUE);
        }
        let number = self.kept_by_kvm(vp, msr)?;
        if is_ours(msr) {
            let written = self.engine.write(self.index, self.vp, msr, value);
            return written.map(drop).map_err(|_| HvStatus::INVALID_REGISTER_VALUE);
        }
        self.vp.write_msr(number, value).then_some(()).ok_or(HvStatus::INVALID_REGISTER_VALUE)
    }
}

impl OwnRegisters<'_> {
    /// The MSR's number, if it is one of the caller's own: KVM answers for a VP on that VP's thread only.
    fn kept_by_kvm(&self, vp: VpIndex, msr: Msr) -> HvResult<u32> {
        if vp != self.index {
            return Err(HvStatus::INVALID_VP_STATE);
        }
        number_of(msr).ok_or(HvStatus::INVALID_PARAMETER)
    }
}

fn number_of(msr: Msr) -> Option<u32> {
    Msr::all().find(|(_, known)| *known == msr).map(|(number, _)| number)
}

/// Whether the MSR's state is with us.
pub(super) fn is_ours(msr: Msr) -> bool {
    let is_filtered =
        |number| KernelEngine::FILTERED.iter().any(|(first, count)| (*first..first + count).contains(&number));
    number_of(msr).is_some_and(is_filtered)
}

/// Whether KVM has to know too what was written to an MSR of ours.
fn is_shared(msr: Msr) -> bool {
    matches!(msr, Msr::GuestOsId | Msr::Scontrol | Msr::Siefp | Msr::Simp | Msr::Eom)
}

impl Child for KernelEngine {
    fn memory(&self) -> &GuestMemory {
        self.common.partition.memory()
    }

    fn vp_count(&self) -> u32 {
        self.common.apic_ids.len() as u32
    }

    fn post_message(&self, vp: VpIndex, sint: SintIndex, message: Message) -> HvResult<()> {
        let place = self.common.place(vp)?;
        let traced = (message.header.message_type, message.payload().len());
        let mut side = self.side(place);
        let synic = side.state.synic();
        let posted = if synic.enabled() && synic.simp.enabled() {
            side.messages[sint.index()].push(message)
        } else {
            Err(HvStatus::INVALID_SYNIC_STATE)
        };
        drop(side);
        self.common.trace_message(vp, sint, traced, posted);
        if posted.is_ok() {
            self.common.inboxes[place].mark();
            self.common.gate.kick(vp.0);
        }
        posted
    }

    fn withdraw_messages(&self, sint: SintIndex, message_type: MessageType) {
        (0..self.vps.len()).for_each(|vp| self.side(vp).messages[sint.index()].withdraw(message_type));
    }

    fn announce_room(&self, event: Option<EventFd>) {
        self.common.announce_room(event);
    }

    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()> {
        let place = self.common.place(vp)?;
        let signalled = self.set_flag(place, sint, flag);
        self.common.trace_flag(vp, sint, flag, signalled);
        signalled
    }

    fn raise_sint(&self, vp: VpIndex, sint: SintIndex) -> HvResult<()> {
        let place = self.common.place(vp)?;
        self.raise(place, &mut self.side(place).interrupts, sint);
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

impl Engine for KernelEngine {
    fn leaves(&self) -> Vec<Leaf> {
        self.common.leaves.clone()
    }

    fn adopt(&self, _index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        vp.sync_registers();
        vp.enable(kvm_bindings::KVM_CAP_HYPERV_SYNIC2, 0, "Hyper-V's interrupt controller")?;
        vp.enable(kvm_bindings::KVM_CAP_HYPERV_ENFORCE_CPUID, 1, "holding the guest to what CPUID offers")?;
        // The TLFS has a SynIC enabled from the start; not every KVM does.
        if !vp.write_msr(SCONTROL, 1) {
            limited::warn!("this KVM does not enable the SynIC: the guest must");
        }
        Ok(())
    }

    fn needs_attention(&self, index: VpIndex) -> bool {
        self.common.inboxes[index.0 as usize].is_full()
    }

    fn attend(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        self.common.attend(index, vp)?;
        self.deliver(index.0 as usize);
        Ok(())
    }

    fn interrupt_window(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        self.common.interrupt_window(index, vp)
    }

    fn read_msr(&self, index: VpIndex, _vp: &mut Vp, number: u32) -> Result<Option<u64>, HostError> {
        let moment = self.common.moment();
        let read = self.side(index.0 as usize).state.read_msr(number, &self.common.partition, moment);
        self.common.trace_msr(index, number, || MsrResult::Read(read));
        Ok(match read {
            Ok(MsrRead::Value(value)) => Some(value),
            Ok(MsrRead::Idle) => Some(0),
            Ok(MsrRead::Apic(_)) | Err(_) => None,
        })
    }

    fn write_msr(
        &self,
        index: VpIndex,
        vp: &mut Vp,
        number: u32,
        value: u64,
    ) -> Result<Option<Option<GuestRequest>>, HostError> {
        let msr = Msr::decode(number).filter(|msr| msr.is_accessible(self.common.partition.features()));
        let written = msr.ok_or(GP).and_then(|msr| self.write(index, vp, msr, value));
        self.common.trace_msr(index, number, || MsrResult::Written(value, written.as_ref().map(drop).map_err(|_| GP)));
        let Ok(actions) = written else { return Ok(None) };
        Ok(Some(actions.into_iter().find_map(|action| match action {
            Action::Reset => Some(GuestRequest::Reset),
            Action::Crash(report) => Some(GuestRequest::Crash(report)),
            Action::Interrupt(_) | Action::ApicWrite(..) => None,
        })))
    }

    fn hypercall(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        let answer = self.common.calls(&self.services(&self.registers(index, vp))).hypercall(index, vp)?;
        answer.into_iter().for_each(|answer| answer.apply(vp));
        Ok(())
    }

    fn doorbell(&self, index: VpIndex, vp: &mut Vp, connection: u32) -> Result<(), HostError> {
        let answer = self.common.calls(&self.services(&self.registers(index, vp))).doorbell(index, vp, connection);
        answer.into_iter().for_each(|answer| answer.apply(vp));
        Ok(())
    }

    fn pause(&self) {
        self.common.partition.pause(self.common.reading());
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_none() {
            *paused = self.common.kvm.clock().inspect_err(|error| limited::warn!("the clock runs on: {error}")).ok();
        }
    }

    fn resume(&self) {
        let clock = self.paused.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = clock.map(|clock| self.common.kvm.set_clock(clock)) {
            limited::warn!("the guest's clock has stepped: {error}");
        }
        self.common.partition.resume(self.common.reading());
    }

    fn shut_down(&self) {}
}
