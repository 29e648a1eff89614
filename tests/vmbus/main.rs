//! VMBus from the guest's messages to the devices' threads, without KVM: a guest in Rust on a simulated child partition.

mod child;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod guest;
mod hot_plug;
mod image;
mod protocol;
mod stress;
mod timers;
mod transport;
