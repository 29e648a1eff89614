//! Types as they go over a wire or stand in a text: GUIDs, open enums, sizes.
//!
//! - [`guid`]: GUIDs of interfaces and instances.
//! - [`printable`]: text of guests, images and peers, made fit for a terminal.
//! - [`size`]: sizes as users write them, for example `256MiB`.

pub mod guid;
pub mod printable;
pub mod size;

/// `N` bytes at `at`, which the caller knows to be there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

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
