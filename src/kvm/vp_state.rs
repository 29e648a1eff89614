//! The parts of a VP's state that only the Hyper-V engines use: synchronized registers, MSRs, pending events.

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVMIO, Msrs,
    kvm_device_attr, kvm_enable_cap, kvm_fpu, kvm_guest_debug, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs,
    kvm_sregs,
};
use kvm_ioctls::SyncReg;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use super::host::HostError;
use super::tsc;
use super::vp::Vp;

ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

const IA32_TSC: u32 = 0x10;
/// The local APIC's registers, by their offset in its page (Intel SDM volume 3, "Local APIC Register Address Map").
pub(super) const APIC_TPR: usize = 0x80;
pub(super) const APIC_ISR: usize = 0x100;
const APIC_TMR: usize = 0x180;
pub(super) const APIC_IRR: usize = 0x200;
pub(super) const APIC_LINT0: usize = 0x350;
pub(super) const APIC_LINT1: usize = 0x360;
/// A local vector table entry: the interrupt comes from a PIC.
pub(super) const EXT_INT: u32 = 7 << 8;

pub(super) const RFLAGS_IF: u64 = 1 << 9;

/// Flags of pending events: KVM must not discard NMIs and INITs that arrived since the state was read.
const ONLY_WHAT_CHANGES: u32 = 0;

/// IA32_APIC_BASE.
const X2APIC_ENABLED: u64 = 1 << 10;
/// The EOI register of a local APIC in x2APIC mode.
const X2APIC_EOI: u32 = 0x80b;
/// TLFS, "EOI": works in every mode of the local APIC.
const HV_EOI: u32 = 0x4000_0070;

/// MSR_KVM_PV_EOI_EN (the kernel's documentation, "KVM-specific MSRs"): the GPA of a field of four bytes, and in bit 0
/// whether it is used.
const KVM_PV_EOI: u32 = 0x4b56_4d04;

/// An exception to raise in a VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #UD.
    UndefinedOpcode,
    /// #GP(0).
    GeneralProtection,
}

/// Whether a VP can take an interrupt, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The VP takes it on the next entry.
    Taken,
    /// Interrupts are disabled, and no other event is pending.
    Masked,
    /// The VP is halted with interrupts disabled.
    Asleep,
    /// Another event is pending, or the task priority is too high.
    Busy,
    /// The VP waits for INIT or SIPI. As in a local APIC, pending interrupts are discarded.
    Reset,
}

impl Vp {
    /// Makes KVM copy the registers on each exit, for [`synced_registers`](Self::synced_registers) and
    /// [`synced_system_registers`](Self::synced_system_registers).
    ///
    /// That takes a fraction of the time of a separate system call.
    pub fn sync_registers(&mut self) {
        self.fd.set_sync_valid_reg(SyncReg::Register);
        self.fd.set_sync_valid_reg(SyncReg::SystemRegister);
    }

    /// Returns the general registers as they were at the last exit.
    pub fn synced_registers(&self) -> kvm_regs {
        self.fd.sync_regs().regs
    }

    /// Returns the instruction pointer at the last exit, or `None` before the first exit or if registers are not
    /// synchronized.
    pub(super) fn synced_instruction(&mut self) -> Option<u64> {
        let synced = self.fd.get_kvm_run().kvm_valid_regs & SyncReg::Register as u64 != 0;
        Some(self.synced_registers().rip).filter(|rip| synced && *rip != 0)
    }

    /// Returns the segment, table and control registers as they were at the last exit.
    pub fn synced_system_registers(&self) -> kvm_sregs {
        self.fd.sync_regs().sregs
    }

    /// Sets the general registers on the next entry.
    pub fn set_synced_registers(&mut self, registers: &kvm_regs) {
        self.fd.sync_regs_mut().regs = *registers;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// Returns the x87 and SSE registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn fpu(&self) -> Result<kvm_fpu, HostError> {
        self.fd.get_fpu().map_err(HostError::call("the FPU's registers"))
    }

    /// Sets the x87 and SSE registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_fpu(&self, fpu: &kvm_fpu) -> Result<(), HostError> {
        self.fd.set_fpu(fpu).map_err(HostError::call("new FPU registers"))
    }

    /// Reads an MSR with host privileges, or returns `None` if KVM does not implement it.
    pub fn read_msr(&self, index: u32) -> Option<u64> {
        let mut msrs = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]).ok()?;
        let count = self.fd.get_msrs(&mut msrs).ok()?;
        (count == 1).then(|| msrs.as_slice()[0].data)
    }

    /// Writes an MSR with host privileges, which are more than the guest's. Returns `false` if KVM refuses the write.
    #[must_use]
    pub fn write_msr(&self, index: u32, data: u64) -> bool {
        let msrs = Msrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }]);
        msrs.is_ok_and(|msrs| self.fd.set_msrs(&msrs).is_ok_and(|count| count == 1))
    }

    /// Raises an exception on the next entry. The VP must not be in the middle of an access.
    pub(super) fn inject(&self, exception: Exception) -> Result<(), HostError> {
        let mut events = self.fd.get_vcpu_events().map_err(HostError::call("pending events"))?;
        let (vector, has_error_code) = match exception {
            Exception::UndefinedOpcode => (6, 0),
            Exception::GeneralProtection => (13, 1),
        };
        events.exception.injected = 1;
        events.exception.nr = vector;
        events.exception.has_error_code = has_error_code;
        events.exception.error_code = 0;
        events.flags = ONLY_WHAT_CHANGES;
        self.fd.set_vcpu_events(&events).map_err(HostError::call("an exception"))
    }

    /// Injects an interrupt as already acknowledged: nothing stays in service, and no EOI is needed.
    ///
    /// The interrupt is injected only if this returns [`Readiness::Taken`]. An interrupt in service does not prevent
    /// that: a handler that enables interrupts before its EOI is interrupted.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn inject_acknowledged(&self, vector: u8) -> Result<Readiness, HostError> {
        let mut events = self.fd.get_vcpu_events().map_err(HostError::call("pending events"))?;
        let activity = self.fd.get_mp_state().map_err(HostError::call("a VP's activity"))?.mp_state;
        if !matches!(activity, KVM_MP_STATE_RUNNABLE | KVM_MP_STATE_HALTED) {
            return Ok(Readiness::Reset);
        }
        let halted = activity == KVM_MP_STATE_HALTED;
        let busy = [events.interrupt.injected, events.exception.injected, events.nmi.injected, events.interrupt.shadow];
        if busy.iter().any(|flag| *flag != 0) {
            return Ok(Readiness::Busy);
        }
        if self.registers()?.rflags & RFLAGS_IF == 0 {
            return Ok(if halted { Readiness::Asleep } else { Readiness::Masked });
        }
        if self.is_held_back(vector)? {
            return Ok(Readiness::Busy);
        }
        if halted {
            self.set_activity(KVM_MP_STATE_RUNNABLE)?;
        }
        events.interrupt.injected = 1;
        events.interrupt.nr = vector;
        events.interrupt.soft = 0;
        events.flags = ONLY_WHAT_CHANGES;
        self.fd.set_vcpu_events(&events).map_err(HostError::call("an interrupt")).map(|()| Readiness::Taken)
    }

    /// Makes the VP exit with [`Exit::InterruptWindow`](super::vp::Exit::InterruptWindow) as soon as its interrupts are
    /// enabled. Returns `false`, without effect, if KVM does not support that: the local APIC must be connected to a
    /// PIC.
    ///
    /// The guest must have made that connection itself. Writing the local APIC's registers from here would lose
    /// interrupts that other processors send between the read and the write.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn open_window(&mut self) -> Result<bool, HostError> {
        const DELIVERY_AND_MASK: u32 = 1 << 16 | 7 << 8;
        let listens = apic_register(&self.apic()?, APIC_LINT0) & DELIVERY_AND_MASK == EXT_INT;
        self.fd.get_kvm_run().request_interrupt_window = listens.into();
        Ok(listens)
    }

    /// Undoes [`open_window`](Self::open_window).
    pub fn close_window(&mut self) {
        self.fd.get_kvm_run().request_interrupt_window = 0;
    }

    /// Returns `true` if the local APIC's task priority blocks an interrupt with this vector.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn is_held_back(&self, vector: u8) -> Result<bool, HostError> {
        Ok(u32::from(vector) >> 4 <= self.task_priority()? >> 4 & 0xf)
    }

    /// Enables or disables an exit after each instruction.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn single_step(&self, on: bool) -> Result<(), HostError> {
        let control = if on { KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP } else { 0 };
        let debug = kvm_guest_debug { control, ..Default::default() };
        self.fd.set_guest_debug(&debug).map_err(HostError::call("single steps"))
    }

    /// Returns `true` if the VP waits for an INIT or a SIPI.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn awaits_start(&self) -> Result<bool, HostError> {
        let state = self.fd.get_mp_state().map_err(HostError::call("a VP's activity"))?;
        Ok(matches!(state.mp_state, KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED))
    }

    /// Starts a VP that waits for an INIT or a SIPI.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn start(&self) -> Result<(), HostError> {
        self.set_activity(KVM_MP_STATE_RUNNABLE)
    }

    fn set_activity(&self, mp_state: u32) -> Result<(), HostError> {
        self.fd.set_mp_state(kvm_mp_state { mp_state }).map_err(HostError::call("a VP's new activity"))
    }

    /// Returns the task priority of the local APIC.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn task_priority(&self) -> Result<u32, HostError> {
        Ok(apic_register(&self.apic()?, APIC_TPR))
    }

    /// Sets the task priority of the local APIC.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_task_priority(&self, priority: u8) -> Result<(), HostError> {
        if priority.is_multiple_of(16) {
            // Uses CR8, which changes nothing else in the local APIC, such as interrupts that others are sending.
            let mut system = self.system_registers()?;
            system.cr8 = u64::from(priority >> 4);
            return self.set_system_registers(&system);
        }
        let mut apic = self.apic()?;
        set_apic_register(&mut apic, APIC_TPR, priority.into());
        self.set_apic(&apic)
    }

    /// Ends the interrupt in service with the highest priority. Returns its vector, and whether it is level-triggered
    /// and KVM does not report its end with [`Exit::EndOfInterrupt`](super::vp::Exit::EndOfInterrupt).
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn end_of_interrupt(&self) -> Result<Option<(u8, bool)>, HostError> {
        let mut apic = self.apic()?;
        let Some(vector) = highest(&apic, APIC_ISR) else { return Ok(None) };
        // Uses a register, which changes nothing else in the local APIC, such as interrupts that others are sending.
        if self.write_msr(X2APIC_EOI, 0) || self.write_msr(HV_EOI, 0) {
            return Ok(Some((vector, false)));
        }
        let (word, bit) = (usize::from(vector / 32) * 0x10, 1 << (vector % 32));
        let rest = apic_register(&apic, APIC_ISR + word) & !bit;
        set_apic_register(&mut apic, APIC_ISR + word, rest);
        let level = apic_register(&apic, APIC_TMR + word) & bit != 0;
        self.set_apic(&apic)?;
        Ok(Some((vector, level)))
    }

    /// Sets the GPA of the field in which KVM tells the guest that an interrupt needs no EOI, or removes the field.
    /// Returns `true` if there is a field now. If KVM refuses the address, there is none.
    ///
    /// KVM sets bit 0 when it delivers an interrupt after which nothing else is pending. It ends the interrupt at the next
    /// exit if the guest has cleared the bit, else it clears the bit itself.
    pub fn set_eoi_field(&self, gpa: Option<u64>) -> bool {
        let set = self.write_msr(KVM_PV_EOI, gpa.map_or(0, |gpa| gpa | 1));
        if !set {
            // After a refusal, KVM keeps the previous address.
            let _ = self.write_msr(KVM_PV_EOI, 0);
        }
        set && gpa.is_some()
    }

    /// Makes KVM decide again, on the next entry, whether the interrupt in service needs an EOI: see
    /// [`set_eoi_field`](Self::set_eoi_field). Registers must be [synchronized](Self::sync_registers), and unchanged since the
    /// last exit.
    pub fn renew_eoi_field(&mut self) {
        // KVM evaluates interrupts after new registers, even if they are the old ones.
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// Returns `true` if [`end_taken`](Self::end_taken) works: through the x2APIC's register, or Hyper-V's if KVM
    /// implements it.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn can_end_by_register(&self, has_hyperv: bool) -> Result<bool, HostError> {
        Ok(has_hyperv || self.system_registers()?.apic_base & X2APIC_ENABLED != 0)
    }

    /// Ends an interrupt that was sent to the local APIC, if the guest has taken it. Returns `true` once the interrupt
    /// has ended.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn end_taken(&self, vector: u8) -> Result<bool, HostError> {
        let apic = self.apic()?;
        let has =
            |first: usize| apic_register(&apic, first + usize::from(vector / 32) * 0x10) >> (vector % 32) & 1 != 0;
        // If another interrupt has interrupted its handler, that one ends first.
        if highest(&apic, APIC_ISR) == Some(vector) {
            return Ok((self.write_msr(X2APIC_EOI, 0) || self.write_msr(HV_EOI, 0)) && !has(APIC_IRR));
        }
        Ok(!has(APIC_ISR) && !has(APIC_IRR))
    }

    pub(super) fn apic(&self) -> Result<kvm_lapic_state, HostError> {
        self.fd.get_lapic().map_err(HostError::call("the local APIC's registers"))
    }

    fn set_apic(&self, apic: &kvm_lapic_state) -> Result<(), HostError> {
        self.fd.set_lapic(apic).map_err(HostError::call("new local APIC registers"))
    }

    /// Returns the guest's TSC frequency, in Hz, or `None` if KVM does not know it.
    pub fn tsc_frequency(&self) -> Option<u64> {
        self.fd.get_tsc_khz().ok().filter(|khz| *khz > 0).map(|khz| u64::from(khz) * 1000)
    }

    /// Returns the offset of the guest's TSC from the host's, if both tick at the same rate.
    ///
    /// KVM before Linux 5.16 does not report it. Then it is measured: to a fraction of a microsecond, and exactly if
    /// KVM does not change the TSC.
    pub fn tsc_offset(&self) -> Option<i64> {
        let mut offset = 0i64;
        let attribute = kvm_device_attr {
            group: KVM_VCPU_TSC_CTRL,
            attr: KVM_VCPU_TSC_OFFSET.into(),
            addr: std::ptr::from_mut(&mut offset) as u64,
            ..Default::default()
        };
        // SAFETY: KVM writes the attribute's eight bytes to `addr`, which is a local of eight bytes.
        if unsafe { ioctl_with_ref(&self.fd, KVM_GET_DEVICE_ATTR(), &attribute) } == 0 {
            return Some(offset);
        }
        let mut bounds = (i64::MIN, i64::MAX);
        for _ in 0..8 {
            let before = tsc::now();
            let guest = self.read_msr(IA32_TSC)?;
            let after = tsc::now();
            bounds.0 = bounds.0.max(guest.wrapping_sub(after) as i64);
            bounds.1 = bounds.1.min(guest.wrapping_sub(before) as i64);
        }
        Some(if (bounds.0..=bounds.1).contains(&0) { 0 } else { bounds.0.midpoint(bounds.1) })
    }

    /// Enables a capability of this VP. KVM's documentation describes `argument`.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn enable(&self, capability: u32, argument: u64, name: &'static str) -> Result<(), HostError> {
        let capability = kvm_enable_cap { cap: capability, args: [argument, 0, 0, 0], ..Default::default() };
        self.fd.enable_cap(&capability).map_err(HostError::call(name))
    }
}

/// Returns the highest vector in the 256 bits that begin at this register.
pub(super) fn highest(apic: &kvm_lapic_state, first: usize) -> Option<u8> {
    (0..8u8).rev().find_map(|word| {
        let bits = apic_register(apic, first + usize::from(word) * 0x10);
        (bits != 0).then(|| word * 32 + bits.ilog2() as u8)
    })
}

pub(super) fn apic_register(apic: &kvm_lapic_state, offset: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| apic.regs[offset + byte] as u8))
}

pub(super) fn set_apic_register(apic: &mut kvm_lapic_state, offset: usize, value: u32) {
    for (register, byte) in apic.regs[offset..offset + 4].iter_mut().zip(value.to_le_bytes()) {
        *register = byte as _;
    }
}
