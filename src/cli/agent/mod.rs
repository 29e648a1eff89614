//! The host's side of the agent in a guest: see `docs/agent.md`. The agent itself is `guest-agent/`.

pub mod attach;
pub mod copy;
pub mod drive;
pub mod files;
pub mod frame;
pub mod many;
pub mod session;
pub mod target;

#[cfg(test)]
mod tests;

/// The agent: a static program for Linux.
pub const PROGRAM: &[u8] = include_bytes!(env!("VIRIDIAN_AGENT"));

/// The AF_VSOCK port where the agent listens, and where the agent of `viridian linux` connects to the host.
pub const PORT: u32 = 0x5649;
