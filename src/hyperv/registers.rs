//! The bits of the synthetic registers, by their TLFS names.
//!
//! Reserved bits that the TLFS calls RsvdP are kept as written. Those that it calls RsvdZ are checked when the register
//! is written, with the masks defined here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[cfg(test)]
use super::types::VpIndex;
use super::types::{PAGE_SIZE, SintIndex, page_of};

const fn bit(value: u64, number: u32) -> bool {
    value >> number & 1 != 0
}

/// HYPERCALL: the location of the hypercall page (TLFS, "Establishing the Hypercall Interface").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HypercallRegister(pub u64);

impl HypercallRegister {
    /// Returns `true` if the page is shown.
    pub const fn enabled(self) -> bool {
        bit(self.0, 0)
    }

    /// Returns `true` if the register is immutable until reset.
    pub const fn locked(self) -> bool {
        bit(self.0, 1)
    }

    /// Returns the GPA of the page.
    pub const fn gpa(self) -> u64 {
        page_of(self.0)
    }

    /// Returns a copy with the page hidden.
    pub const fn disabled(self) -> Self {
        Self(self.0 & !1)
    }
}

/// SIMP, SIEFP, REFERENCE_TSC and VP_ASSIST_PAGE: the location of an overlay page. Bits 1 to 11 are RsvdP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRegister(pub u64);

impl PageRegister {
    /// Returns `true` if the page is shown.
    pub const fn enabled(self) -> bool {
        bit(self.0, 0)
    }

    /// Returns the GPA of the page.
    pub const fn gpa(self) -> u64 {
        page_of(self.0)
    }
}

/// SINT0 to SINT15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SintRegister(pub u64);

impl SintRegister {
    /// The value at reset: masked.
    pub const RESET: Self = Self(1 << 16);
    /// The lowest vector that a SINT may raise.
    pub const FIRST_VECTOR: u8 = 16;

    /// Returns the vector that the source raises.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Returns `true` if the source is masked.
    pub const fn masked(self) -> bool {
        bit(self.0, 16)
    }

    /// Returns `true` if the hypervisor performs the end-of-interrupt.
    pub const fn auto_eoi(self) -> bool {
        bit(self.0, 17)
    }

    /// Returns `true` if a guest may write this value: a source that raises interrupts must not use the vector of an
    /// exception.
    pub const fn is_valid(self) -> bool {
        self.masked() || self.vector() >= Self::FIRST_VECTOR
    }

    /// Returns `true` if the guest polls: messages and events are delivered, but no interrupt is raised.
    pub const fn polling(self) -> bool {
        bit(self.0, 18)
    }
}

impl Default for SintRegister {
    fn default() -> Self {
        Self::RESET
    }
}

/// STIMER0_CONFIG to STIMER3_CONFIG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerConfig(pub u64);

impl TimerConfig {
    /// Bits that must be zero: 63 to 20 and 15 to 13.
    pub const RESERVED: u64 = !0xf_ffff | 0xe000;

    /// Returns `true` if the timer runs.
    pub const fn enabled(self) -> bool {
        bit(self.0, 0)
    }

    /// Returns `true` if it restarts at each expiration.
    pub const fn periodic(self) -> bool {
        bit(self.0, 1)
    }

    /// Returns `true` if a late expiration is skipped instead of made up for.
    pub const fn lazy(self) -> bool {
        bit(self.0, 2)
    }

    /// Returns `true` if writing a count enables the timer.
    pub const fn auto_enable(self) -> bool {
        bit(self.0, 3)
    }

    /// Returns the vector for direct mode.
    pub const fn vector(self) -> u8 {
        (self.0 >> 4) as u8
    }

    /// Returns `true` if expiration raises [`vector`](Self::vector) instead of sending a message.
    pub const fn direct(self) -> bool {
        bit(self.0, 12)
    }

    /// Returns the source that receives the message.
    pub const fn sint(self) -> SintIndex {
        SintIndex::from_low_bits(self.0 >> 16)
    }

    /// Returns a copy that is enabled or not.
    pub const fn with_enabled(self, enabled: bool) -> Self {
        Self(self.0 & !1 | enabled as u64)
    }
}

/// `HV_CRASH_CTL_REG_CONTENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashControl(pub u64);

impl CrashControl {
    /// The value on reads: CrashNotify and CrashMessage are supported.
    pub const SUPPORTED: Self = Self(0b11 << 62);

    /// Returns `true` if the parameter registers are complete and can be read.
    pub const fn notify(self) -> bool {
        bit(self.0, 63)
    }

    /// Returns `true` if P3 and P4 are the address and the length of a text.
    pub const fn message(self) -> bool {
        bit(self.0, 62)
    }

    /// Returns `true` if the guest will not write a dump itself.
    pub const fn no_crash_dump(self) -> bool {
        bit(self.0, 61)
    }

    /// Returns the place of a crash before the operating system ran, else 0.
    pub const fn pre_os_id(self) -> u8 {
        (self.0 >> 58) as u8 & 7
    }
}

/// `HV_REENLIGHTENMENT_CONTROL`: the interrupt after a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReenlightenmentControl(pub u64);

impl ReenlightenmentControl {
    /// Bits that must be zero: 31 to 17 and 15 to 8.
    pub const RESERVED: u64 = 0xfffe_ff00;

    /// Returns the interrupt's vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Returns `true` if the guest has enabled it.
    pub const fn enabled(self) -> bool {
        bit(self.0, 16)
    }

    /// Returns the VP that receives it.
    #[cfg(test)]
    pub const fn target(self) -> VpIndex {
        VpIndex((self.0 >> 32) as u32)
    }
}

/// `HV_REFERENCE_TSC_PAGE` without its reserved part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReferenceTscPage {
    /// Changes together with scale or offset. With 0, the guest reads TIME_REF_COUNT instead.
    pub sequence: u32,
    /// Zero.
    pub reserved: u32,
    /// 2^64 times the length of a TSC tick in units of 100 ns.
    pub scale: u64,
    /// The offset to add.
    pub offset: i64,
}
const _: () = assert!(size_of::<ReferenceTscPage>() == 24);

/// `HV_VP_ASSIST_PAGE`: the fields that a guest without nested virtualization uses.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VpAssistPage {
    /// `HV_VIRTUAL_APIC_ASSIST`: bit 0 is "No EOI Required". KVM sets it, if the host has a use for it.
    pub apic_assist: u32,
    /// Zero.
    pub reserved: u32,
    /// VTL control, nested enlightenments and fault information, which stay zero.
    pub unused: [u8; PAGE_SIZE - 8],
}
const _: () = assert!(size_of::<VpAssistPage>() == PAGE_SIZE);
