//! Types of wire formats and of text: GUIDs, open enums, sizes.
//!
//! - [`entries`]: lists in the value of an option.
//! - [`guid`]: GUIDs of interfaces and instances.
//! - `hash`: a hash for identities.
//! - [`printable`]: makes text from guests, images and peers safe for a terminal.
//! - [`size`]: sizes with units, such as `256MiB`.

pub mod entries;
pub mod guid;
pub(crate) mod hash;
pub mod printable;
pub mod size;

/// Returns `N` bytes at `at`. The caller guarantees that they exist.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Declares a structure of a protocol or of guest memory: plain data whose size is fixed.
///
/// ```text
/// wire! { 8,
/// /// What it is.
/// pub struct Name {
///     /// What it holds.
///     pub field: u64,
/// }}
/// ```
macro_rules! wire {
    ($size:expr, $(#[$attribute:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $(#[$attribute])*
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

/// Declares a number of a protocol that has names for some of its values. Unknown values are kept.
///
/// The name of a value is the constant's, unless a text follows the value. The text after the type is for values
/// without a name. After it, `names of the crate` hides the constants from users of the library.
///
/// ```text
/// open_enum! {
/// /// What it is.
/// Name: u16, "name {:#x}";
///     /// What it means.
///     FIRST = 1;
///     SECOND = 2, "the second";
/// }
/// ```
macro_rules! open_enum {
    (@name $constant:ident) => { stringify!($constant) };
    (@name $constant:ident $text:literal) => { $text };
    ($(#[$attribute:meta])* $name:ident: $inner:ty, $unknown:literal; $($constants:tt)*) => {
        $crate::wire::open_enum! { @define pub, $(#[$attribute])* $name: $inner, $unknown; $($constants)* }
    };
    ($(#[$attribute:meta])* $name:ident: $inner:ty, $unknown:literal, names of the crate; $($constants:tt)*) => {
        $crate::wire::open_enum! { @define pub(crate), $(#[$attribute])* $name: $inner, $unknown; $($constants)* }
    };
    (
        @define $visibility:vis, $(#[$attribute:meta])* $name:ident: $inner:ty, $unknown:literal;
        $($(#[$doc:meta])* $constant:ident = $value:literal $(, $text:literal)?;)*
    ) => {
        $(#[$attribute])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        #[allow(missing_docs, reason = "a name without a description is the protocol's own")]
        impl $name {
            $($(#[$doc])* $visibility const $constant: Self = Self($value);)*
            /// The values that have names.
            #[allow(dead_code, reason = "not every list is used")]
            pub(crate) const ALL: &[Self] = &[$(Self::$constant),*];

            /// Returns the name of the value, if it has one.
            pub(crate) const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($crate::wire::open_enum!(@name $constant $($text)?)),)*
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

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
