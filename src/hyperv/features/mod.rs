//! The features that a guest is offered: privileges, features, hints (TLFS, "Feature and Interface Discovery").
//!
//! One table, [`Feature`], lists every bit of the CPUID leaves 0x40000003, 0x40000004, 0x40000006 and 0x4000000A by its
//! TLFS name. It is used by the leaves, by `--hv +name,-name` and `viridian hv`, and by the checks before an MSR access
//! or a hypercall. [`Offer::new`] computes what the guest of a machine gets: what the engine supports, minus what the
//! host lacks, changed by the user's switches, minus features whose dependencies are missing.

mod offer;
mod switches;
mod table;

use std::fmt;

pub use offer::{EngineKind, Offer, Verdict};
pub use switches::{SwitchError, Switches};
pub use table::Feature;

/// The register of a CPUID leaf in which a feature has its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// 0x40000003 EAX: bits 0 to 31 of `HV_PARTITION_PRIVILEGE_MASK`, access to registers.
    RegisterPrivileges,
    /// 0x40000003 EBX: bits 32 to 63 of `HV_PARTITION_PRIVILEGE_MASK`, access to hypercalls.
    CallPrivileges,
    /// 0x40000003 EDX: features.
    Features,
    /// 0x40000004 EAX: recommendations.
    Hints,
    /// 0x40000006 EAX: hardware that the hypervisor uses.
    Hardware,
    /// 0x4000000A EAX: nested virtualization.
    Nested,
}

impl Word {
    /// All words.
    pub const ALL: [Self; 6] =
        [Self::RegisterPrivileges, Self::CallPrivileges, Self::Features, Self::Hints, Self::Hardware, Self::Nested];

    /// Returns the leaf and the register's name.
    pub const fn place(self) -> (u32, &'static str) {
        match self {
            Self::RegisterPrivileges => (0x4000_0003, "EAX"),
            Self::CallPrivileges => (0x4000_0003, "EBX"),
            Self::Features => (0x4000_0003, "EDX"),
            Self::Hints => (0x4000_0004, "EAX"),
            Self::Hardware => (0x4000_0006, "EAX"),
            Self::Nested => (0x4000_000a, "EAX"),
        }
    }
}

/// An engine's support for a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Viridian implements it.
    Ours,
    /// KVM implements it, if this host's KVM reports it.
    Kvm,
    /// Supported, but off by default; the text gives the reason.
    OptIn(&'static str),
    /// Supported, but off by default where it costs more than it saves; the text gives the reason.
    WhereFaster(&'static str),
    /// Not supported; the text gives the reason.
    Never(&'static str),
}

/// A set of features.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u128);

impl Features {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Returns `true` if the feature is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 != 0
    }

    /// Returns the set with the feature.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// Returns the set without the feature.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u32))
    }

    /// Returns the set's members, in the table's order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().copied().filter(move |feature| self.has(*feature))
    }

    /// Returns the value of a CPUID register for this set.
    pub fn word(self, word: Word) -> u32 {
        self.iter().filter(|feature| feature.word() == word).fold(0, |value, feature| value | 1 << feature.bit())
    }

    /// Returns the set in a CPUID register, without bits that have no name.
    pub fn from_word(word: Word, value: u32) -> Self {
        Feature::ALL
            .iter()
            .filter(|feature| feature.word() == word && value >> feature.bit() & 1 != 0)
            .copied()
            .collect()
    }

    /// Returns the union of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<T: IntoIterator<Item = Feature>>(features: T) -> Self {
        features.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
