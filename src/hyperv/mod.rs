//! The guest interface of the Hypervisor Top Level Functional Specification (TLFS).
//!
//! Everything here is a pure state machine: its input and output are registers, bytes, times and actions. There is no
//! thread, no system call and no clock. The two engines are thin shells around it. The user engine passes every MSR
//! exit and every hypercall to this code; the kernel engine passes those that KVM does not answer itself.
//! `docs/engines.md` lists the differences.
//!
//! - [`features`] decides what a guest is offered, [`cpuid`] shows it to the guest.
//! - [`partition`] and [`vp`] own the state behind the synthetic MSRs, which [`msr`] names and decodes.
//! - [`overlay`] lays hypervisor pages over guest memory.
//! - [`synic`] delivers messages and event flags, [`stimer`] expires timers, [`reftime`] keeps the time.
//! - [`hypercall`] decodes, checks and dispatches calls; [`page`] contains the code that makes them.
//! - [`crash`] reads crash reports; [`trace`] formats events, one line each.

pub mod connections;
pub mod cpuid;
pub mod crash;
pub mod features;
pub mod hypercall;
pub mod message;
pub mod msr;
pub mod overlay;
pub mod page;
pub mod partition;
pub mod reftime;
pub mod registers;
pub mod status;
pub mod stimer;
pub mod synic;
pub mod trace;
pub mod types;
pub mod vp;

#[cfg(test)]
mod testing;
