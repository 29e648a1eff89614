//! What an adapter is plugged into, and how long its packets may be.

/// Fewer bytes than this no IPv4 host takes whole (RFC 791).
pub const MIN_MTU: u16 = 576;

/// The longest packets of usual networks ("jumbo frames").
pub const MAX_MTU: u16 = 9000;

/// What an adapter is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A network in this process, with NAT to the host's.
    User,
    /// A tap device of the host.
    Tap(String),
    /// A switch that the partitions of this process share.
    Switch {
        /// Which one.
        name: String,
        /// Whether it leads to a network as [`User`](Self::User) has, too.
        uplink: bool,
    },
    /// Nothing.
    None,
}
