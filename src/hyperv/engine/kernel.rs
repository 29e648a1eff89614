//! The kernel engine: KVM's own emulation, and Viridian for what KVM leaves out.
//!
//! KVM keeps SynIC, timers and reference time. The few MSRs that are [filtered](KernelEngine::FILTERED) come to us, and so does
//! every hypercall that KVM would refuse: our hypercall page passes KVM only those that it answers.
//!
//! EOM is filtered as well, and passed on. A guest writes it only when a slot is marked MessagePending, so it exits
//! only when we have a message to deliver; a resampling irqfd would wake us after every interrupt of the SINT instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::common::{Common, Services, VpRegisters, traced_value};
use super::{Child, Engine, GuestRequest, PortError};
use crate::hyperv::connections::MessagePort;
use crate::hyperv::cpuid::Leaf;
use crate::hyperv::message::Message;
use crate::hyperv::msr::Msr;
use crate::hyperv::registers::{PageRegister, SintRegister};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::synic::{EventFlagsPage, MessagePage, MessageQueue};
use crate::hyperv::trace::MsrResult;
use crate::hyperv::types::{ConnectionId, GP, PAGE_SIZE, SINT_COUNT, SintIndex, VpIndex};
use crate::hyperv::vp::{Action, MsrRead, Vp as VpState};
use crate::partition::host::HostError;
use crate::partition::memory::GuestMemory;
use crate::partition::vp::Vp;

/// GUEST_OS_ID.
const GUEST_OS_ID: u32 = 0x4000_0000;
const SCONTROL: u32 = 0x4000_0080;
const EOM: u32 = 0x4000_0084;

/// What we keep of one VP.
struct VpSide {
    /// For the MSRs that are ours.
    state: VpState,
    /// SCONTROL, SIEFP and SIMP as KVM last told.
    scontrol: u64,
    siefp: PageRegister,
    simp: PageRegister,
    messages: [MessageQueue; SINT_COUNT],
    /// Raise a SINT inside KVM; made when first needed.
    interrupts: [Option<EventFd>; SINT_COUNT],
}

/// The engine of one partition.
pub(super) struct KernelEngine {
    common: Common,
    vps: Vec<Mutex<VpSide>>,
    /// KVM's clock while the partition is paused.
    paused: Mutex<Option<u64>>,
}

impl KernelEngine {
    /// GUEST_OS_ID and HYPERCALL, RESET, EOM, GUEST_IDLE, the crash registers, TSC_INVARIANT_CONTROL.
    pub const FILTERED: &'static [(u32, u32)] =
        &[(GUEST_OS_ID, 2), (0x4000_0003, 1), (EOM, 1), (0x4000_00f0, 1), (0x4000_0100, 6), (0x4000_0118, 1)];

    pub fn new(common: Common) -> Arc<Self> {
        let side = |index| VpSide {
            state: VpState::new(VpIndex(index)),
            scontrol: 1,
            siefp: PageRegister::default(),
            simp: PageRegister::default(),
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
    fn raise(&self, place: usize, side: &mut VpSide, sint: SintIndex) {
        let event = &mut side.interrupts[sint.index()];
        if event.is_none() {
            let made = EventFd::new(0).map_err(|source| HostError::Call { call: "an eventfd", source });
            let connected = made
                .and_then(|event| self.common.kvm.connect_sint(&event, place as u32, sint.get().into()).map(|_| event));
            *event = connected.inspect_err(|error| log::warn!("no interrupts for {sint} of VP {place}: {error}")).ok();
        }
        if let Some(event) = event {
            // Fails only when the count is full: then the interrupt is on its way.
            let _ = event.write(1);
        }
    }

    /// Puts waiting messages into free slots. On the VP's own thread: KVM's timers use the slots too, from there.
    fn deliver(&self, place: usize) {
        let mut side = self.side(place);
        if side.scontrol & 1 == 0 || !side.simp.enabled() {
            return;
        }
        let page = MessagePage(side.simp.gpa());
        for sint in SintIndex::all() {
            let queue = &mut side.messages[sint.index()];
            if !queue.is_empty() && queue.deliver(self.memory(), page, sint, false) {
                if queue.take_room() {
                    self.common.has_room();
                }
                self.raise(place, &mut side, sint);
            }
        }
    }

    /// Clears a page that the guest has just enabled, or moved.
    fn clear_if_new(&self, before: PageRegister, now: PageRegister) {
        let moved = !before.enabled() || before.gpa() != now.gpa();
        if now.enabled() && moved && self.memory().write_slice(&[0; PAGE_SIZE], GuestAddress(now.gpa())).is_err() {
            log::debug!("the guest has a SynIC page at {:#x}, where no memory is", now.gpa());
        }
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
        if is_ours(msr) {
            let Common { partition, .. } = &self.engine.common;
            let written = self.engine.side(place).state.write(msr, value, partition, self.engine.common.moment());
            return written.map(drop).map_err(|_| HvStatus::INVALID_REGISTER_VALUE);
        }
        let number = self.kept_by_kvm(vp, msr)?;
        self.vp.write_msr(number, value).then_some(()).ok_or(HvStatus::INVALID_REGISTER_VALUE)
    }
}

impl OwnRegisters<'_> {
    /// The MSR's number, if it is one of the caller's own: KVM answers for a VP on that VP's thread only.
    fn kept_by_kvm(&self, vp: VpIndex, msr: Msr) -> HvResult<u32> {
        if vp != self.index {
            return Err(HvStatus::INVALID_VP_STATE);
        }
        Msr::all().find(|(_, known)| *known == msr).map(|(number, _)| number).ok_or(HvStatus::INVALID_PARAMETER)
    }
}

/// Whether the MSR's state is with us.
pub(super) fn is_ours(msr: Msr) -> bool {
    let number = Msr::all().find(|(_, known)| *known == msr).map(|(number, _)| number);
    number.is_some_and(|number| {
        number != EOM && KernelEngine::FILTERED.iter().any(|(first, count)| (*first..first + count).contains(&number))
    })
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
        let posted = if side.scontrol & 1 != 0 && side.simp.enabled() {
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

    fn announce_room(&self, event: Option<EventFd>) {
        self.common.announce_room(event);
    }

    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()> {
        let place = self.common.place(vp)?;
        let mut side = self.side(place);
        let signalled = if flag >= crate::hyperv::synic::EVENT_FLAGS {
            Err(HvStatus::INVALID_PARAMETER)
        } else if side.scontrol & 1 == 0 || !side.siefp.enabled() {
            Err(HvStatus::INVALID_SYNIC_STATE)
        } else {
            if EventFlagsPage(side.siefp.gpa()).set(self.memory(), sint, flag) {
                self.raise(place, &mut side, sint);
            }
            Ok(())
        };
        drop(side);
        self.common.trace_flag(vp, sint, flag, signalled);
        signalled
    }

    fn raise_sint(&self, vp: VpIndex, sint: SintIndex) -> HvResult<()> {
        let place = self.common.place(vp)?;
        self.raise(place, &mut self.side(place), sint);
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
            log::warn!("this KVM does not enable the SynIC: the guest must");
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

    fn read_msr(&self, index: VpIndex, vp: &mut Vp, number: u32) -> Result<Option<u64>, HostError> {
        if number == EOM {
            self.common.trace_msr(index, number, || traced_value(0));
            return Ok(vp.read_msr(EOM));
        }
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
        let (place, moment) = (index.0 as usize, self.common.moment());
        if number == EOM {
            self.common.trace_msr(index, number, || MsrResult::Written(value, Ok(())));
            let taken = vp.write_msr(EOM, value);
            self.deliver(place);
            return Ok(taken.then_some(None));
        }
        let written = self.side(place).state.write_msr(number, value, &self.common.partition, moment);
        self.common.trace_msr(index, number, || MsrResult::Written(value, written.as_ref().map(drop).map_err(|_| GP)));
        let Ok(actions) = written else { return Ok(None) };
        if number == GUEST_OS_ID && !vp.write_msr(GUEST_OS_ID, value) {
            log::warn!("KVM does not take the guest's OS id: it will answer none of its calls");
        }
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
        let answer = self.common.calls(&self.services(&self.registers(index, vp))).doorbell(index, vp, connection)?;
        answer.into_iter().for_each(|answer| answer.apply(vp));
        Ok(())
    }

    fn synic_pages(&self, index: VpIndex, [scontrol, siefp, simp]: [u64; 3]) {
        let place = index.0 as usize;
        let (siefp, simp) = (PageRegister(siefp), PageRegister(simp));
        let mut side = self.side(place);
        // KVM leaves this to us: a guest that found an old message in a slot would wait for ever.
        self.clear_if_new(side.siefp, siefp);
        self.clear_if_new(side.simp, simp);
        (side.scontrol, side.siefp, side.simp) = (scontrol, siefp, simp);
        drop(side);
        self.deliver(place);
    }

    fn pause(&self) {
        self.common.partition.pause(self.common.reading());
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_none() {
            *paused = self.common.kvm.clock().inspect_err(|error| log::warn!("the clock runs on: {error}")).ok();
        }
    }

    fn resume(&self) {
        let clock = self.paused.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = clock.map(|clock| self.common.kvm.set_clock(clock)) {
            log::warn!("the guest's clock has stepped: {error}");
        }
        self.common.partition.resume(self.common.reading());
    }

    fn shut_down(&self) {}
}
