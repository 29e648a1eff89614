//! The numbers that guest and host use as ids, each with its own type.
//!
//! All of them are part of messages, so they are plain data, and any value can be created. Ids that the hypervisor uses
//! as well have the TLFS's types.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::hyperv::types::{ConnectionId, VpIndex};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, $format, self.0)
            }
        }
    };
}

id! {
    /// A channel, numbered by the host (Linux: "child relid"). Also the number of its event flag in the SIEFP.
    ChannelId, "{}"
}
id! {
    /// A guest physical address descriptor list (GPADL), numbered by the guest.
    GpadlId, "{:#x}"
}

impl ChannelId {
    /// Returns the connection on which the guest signals the channel. As on Hyper-V, the SINT is in the bits above the
    /// channel's id.
    pub fn connection(self) -> ConnectionId {
        ConnectionId(0x2000 | self.0)
    }
}

impl ConnectionId {
    /// The connection for control messages before VMBus 5.0.
    pub const MESSAGES: Self = Self(1);
    /// The connection for control messages since VMBus 5.0.
    pub const MESSAGES_5: Self = Self(4);
}

/// A version of the VMBus protocol: major number in the upper half, minor in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Version(pub u32);

impl Version {
    /// Windows 8, Server 2012.
    pub const V2_4: Self = Self::new(2, 4);
    /// Windows 8.1, Server 2012 R2. The guest chooses the VP that receives messages.
    pub const V3_0: Self = Self::new(3, 0);
    /// Windows 10. Adds hvsocket connections.
    pub const V4_0: Self = Self::new(4, 0);
    /// Windows 10 RS3. Channels can be retargeted.
    pub const V4_1: Self = Self::new(4, 1);
    /// Windows 10 RS3. The version response contains the connection id, and the guest chooses the SINT.
    pub const V5_0: Self = Self::new(5, 0);
    /// Windows 10 RS4. The guest chooses the VTL.
    pub const V5_1: Self = Self::new(5, 1);
    /// Windows 10 RS5, Server 2019.
    pub const V5_2: Self = Self::new(5, 2);
    /// Server 2022. Retargeting is acknowledged.
    pub const V5_3: Self = Self::new(5, 3);
    /// Every supported version, oldest first.
    pub const ALL: [Self; 8] =
        [Self::V2_4, Self::V3_0, Self::V4_0, Self::V4_1, Self::V5_0, Self::V5_1, Self::V5_2, Self::V5_3];
    /// The newest supported version.
    pub const NEWEST: Self = Self::V5_3;

    /// Creates the version `major.minor`, supported or not.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self((major as u32) << 16 | minor as u32)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A version that is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a supported VMBus version; give one of 2.4, 3.0, 4.0, 4.1, 5.0, 5.1, 5.2, 5.3")]
pub struct UnknownVersion(String);

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL
            .into_iter()
            .find(|version| version.to_string() == text)
            .ok_or_else(|| UnknownVersion(text.to_string()))
    }
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
