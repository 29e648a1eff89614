//! The synthetic MSRs: their numbers, names and required privileges.
//!
//! [`Msr::decode`] converts an MSR number; [`super::vp`] and [`super::partition`] handle the access.

use std::fmt;

use super::features::{Feature, Features};
use super::types::{SINT_COUNT, SintIndex, TIMER_COUNT, TimerIndex};

/// First MSR number of the hypervisor's range.
pub const FIRST: u32 = 0x4000_0000;
/// Number of MSRs in the range; the rest of 0x4000xxxx is not handled here.
pub const COUNT: u32 = 0x1000;

/// A local APIC register with an MSR of its own (TLFS, "Local APIC MSR Accesses").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicRegister {
    /// End of interrupt.
    Eoi,
    /// Interrupt command, both halves.
    Icr,
    /// Task priority.
    Tpr,
}

/// A synthetic MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Msr {
    GuestOsId,
    Hypercall,
    VpIndex,
    Reset,
    VpRuntime,
    TimeRefCount,
    ReferenceTsc,
    TscFrequency,
    ApicFrequency,
    Apic(ApicRegister),
    VpAssistPage,
    Scontrol,
    Sversion,
    Siefp,
    Simp,
    Eom,
    Sint(SintIndex),
    StimerConfig(TimerIndex),
    StimerCount(TimerIndex),
    GuestIdle,
    /// CRASH_P0 to CRASH_P4.
    CrashParameter(CrashParameter),
    CrashControl,
    ReenlightenmentControl,
    TscEmulationControl,
    TscEmulationStatus,
    TscInvariantControl,
}

/// One of the five crash parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashParameter(u8);

impl CrashParameter {
    /// Returns its number, below [`CRASH_PARAMETERS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Number of crash parameters.
pub const CRASH_PARAMETERS: usize = 5;

const SINT0: u32 = 0x4000_0090;
const STIMER0_CONFIG: u32 = 0x4000_00b0;
const CRASH_P0: u32 = 0x4000_0100;

impl Msr {
    /// Returns the MSR with this number, if it is a synthetic MSR.
    pub fn decode(number: u32) -> Option<Self> {
        Some(match number {
            0x4000_0000 => Self::GuestOsId,
            0x4000_0001 => Self::Hypercall,
            0x4000_0002 => Self::VpIndex,
            0x4000_0003 => Self::Reset,
            0x4000_0010 => Self::VpRuntime,
            0x4000_0020 => Self::TimeRefCount,
            0x4000_0021 => Self::ReferenceTsc,
            0x4000_0022 => Self::TscFrequency,
            0x4000_0023 => Self::ApicFrequency,
            0x4000_0070 => Self::Apic(ApicRegister::Eoi),
            0x4000_0071 => Self::Apic(ApicRegister::Icr),
            0x4000_0072 => Self::Apic(ApicRegister::Tpr),
            0x4000_0073 => Self::VpAssistPage,
            0x4000_0080 => Self::Scontrol,
            0x4000_0081 => Self::Sversion,
            0x4000_0082 => Self::Siefp,
            0x4000_0083 => Self::Simp,
            0x4000_0084 => Self::Eom,
            SINT0..=0x4000_009f => Self::Sint(SintIndex::new((number - SINT0) as u8)?),
            STIMER0_CONFIG..=0x4000_00b7 => {
                let timer = TimerIndex::new(((number - STIMER0_CONFIG) / 2) as u8)?;
                if number.is_multiple_of(2) { Self::StimerConfig(timer) } else { Self::StimerCount(timer) }
            }
            0x4000_00f0 => Self::GuestIdle,
            CRASH_P0..=0x4000_0104 => Self::CrashParameter(CrashParameter((number - CRASH_P0) as u8)),
            0x4000_0105 => Self::CrashControl,
            0x4000_0106 => Self::ReenlightenmentControl,
            0x4000_0107 => Self::TscEmulationControl,
            0x4000_0108 => Self::TscEmulationStatus,
            0x4000_0118 => Self::TscInvariantControl,
            _ => return None,
        })
    }

    /// Returns all MSRs, ordered by number.
    pub fn all() -> impl Iterator<Item = (u32, Self)> {
        (FIRST..FIRST + COUNT).filter_map(|number| Some((number, Self::decode(number)?)))
    }

    /// Returns the privilege or feature that an access requires.
    pub const fn requires(self) -> Feature {
        match self {
            Self::GuestOsId | Self::Hypercall => Feature::AccessHypercallMsrs,
            Self::VpIndex => Feature::AccessVpIndex,
            Self::Reset => Feature::AccessResetReg,
            Self::VpRuntime => Feature::AccessVpRunTimeReg,
            Self::TimeRefCount => Feature::AccessPartitionReferenceCounter,
            Self::ReferenceTsc => Feature::AccessPartitionReferenceTsc,
            Self::TscFrequency | Self::ApicFrequency => Feature::AccessFrequencyRegs,
            Self::Apic(_) | Self::VpAssistPage => Feature::AccessIntrCtrlRegs,
            Self::Scontrol | Self::Sversion | Self::Siefp | Self::Simp | Self::Eom | Self::Sint(_) => {
                Feature::AccessSynicRegs
            }
            Self::StimerConfig(_) | Self::StimerCount(_) => Feature::AccessSyntheticTimerRegs,
            Self::GuestIdle => Feature::AccessGuestIdleReg,
            Self::CrashParameter(_) | Self::CrashControl => Feature::GuestCrashRegsAvailable,
            Self::ReenlightenmentControl | Self::TscEmulationControl | Self::TscEmulationStatus => {
                Feature::AccessReenlightenmentControls
            }
            Self::TscInvariantControl => Feature::AccessTscInvariantControls,
        }
    }

    /// Returns `true` if a guest with these features may access it.
    pub const fn is_accessible(self, features: Features) -> bool {
        features.has(self.requires())
    }

    /// Returns `true` if it is shared by all VPs.
    pub const fn is_partition_wide(self) -> bool {
        matches!(
            self,
            Self::GuestOsId
                | Self::Hypercall
                | Self::Reset
                | Self::TimeRefCount
                | Self::ReferenceTsc
                | Self::TscFrequency
                | Self::ApicFrequency
                | Self::CrashParameter(_)
                | Self::CrashControl
                | Self::ReenlightenmentControl
                | Self::TscEmulationControl
                | Self::TscEmulationStatus
                | Self::TscInvariantControl
        )
    }

    /// Returns the register with this name in HvCallGetVpRegisters and HvCallSetVpRegisters.
    ///
    /// A guest may access only registers that it can also access by MSR.
    pub fn from_register_name(name: u32) -> Option<Self> {
        Some(match name {
            0x0009_0000 => Self::VpRuntime,
            0x0009_0001 => Self::Hypercall,
            0x0009_0002 => Self::GuestOsId,
            0x0009_0003 => Self::VpIndex,
            0x0009_0004 => Self::TimeRefCount,
            0x0009_0013 => Self::VpAssistPage,
            0x0009_0017 => Self::ReferenceTsc,
            0x000a_0000..=0x000a_000f => Self::Sint(SintIndex::new(name as u8)?),
            0x000a_0010 => Self::Scontrol,
            0x000a_0011 => Self::Sversion,
            0x000a_0012 => Self::Siefp,
            0x000a_0013 => Self::Simp,
            0x000a_0014 => Self::Eom,
            0x000b_0000..=0x000b_0007 => {
                let timer = TimerIndex::new((name as u8) / 2)?;
                if name.is_multiple_of(2) { Self::StimerConfig(timer) } else { Self::StimerCount(timer) }
            }
            0x0000_0210..=0x0000_0214 => Self::CrashParameter(CrashParameter(name as u8 & 0xf)),
            0x0000_0215 => Self::CrashControl,
            _ => return None,
        })
    }
}

/// `HV_X64_MSR_` and the register's name.
impl fmt::Display for Msr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuestOsId => f.write_str("GUEST_OS_ID"),
            Self::Hypercall => f.write_str("HYPERCALL"),
            Self::VpIndex => f.write_str("VP_INDEX"),
            Self::Reset => f.write_str("RESET"),
            Self::VpRuntime => f.write_str("VP_RUNTIME"),
            Self::TimeRefCount => f.write_str("TIME_REF_COUNT"),
            Self::ReferenceTsc => f.write_str("REFERENCE_TSC"),
            Self::TscFrequency => f.write_str("TSC_FREQUENCY"),
            Self::ApicFrequency => f.write_str("APIC_FREQUENCY"),
            Self::Apic(ApicRegister::Eoi) => f.write_str("EOI"),
            Self::Apic(ApicRegister::Icr) => f.write_str("ICR"),
            Self::Apic(ApicRegister::Tpr) => f.write_str("TPR"),
            Self::VpAssistPage => f.write_str("VP_ASSIST_PAGE"),
            Self::Scontrol => f.write_str("SCONTROL"),
            Self::Sversion => f.write_str("SVERSION"),
            Self::Siefp => f.write_str("SIEFP"),
            Self::Simp => f.write_str("SIMP"),
            Self::Eom => f.write_str("EOM"),
            Self::Sint(sint) => write!(f, "{sint}"),
            Self::StimerConfig(timer) => write!(f, "STIMER{}_CONFIG", timer.get()),
            Self::StimerCount(timer) => write!(f, "STIMER{}_COUNT", timer.get()),
            Self::GuestIdle => f.write_str("GUEST_IDLE"),
            Self::CrashParameter(parameter) => write!(f, "CRASH_P{}", parameter.index()),
            Self::CrashControl => f.write_str("CRASH_CTL"),
            Self::ReenlightenmentControl => f.write_str("REENLIGHTENMENT_CONTROL"),
            Self::TscEmulationControl => f.write_str("TSC_EMULATION_CONTROL"),
            Self::TscEmulationStatus => f.write_str("TSC_EMULATION_STATUS"),
            Self::TscInvariantControl => f.write_str("TSC_INVARIANT_CONTROL"),
        }
    }
}

// The decoder above contains these counts as number ranges.
const _: () = assert!(SINT_COUNT == 16 && TIMER_COUNT == 4 && CRASH_PARAMETERS == 5);

#[cfg(test)]
#[path = "msr_tests.rs"]
mod tests;
