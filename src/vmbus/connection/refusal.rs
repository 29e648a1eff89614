//! Reasons to refuse a guest's message.

use crate::vmbus::gpadl::RangeError;
use crate::vmbus::ids::{ChannelId, ConnectionId, GpadlId, Version, VpIndex};
use crate::vmbus::message::ParseError;
use crate::vmbus::ring::RingError;
use crate::vmbus::wire::MessageType;

/// A message that the protocol does not allow, or that exceeds a limit. It affects only the guest that sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message is malformed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It was posted to the wrong connection.
    #[error("the message was posted to {connection} instead of {expected}")]
    WrongConnection {
        /// The actual connection.
        connection: ConnectionId,
        /// The expected connection.
        expected: ConnectionId,
    },
    /// The message requires a connection.
    #[error("the guest has not made contact, or has not got the reply yet")]
    NotConnected,
    /// The guest does not read the replies.
    #[error("the guest sends requests without reading the replies")]
    Busy,
    /// The version is not supported. Guests try versions from the newest down, so this is normal.
    #[error("the guest requests VMBus {version}, but the newest supported version is {max_version}")]
    Version {
        /// The requested version.
        version: Version,
        /// The newest supported version.
        max_version: Version,
    },
    /// The message does not exist in this version.
    #[error("{message_type} is not part of VMBus {version}")]
    NotInVersion {
        /// The message.
        message_type: MessageType,
        /// The version.
        version: Version,
    },
    /// The partition does not have this VP.
    #[error("{target} is not one of the partition's {vp_count} VPs")]
    NoSuchVp {
        /// The VP.
        target: VpIndex,
        /// Number of VPs.
        vp_count: u32,
    },
    /// VMBus uses only one SINT.
    #[error("the guest requests messages on SINT{0} instead of SINT2")]
    Sint(u8),
    /// There is only one VTL.
    #[error("the guest requests messages in VTL {0}, but the partition has only VTL 0")]
    Vtl(u8),
    /// Offers can be requested once per connection.
    #[error("the guest has requested the offers already")]
    OffersRequested,
    /// The channel was never offered to the guest, or has been released.
    #[error("channel {0} is not offered to the guest")]
    NoSuchChannel(ChannelId),
    /// The channel was rescinded; the notification is on its way.
    #[error("channel {0} has been rescinded")]
    Rescinded(ChannelId),
    /// The message is not allowed in the channel's state.
    #[error("{message_type} is not allowed while channel {channel} is {usage}")]
    State {
        /// The message.
        message_type: MessageType,
        /// The channel.
        channel: ChannelId,
        /// The channel's state.
        usage: &'static str,
    },
    /// The channel has no such GPADL.
    #[error("this channel has no GPADL {0}")]
    NoSuchGpadl(GpadlId),
    /// The id is in use.
    #[error("GPADL {0} exists already")]
    DuplicateGpadl(GpadlId),
    /// The GPADL is not a valid list of guest pages.
    #[error("GPADL {gpadl} is refused: {reason}")]
    Gpadl {
        /// The GPADL.
        gpadl: GpadlId,
        /// The reason.
        reason: RangeError,
    },
    /// The guest has the maximum number or size of GPADLs.
    #[error("GPADL {0} exceeds the limit on the number or the total size of GPADLs")]
    TooManyGpadls(GpadlId),
    /// The ring's GPADL has several ranges.
    #[error("the rings' GPADL {0} is not one range of pages")]
    RingRanges(GpadlId),
    /// The ring's GPADL has the wrong shape.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The guest sends requests to connect faster than they are decided.
    #[error("{0} requests to connect a socket are undecided")]
    Undecided(usize),
}
