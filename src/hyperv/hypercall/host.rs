//! What hypercall handlers ask of the machine around them.

use std::fmt;
use std::ops::Range;

use super::{CallCode, InitialVpContext, VpSet};
use crate::hyperv::features::Features;
use crate::hyperv::message::MessageType;
use crate::hyperv::msr::Msr;
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{ConnectionId, VpIndex};

/// A register that a guest may name in HvCallGetVpRegisters: what it can reach by CPUID or by MSR as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VpRegister {
    /// A CPUID leaf: EAX in the low 32 bits, EDX in the high.
    Cpuid(u32),
    /// A synthetic MSR.
    Msr(Msr),
}

impl VpRegister {
    /// Returns the register of this `HV_REGISTER_NAME`, if a guest may name it.
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

/// The machine, as hypercalls see it. The engines implement it.
///
/// It is called on the calling VP's thread, and may take any VP's lock: the dispatcher's caller holds none.
pub trait Host {
    /// Returns what the guest is offered.
    fn features(&self) -> Features;
    /// GUEST_OS_ID: 0 until the guest has identified itself.
    fn guest_os_id(&self) -> u64;
    /// Returns how many VPs the partition has.
    fn vp_count(&self) -> u32;

    /// Posts a message through a connection. The type and the payload's length have been checked.
    ///
    /// # Errors
    /// No such connection, or its port does not take the message.
    fn post_message(&self, connection: ConnectionId, message_type: MessageType, payload: &[u8]) -> HvResult<()>;
    /// Signals an event through a connection.
    ///
    /// # Errors
    /// No such connection, or its port has no such flag.
    fn signal_event(&self, connection: ConnectionId, flag: u16) -> HvResult<()>;
    /// Raises a fixed interrupt on each VP of the set.
    fn send_interrupt(&self, targets: &VpSet, vector: u8);
    /// The calling VP spins on something that another VP holds: lets that one run.
    fn long_spin_wait(&self, spin_count: u32);
    /// Flushes the TLBs of a set of VPs, all of them. Only a host that offers the hint is asked.
    ///
    /// # Errors
    /// The host cannot.
    fn flush_tlb(&self, _targets: &VpSet) -> HvResult<()> {
        Err(HvStatus::OPERATION_DENIED)
    }
    /// Starts a VP that waits for INIT or SIPI, in the state given, for another one that calls.
    ///
    /// # Errors
    /// The VP runs already, or the state is not one that a processor can have.
    fn start_vp(&self, caller: VpIndex, vp: VpIndex, context: &InitialVpContext) -> HvResult<()>;
    /// Returns the VP whose local APIC has this id.
    fn vp_of_apic_id(&self, apic_id: u32) -> Option<VpIndex>;
    /// Reads a register of a VP that exists.
    ///
    /// # Errors
    /// The register is not to be read.
    fn read_register(&self, vp: VpIndex, register: VpRegister) -> HvResult<u128>;
    /// Writes a register of a VP that exists.
    ///
    /// # Errors
    /// The register is not to be written, or not with this value.
    fn write_register(&self, vp: VpIndex, msr: Msr, value: u64) -> HvResult<()>;
    /// GPA ranges that are known to be zeroes still, in pages, largest first.
    fn zeroed_pages(&self) -> Vec<Range<u64>>;
}

/// What a handler knows of the call beside its parameters.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The call.
    pub code: CallCode,
    /// Who calls.
    pub vp: VpIndex,
    /// The machine.
    pub host: &'a dyn Host,
}
