//! The interface from hypercall handlers to the machine.

use std::fmt;
use std::ops::Range;

use super::{CallCode, InitialVpContext, VpSet};
use crate::hyperv::features::Features;
use crate::hyperv::message::MessageType;
use crate::hyperv::msr::Msr;
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{ConnectionId, VpIndex};

/// A register that a guest may access by HvCallGetVpRegisters: one that it can also access by CPUID or by MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VpRegister {
    /// A CPUID leaf: EAX in the low 32 bits, EDX in the high.
    Cpuid(u32),
    /// A synthetic MSR.
    Msr(Msr),
}

impl VpRegister {
    /// Returns the register for this `HV_REGISTER_NAME`, if a guest may access it.
    pub fn from_name(name: u32) -> Option<Self> {
        match name {
            0x0100 => Some(Self::Cpuid(0x4000_0002)),
            0x0200..=0x0203 => Some(Self::Cpuid(0x4000_0003 + (name - 0x0200))),
            0x0207 => Some(Self::Cpuid(0x4000_000a)),
            _ => Msr::from_register_name(name).map(Self::Msr),
        }
    }
}

impl fmt::Display for VpRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpuid(leaf) => write!(f, "CPUID {leaf:#x}"),
            Self::Msr(msr) => msr.fmt(f),
        }
    }
}

/// The machine, as hypercall handlers see it. The engines implement it.
///
/// Methods are called on the calling VP's thread, and may take any VP's lock: the dispatcher's caller holds none.
pub trait Host {
    /// Returns the features that the guest is offered.
    fn features(&self) -> Features;
    /// Returns GUEST_OS_ID, which is 0 until the guest has identified itself.
    fn guest_os_id(&self) -> u64;
    /// Returns the number of VPs of the partition.
    fn vp_count(&self) -> u32;

    /// Posts a message through a connection. The type and the length of the payload have been checked.
    ///
    /// # Errors
    /// Returns an error if there is no such connection, or if its port refuses the message.
    fn post_message(&self, connection: ConnectionId, message_type: MessageType, payload: &[u8]) -> HvResult<()>;
    /// Signals an event through a connection.
    ///
    /// # Errors
    /// Returns an error if there is no such connection, or if its port has no such flag.
    fn signal_event(&self, connection: ConnectionId, flag: u16) -> HvResult<()>;
    /// Raises a fixed interrupt on each VP of the set.
    fn send_interrupt(&self, targets: &VpSet, vector: u8);
    /// Handles a VP that has been spinning on a lock which another VP holds: lets that VP run.
    fn long_spin_wait(&self, spin_count: u32);
    /// Flushes the TLBs of a set of VPs completely. Called only if the hint is offered.
    ///
    /// # Errors
    /// Returns an error if the host does not support it.
    fn flush_tlb(&self, _targets: &VpSet) -> HvResult<()> {
        Err(HvStatus::OPERATION_DENIED)
    }
    /// Starts a VP that waits for INIT or SIPI in the given state, on behalf of the calling VP.
    ///
    /// # Errors
    /// Returns an error if the VP is already running, or if the state is invalid.
    fn start_vp(&self, caller: VpIndex, vp: VpIndex, context: &InitialVpContext) -> HvResult<()>;
    /// Returns the VP whose local APIC has this id.
    fn vp_of_apic_id(&self, apic_id: u32) -> Option<VpIndex>;
    /// Reads a register of an existing VP.
    ///
    /// # Errors
    /// Returns an error if the register is not readable.
    fn read_register(&self, vp: VpIndex, register: VpRegister) -> HvResult<u128>;
    /// Writes a register of an existing VP.
    ///
    /// # Errors
    /// Returns an error if the register is not writable, or if the value is invalid.
    fn write_register(&self, vp: VpIndex, msr: Msr, value: u64) -> HvResult<()>;
    /// Returns the GPA ranges that are known to be still zero, in pages, largest first.
    fn zeroed_pages(&self) -> Vec<Range<u64>>;
}

/// What a handler knows about the call apart from its parameters.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The call.
    pub code: CallCode,
    /// The calling VP.
    pub vp: VpIndex,
    /// The machine.
    pub host: &'a dyn Host,
}
