//! Types of wire formats and of text: GUIDs, open enums, sizes.
//!
//! - [`guid`]: GUIDs of interfaces and instances.
//! - [`printable`]: makes text from guests, images and peers safe for a terminal.
//! - [`size`]: sizes with units, such as `256MiB`.

pub mod guid;
pub mod printable;
pub mod size;

/// Returns `N` bytes at `at`. The caller guarantees that they exist.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Defines plain data types with a known size.
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

/// Defines a number type with names for some of its values. Unknown values are kept.
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
            /// The values that have names.
            #[allow(dead_code, reason = "not every list is used")]
            pub const ALL: &[Self] = &[$(Self::$constant),*];

            /// Returns the protocol's name of the value, if it has one.
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

/// Implements conversions so that files and the command line contain a value as text.
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
