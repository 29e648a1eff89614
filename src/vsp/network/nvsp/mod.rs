//! NVSP, the protocol of a network channel, and the transfer of frames through its buffers.
//!
//! - [`wire`]: the messages.
//! - [`device`]: the state machine of the primary channel: version, buffers, subchannels, and the RNDIS adapter.
//! - [`path`]: the result of the negotiation, for the channels that move frames.
//! - [`transmit`]: frames from the guest, [`receive`]: frames to the guest, [`sections`]: ownership of the receive
//!   buffer's sections.
//!
//! The primary channel carries everything except the data of subchannels. A channel's thread reads packets from its
//! ring. It passes packets with frames to [`transmit`] and [`receive`] and, on the primary channel, all others to the
//! [`NvspDevice`](device::NvspDevice).

pub mod device;
pub mod path;
pub mod receive;
pub mod sections;
#[cfg(test)]
mod testing;
pub mod transmit;
pub mod wire;
