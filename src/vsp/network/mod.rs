//! The network service provider: the host's side of `hv_netvsc` and Windows's `netvsc`.
//!
//! There are two protocols, one inside the other. *NVSP* is the channel's own: it negotiates a version, shares two
//! buffers in guest memory (a receive buffer, which the host fills, and a send buffer, which the guest fills), requests
//! subchannels, and carries RNDIS messages. *RNDIS* is the protocol of an Ethernet adapter: objects to get and set, and
//! frames with per-packet information about checksums and the like.
//!
//! - `nvsp`: the channel's protocol as a state machine, and the transfer of frames through the buffers.
//! - `rndis`: the adapter.
//! - `net`: offloads, and the networks that an adapter is attached to.
//! - `nic`: an adapter's state that its channels share; `provider`: connects it to a channel's rings; `nics`: a
//!   machine's adapters.
//! - `config`: the option `--net` and its checks; `trace`: messages as readable lines.
//!
//! A guest can harm only itself: its messages are copied once, checked, and refused if they are invalid. An overloaded
//! backend drops frames and counts them; nothing waits for it.

pub(crate) mod config;
pub(crate) mod nic;
pub(crate) mod nics;
pub(crate) mod nvsp;
pub(crate) mod provider;
pub(crate) mod rndis;
pub(crate) mod trace;

pub use crate::net::attachment::Attachment;
pub use crate::net::mac::MacAddress;
pub use crate::net::user::forward::{Forward, Protocol};
pub use config::{NetworkOptions, NetworkOptionsError};
pub use nic::Nic;
pub use nics::{AttachNicError, Nics};
pub use nvsp::wire::Version;

pub(crate) use crate::wire::{held_as_text, open_enum, wire};
