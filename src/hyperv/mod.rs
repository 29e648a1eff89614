//! The guest interface of the Hypervisor Top Level Functional Specification (TLFS).
