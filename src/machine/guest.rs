//! Access to the guest of a running machine: memory, registers, interrupts.
//!
//! ```no_run
//! use viridian::{Builder, End};
//!
//! let machine = Builder::new().kernel("my-kernel").start()?;
//! let guest = machine.guest();
//! guest.write(0x9000, b"ping")?;
//! guest.send_message(0xfee0_0000, 0x41)?; // vector 0x41 to the processor with APIC id 0
//!
//! machine.pause()?;
//! let mut registers = guest.registers(0)?;
//! println!("VP 0 is at {:#x}", registers.rip);
//! registers.rbx = 1;
//! guest.set_registers(0, &registers)?;
//! machine.resume();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ThreadId};

pub use kvm_bindings::{kvm_regs, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::interrupts::Interrupts;
use super::{End, Machine, Shared};
use crate::host::lock::{Mutex, MutexGuard};
use crate::kvm::Vm;
use crate::kvm::host::HostError;
use crate::kvm::registers::VpRegisters;
use crate::kvm::routes::{Message, PINS};
use crate::kvm::vp::Vp;
use crate::platform::PowerButton;

/// The addresses of interrupt messages (Intel SDM volume 3, "Message Address Register Format").
const MESSAGES: std::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;
/// The data of a message whose delivery mode is NMI.
const NMI: u32 = 4 << 8;

/// The reason why an access to a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The machine has ended, or the guest is just being started again.
    #[error("the machine has no guest: it has ended, or is just starting again")]
    NoGuest,
    /// A part of the range is not memory.
    #[error("{length} bytes from {address:#x} on are not all in the guest's memory")]
    Memory {
        /// The first guest physical address.
        address: u64,
        /// Length of the range, in bytes.
        length: usize,
    },
    /// There is no such VP.
    #[error("there is no VP {vp}: the machine has {count}, counted from 0")]
    NoVp {
        /// The requested index.
        vp: u32,
        /// The number of VPs.
        count: usize,
    },
    /// The VP is running.
    #[error("VP {0} is running: pause the machine first, or ask in a handler on that VP")]
    Running(u32),
    /// The VP is paused in the middle of an access.
    #[error("VP {0} is paused in the middle of an access to a device: resume the machine, and pause it again")]
    InAccess(u32),
    /// There is no such interrupt line.
    #[error("there is no interrupt line {0}: they are 0 to 23")]
    Line(u32),
    /// The address is not one for interrupt messages.
    #[error("{0:#x} is not an address for interrupt messages; these are from 0xfee00000 to 0xfeefffff")]
    MessageAddress(u64),
    /// KVM refuses.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A handle on the guest of a machine: see [`Machine::guest`](super::Machine::guest). It may be cloned, kept by devices and
/// handlers, and used from any thread. After the end of the machine, all accesses fail.
///
/// The registers of a VP are accessible while the machine is [paused](super::Machine::pause), and on the VP's own thread: in
/// hypercall handlers and in port, MMIO and MSR devices that are called for the VP.
#[derive(Clone)]
pub struct Guest(Weak<Shared>);

impl Guest {
    pub(super) fn new(machine: Weak<Shared>) -> Self {
        Self(machine)
    }

    /// Returns the number of VPs.
    ///
    /// # Errors
    /// Returns an error if there is no guest.
    pub fn vp_count(&self) -> Result<u32, AccessError> {
        self.with(|_, life| Ok(life.seats.len() as u32))
    }

    /// Reads guest memory from the guest physical `address` until `buffer` is full.
    ///
    /// # Errors
    /// Returns an error, and reads nothing, if there is no guest or a part of the range is not memory.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), AccessError> {
        self.with(|_, life| {
            life.check(address, buffer.len())?;
            let read = life.partition.memory().read_slice(buffer, GuestAddress(address));
            read.map_err(|_| AccessError::Memory { address, length: buffer.len() })
        })
    }

    /// Writes `bytes` to guest memory at the guest physical `address`.
    ///
    /// # Errors
    /// Returns an error, and writes nothing, if there is no guest or a part of the range is not memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.with(|_, life| {
            life.check(address, bytes.len())?;
            let written = life.partition.memory().write_slice(bytes, GuestAddress(address));
            written.map_err(|_| AccessError::Memory { address, length: bytes.len() })
        })
    }

    /// Raises and lowers an interrupt line of the IOAPIC (and, with `--irqchip pc`, of the PICs).
    ///
    /// # Errors
    /// Returns an error if there is no guest or no such line, or if KVM refuses.
    pub fn pulse_line(&self, line: u32) -> Result<(), AccessError> {
        if line >= PINS {
            return Err(AccessError::Line(line));
        }
        self.with(|_, life| Ok(life.interrupts.pulse(line)?))
    }

    /// Sends an interrupt message to the local APICs, as a device does with MSI.
    ///
    /// # Errors
    /// Returns an error if there is no guest, if the address is not one for messages, or if KVM refuses, for example because no
    /// processor has the destination.
    pub fn send_message(&self, address: u64, data: u32) -> Result<(), AccessError> {
        if !MESSAGES.contains(&address) {
            return Err(AccessError::MessageAddress(address));
        }
        self.with(|_, life| Ok(life.partition.send(Message { address: address as u32, data })?))
    }

    /// Sends a VP a non-maskable interrupt.
    ///
    /// # Errors
    /// Returns an error if there is no guest or no such VP, or if KVM refuses.
    pub fn send_nmi(&self, vp: u32) -> Result<(), AccessError> {
        self.with(|_, life| {
            let apic_id = life.seat(vp)?.apic_id;
            let message = Message { data: NMI, ..Message::fixed(apic_id, 0) };
            Ok(life.partition.send(message)?)
        })
    }

    /// Returns the general registers of a VP. In a handler, these are the registers at the exit: RIP is at or after the
    /// instruction that caused it.
    ///
    /// # Errors
    /// Returns an error if there is no guest or no such VP, or if the registers are not accessible now: see [`Guest`].
    pub fn registers(&self, vp: u32) -> Result<kvm_regs, AccessError> {
        self.with(|shared, life| {
            let seat = life.seat(vp)?;
            if !seat.is_own_thread() {
                return shared.while_paused(vp, seat, || seat.registers.general());
            }
            match &*seat.staged() {
                Some(staged) => Ok(staged.after),
                None => Ok(seat.registers.general()?),
            }
        })
    }

    /// Sets the general registers of a VP.
    ///
    /// In a handler, registers that differ from the values of [`registers`](Self::registers) are set when the instruction is
    /// complete. RAX then has the value that was set, not the result of the hypercall or device. The other registers keep the
    /// values that the instruction gave them.
    ///
    /// # Errors
    /// Returns the same errors as [`registers`](Self::registers).
    pub fn set_registers(&self, vp: u32, registers: &kvm_regs) -> Result<(), AccessError> {
        self.with(|shared, life| {
            let seat = life.seat(vp)?;
            if !seat.is_own_thread() {
                return shared.while_paused(vp, seat, || seat.registers.set_general(registers));
            }
            let mut staged = seat.staged();
            let before = match &*staged {
                Some(staged) => staged.before,
                None => seat.registers.general()?,
            };
            *staged = Some(Staged { before, after: *registers });
            seat.changed.store(true, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Returns the segment, table and control registers of a VP.
    ///
    /// # Errors
    /// Returns the same errors as [`registers`](Self::registers).
    pub fn system_registers(&self, vp: u32) -> Result<kvm_sregs, AccessError> {
        self.with(|shared, life| {
            let seat = life.seat(vp)?;
            match seat.is_own_thread() {
                true => Ok(seat.registers.system()?),
                false => shared.while_paused(vp, seat, || seat.registers.system()),
            }
        })
    }

    /// Ends the machine, for example when a device or handler has seen the result of a test. If several ends are requested, the
    /// first one counts. Does not wait.
    ///
    /// ```no_run
    /// use viridian::hyperv::hypercall::CallCode;
    /// use viridian::{Builder, End};
    ///
    /// let machine = Builder::new().kernel("my-kernel").hypercalls(|calls, guest| {
    ///     let guest = guest.clone();
    ///     calls.simple(CallCode(0x7f00), "Done", None, move |_call, result: u64| {
    ///         guest.stop(End::Exited(result as u32));
    ///         Ok(())
    ///     });
    /// });
    /// # Ok::<(), viridian::machine::MachineError>(())
    /// ```
    pub fn stop(&self, end: End) {
        if let Some(shared) = self.0.upgrade() {
            shared.end_run(end);
        }
    }

    /// Calls `access` with the guest's current life, which does not end during the call.
    fn with<T>(&self, access: impl FnOnce(&Shared, &Life) -> Result<T, AccessError>) -> Result<T, AccessError> {
        let shared = self.0.upgrade().ok_or(AccessError::NoGuest)?;
        let life = shared.life.read();
        access(&shared, life.as_deref().ok_or(AccessError::NoGuest)?)
    }
}

impl Machine {
    /// Presses the power button. The guest decides what to do: an operating system with an ACPI driver usually shuts
    /// down, and [`wait`](Self::wait) then returns [`End::PoweredOff`].
    ///
    /// While the machine is paused, the guest sees the press after it resumes.
    ///
    /// # Errors
    /// Returns [`AccessError::NoGuest`] if the machine has ended, or is just starting again.
    pub fn press_power_button(&self) -> Result<(), AccessError> {
        self.guest().with(|_, life| {
            life.power_button.press();
            Ok(())
        })
    }
}

impl Machine {
    /// Sends all VPs a non-maskable interrupt.
    pub(crate) fn send_nmi(&self) -> Result<(), AccessError> {
        let guest = self.guest();
        (0..guest.vp_count()?).try_for_each(|vp| guest.send_nmi(vp))
    }
}

impl Shared {
    /// Sets the life to access. Waits until no access to the previous one is in progress.
    pub(super) fn set_life(&self, life: Option<Arc<Life>>) {
        *self.life.write() = life;
    }

    /// Calls `access` while every VP is paused, and `vp` is between two instructions.
    fn while_paused<T>(
        &self,
        vp: u32,
        seat: &Seat,
        access: impl FnOnce() -> Result<T, HostError>,
    ) -> Result<T, AccessError> {
        let accessed = self.gate.while_paused(|| match seat.settled.load(Ordering::SeqCst) {
            true => access().map_err(AccessError::from),
            false => Err(AccessError::InAccess(vp)),
        });
        accessed.unwrap_or(Err(AccessError::Running(vp)))
    }
}

/// The parts of one life of a guest that [`Guest`] accesses.
pub(super) struct Life {
    partition: Arc<Vm>,
    interrupts: Interrupts,
    power_button: PowerButton,
    pub seats: Vec<Seat>,
}

/// The state of a VP that other threads can access.
pub(super) struct Seat {
    apic_id: u32,
    registers: VpRegisters,
    thread: OnceLock<ThreadId>,
    /// `true` while the VP is parked between two instructions and KVM has its registers.
    settled: AtomicBool,
    /// `true` if `staged` has values.
    changed: AtomicBool,
    staged: Mutex<Option<Staged>>,
}

/// Registers that a handler sets.
struct Staged {
    before: kvm_regs,
    after: kvm_regs,
}

impl Life {
    pub fn new(
        partition: Arc<Vm>,
        interrupts: Interrupts,
        power_button: PowerButton,
        vps: &[Vp],
        apic_ids: impl Iterator<Item = u32>,
    ) -> Result<Arc<Self>, HostError> {
        let seat = |(vp, apic_id)| {
            Ok(Seat {
                apic_id,
                registers: partition.registers_of(vp)?,
                thread: OnceLock::new(),
                settled: AtomicBool::new(false),
                changed: AtomicBool::new(false),
                staged: Mutex::default(),
            })
        };
        let seats = vps.iter().zip(apic_ids).map(seat).collect::<Result<_, HostError>>()?;
        Ok(Arc::new(Self { partition, interrupts, power_button, seats }))
    }

    fn seat(&self, vp: u32) -> Result<&Seat, AccessError> {
        self.seats.get(vp as usize).ok_or(AccessError::NoVp { vp, count: self.seats.len() })
    }

    fn check(&self, address: u64, length: usize) -> Result<(), AccessError> {
        match length == 0 || self.partition.memory().check_range(GuestAddress(address), length) {
            true => Ok(()),
            false => Err(AccessError::Memory { address, length }),
        }
    }
}

impl Seat {
    /// Records that the calling thread is the VP's.
    pub fn take(&self) {
        let _ = self.thread.set(thread::current().id());
    }

    /// Records whether the VP is parked between two instructions.
    pub fn settle(&self, settled: bool) {
        self.settled.store(settled, Ordering::SeqCst);
    }

    /// Returns `true` if a handler has set registers that [`apply`](Self::apply) must set. This is one load.
    pub fn has_changes(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Sets the registers that a handler has staged. Called on the VP's thread, between two instructions.
    pub fn apply(&self, vp: &Vp) -> Result<(), HostError> {
        self.changed.store(false, Ordering::Relaxed);
        let Some(Staged { before, after }) = self.staged().take() else { return Ok(()) };
        let mut registers = vp.registers()?;
        macro_rules! apply {
            ($($register:ident)*) => {
                $(if after.$register != before.$register {
                    registers.$register = after.$register;
                })*
            };
        }
        apply!(rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags);
        vp.set_registers(&registers)
    }

    fn is_own_thread(&self) -> bool {
        self.thread.get().is_some_and(|thread| *thread == thread::current().id())
    }

    fn staged(&self) -> MutexGuard<'_, Option<Staged>> {
        self.staged.lock()
    }
}
