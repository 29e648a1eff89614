//! The state that the VPs of a partition share: features, memory, overlays, the clock and the partition-wide MSRs.
//!
//! Locks are taken in this order: a VP's, then [`Partition`]'s registers, then its overlays. None is held during a
//! wait.

use zerocopy::IntoBytes;

use super::crash::CrashReport;
use super::features::{Feature, Features};
use super::msr::{CRASH_PARAMETERS, Msr};
use super::overlay::{NoMemory, OverlayId, Overlays, Page};
use super::reftime::{Reading, ReferenceTime};
use super::registers::{CrashControl, HypercallRegister, PageRegister, ReenlightenmentControl};
use super::types::{Fault, GP, PAGE_SIZE};
#[cfg(test)]
use super::types::{Interrupt, VpIndex};
use super::vp::Action;
use crate::host::lock::{Mutex, MutexGuard, RwLock};
use crate::memory::GuestMemory;

/// The fixed settings of a partition.
pub struct PartitionConfig {
    /// The features that the guest is offered.
    pub features: Features,
    /// TSC_FREQUENCY, in Hz.
    pub tsc_frequency: u64,
    /// APIC_FREQUENCY, in Hz.
    pub apic_frequency: u64,
    /// The content of the hypercall page; see [`super::page`].
    pub hypercall_page: Box<Page>,
}

/// The partition-wide MSRs with a value of their own.
#[derive(Default)]
struct Registers {
    guest_os_id: u64,
    hypercall: HypercallRegister,
    reference_tsc: PageRegister,
    crash_parameters: [u64; CRASH_PARAMETERS],
    reenlightenment: ReenlightenmentControl,
    tsc_emulation: u64,
    tsc_invariant: u64,
}

/// The state that the VPs of a partition share.
pub struct Partition {
    config: PartitionConfig,
    memory: GuestMemory,
    time: RwLock<ReferenceTime>,
    registers: Mutex<Registers>,
    overlays: Mutex<Overlays>,
}

impl Partition {
    /// Creates a partition in the state after a reset.
    pub fn new(config: PartitionConfig, memory: GuestMemory, time: ReferenceTime) -> Self {
        Self { config, memory, time: RwLock::new(time), registers: Mutex::default(), overlays: Mutex::default() }
    }

    /// Returns the features that the guest is offered.
    pub fn features(&self) -> Features {
        self.config.features
    }

    /// Returns the guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Returns the reference time at `now`.
    pub fn reference_time(&self, now: Reading) -> u64 {
        self.time.read().at(now)
    }

    /// Returns the time in nanoseconds from `now` until a timer with this deadline is due; see
    /// [`ReferenceTime::until`].
    pub fn nanoseconds_until(&self, deadline: u64, now: Reading) -> Option<u64> {
        self.time.read().until(deadline, now)
    }

    /// Stops the reference clock. Call it when no VP is running.
    pub fn pause(&self, now: Reading) {
        self.time.write().pause(now);
    }

    /// Restarts the reference clock, and updates the reference TSC page. Call it before any VP runs.
    pub fn resume(&self, now: Reading) {
        let mut time = self.time.write();
        if time.resume(now) {
            // No VP is running, so no guest reads the page while it changes.
            self.overlays().rewrite(&self.memory, OverlayId::ReferenceTsc, time.page().as_bytes());
        }
    }

    /// Returns the guest's OS id, or 0 until the guest has set one. Until then it may make no hypercalls.
    pub fn guest_os_id(&self) -> u64 {
        self.registers().guest_os_id
    }

    /// Resets the registers and overlays to the state after creation. The clock continues.
    #[cfg(test)]
    pub fn reset(&self) {
        let mut registers = self.registers();
        self.overlays().hide_all(&self.memory);
        *registers = Registers::default();
    }

    /// Returns the interrupt that announces a migration or a restore, if the guest has requested one.
    #[cfg(test)]
    pub fn reenlightenment(&self) -> Option<(VpIndex, Interrupt)> {
        let control = self.registers().reenlightenment;
        control.enabled().then(|| (control.target(), Interrupt { vector: control.vector(), auto_eoi: false }))
    }

    /// Reads a partition-wide MSR for which the guest has the privilege.
    pub(super) fn read(&self, msr: Msr, now: Reading) -> Result<u64, Fault> {
        Ok(match msr {
            Msr::TimeRefCount => self.reference_time(now),
            Msr::TscFrequency => self.config.tsc_frequency,
            Msr::ApicFrequency => self.config.apic_frequency,
            Msr::CrashControl => CrashControl::SUPPORTED.0,
            Msr::GuestOsId => self.registers().guest_os_id,
            Msr::Hypercall => self.registers().hypercall.0,
            Msr::ReferenceTsc => self.registers().reference_tsc.0,
            Msr::CrashParameter(parameter) => self.registers().crash_parameters[parameter.index()],
            Msr::ReenlightenmentControl => self.registers().reenlightenment.0,
            Msr::TscEmulationControl => self.registers().tsc_emulation,
            Msr::TscInvariantControl => self.registers().tsc_invariant,
            // RESET reads as 0. The guest's TSC is never emulated, because its frequency does not change.
            Msr::Reset | Msr::TscEmulationStatus => 0,
            _ => return Err(GP),
        })
    }

    /// Writes a partition-wide MSR for which the guest has the privilege.
    pub(super) fn write(&self, msr: Msr, value: u64) -> Result<Option<Action>, Fault> {
        let mut registers = self.registers();
        match msr {
            Msr::GuestOsId => self.write_guest_os_id(&mut registers, value),
            Msr::Hypercall => self.write_hypercall(&mut registers, HypercallRegister(value))?,
            Msr::ReferenceTsc => self.write_reference_tsc(&mut registers, PageRegister(value))?,
            Msr::Reset => return Ok((value & 1 != 0).then_some(Action::Reset)),
            Msr::CrashParameter(parameter) => registers.crash_parameters[parameter.index()] = value,
            Msr::CrashControl => {
                let report = CrashReport::take(CrashControl(value), registers.crash_parameters, &self.memory);
                return Ok(report.map(|report| Action::Crash(Box::new(report))));
            }
            Msr::ReenlightenmentControl => {
                let control = ReenlightenmentControl(value);
                if value & ReenlightenmentControl::RESERVED != 0 || control.enabled() && control.vector() < 16 {
                    return Err(GP);
                }
                registers.reenlightenment = control;
            }
            Msr::TscEmulationControl if value & !1 == 0 => registers.tsc_emulation = value,
            Msr::TscEmulationStatus if value == 0 => {}
            // Once the guest has seen an invariant TSC, this cannot be undone.
            Msr::TscInvariantControl if value & !1 == 0 => registers.tsc_invariant |= value,
            _ => return Err(GP),
        }
        Ok(None)
    }

    fn write_guest_os_id(&self, registers: &mut Registers, value: u64) {
        registers.guest_os_id = value;
        if value == 0 {
            registers.hypercall = registers.hypercall.disabled();
            self.overlays().hide(&self.memory, OverlayId::Hypercall);
        }
    }

    fn write_hypercall(&self, registers: &mut Registers, value: HypercallRegister) -> Result<(), Fault> {
        if registers.hypercall.locked() {
            return Err(GP);
        }
        if value.locked() && !self.config.features.has(Feature::HypercallMsrLockAvailable) {
            return Err(GP);
        }
        let value = if registers.guest_os_id == 0 { value.disabled() } else { value };
        self.lay(OverlayId::Hypercall, value.enabled(), value.gpa(), &self.config.hypercall_page)?;
        registers.hypercall = value;
        Ok(())
    }

    fn write_reference_tsc(&self, registers: &mut Registers, value: PageRegister) -> Result<(), Fault> {
        // The clock's lock is held, so that no resume can happen between reading its page and showing it.
        let time = self.time.read();
        let mut content = [0; PAGE_SIZE];
        let page = time.page();
        content[..size_of_val(&page)].copy_from_slice(page.as_bytes());
        self.lay(OverlayId::ReferenceTsc, value.enabled(), value.gpa(), &content)?;
        registers.reference_tsc = value;
        Ok(())
    }

    /// Shows, moves or hides an overlay according to its register.
    pub(super) fn lay(&self, id: OverlayId, enabled: bool, gpa: u64, content: &Page) -> Result<(), Fault> {
        let mut overlays = self.overlays();
        if enabled {
            overlays.show(&self.memory, id, gpa, content).map_err(|NoMemory(_)| GP)
        } else {
            overlays.hide(&self.memory, id);
            Ok(())
        }
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock()
    }

    /// Locks and returns the overlays. While the lock is held, none of them moves.
    pub(crate) fn overlays(&self) -> MutexGuard<'_, Overlays> {
        self.overlays.lock()
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
