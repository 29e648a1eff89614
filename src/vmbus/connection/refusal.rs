//! Why a guest's message was not followed.

use crate::vmbus::gpadl::RangeError;
use crate::vmbus::ids::{ChannelId, ConnectionId, GpadlId, Version, VpIndex};
use crate::vmbus::message::ParseError;
use crate::vmbus::ring::RingError;
use crate::vmbus::wire::MessageType;

/// A message that the protocol does not allow, or that asks for too much. Only the guest that sent it is the worse for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no message.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It came to the wrong place.
    #[error("the message came to {connection} instead of {expected}")]
    WrongConnection {
        /// Where it came.
        connection: ConnectionId,
        /// Where it should have come.
        expected: ConnectionId,
    },
    /// It takes a connection.
    #[error("the guest has not made contact, or not got its answer yet")]
    NotConnected,
    /// The guest does not read what it asked for.
    #[error("the guest asks on without reading the answers")]
    Busy,
    /// The version is not spoken. Guests try versions from the newest down, so this is nothing to worry about.
    #[error("the guest asks for VMBus {version}, and {max_version} is the newest it gets")]
    Version {
        /// What the guest asks for.
        version: Version,
        /// What it can have.
        max_version: Version,
    },
    /// The version agreed on does not have the message.
    #[error("{message_type} is not part of VMBus {version}")]
    NotInVersion {
        /// The message.
        message_type: MessageType,
        /// The version.
        version: Version,
    },
    /// A VP that the partition does not have.
    #[error("{target} is not one of the partition's {vp_count} VPs")]
    NoSuchVp {
        /// Which one.
        target: VpIndex,
        /// How many there are.
        vp_count: u32,
    },
    /// VMBus uses one SINT.
    #[error("the guest wants messages on SINT{0} instead of SINT2")]
    Sint(u8),
    /// There is one VTL.
    #[error("the guest wants messages in VTL {0}, and the partition has only VTL 0")]
    Vtl(u8),
    /// Offers are requested once a connection.
    #[error("the guest has requested the offers already")]
    OffersRequested,
    /// The guest was never offered the channel, or has released it.
    #[error("channel {0} is not offered to the guest")]
    NoSuchChannel(ChannelId),
    /// The channel is gone, as the guest will read.
    #[error("channel {0} has been rescinded")]
    Rescinded(ChannelId),
    /// Not in that state.
    #[error("{message_type} makes no sense while channel {channel} is {usage}")]
    State {
        /// What the guest asks for.
        message_type: MessageType,
        /// The channel.
        channel: ChannelId,
        /// What the channel is.
        usage: &'static str,
    },
    /// The channel has no such GPADL.
    #[error("the guest has no GPADL {0} there")]
    NoSuchGpadl(GpadlId),
    /// The id is taken.
    #[error("GPADL {0} exists already")]
    DuplicateGpadl(GpadlId),
    /// The GPADL is no list of guest pages.
    #[error("GPADL {gpadl} is refused: {reason}")]
    Gpadl {
        /// Which one.
        gpadl: GpadlId,
        /// Why.
        reason: RangeError,
    },
    /// The guest has as many GPADLs as it can have.
    #[error("GPADL {0} is one too many, or too large for what all may have")]
    TooManyGpadls(GpadlId),
    /// The ring's GPADL has several ranges.
    #[error("the rings' GPADL {0} is not one range of pages")]
    RingRanges(GpadlId),
    /// The ring's GPADL has the wrong shape.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// hvsocket is not there.
    #[error("nobody listens on hvsocket")]
    NoHvsocket,
}
