//! Service providers: the host's side of the synthetic devices.

pub mod network;
pub(crate) mod services;
pub mod sockets;
pub mod storage;
