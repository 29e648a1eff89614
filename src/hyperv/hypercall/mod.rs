//! Hypercalls: decoding, checks and dispatch (TLFS, "Hypercall Interface").
//!
//! The engine fills `Registers` from the VP and calls `Hypercalls::dispatch`, which returns the registers to put
//! into the VP, or a fault. Handlers do not see the two calling conventions, or whether parameters are in memory, fast
//! or XMM-fast: they get typed input and return typed output.
//!
//! If a user's handler panics, its call fails with `HV_STATUS_OPERATION_FAILED`, and nothing else is affected.
//!
//! Library users register their own handlers and watchers with [`Hypercalls`].
//!
//! ```
//! use viridian::hyperv::hypercall::{CallCode, Hypercalls};
//! use viridian::hyperv::HvStatus;
//!
//! let mut calls = Hypercalls::standard();
//! // A call of our own: it takes a number and returns its half.
//! calls.simple(CallCode(0x7f00), "Halve", None, |_call, number: u64| {
//!     if number % 2 == 0 { Ok(number / 2) } else { Err(HvStatus::INVALID_PARAMETER) }
//! });
//! // A watcher of all calls.
//! calls.watch(|observation| println!("{}", observation));
//! ```

mod cold_discard;
mod handlers;
mod host;
mod input;
mod parameters;
mod registers;
mod registry;
mod vp_set;
mod wire;

pub use host::Call;
pub(crate) use host::{Host, VpRegister};
pub use input::{HypercallInput, HypercallResult};
pub(crate) use registers::{Mode, Registers, XMM_REGISTERS};
pub(crate) use registry::Definition;
pub use registry::{CallOutcome, Hypercalls, Observation};
pub(crate) use vp_set::VpSet;
pub(crate) use wire::*;

use crate::wire::open_enum;

open_enum! {
/// The code of a hypercall. Unknown codes are valid values; `Hypercalls::definitions` lists those that are
/// implemented.
CallCode: u16, "call {:#06x}", names of the crate;
    FLUSH_VIRTUAL_ADDRESS_SPACE = 0x0002, "HvCallFlushVirtualAddressSpace";
    FLUSH_VIRTUAL_ADDRESS_LIST = 0x0003, "HvCallFlushVirtualAddressList";
    NOTIFY_LONG_SPIN_WAIT = 0x0008, "HvCallNotifyLongSpinWait";
    SEND_SYNTHETIC_CLUSTER_IPI = 0x000b, "HvCallSendSyntheticClusterIpi";
    FLUSH_VIRTUAL_ADDRESS_SPACE_EX = 0x0013, "HvCallFlushVirtualAddressSpaceEx";
    FLUSH_VIRTUAL_ADDRESS_LIST_EX = 0x0014, "HvCallFlushVirtualAddressListEx";
    SEND_SYNTHETIC_CLUSTER_IPI_EX = 0x0015, "HvCallSendSyntheticClusterIpiEx";
    GET_VP_REGISTERS = 0x0050, "HvCallGetVpRegisters";
    SET_VP_REGISTERS = 0x0051, "HvCallSetVpRegisters";
    POST_MESSAGE = 0x005c, "HvCallPostMessage";
    SIGNAL_EVENT = 0x005d, "HvCallSignalEvent";
    START_VIRTUAL_PROCESSOR = 0x0099, "HvCallStartVirtualProcessor";
    GET_VP_INDEX_FROM_APIC_ID = 0x009a, "HvCallGetVpIndexFromApicId";
    EXT_QUERY_CAPABILITIES = 0x8001, "HvExtCallQueryCapabilities";
    EXT_GET_BOOT_ZEROED_MEMORY = 0x8002, "HvExtCallGetBootZeroedMemory";
    EXT_MEMORY_HEAT_HINT = 0x8003, "HvExtCallMemoryHeatHint";
}

impl CallCode {
    /// The calls that KVM answers itself. The kernel engine's hypercall page passes them to KVM.
    pub(crate) const ANSWERED_BY_KVM: [Self; 7] = [
        Self::NOTIFY_LONG_SPIN_WAIT,
        Self::SEND_SYNTHETIC_CLUSTER_IPI,
        Self::SEND_SYNTHETIC_CLUSTER_IPI_EX,
        Self::FLUSH_VIRTUAL_ADDRESS_SPACE,
        Self::FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
        Self::FLUSH_VIRTUAL_ADDRESS_LIST,
        Self::FLUSH_VIRTUAL_ADDRESS_LIST_EX,
    ];
}
