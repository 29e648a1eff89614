//! One virtual processor: its registers, entry into the guest, and exits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvm_bindings::{
    CpuId, KVM_EXIT_HYPERV_HCALL, KVM_MP_STATE_RUNNABLE, Msrs, kvm_cpuid_entry2, kvm_msr_entry, kvm_regs, kvm_sregs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::gate::Kick;
use super::host::HostError;
use super::run_page::RunPage;
use super::timer::{self, TimerTarget};
use super::vp_state::{APIC_LINT0, APIC_LINT1, EXT_INT, Exception, set_apic_register};
use crate::host::limited;

/// Number of refusals in a row after which KVM is not asked again.
const MOST_REFUSED: u32 = 100;
/// `HV_STATUS_INVALID_HYPERCALL_CODE`.
const INVALID_HYPERCALL_CODE: u64 = 2;

/// An error after which the VP cannot continue. It ends the machine.
#[derive(Debug, thiserror::Error)]
pub enum VpError {
    /// KVM cannot emulate what the guest did.
    #[error("KVM cannot continue (internal error {suberror}: {meaning}) at instruction pointer {rip:#x}")]
    Internal {
        /// KVM's number for it.
        suberror: u32,
        /// Description of the number.
        meaning: &'static str,
        /// Instruction pointer of the guest.
        rip: u64,
    },
    /// The processor refused the guest's state.
    #[error("the processor refused to enter the guest (hardware reason {reason:#x}) at instruction pointer {rip:#x}")]
    Entry {
        /// The hardware's code.
        reason: u64,
        /// Instruction pointer of the guest.
        rip: u64,
    },
    /// An exit that this machine did not request.
    #[error("KVM returned with an exit that Viridian does not know: {0}")]
    Unknown(String),
    /// KVM_RUN itself failed.
    #[error("KVM_RUN failed: {source} at instruction pointer {rip:#x}")]
    Run {
        /// The error of the kernel.
        source: io::Error,
        /// Instruction pointer of the guest.
        rip: u64,
    },
}

/// The reason why the VP left the guest.
#[derive(Debug)]
pub enum Exit<'a> {
    /// A read from an I/O port.
    PortRead {
        /// The port.
        port: u16,
        /// Bytes per repetition.
        size: usize,
        /// The buffer to fill: `size` bytes for each repetition.
        data: &'a mut [u8],
    },
    /// A write to an I/O port.
    PortWrite {
        /// The port.
        port: u16,
        /// Bytes per repetition.
        size: usize,
        /// The data written: `size` bytes for each repetition.
        data: &'a [u8],
    },
    /// A read of an address without memory.
    MmioRead {
        /// The GPA.
        address: u64,
        /// The buffer to fill.
        data: &'a mut [u8],
    },
    /// A write to an address without memory.
    MmioWrite {
        /// The GPA.
        address: u64,
        /// The data written.
        data: &'a [u8],
    },
    /// RDMSR of a [filtered](super::Vm::filter_msrs) MSR. Call [`Vp::finish_msr_read`] before the next entry.
    MsrRead {
        /// The MSR.
        number: u32,
    },
    /// WRMSR of a [filtered](super::Vm::filter_msrs) MSR. Call [`Vp::finish_msr_write`] before the next entry.
    MsrWrite {
        /// The MSR.
        number: u32,
        /// The value written.
        value: u64,
    },
    /// The VP can take interrupts again: see [`Vp::open_window`].
    InterruptWindow,
    /// A single step has finished.
    Stepped,
    /// A processor ended a [watched](super::Vm::watch_level_pin) level-triggered interrupt.
    EndOfInterrupt {
        /// The interrupt's vector.
        vector: u8,
    },
    /// A triple fault.
    Shutdown,
    /// Another thread kicked this VP; the guest requested nothing.
    Kicked,
}

/// One virtual processor. It belongs to one thread at a time; other threads use a [`Kicker`].
pub struct Vp {
    pub(super) fd: VcpuFd,
    page: Arc<RunPage>,
    /// The last exit was an access that KVM completes on the next entry.
    accessing: bool,
    /// An exception to raise once the access is complete.
    exception: Option<Exception>,
    /// Instruction pointer of the guest at the exit before the last one, if registers are synchronized with each exit.
    last_instruction: Option<u64>,
    /// Number of times in a row that KVM has refused to run the VP although it could run.
    refused: u32,
}

impl Vp {
    pub(super) fn new(fd: VcpuFd, run_size: usize) -> Result<Self, HostError> {
        let page = Arc::new(RunPage::map(&fd, run_size)?);
        Ok(Self { fd, page, accessing: false, exception: None, last_instruction: None, refused: 0 })
    }

    /// Sets the CPUID leaves of this VP.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_cpuid(&self, entries: &[kvm_cpuid_entry2]) -> Result<(), HostError> {
        let failed = HostError::call("the CPUID leaves");
        let entries = CpuId::from_entries(entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG));
        entries.and_then(|entries| self.fd.set_cpuid2(&entries)).map_err(failed)
    }

    /// Returns the general registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn registers(&self) -> Result<kvm_regs, HostError> {
        self.fd.get_regs().map_err(HostError::call("the general registers"))
    }

    /// Sets the general registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_registers(&self, registers: &kvm_regs) -> Result<(), HostError> {
        self.fd.set_regs(registers).map_err(HostError::call("new general registers"))
    }

    /// Returns the segment, table and control registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn system_registers(&self) -> Result<kvm_sregs, HostError> {
        self.fd.get_sregs().map_err(HostError::call("the system registers"))
    }

    /// Sets the segment, table and control registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_system_registers(&self, registers: &kvm_sregs) -> Result<(), HostError> {
        self.fd.set_sregs(registers).map_err(HostError::call("new system registers"))
    }

    /// Sets the state in which a PC's firmware starts a kernel: memory is cached, and the PIC's interrupts and NMIs are
    /// connected to the local APIC's two pins.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_firmware_state(&self) -> Result<(), HostError> {
        const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
        const MTRRS_ON_WRITE_BACK: u64 = 1 << 11 | 6;
        let entry = kvm_msr_entry { index: MTRR_DEFAULT_TYPE, data: MTRRS_ON_WRITE_BACK, ..Default::default() };
        match Msrs::from_entries(&[entry]).map(|msrs| self.fd.set_msrs(&msrs)) {
            Ok(Ok(1)) => {}
            _ => limited::info!("this KVM has no MTRRs: the guest finds them disabled"),
        }
        let mut apic = self.fd.get_lapic().map_err(HostError::call("the local APIC's registers"))?;
        const NMI: u32 = 4 << 8;
        set_apic_register(&mut apic, APIC_LINT0, EXT_INT);
        set_apic_register(&mut apic, APIC_LINT1, NMI);
        self.fd.set_lapic(&apic).map_err(HostError::call("new local APIC registers"))
    }

    /// Returns a handle that forces this VP out of the guest. Create it on the thread that will [`run`](Self::run) the
    /// VP.
    pub fn kicker(&self) -> Kicker {
        Kicker { page: self.page.clone(), thread: timer::own_thread() }
    }

    /// Makes the [timers](timer::VpTimer) of the calling thread force this VP out of the guest, until the result is
    /// dropped.
    pub fn timer_target(&self) -> TimerTarget {
        TimerTarget::new(self.page.clone())
    }

    /// Returns `true` if KVM does not run the VP (`EAGAIN`) for want of a thread: newer kernels start one of KVM's own in this
    /// process when its first VP runs. A VP that another one has just started is refused once.
    fn is_refused(&mut self) -> bool {
        let can_run = self.fd.get_mp_state().is_ok_and(|state| state.mp_state == KVM_MP_STATE_RUNNABLE);
        self.refused = if can_run { self.refused + 1 } else { 0 };
        self.refused >= MOST_REFUSED
    }

    /// Runs the guest until the next exit.
    ///
    /// # Errors
    /// Returns an error if the VP cannot continue.
    pub fn run(&mut self) -> Result<Exit<'_>, VpError> {
        if self.exception.is_some() {
            self.complete_access();
        }
        self.last_instruction = self.synced_instruction();
        // The borrow that `run` returns ends here on purpose. The run structure contains what kvm-ioctls does not pass
        // on (the size of one port access), and a borrow that is returned would block access to it.
        let kind = match self.fd.run() {
            Ok(exit) => Kind::of(&exit),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                if error.errno() == libc::EAGAIN && self.is_refused() {
                    return Err(VpError::Run { source: error.into(), rip: self.rip() });
                }
                self.page.clear_immediate_exit();
                self.accessing = false;
                if let Some(exception) = self.exception.take() {
                    self.inject(exception).map_err(|error| VpError::Unknown(error.to_string()))?;
                }
                return Ok(Exit::Kicked);
            }
            Err(error) => return Err(VpError::Run { source: error.into(), rip: self.rip() }),
        };
        self.refused = 0;
        let kind = match kind {
            Ok(kind) => kind,
            Err(failure) => return Err(self.explain(failure)),
        };
        self.accessing = kind.is_access();
        let run = self.fd.get_kvm_run();
        match kind {
            Kind::Port { out } => {
                // SAFETY: KVM_EXIT_IO makes `io` the active member.
                let io = unsafe { run.__bindgen_anon_1.io };
                let (size, length) = (usize::from(io.size), usize::from(io.size) * io.count as usize);
                // SAFETY: KVM puts `size * count` bytes at `data_offset` in the mapping of the run
                // structure, which lives as long as `self`; nobody else has it while we hold `&mut self`.
                let data = unsafe {
                    let start = std::ptr::from_mut(run).cast::<u8>().add(io.data_offset as usize);
                    std::slice::from_raw_parts_mut(start, length)
                };
                Ok(match out {
                    true => Exit::PortWrite { port: io.port, size, data },
                    false => Exit::PortRead { port: io.port, size, data },
                })
            }
            Kind::Mmio => {
                // SAFETY: KVM_EXIT_MMIO makes `mmio` the active member.
                let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
                let data = &mut mmio.data[..(mmio.len as usize).min(8)];
                Ok(match mmio.is_write {
                    0 => Exit::MmioRead { address: mmio.phys_addr, data },
                    _ => Exit::MmioWrite { address: mmio.phys_addr, data },
                })
            }
            Kind::MsrRead(number) => Ok(Exit::MsrRead { number }),
            Kind::MsrWrite(number, value) => Ok(Exit::MsrWrite { number, value }),
            Kind::Hyperv => {
                // SAFETY: KVM_EXIT_HYPERV makes `hyperv` the active member.
                let exit = unsafe { &mut run.__bindgen_anon_1.hyperv };
                if exit.type_ == KVM_EXIT_HYPERV_HCALL {
                    // KVM passes on a hypercall only if the guest makes it without using our page. It gets a result
                    // that every call can have.
                    exit.u.hcall.result = INVALID_HYPERCALL_CODE;
                }
                Ok(Exit::Kicked)
            }
            Kind::InterruptWindow => Ok(Exit::InterruptWindow),
            Kind::Stepped => Ok(Exit::Stepped),
            Kind::EndOfInterrupt(vector) => Ok(Exit::EndOfInterrupt { vector }),
            Kind::Shutdown => Ok(Exit::Shutdown),
        }
    }

    /// Returns the instruction pointer of the guest at the exit before the last one, for cases where the last exit left
    /// no state.
    pub fn last_instruction(&self) -> Option<u64> {
        self.last_instruction
    }

    /// Completes [`Exit::MsrRead`] with a value, or with #GP for `None`.
    pub fn finish_msr_read(&mut self, value: Option<u64>) {
        let run = self.fd.get_kvm_run();
        run.__bindgen_anon_1.msr.error = value.is_none().into();
        run.__bindgen_anon_1.msr.data = value.unwrap_or_default();
    }

    /// Completes [`Exit::MsrWrite`], or raises #GP if `taken` is `false`.
    pub fn finish_msr_write(&mut self, taken: bool) {
        self.fd.get_kvm_run().__bindgen_anon_1.msr.error = (!taken).into();
    }

    /// Returns `true` if the VP is in the middle of an access. Its pending events must not be changed until the access
    /// is [complete](Self::complete_access).
    pub fn is_accessing(&self) -> bool {
        self.accessing
    }

    /// Makes the next [`run`](Self::run) complete the access and return with [`Exit::Kicked`].
    pub fn complete_access(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
    }

    /// Raises an exception in the VP once its access is complete.
    pub fn raise(&mut self, exception: Exception) {
        self.exception = Some(exception);
    }

    fn explain(&mut self, failure: Failure) -> VpError {
        let rip = self.rip();
        match failure {
            Failure::Internal => {
                // SAFETY: KVM_EXIT_INTERNAL_ERROR makes `internal` the active member.
                let suberror = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
                let meaning = match suberror {
                    1 => "it cannot emulate the instruction",
                    2 => "exceptions arrived in an order that it cannot deliver",
                    3 => "an exit came while it delivered an event",
                    4 => "an exit that it did not expect",
                    _ => "it does not say more",
                };
                VpError::Internal { suberror, meaning, rip }
            }
            Failure::Entry(reason) => VpError::Entry { reason, rip },
            Failure::Unknown(what) => VpError::Unknown(what),
        }
    }

    /// Returns the instruction pointer, for an error message.
    fn rip(&self) -> u64 {
        self.fd.get_regs().map_or(0, |registers| registers.rip)
    }
}

/// The kind of an exit, without its data.
enum Kind {
    Port { out: bool },
    Mmio,
    MsrRead(u32),
    MsrWrite(u32, u64),
    Hyperv,
    InterruptWindow,
    Stepped,
    EndOfInterrupt(u8),
    Shutdown,
}

/// An exit after which the VP cannot continue.
enum Failure {
    Internal,
    Entry(u64),
    Unknown(String),
}

impl Kind {
    /// Returns `true` if KVM completes the guest's access on the next entry.
    fn is_access(&self) -> bool {
        matches!(self, Self::Port { .. } | Self::Mmio | Self::MsrRead(_) | Self::MsrWrite(..) | Self::Hyperv)
    }

    fn of(exit: &VcpuExit<'_>) -> Result<Self, Failure> {
        match exit {
            VcpuExit::IoOut(..) => Ok(Self::Port { out: true }),
            VcpuExit::IoIn(..) => Ok(Self::Port { out: false }),
            VcpuExit::MmioRead(..) | VcpuExit::MmioWrite(..) => Ok(Self::Mmio),
            VcpuExit::X86Rdmsr(exit) => Ok(Self::MsrRead(exit.index)),
            VcpuExit::X86Wrmsr(exit) => Ok(Self::MsrWrite(exit.index, exit.data)),
            VcpuExit::Hyperv => Ok(Self::Hyperv),
            VcpuExit::IrqWindowOpen => Ok(Self::InterruptWindow),
            VcpuExit::Debug(_) => Ok(Self::Stepped),
            VcpuExit::IoapicEoi(vector) => Ok(Self::EndOfInterrupt(*vector)),
            VcpuExit::Shutdown => Ok(Self::Shutdown),
            VcpuExit::InternalError => Err(Failure::Internal),
            VcpuExit::FailEntry(reason, _) => Err(Failure::Entry(*reason)),
            other => Err(Failure::Unknown(format!("{other:?}"))),
        }
    }
}

/// Forces one VP out of the guest; see [`super::gate`].
pub struct Kicker {
    page: Arc<RunPage>,
    thread: libc::pid_t,
}

impl Kick for Kicker {
    fn kick(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
        // A thread that has ended is not signalled by mistake: its VP leaves the gate, under the lock under which it is
        // kicked, before it ends.
        timer::signal(self.thread);
    }
}
