//! Service providers: the host's side of the synthetic devices.

pub(crate) mod memory;
pub mod network;
pub(crate) mod services;
pub mod sockets;
pub mod storage;
