//! NVSP, the protocol of a network channel, and the way of frames through the buffers that it sets up.
//!
//! - [`wire`]: the messages.
//! - [`device`]: the state machine of the primary channel: version, buffers, subchannels, and the RNDIS adapter behind it.
//! - [`path`]: what the state machine has set up, as the channels that move frames see it.
//! - [`transmit`]: frames from the guest, [`receive`]: frames to the guest, [`sections`]: who owns which part of the receive buffer.
//!
//! The primary channel carries all but the data of subchannels. A channel's thread reads packets from its ring, gives those that
//! are about frames to [`transmit`] and [`receive`], and the rest, on the primary channel, to the [`Device`](device::Device).

pub mod device;
pub mod path;
pub mod receive;
pub mod sections;
#[cfg(test)]
mod testing;
pub mod transmit;
pub mod wire;
