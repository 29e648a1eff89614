//! KVM itself: virtual machines, their memory, virtual processors (VPs), interrupts, exits.
//!
//! Unsafe code lives here and nowhere else.

pub mod gate;
pub mod memory;
