//! The screen, keyboard and mouse of a machine, for those who look at it and type.
//!
//! - [`config`]: the settings; [`set`]: the devices of a machine, and what its user does with them.
//! - [`vnc`]: a server for VNC viewers.

pub mod config;
pub mod set;
pub mod vnc;
