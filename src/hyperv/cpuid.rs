//! The hypervisor's CPUID leaves, 0x40000000 to 0x4000000A (TLFS, "Microsoft Hypervisor CPUID Leaves").

use std::fmt;
use std::str::FromStr;

use super::features::{Features, Word};

/// First hypervisor leaf.
pub const FIRST_LEAF: u32 = 0x4000_0000;
/// Last hypervisor leaf.
pub const LAST_LEAF: u32 = 0x4000_000a;
/// One CPUID leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// The leaf's number: the value of EAX that selects it.
    pub function: u32,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// The hypervisor's version, leaf 0x40000002.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Build number.
    pub build: u32,
}

impl Default for Version {
    /// The version of Windows Server 2022.
    fn default() -> Self {
        Self { major: 10, minor: 0, build: 20348 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// The text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version; write major.minor.build, such as 10.0.20348")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let parse = || {
            let mut parts = text.split('.');
            let major = parts.next()?.parse().ok()?;
            let minor = parts.next()?.parse().ok()?;
            let build = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { major, minor, build })
        };
        parse().ok_or_else(|| VersionError(text.to_owned()))
    }
}

/// The content of the leaves apart from the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Leaf 0x40000002.
    pub version: Version,
    /// Leaf 0x40000005: maximum number of VPs of a partition.
    pub max_vps: u32,
    /// Leaf 0x40000004: number of attempts to take a spinlock before HvCallNotifyLongSpinWait; [`NEVER_NOTIFY`] for
    /// never.
    pub spinlock_retries: u32,
    /// Leaf 0x40000004: width of a physical address in bits, or 0 for unspecified.
    pub physical_address_bits: u8,
}

/// The guest need not report long spins.
pub const NEVER_NOTIFY: u32 = u32::MAX;

impl Default for Identity {
    fn default() -> Self {
        Self { version: Version::default(), max_vps: 64, spinlock_retries: NEVER_NOTIFY, physical_address_bits: 0 }
    }
}

/// Returns the leaves that show `features` and `identity` to a guest, in order and without gaps.
pub fn leaves(features: Features, identity: &Identity) -> Vec<Leaf> {
    (FIRST_LEAF..=LAST_LEAF).map(|function| leaf(function, features, identity)).collect()
}

/// Returns the subject of a hypervisor leaf.
pub const fn leaf_name(function: u32) -> &'static str {
    match function {
        0x4000_0000 => "highest leaf and vendor",
        0x4000_0001 => "interface",
        0x4000_0002 => "version",
        0x4000_0003 => "privileges and features",
        0x4000_0004 => "recommendations",
        0x4000_0005 => "limits",
        0x4000_0006 => "hardware features in use",
        0x4000_000a => "nested virtualization",
        _ => "reserved",
    }
}

/// Returns the features that the leaves of a guest or of KVM show.
pub fn features_in(leaves: &[Leaf]) -> Features {
    let word = |word: Word| {
        let (function, register) = word.place();
        let leaf = leaves.iter().find(|leaf| leaf.function == function).copied().unwrap_or_default();
        let value = match register {
            "EAX" => leaf.eax,
            "EBX" => leaf.ebx,
            _ => leaf.edx,
        };
        Features::from_word(word, value)
    };
    Word::ALL.into_iter().map(word).fold(Features::NONE, Features::union)
}

fn leaf(function: u32, features: Features, identity: &Identity) -> Leaf {
    let empty = Leaf { function, ..Leaf::default() };
    match function {
        0x4000_0000 => {
            let [ebx, ecx, edx] = signature(b"Microsoft Hv");
            Leaf { eax: LAST_LEAF, ebx, ecx, edx, ..empty }
        }
        0x4000_0001 => Leaf { eax: u32::from_le_bytes(*b"Hv#1"), ..empty },
        0x4000_0002 => {
            let Version { major, minor, build } = identity.version;
            Leaf { eax: build, ebx: u32::from(major) << 16 | u32::from(minor), ..empty }
        }
        0x4000_0003 => Leaf {
            eax: features.word(Word::RegisterPrivileges),
            ebx: features.word(Word::CallPrivileges),
            edx: features.word(Word::Features),
            ..empty
        },
        0x4000_0004 => Leaf {
            eax: features.word(Word::Hints),
            ebx: identity.spinlock_retries,
            ecx: u32::from(identity.physical_address_bits & 0x7f),
            ..empty
        },
        0x4000_0005 => Leaf { eax: identity.max_vps, ebx: identity.max_vps, ..empty },
        0x4000_0006 => Leaf { eax: features.word(Word::Hardware), ..empty },
        0x4000_000a => Leaf { eax: features.word(Word::Nested), ..empty },
        _ => empty,
    }
}

fn signature(text: &[u8; 12]) -> [u32; 3] {
    [0, 4, 8].map(|at| u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]))
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
