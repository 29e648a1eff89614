//! The network service provider: what `hv_netvsc` and Windows's `netvsc` find on the other side of their channel.
//!
//! Two protocols lie on top of each other. *NVSP* is the channel's own: it agrees on a version, makes two buffers in guest memory
//! known (one that the host receives into, one that the guest sends from), asks for subchannels, and carries RNDIS messages. *RNDIS* is that of an
//! Ethernet adapter: objects to get and set, and frames with notes about checksums and the like.
//!
//! - [`nvsp`]: the channel's protocol, as a state machine, and the path of frames through the buffers.
//! - [`rndis`]: the adapter.
//! - [`offload`], [`rss`]: what a NIC does to frames: checksums, segmentation, VLAN tags, and the choice of a channel.
//! - [`backend`]: where frames go: a tap device, a NAT in this process, a switch between partitions, nowhere.
//! - [`nic`]: an adapter as its channels share it; [`provider`]: what binds it to a channel's rings; [`nics`]: those of a machine.
//! - [`config`]: the option `--net` and its checks; [`pcap`]: captures; [`trace`]: a line for each message.
//!
//! A guest can only harm itself: what it says is copied once, checked, and refused if it makes no sense. A backend that is
//! overloaded drops frames and counts them; nothing waits for it.

pub mod backend;
pub mod config;
pub mod frame;
pub mod mac;
pub mod nic;
pub mod nics;
pub mod nvsp;
pub mod offload;
pub mod pcap;
pub mod provider;
pub mod rndis;
pub mod rss;
pub mod trace;

/// Plain data of a size that is known.
macro_rules! wire {
    ($size:literal, $(#[$doc:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name { $($body)* }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}
pub(crate) use wire;

/// A number with names for some of its values. An unknown one stays what it is.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident: $inner:ty, $unknown:literal; $($constant:ident = $value:literal;)*) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        #[allow(missing_docs, reason = "the names are the protocol's own")]
        impl $name {
            $(pub const $constant: Self = Self($value);)*
            /// Those that have names.
            pub const ALL: &[Self] = &[$(Self::$constant),*];

            /// The protocol's name of the value, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => formatter.write_str(name),
                    None => write!(formatter, $unknown, self.0),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, formatter)
            }
        }
    };
}
pub(crate) use open_enum;

/// Has files and the command line hold a value as its text.
macro_rules! held_as_text {
    ($name:ty) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(crate) use held_as_text;
