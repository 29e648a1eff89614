//! The ids and units of the TLFS as types, so that they cannot be confused.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Size of every page that guest and hypervisor share.
pub const PAGE_SIZE: usize = 4096;
/// The same as a GPA offset.
pub const PAGE_SIZE_64: u64 = PAGE_SIZE as u64;

/// Returns the GPA of the page in which `gpa` lies.
pub const fn page_of(gpa: u64) -> u64 {
    gpa & !(PAGE_SIZE_64 - 1)
}

/// `HV_VP_INDEX`: a virtual processor of the partition.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct VpIndex(pub u32);

impl VpIndex {
    /// `HV_ANY_VP`.
    pub(crate) const ANY: Self = Self(u32::MAX);
    /// `HV_VP_INDEX_SELF`: the calling VP.
    pub(crate) const SELF: Self = Self(u32::MAX - 1);
    /// The partition's first VP.
    pub(crate) const BOOT: Self = Self(0);

    /// Returns the VP that this index names when `caller` uses it.
    pub(crate) fn or_caller(self, caller: VpIndex) -> VpIndex {
        if self == Self::SELF { caller } else { self }
    }
}

impl fmt::Display for VpIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ANY => f.write_str("any VP"),
            Self::SELF => f.write_str("own VP"),
            Self(index) => write!(f, "VP {index}"),
        }
    }
}

/// `HV_CONNECTION_ID`: the guest's name for a port of the parent. The high 8 bits are reserved.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct ConnectionId(pub u32);

impl ConnectionId {
    /// Returns `true` if the reserved bits are zero.
    pub const fn is_valid(self) -> bool {
        self.0 >> 24 == 0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {:#x}", self.0)
    }
}

/// `HV_PARTITION_ID`. A child partition names only itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PartitionId(pub u64);

impl PartitionId {
    /// `HV_PARTITION_ID_SELF`.
    pub(crate) const SELF: Self = Self(u64::MAX);
}

/// Number of synthetic interrupt sources of a VP.
pub const SINT_COUNT: usize = 16;

/// `HV_SYNIC_SINT_INDEX`: one of a VP's sixteen synthetic interrupt sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SintIndex(u8);

impl SintIndex {
    /// The source that carries VMBus messages and interrupts.
    pub const VMBUS: Self = Self(2);

    /// Creates the source of this number, if there is one.
    pub const fn new(index: u8) -> Option<Self> {
        if (index as usize) < SINT_COUNT { Some(Self(index)) } else { None }
    }

    /// Returns the source that the low four bits of a register field name.
    pub const fn from_low_bits(bits: u64) -> Self {
        Self((bits & 0xf) as u8)
    }

    /// Returns its number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns its number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns all sixteen sources.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SINT_COUNT as u8).map(Self)
    }
}

impl fmt::Display for SintIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SINT{}", self.0)
    }
}

/// Number of synthetic timers of a VP.
pub const TIMER_COUNT: usize = 4;

/// One of a VP's four synthetic timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerIndex(u8);

impl TimerIndex {
    /// Creates the timer of this number, if there is one.
    pub const fn new(index: u8) -> Option<Self> {
        if (index as usize) < TIMER_COUNT { Some(Self(index)) } else { None }
    }

    /// Returns its number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns its number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns all four timers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TIMER_COUNT as u8).map(Self)
    }
}

/// An interrupt for the VP's local APIC: edge-triggered, fixed delivery.
///
/// With `auto_eoi`, the hypervisor performs the end-of-interrupt when the VP takes the interrupt (TLFS, "SINTx
/// Registers"). The vector must then not stay in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// The vector, 16 to 255.
    pub vector: u8,
    /// Whether the hypervisor performs the end-of-interrupt.
    pub auto_eoi: bool,
}

/// An exception that the VP gets instead of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// #GP(0).
    GeneralProtection,
    /// #UD.
    UndefinedOpcode,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GeneralProtection => "#GP",
            Self::UndefinedOpcode => "#UD",
        })
    }
}

/// Short name for MSR handlers.
pub(crate) const GP: Fault = Fault::GeneralProtection;
