//! WebSockets (RFC 6455) that carry streams of bytes, and no messages.
//!
//! - `handshake`: from a request to the head of the reply.
//! - `frames`: the frames, both ways. Pure: bytes in, bytes out.
//! - `relay`: carries bytes between a browser and the socket of a machine.

pub mod frames;
pub mod handshake;
pub mod relay;
