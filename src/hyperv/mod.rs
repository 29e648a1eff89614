//! The guest interface of the Hypervisor Top Level Functional Specification (TLFS).
//!
//! Everything here is a pure state machine: registers, bytes and times go in, registers, bytes and
//! actions come out. There is no thread, no system call and no clock. The two engines are thin
//! shells around it: the user engine hands every MSR exit and every hypercall to this code, the
//! kernel engine those that KVM does not answer itself. `docs/engines.md` says where the two differ.
//!
//! - [`features`] says what a guest is offered, [`cpuid`] shows it to the guest.
//! - [`partition`] and [`vp`] own the state behind the synthetic MSRs that [`msr`] names and decodes.
//! - [`overlay`] lays hypervisor pages over guest memory.
//! - [`synic`] delivers messages and event flags, [`stimer`] expires timers, [`reftime`] tells the time.
//! - [`hypercall`] decodes, checks and answers calls; [`page`] is the code that makes them.
//! - [`crash`] reads a guest's last words; [`trace`] prints what happened, one line an event.

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
