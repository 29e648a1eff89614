//! The table of features.

use super::Support::{self, Kvm, Never, OptIn, Ours, WhereFaster};
use super::Word::{self, CallPrivileges, Hardware, Hints, Nested, RegisterPrivileges};

const NOT_A_CHILD: &str = "belongs to a parent partition";
const ONE_LEVEL: &str = "there is one virtual trust level and no nested hypervisor";
const DEBUGGER: &str = "there is no hypervisor debugger";
const HOST_HARDWARE: &str = "describes the parent's hardware, which a child need not know";
const APIC_IN_KERNEL: &str = "each use exits to user space, but the APIC's own registers are answered in the kernel";
const EOI_EXITS: &str =
    "an EOI through it exits to user space, and on this host the APIC's own EOI costs little or nothing";
const IDLE_SPINS: &str = "KVM wakes a VP only for interrupts that it may take, so the read returns at once";
const NOT_RECOMMENDED: &str = "Hyper-V itself does not recommend it to a guest of this kind";

macro_rules! features {
    ($(
        $name:ident, $word:path, $bit:literal, user $user:expr, kernel $kernel:expr $(, needs $($needed:ident)+)?;
    )*) => {
        /// A privilege, feature or hint, by its TLFS name.
        #[allow(missing_docs, reason = "the names are the specification's")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Feature {
            $($name,)*
        }

        impl Feature {
            /// All features that have a name, in the order of their leaves and bits.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the TLFS name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Returns the CPUID register that shows it.
            pub(crate) const fn word(self) -> Word {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// Returns its bit in that register.
            pub(crate) const fn bit(self) -> u32 {
                match self {
                    $(Self::$name => $bit,)*
                }
            }

            /// Returns the user engine's support for it.
            pub(super) const fn on_user_engine(self) -> Support {
                match self {
                    $(Self::$name => $user,)*
                }
            }

            /// Returns the kernel engine's support for it.
            pub(super) const fn on_kernel_engine(self) -> Support {
                match self {
                    $(Self::$name => $kernel,)*
                }
            }

            /// Returns the features that it depends on.
            pub(crate) const fn needs(self) -> &'static [Self] {
                match self {
                    $(Self::$name => &[$($(Self::$needed),+)?],)*
                }
            }
        }
    };
}

features! {
    AccessVpRunTimeReg, RegisterPrivileges, 0, user Ours, kernel Kvm;
    AccessPartitionReferenceCounter, RegisterPrivileges, 1, user Ours, kernel Kvm;
    AccessSynicRegs, RegisterPrivileges, 2, user Ours, kernel Kvm;
    AccessSyntheticTimerRegs, RegisterPrivileges, 3, user Ours, kernel Kvm, needs AccessPartitionReferenceCounter;
    AccessIntrCtrlRegs, RegisterPrivileges, 4, user Ours, kernel Kvm;
    AccessHypercallMsrs, RegisterPrivileges, 5, user Ours, kernel Kvm;
    AccessVpIndex, RegisterPrivileges, 6, user Ours, kernel Kvm;
    AccessResetReg, RegisterPrivileges, 7, user Ours, kernel Kvm;
    AccessStatsReg, RegisterPrivileges, 8, user Never("there are no statistics pages"),
        kernel Never("there are no statistics pages");
    AccessPartitionReferenceTsc, RegisterPrivileges, 9, user Ours, kernel Kvm, needs AccessPartitionReferenceCounter;
    AccessGuestIdleReg, RegisterPrivileges, 10,
        user OptIn(IDLE_SPINS), kernel OptIn(IDLE_SPINS);
    AccessFrequencyRegs, RegisterPrivileges, 11, user Ours, kernel Kvm;
    AccessReenlightenmentControls, RegisterPrivileges, 13, user Ours, kernel Kvm;
    AccessTscInvariantControls, RegisterPrivileges, 15,
        user OptIn("a Linux that has it prefers the TSC itself to the Hyper-V clock"),
        kernel OptIn("a Linux that has it prefers the TSC itself to the Hyper-V clock");

    CreatePartitions, CallPrivileges, 0, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    AccessPartitionId, CallPrivileges, 1, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    AccessMemoryPool, CallPrivileges, 2, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    PostMessages, CallPrivileges, 4, user Ours, kernel Kvm, needs AccessHypercallMsrs;
    SignalEvents, CallPrivileges, 5, user Ours, kernel Kvm, needs AccessHypercallMsrs;
    CreatePort, CallPrivileges, 6, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    ConnectPort, CallPrivileges, 7, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    AccessStats, CallPrivileges, 8, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    Debugging, CallPrivileges, 11, user Never(DEBUGGER), kernel Never(DEBUGGER);
    CpuManagement, CallPrivileges, 12, user Never("a Linux that has it takes itself for the root partition"),
        kernel Never("a Linux that has it takes itself for the root partition");
    AccessVsm, CallPrivileges, 16, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    AccessVpRegisters, CallPrivileges, 17, user Ours, kernel Ours, needs AccessHypercallMsrs;
    EnableExtendedHypercalls, CallPrivileges, 20, user Ours, kernel Ours, needs AccessHypercallMsrs;
    StartVirtualProcessor, CallPrivileges, 21, user Ours, kernel Ours, needs AccessHypercallMsrs;
    Isolation, CallPrivileges, 22, user Never("the guest's memory is not hidden from us"),
        kernel Never("the guest's memory is not hidden from us");

    GuestDebuggingAvailable, Word::Features, 1, user Never(DEBUGGER), kernel Never(DEBUGGER);
    PerformanceMonitorsAvailable, Word::Features, 2, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    CpuDynamicPartitioningAvailable, Word::Features, 3, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    XmmRegistersForFastHypercallAvailable, Word::Features, 4, user Ours, kernel Kvm, needs AccessHypercallMsrs;
    GuestIdleAvailable, Word::Features, 5,
        user OptIn(IDLE_SPINS), kernel OptIn(IDLE_SPINS), needs AccessGuestIdleReg;
    HypervisorSleepStateSupportAvailable, Word::Features, 6, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    NumaDistanceQueryAvailable, Word::Features, 7, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    FrequencyRegsAvailable, Word::Features, 8, user Ours, kernel Kvm, needs AccessFrequencyRegs;
    SyntheticMachineCheckAvailable, Word::Features, 9, user Never("there are no machine checks to inject"),
        kernel Never("there are no machine checks to inject");
    GuestCrashRegsAvailable, Word::Features, 10, user Ours, kernel Ours;
    DebugRegsAvailable, Word::Features, 11, user Never(DEBUGGER), kernel Never(DEBUGGER);
    Npiep1Available, Word::Features, 12, user Never("KVM offers UMIP for that"), kernel Never("KVM offers UMIP for that");
    DisableHypervisorAvailable, Word::Features, 13, user Never("a guest cannot turn its hypervisor off"),
        kernel Never("a guest cannot turn its hypervisor off");
    ExtendedGvaRangesForFlushVirtualAddressListAvailable, Word::Features, 14,
        user Never("flushes are not offered"), kernel Never("KVM does not say that it knows the extended ranges");
    FastHypercallOutputAvailable, Word::Features, 15, user Ours, kernel Ours, needs AccessHypercallMsrs;
    SintPollingModeAvailable, Word::Features, 17, user Ours, kernel Never("KVM raises the interrupt all the same"),
        needs AccessSynicRegs;
    HypercallMsrLockAvailable, Word::Features, 18, user Ours, kernel Ours, needs AccessHypercallMsrs;
    DirectSyntheticTimers, Word::Features, 19, user Ours, kernel Kvm, needs AccessSyntheticTimerRegs;
    RegisterPatAvailable, Word::Features, 20, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    RegisterBndcfgsAvailable, Word::Features, 21, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    SyntheticTimeUnhaltedTimerAvailable, Word::Features, 23, user Never("unhalted time is not counted"),
        kernel Never("unhalted time is not counted");
    LbrAvailable, Word::Features, 26, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);

    UseHypercallForAddressSpaceSwitch, Hints, 0, user Never(NOT_RECOMMENDED), kernel Never(NOT_RECOMMENDED);
    UseHypercallForLocalFlush, Hints, 1, user Never(NOT_RECOMMENDED), kernel Never(NOT_RECOMMENDED);
    UseHypercallForRemoteFlushAndLocalFlushEntire, Hints, 2,
        user Never("user space cannot flush a running VP's TLB"), kernel Kvm, needs AccessHypercallMsrs AccessVpIndex;
    UseApicMsrs, Hints, 3, user WhereFaster(EOI_EXITS), kernel Kvm, needs AccessIntrCtrlRegs;
    UseHvRegisterForReset, Hints, 4, user Ours, kernel Ours, needs AccessResetReg;
    UseRelaxedTiming, Hints, 5, user Ours, kernel Kvm;
    UseDmaRemapping, Hints, 6, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    UseInterruptRemapping, Hints, 7, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    DeprecateAutoEoi, Hints, 9, user Ours, kernel Ours;
    UseSyntheticClusterIpi, Hints, 10, user OptIn(APIC_IN_KERNEL), kernel Kvm, needs AccessHypercallMsrs AccessVpIndex;
    UseExProcessorMasks, Hints, 11, user Ours, kernel Kvm, needs AccessHypercallMsrs AccessVpIndex;
    IsNested, Hints, 12, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    UseIntForMbecSystemCalls, Hints, 13, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    UseVmcsEnlightenments, Hints, 14, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    UseSyncedTimeline, Hints, 15, user Never(NOT_A_CHILD), kernel Never(NOT_A_CHILD);
    UseDirectLocalFlushEntire, Hints, 17, user Never(NOT_RECOMMENDED), kernel Never(NOT_RECOMMENDED);
    NoNonArchitecturalCoreSharing, Hints, 18, user Never("VPs are not pinned to cores"), kernel Kvm;

    ApicOverlayAssistInUse, Hardware, 0, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    MsrBitmapsInUse, Hardware, 1, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    ArchitecturalPerformanceCountersInUse, Hardware, 2, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    SecondLevelAddressTranslationInUse, Hardware, 3, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    DmaRemappingInUse, Hardware, 4, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    InterruptRemappingInUse, Hardware, 5, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    MemoryPatrolScrubberPresent, Hardware, 6, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    DmaProtectionInUse, Hardware, 7, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    HpetRequested, Hardware, 8, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);
    SyntheticTimersVolatile, Hardware, 9, user Never(HOST_HARDWARE), kernel Never(HOST_HARDWARE);

    DirectVirtualFlush, Nested, 17, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    FlushGuestPhysicalAddressSpace, Nested, 18, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    EnlightenedMsrBitmap, Nested, 19, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
    EnlightenedTlb, Nested, 22, user Never(ONE_LEVEL), kernel Never(ONE_LEVEL);
}

// A set of features is a 128-bit word.
const _: () = assert!(Feature::ALL.len() <= 128);
