//! The network that an adapter is attached to, and the limits of its MTU.

/// Minimum MTU: every IPv4 host accepts packets of this size (RFC 791).
pub const MIN_MTU: u16 = 576;

/// Maximum MTU: the longest packets of usual networks ("jumbo frames").
pub const MAX_MTU: u16 = 9000;

/// The network that an adapter is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A network in this process, with NAT to the host's network.
    User,
    /// A tap device of the host.
    Tap(String),
    /// A switch that the partitions of this process share.
    Switch {
        /// The name of the switch.
        name: String,
        /// Whether the switch is connected to a network like that of [`User`](Self::User).
        uplink: bool,
    },
    /// None.
    None,
}
