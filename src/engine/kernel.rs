//! The kernel engine: KVM's own emulation, with the parts that KVM does not implement in Viridian.
//!
//! KVM implements SynIC, timers and reference time. Viridian handles the few MSRs that are [filtered](KernelEngine::FILTERED)
//! and all hypercalls that KVM would refuse: the hypercall page calls KVM only for those that KVM handles.
//!
//! SCONTROL, SIEFP and SIMP are filtered, checked, and passed on, because KVM accepts any address for the pages and does not
//! implement them as overlays. EOM is filtered and passed on, too. A guest writes it only when a slot is marked
//! MessagePending, so it exits only when there is a message to deliver. A resampling irqfd would wake Viridian after every
//! interrupt of the SINT instead.

use std::sync::Arc;

use super::common::Common;
use super::shell::{Backend, Caller};
use crate::host::event::EventFd;
use crate::host::limited;
use crate::host::lock::{Mutex, MutexGuard};
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::msr::{ApicRegister, Msr};
use crate::hyperv::reftime::NANOSECONDS_PER_UNIT;
use crate::hyperv::registers::{SintRegister, TimerConfig};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::synic::{EVENT_FLAGS, MessageQueue};
use crate::hyperv::types::{Fault, GP, Interrupt, SINT_COUNT, SintIndex, VpIndex};
use crate::hyperv::vp::{Actions, Moment, MsrRead, VpState};
use crate::kvm::host::HostError;
use crate::kvm::vp::Vp;

const SCONTROL: u32 = 0x4000_0080;
const STIMER0_COUNT: u32 = 0x4000_00b1;

/// The irqfds that raise a VP's SINTs, each created when it is first needed.
type SintEvents = [Option<EventFd>; SINT_COUNT];

/// The state that Viridian keeps for one VP.
struct VpSide {
    /// The state of the MSRs that Viridian keeps.
    state: VpState,
    messages: [MessageQueue; SINT_COUNT],
    interrupts: SintEvents,
}

/// The engine of one partition.
pub(super) struct KernelEngine {
    common: Common,
    vps: Vec<Mutex<VpSide>>,
    /// The host's KVM can skip EOIs, so accesses to [`PASSED_ON`](Self::PASSED_ON) exit.
    skips_eois: bool,
    /// The value of KVM's clock at the pause, while the partition is paused.
    paused: Mutex<Option<u64>>,
}

impl KernelEngine {
    /// GUEST_OS_ID and HYPERCALL, RESET, SCONTROL to EOM, GUEST_IDLE, the crash registers, TSC_INVARIANT_CONTROL.
    pub const FILTERED: &'static [(u32, u32)] =
        &[(0x4000_0000, 2), (0x4000_0003, 1), (SCONTROL, 5), (0x4000_00f0, 1), (0x4000_0100, 6), (0x4000_0118, 1)];

    /// The MSRs that KVM keeps, but whose accesses exit on a host that can skip EOIs: STIMER0_COUNT. Linux sets its next tick
    /// before it ends the interrupt of the last one. If KVM handled that exit alone, it would take the mark "no EOI required"
    /// back, and the EOI would be a second exit.
    pub const PASSED_ON: &'static [(u32, u32)] = &[(STIMER0_COUNT, 1)];

    pub fn new(common: Common, skips_eois: bool) -> Arc<Self> {
        let side = |index| VpSide {
            state: VpState::new(VpIndex(index)),
            messages: Default::default(),
            interrupts: Default::default(),
        };
        let vps = (0..common.apic_ids.len() as u32).map(|index| Mutex::new(side(index))).collect();
        Arc::new(Self { common, vps, skips_eois, paused: Mutex::default() })
    }

    fn side(&self, vp: usize) -> MutexGuard<'_, VpSide> {
        self.vps[vp].lock()
    }

    /// Returns `true` if accesses to an MSR exit only to be passed on to KVM.
    fn passes_on(&self, number: u32) -> bool {
        self.skips_eois && number == STIMER0_COUNT
    }

    /// Raises a SINT of a VP.
    fn raise(&self, place: usize, interrupts: &mut SintEvents, sint: SintIndex) {
        let event = &mut interrupts[sint.index()];
        if event.is_none() {
            let made = EventFd::blocking().map_err(|source| HostError::Call { call: "an eventfd", source });
            let connected = made
                .and_then(|event| self.common.kvm.connect_sint(&event, place as u32, sint.get().into()).map(|_| event));
            let machine = &self.common.machine;
            let complain = |error: &HostError| {
                limited::warn!(of: machine, "{machine}: no interrupts for {sint} of VP {place}: {error}");
            };
            *event = connected.inspect_err(complain).ok();
        }
        if let Some(event) = event {
            // Fails only if the count is at its maximum, and then the interrupt is pending already.
            event.signal();
        }
    }

    /// Writes an MSR that Viridian keeps, on the VP's own thread. Passes the value on to KVM if KVM needs it.
    fn write(&self, place: usize, vp: &Vp, msr: Msr, value: u64) -> Result<Actions, Fault> {
        let now = self.common.moment();
        let actions = self.side(place).state.write(msr, value, &self.common.partition, now)?;
        if is_shared(msr) {
            if number_of(msr).is_none_or(|number| !vp.write_msr(number, value)) {
                let machine = &self.common.machine;
                limited::warn!(of: machine, "{machine}: KVM does not accept the value {value:#x} for {msr}");
            }
            self.deliver(place);
        }
        Ok(actions)
    }
}

/// Returns the number of an MSR that KVM keeps. Its value can be accessed only on the thread of the VP, so the VP must be the
/// caller.
fn kept_by_kvm(caller: Caller<'_>, place: usize, msr: Msr) -> HvResult<u32> {
    if !caller.is_at(place) {
        return Err(HvStatus::INVALID_VP_STATE);
    }
    number_of(msr).ok_or(HvStatus::INVALID_PARAMETER)
}

/// Writes an MSR that KVM keeps, with the effects of a guest's own write. Returns `false` if KVM refuses the value.
fn write_kept(vp: &Vp, msr: Msr, number: u32, value: u64) -> bool {
    let Msr::StimerCount(_) = msr else { return vp.write_msr(number, value) };
    // A timer's two MSRs follow each other.
    let config_number = number - 1;
    let Some(config) = vp.read_msr(config_number).map(TimerConfig) else { return false };
    // KVM changes "Enabled" only for writes of the guest.
    let changed = config.with_enabled(value != 0 && (config.enabled() || config.auto_enable()));
    vp.write_msr(number, value) && (changed == config || vp.write_msr(config_number, changed.0))
}

fn number_of(msr: Msr) -> Option<u32> {
    Msr::all().find(|(_, known)| *known == msr).map(|(number, _)| number)
}

/// Returns `true` if Viridian keeps the state of the MSR.
pub(super) fn is_ours(msr: Msr) -> bool {
    let is_filtered =
        |number| KernelEngine::FILTERED.iter().any(|(first, count)| (*first..first + count).contains(&number));
    number_of(msr).is_some_and(is_filtered)
}

/// Returns `true` if KVM also needs the value of an MSR that Viridian keeps.
fn is_shared(msr: Msr) -> bool {
    matches!(msr, Msr::GuestOsId | Msr::Scontrol | Msr::Siefp | Msr::Simp | Msr::Eom)
}

impl Backend for KernelEngine {
    fn common(&self) -> &Common {
        &self.common
    }

    fn adopt(&self, vp: &mut Vp) -> Result<(), HostError> {
        vp.enable(kvm_bindings::KVM_CAP_HYPERV_SYNIC2, 0, "Hyper-V's interrupt controller")?;
        vp.enable(kvm_bindings::KVM_CAP_HYPERV_ENFORCE_CPUID, 1, "holding the guest to what CPUID offers")?;
        // Hyper-V enables the SynIC at reset. Not every KVM does.
        if !vp.write_msr(SCONTROL, 1) {
            limited::warn!(
                "KVM does not enable the SynIC at reset; guests that do not enable it themselves get no messages"
            );
        }
        Ok(())
    }

    fn enter(&self, _place: usize) {}

    /// KVM implements the synthetic timers.
    fn is_due(&self) -> bool {
        false
    }

    fn tick(&self, _place: usize) {}

    /// Writes waiting messages into free slots. Runs on the VP's own thread, because KVM writes timer messages there.
    fn deliver(&self, place: usize) {
        let VpSide { state, messages, interrupts } = &mut *self.side(place);
        let overlays = self.common.partition.overlays();
        let Some(page) = state.pages(&overlays).messages.filter(|_| state.synic().enabled()) else { return };
        for (queue, sint) in messages.iter_mut().zip(SintIndex::all()) {
            if !queue.is_empty() && queue.deliver(self.common.partition.memory(), page, sint, false) {
                if queue.take_room() {
                    self.common.has_room();
                }
                self.raise(place, interrupts, sint);
            }
        }
    }

    fn post_message(&self, place: usize, sint: SintIndex, message: Message) -> HvResult<Option<Interrupt>> {
        let mut side = self.side(place);
        let synic = side.state.synic();
        if !(synic.enabled() && synic.simp.enabled()) {
            return Err(HvStatus::INVALID_SYNIC_STATE);
        }
        side.messages[sint.index()].push(message)?;
        drop(side);
        self.common.inboxes[place].mark();
        self.common.gate.kick(place as u32);
        Ok(None)
    }

    fn withdraw_messages(&self, place: usize, sint: SintIndex, message_type: MessageType) {
        self.side(place).messages[sint.index()].withdraw(message_type);
    }

    fn signal_event(&self, place: usize, sint: SintIndex, flag: u16) -> HvResult<Option<Interrupt>> {
        let VpSide { state, interrupts, .. } = &mut *self.side(place);
        if flag >= EVENT_FLAGS {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let overlays = self.common.partition.overlays();
        let page = state.pages(&overlays).event_flags.filter(|_| state.synic().enabled());
        if page.ok_or(HvStatus::INVALID_SYNIC_STATE)?.set(self.common.partition.memory(), sint, flag) {
            self.raise(place, interrupts, sint);
        }
        Ok(None)
    }

    fn raise_sint(&self, place: usize, sint: SintIndex) {
        self.raise(place, &mut self.side(place).interrupts, sint);
    }

    fn reference_time(&self) -> Option<u64> {
        // KVM derives the reference time from its clock.
        self.common.kvm.clock().ok().map(|nanoseconds| nanoseconds / NANOSECONDS_PER_UNIT)
    }

    fn read_msr(&self, place: usize, vp: &Vp, number: u32, now: Moment) -> Result<MsrRead, Fault> {
        if !self.passes_on(number) {
            return self.side(place).state.read_msr(number, &self.common.partition, now);
        }
        let offered = Msr::decode(number).is_some_and(|msr| msr.is_accessible(self.common.partition.features()));
        vp.read_msr(number).filter(|_| offered).map(MsrRead::Value).ok_or(GP)
    }

    fn write_msr(&self, place: usize, vp: &mut Vp, number: u32, value: u64) -> Result<Actions, Fault> {
        let msr = Msr::decode(number).filter(|msr| msr.is_accessible(self.common.partition.features())).ok_or(GP)?;
        if !self.passes_on(number) {
            return self.write(place, vp, msr, value);
        }
        let written = write_kept(vp, msr, number, value);
        vp.renew_eoi_field();
        if written { Ok(Actions::new()) } else { Err(GP) }
    }

    /// Does nothing, because KVM's SynIC raises these interrupts.
    fn interrupt(&self, _place: usize, _interrupt: Interrupt) {}

    /// Does nothing, because KVM handles the MSRs of the local APIC.
    fn read_apic(&self, _place: usize, _vp: &Vp, _register: ApicRegister) -> Result<Option<u64>, HostError> {
        Ok(None)
    }

    fn write_apic(&self, _: usize, _: &mut Vp, _: ApicRegister, _: u64) -> Result<bool, HostError> {
        Ok(true)
    }

    /// Registers that Viridian keeps can be read for any VP, those that KVM keeps only for the caller.
    fn read_register(&self, caller: Caller<'_>, place: usize, msr: Msr) -> HvResult<u64> {
        if is_ours(msr) || msr == Msr::VpIndex {
            let now = self.common.moment();
            return match self.side(place).state.read(msr, &self.common.partition, now) {
                Ok(MsrRead::Value(value)) => Ok(value),
                _ => Err(HvStatus::INVALID_PARAMETER),
            };
        }
        let number = kept_by_kvm(caller, place, msr)?;
        caller.vp.read_msr(number).ok_or(HvStatus::INVALID_PARAMETER)
    }

    fn write_register(&self, caller: Caller<'_>, place: usize, msr: Msr, value: u64) -> HvResult<()> {
        match msr {
            Msr::GuestOsId => return Err(HvStatus::INVALID_PARAMETER),
            // From the host, KVM accepts values that it would refuse from the guest.
            Msr::Sint(_) if !SintRegister(value).is_valid() => return Err(HvStatus::INVALID_REGISTER_VALUE),
            _ => {}
        }
        let refused = |_| HvStatus::INVALID_REGISTER_VALUE;
        if is_ours(msr) && !is_shared(msr) {
            let written = self.side(place).state.write(msr, value, &self.common.partition, self.common.moment());
            return written.map(drop).map_err(refused);
        }
        let number = kept_by_kvm(caller, place, msr)?;
        if is_ours(msr) {
            return self.write(place, caller.vp, msr, value).map(drop).map_err(refused);
        }
        write_kept(caller.vp, msr, number, value).then_some(()).ok_or(HvStatus::INVALID_REGISTER_VALUE)
    }

    fn pause(&self) {
        let mut paused = self.paused.lock();
        if paused.is_none() {
            *paused = self
                .common
                .kvm
                .clock()
                .inspect_err(|error| limited::warn!("the guest's clock continues during the pause: {error}"))
                .ok();
        }
    }

    fn prepare_resume(&self) {
        let clock = self.paused.lock().take();
        if let Some(Err(error)) = clock.map(|clock| self.common.kvm.set_clock(clock)) {
            limited::warn!("the guest's clock has jumped by the length of the pause: {error}");
        }
    }

    fn resumed(&self) {}

    fn shut_down(&self) {}
}
