//! The synthetic mouse (Linux: `hid-hyperv`): a HID device whose pointer has absolute coordinates.
//!
//! - [`wire`]: the messages, and the descriptors of HID; [`protocol`]: the mouse as a state machine.
//! - [`gesture`]: clicks and drags; [`device`]: the mouse as a device of its machine.

pub mod device;
pub mod gesture;
pub mod protocol;
pub mod wire;
