//! The handlers of requests, by topic.

pub mod addresses;
pub mod console;
pub mod copy;
pub mod events;
pub mod freeze;
pub mod key_value;
pub mod plug;
pub mod screen;
pub mod services;
pub mod sockets;
pub mod state;
mod totals;
pub mod trace;
pub mod wait;
