//! The guest of a running machine, as the program that started it reaches it: memory, registers, interrupts.
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

/// Where interrupt messages are sent to (Intel SDM volume 3, "Message Address Register Format").
const MESSAGES: std::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;
/// The data of a message whose delivery mode is NMI.
const NMI: u32 = 4 << 8;

/// Why a guest cannot be reached in this way.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The machine has ended, or the guest is just being started again.
    #[error("the machine has no guest: it has ended, or is just starting again")]
    NoGuest,
    /// The range is not all memory.
    #[error("{length} bytes from {address:#x} on are not all in the guest's memory")]
    Memory {
        /// The first guest physical address.
        address: u64,
        /// How many bytes were asked for.
        length: usize,
    },
    /// There is no such VP.
    #[error("there is no VP {vp}: the machine has {count}, counted from 0")]
    NoVp {
        /// The index asked for.
        vp: u32,
        /// How many there are.
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
    /// No local APIC takes messages at the address.
    #[error("{0:#x} is no address for interrupt messages: those are from 0xfee00000 to 0xfeefffff")]
    MessageAddress(u64),
    /// KVM refuses.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A handle on the guest of a machine: see [`Machine::guest`](super::Machine::guest). It may be cloned, kept by devices and
/// handlers, and used from any thread; after the machine's end it reaches nothing.
///
/// Registers are a VP's own while it runs. They can be reached while the machine is [paused](super::Machine::pause), and on a VP's
/// own thread: in the hypercall handlers, and the port, MMIO and MSR devices, that are called for it.
#[derive(Clone)]
pub struct Guest(Weak<Shared>);

impl Guest {
    pub(super) fn new(machine: Weak<Shared>) -> Self {
        Self(machine)
    }

    /// Returns the number of VPs.
    ///
    /// # Errors
    /// There is no guest.
    pub fn vp_count(&self) -> Result<u32, AccessError> {
        self.with(|_, life| Ok(life.seats.len() as u32))
    }

    /// Fills `buffer` with the guest's memory from the guest physical `address` on.
    ///
    /// # Errors
    /// There is no guest, or the range is not all memory; then nothing is read.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), AccessError> {
        self.with(|_, life| {
            life.check(address, buffer.len())?;
            let read = life.partition.memory().read_slice(buffer, GuestAddress(address));
            read.map_err(|_| AccessError::Memory { address, length: buffer.len() })
        })
    }

    /// Writes `bytes` to the guest's memory from the guest physical `address` on.
    ///
    /// # Errors
    /// There is no guest, or the range is not all memory; then nothing is written.
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
    /// There is no guest or no such line, or KVM refuses.
    pub fn pulse_line(&self, line: u32) -> Result<(), AccessError> {
        if line >= PINS {
            return Err(AccessError::Line(line));
        }
        self.with(|_, life| Ok(life.interrupts.pulse(line)?))
    }

    /// Sends an interrupt message to the local APICs, as a device does with MSI.
    ///
    /// # Errors
    /// There is no guest, messages have other addresses, or KVM refuses: no processor has the destination, for instance.
    pub fn send_message(&self, address: u64, data: u32) -> Result<(), AccessError> {
        if !MESSAGES.contains(&address) {
            return Err(AccessError::MessageAddress(address));
        }
        self.with(|_, life| Ok(life.partition.send(Message { address: address as u32, data })?))
    }

    /// Sends a VP a non-maskable interrupt.
    ///
    /// # Errors
    /// There is no guest or no such VP, or KVM refuses.
    pub fn send_nmi(&self, vp: u32) -> Result<(), AccessError> {
        self.with(|_, life| {
            let apic_id = life.seat(vp)?.apic_id;
            let message = Message { data: NMI, ..Message::fixed(apic_id, 0) };
            Ok(life.partition.send(message)?)
        })
    }

    /// Returns the general registers of a VP. In a handler they are those with which the VP left the guest: RIP is at the
    /// instruction or behind it.
    ///
    /// # Errors
    /// There is no guest or no such VP, or the VP is not where its registers can be reached: see [`Guest`].
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
    /// In a handler, the registers that differ from what [`registers`](Self::registers) gave are set once the instruction is
    /// complete: RAX then holds what was set, not what the hypercall or the device returned. Those that do not differ stay as the
    /// instruction left them.
    ///
    /// # Errors
    /// As [`registers`](Self::registers).
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
    /// As [`registers`](Self::registers).
    pub fn system_registers(&self, vp: u32) -> Result<kvm_sregs, AccessError> {
        self.with(|shared, life| {
            let seat = life.seat(vp)?;
            match seat.is_own_thread() {
                true => Ok(seat.registers.system()?),
                false => shared.while_paused(vp, seat, || seat.registers.system()),
            }
        })
    }

    /// Ends the machine: a device or handler has seen what it waited for. The first end counts, and the call does not wait.
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

    /// Does something with the guest's present life, which does not end meanwhile.
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

impl Shared {
    /// From now on this is what is to be reached. Waits until nobody reaches for what was before.
    pub(super) fn set_life(&self, life: Option<Arc<Life>>) {
        *self.life.write() = life;
    }

    /// Calls `access` while every VP stands still, `vp` between two instructions.
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

/// One life of a guest, as far as [`Guest`] reaches it.
pub(super) struct Life {
    partition: Arc<Vm>,
    interrupts: Interrupts,
    power_button: PowerButton,
    pub seats: Vec<Seat>,
}

/// What others know of a VP that runs on its own thread.
pub(super) struct Seat {
    apic_id: u32,
    registers: VpRegisters,
    thread: OnceLock<ThreadId>,
    /// The VP is parked between two instructions, and its registers are with KVM.
    settled: AtomicBool,
    /// `staged` is there.
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
    /// The calling thread is the VP's from now on.
    pub fn take(&self) {
        let _ = self.thread.set(thread::current().id());
    }

    /// The VP is parked, or no longer.
    pub fn settle(&self, settled: bool) {
        self.settled.store(settled, Ordering::SeqCst);
    }

    /// Returns `true` if a handler has set registers that [`apply`](Self::apply) is to put into the VP: one load.
    pub fn has_changes(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Puts the registers that a handler has set into the VP, on the VP's thread and between two instructions.
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
