//! The synthetic keyboard (Linux: `hyperv-keyboard`).
//!
//! - [`keys`]: the keys, their scan codes and names; [`layout`]: what they type; [`wire`]: the messages; [`protocol`]: the keyboard
//!   as a state machine.
//! - [`device`]: the keyboard as a device of its machine.

pub mod device;
pub mod keys;
pub mod layout;
pub mod protocol;
pub mod wire;
