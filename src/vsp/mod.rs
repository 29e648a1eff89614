//! Service providers: the host's side of the synthetic devices.

pub(crate) mod keyboard;
pub(crate) mod memory;
pub(crate) mod mouse;
pub mod network;
pub(crate) mod pipe;
pub(crate) mod screen;
pub(crate) mod services;
pub mod sockets;
pub mod storage;
pub(crate) mod video;
