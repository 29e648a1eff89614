//! The synthetic interrupt controller of one VP (TLFS, "Virtual Interrupt Controller" and
//! "Inter-Partition Communication").
//!
//! A guest owns sixteen SINTs. The hypervisor reaches it through two pages that the guest sets by MSR: the SIMP holds a
//! slot for one message per SINT, the SIEFP 2048 event flags per SINT. If the slot of a message is busy, the message
//! waits here until the guest writes EOM or ends the SINT's interrupt.
//!
//! This module decides *what* to deliver and *when*. Injecting the interrupt is the engine's job, also with AutoEOI:
//! [`Interrupt::auto_eoi`] means that the vector must not stay in service once the VP has taken it. User space cannot
//! observe when a VP takes an interrupt. So the user engine does not send such a vector to the local APIC. When the VP
//! is out of the guest and can take it, it is injected as an interrupt that is already acknowledged, which leaves
//! nothing in service. That costs one or two exits per interrupt, so guests are told not to use it
//! (`DeprecateAutoEoi`).
//!
//! A VP's SynIC is used under that VP's lock, from the thread that posts. On the kernel engine, KVM writes timer
//! messages into the same slots from the VP's thread, so there this code runs only on that thread.

mod queue;
mod slot;

#[cfg(test)]
pub use queue::MAX_WAITING;
pub use queue::MessageQueue;
pub use slot::{EVENT_FLAGS, EventFlagsPage, MessagePage, Placed};

use super::message::{Message, MessageType};
use super::registers::{PageRegister, SintRegister};
use super::status::{HvResult, HvStatus};
use super::types::{Fault, GP, Interrupt, SINT_COUNT, SintIndex};
use crate::memory::GuestMemory;

/// SVERSION.
pub const VERSION: u64 = 1;
/// SCONTROL at reset. The published TLFS has 0. Hyper-V and KVM start with 1, and guests rely on that.
pub const SCONTROL_RESET: u64 = 1;

/// The addresses of a VP's two pages; `None` if a page is disabled or covered by another overlay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    /// The SIMP's.
    pub messages: Option<MessagePage>,
    /// The SIEFP's.
    pub event_flags: Option<EventFlagsPage>,
}

/// The SynIC of one VP.
#[derive(Debug)]
pub struct Synic {
    scontrol: u64,
    /// SIEFP, as written. The page itself is an overlay.
    pub(super) siefp: PageRegister,
    /// SIMP, as written. The page itself is an overlay.
    pub(crate) simp: PageRegister,
    sints: [SintRegister; SINT_COUNT],
    queues: [MessageQueue; SINT_COUNT],
}

impl Default for Synic {
    fn default() -> Self {
        Self {
            scontrol: SCONTROL_RESET,
            siefp: PageRegister::default(),
            simp: PageRegister::default(),
            sints: [SintRegister::RESET; SINT_COUNT],
            queues: Default::default(),
        }
    }
}

impl Synic {
    /// SCONTROL.
    pub fn scontrol(&self) -> u64 {
        self.scontrol
    }

    /// Writes SCONTROL. Bits other than Enable are preserved.
    pub fn set_scontrol(&mut self, value: u64) {
        self.scontrol = value;
    }

    /// Returns `true` if messages and events can be delivered.
    pub fn enabled(&self) -> bool {
        self.scontrol & 1 != 0
    }

    /// Returns a SINT's register.
    pub fn sint(&self, sint: SintIndex) -> SintRegister {
        self.sints[sint.index()]
    }

    /// Writes a SINT's register.
    ///
    /// # Errors
    /// Returns #GP for a vector below 16, unless the source is masked: guests write the reset value back.
    pub fn set_sint(&mut self, sint: SintIndex, value: u64) -> Result<(), Fault> {
        let register = SintRegister(value);
        if !register.is_valid() {
            return Err(GP);
        }
        self.sints[sint.index()] = register;
        Ok(())
    }

    /// Returns the interrupt that `sint` raises now, or `None` if it is masked or polled.
    pub fn interrupt(&self, sint: SintIndex) -> Option<Interrupt> {
        let register = self.sint(sint);
        (!register.masked() && !register.polling())
            .then(|| Interrupt { vector: register.vector(), auto_eoi: register.auto_eoi() })
    }

    /// Returns the SINTs that raise `vector`. Their queues are rescanned at an end of interrupt.
    pub fn sints_of_vector(&self, vector: u8) -> impl Iterator<Item = SintIndex> {
        SintIndex::all().filter(move |sint| self.sint(*sint).vector() == vector && !self.sint(*sint).masked())
    }

    /// Returns the number of messages that wait for the slot of `sint`.
    pub fn waiting(&self, sint: SintIndex) -> usize {
        self.queues[sint.index()].len()
    }

    /// Drops the messages of a type that wait for the slot of `sint`. A message in the slot stays.
    pub fn withdraw(&mut self, sint: SintIndex, message_type: MessageType) {
        self.queues[sint.index()].withdraw(message_type);
    }

    /// Returns `true`, once, if a SINT has room again for messages that it refused.
    pub fn take_room(&mut self) -> bool {
        // Every queue is asked, so that none reports it again later.
        self.queues.iter_mut().filter_map(|queue| queue.take_room().then_some(())).count() > 0
    }

    /// Posts a message to its slot, or behind the waiting ones. Returns the interrupt to raise, if any.
    ///
    /// `timer_waits` as for [`rescan`](Self::rescan).
    ///
    /// # Errors
    /// Returns an error if the SynIC or the SIM page is disabled, or if too many messages wait.
    pub fn post(
        &mut self,
        memory: &GuestMemory,
        pages: Pages,
        sint: SintIndex,
        message: Message,
        timer_waits: bool,
    ) -> HvResult<Option<Interrupt>> {
        if !self.enabled() || !self.simp.enabled() {
            return Err(HvStatus::INVALID_SYNIC_STATE);
        }
        self.queues[sint.index()].push(message)?;
        Ok(self.rescan(memory, pages, sint, timer_waits))
    }

    /// Delivers the first message that waits for `sint`, if its slot is free. Returns the interrupt to raise, if any.
    ///
    /// `timer_waits`: a timer's message waits behind the queue, so MessagePending must be set.
    pub fn rescan(
        &mut self,
        memory: &GuestMemory,
        pages: Pages,
        sint: SintIndex,
        timer_waits: bool,
    ) -> Option<Interrupt> {
        let page = pages.messages.filter(|_| self.enabled())?;
        self.queues[sint.index()].deliver(memory, page, sint, timer_waits).then(|| self.interrupt(sint))?
    }

    /// Places a timer's message directly into its slot. Returns `false` if it must wait.
    pub fn place(&self, memory: &GuestMemory, pages: Pages, sint: SintIndex, message: &Message, more: bool) -> bool {
        self.enabled() && pages.messages.is_some_and(|page| page.place(memory, sint, message, more) == Placed::InSlot)
    }

    /// Sets an event flag. Returns the interrupt to raise, if the flag was clear.
    ///
    /// # Errors
    /// Returns an error if there is no such flag, or if the SynIC, the SIEF page or the SINT is disabled.
    pub fn signal(
        &self,
        memory: &GuestMemory,
        pages: Pages,
        sint: SintIndex,
        flag: u16,
    ) -> HvResult<Option<Interrupt>> {
        if flag >= EVENT_FLAGS {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let register = self.sint(sint);
        if !self.enabled() || register.masked() && !register.polling() {
            return Err(HvStatus::INVALID_SYNIC_STATE);
        }
        let page = pages.event_flags.ok_or(HvStatus::INVALID_SYNIC_STATE)?;
        Ok(if page.set(memory, sint, flag) { self.interrupt(sint) } else { None })
    }
}

#[cfg(test)]
#[path = "synic_tests.rs"]
mod tests;
