//! The guest interface of the Hypervisor Top Level Functional Specification (TLFS).
//!
//! Everything here is a pure state machine: its input and output are registers, bytes, times and actions. There is no
//! thread, no system call and no clock. The two engines are thin shells around it. The user engine passes every MSR
//! exit and every hypercall to this code; the kernel engine passes those that KVM does not answer itself.
//! `docs/engines.md` lists the differences.
//!
//! - `features` decides what a guest is offered, `cpuid` shows it to the guest.
//! - `partition` and `vp` own the state behind the synthetic MSRs, which `msr` names and decodes.
//! - `overlay` lays hypervisor pages over guest memory.
//! - `synic` delivers messages and event flags, `stimer` expires timers, `reftime` keeps the time.
//! - [`hypercall`] decodes, checks and dispatches calls; `page` contains the code that makes them.
//! - `crash` reads crash reports; `trace` formats events, one line each.

pub(crate) mod connections;
pub(crate) mod cpuid;
pub(crate) mod crash;
pub(crate) mod features;
pub mod hypercall;
pub(crate) mod message;
pub(crate) mod msr;
pub(crate) mod overlay;
pub(crate) mod page;
pub(crate) mod partition;
pub(crate) mod reftime;
pub(crate) mod registers;
pub(crate) mod status;
pub(crate) mod stimer;
pub(crate) mod synic;
pub(crate) mod trace;
pub(crate) mod types;
pub(crate) mod vp;

pub use status::{HvResult, HvStatus};
pub use types::VpIndex;

#[cfg(test)]
mod testing;
