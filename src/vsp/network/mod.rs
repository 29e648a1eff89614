//! The network service provider: what `hv_netvsc` and Windows's `netvsc` find on the other side of their channel.
//!
//! Two protocols lie on top of each other. *NVSP* is the channel's own: it agrees on a version, makes two buffers in guest memory
//! known (one that the host receives into, one that the guest sends from), asks for subchannels, and carries RNDIS messages. *RNDIS* is that of an
//! Ethernet adapter: objects to get and set, and frames with notes about checksums and the like.
//!
//! - [`nvsp`]: the channel's protocol, as a state machine, and the path of frames through the buffers.
//! - [`rndis`]: the adapter.
//! - [`net`](crate::net): offloads, and the networks that an adapter is plugged into.
//! - [`nic`]: an adapter as its channels share it; [`provider`]: what binds it to a channel's rings; [`nics`]: those of a machine.
//! - [`config`]: the option `--net` and its checks; [`trace`]: a line for each message.
//!
//! A guest can only harm itself: what it says is copied once, checked, and refused if it makes no sense. A backend that is
//! overloaded drops frames and counts them; nothing waits for it.

pub mod config;
pub mod nic;
pub mod nics;
pub mod nvsp;
pub mod provider;
pub mod rndis;
pub mod trace;

pub(crate) use crate::wire::{held_as_text, open_enum, wire};
