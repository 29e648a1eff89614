//! The parameters of the implemented hypercalls, as they are in memory.
//!
//! Fields that the TLFS calls padding are ignored. Those that it calls RsvdZ are named `reserved` and checked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::hyperv::message::{MAX_PAYLOAD, MessageType};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{ConnectionId, PartitionId, VpIndex};

macro_rules! wire {
    ($($(#[$doc:meta])* struct $name:ident($size:literal) { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $kind,)*
            }
            const _: () = assert!(size_of::<$name>() == $size);
        )*
    };
}

/// `HV_INPUT_VTL`. Guests have only VTL 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct InputVtl(pub u8);

impl InputVtl {
    /// Checks that the VTL is 0.
    ///
    /// # Errors
    /// Returns an error for another VTL, or if a reserved bit is set.
    pub fn check(self) -> HvResult<()> {
        // Bit 4 makes the target in bits 0 to 3 valid.
        if self.0 & !0x10 == 0 { Ok(()) } else { Err(HvStatus::INVALID_PARAMETER) }
    }
}

wire! {
    /// Input of HvCallPostMessage.
    struct PostMessage(256) {
        /// The connection.
        connection_id: ConnectionId,
        /// Padding.
        padding: u32,
        /// The type; not zero, and not one of the hypervisor's own.
        message_type: MessageType,
        /// Length of the payload in bytes.
        payload_size: u32,
        /// The payload.
        payload: [u8; MAX_PAYLOAD],
    }

    /// Input of HvCallSignalEvent.
    struct SignalEvent(8) {
        /// The connection.
        connection_id: ConnectionId,
        /// The flag of the port.
        flag_number: u16,
        /// Must be zero.
        reserved: u16,
    }

    /// Input of HvCallNotifyLongSpinWait.
    struct NotifyLongSpinWait(8) {
        /// Number of spins.
        spin_count: u32,
        /// Not checked, because the call cannot fail.
        reserved: u32,
    }

    /// Input of HvCallSendSyntheticClusterIpi.
    struct SendSyntheticClusterIpi(16) {
        /// Vector, 16 to 255.
        vector: u32,
        /// VTL 0.
        target_vtl: InputVtl,
        /// Must be zero, as with KVM.
        reserved: [u8; 3],
        /// One bit for each of VPs 0 to 63.
        processor_mask: u64,
    }

    /// Header of HvCallSendSyntheticClusterIpiEx; the set's banks follow.
    struct SendSyntheticClusterIpiEx(24) {
        /// Vector, 16 to 255.
        vector: u32,
        /// VTL 0.
        target_vtl: InputVtl,
        /// Padding.
        padding: [u8; 3],
        /// The set's format.
        format: u64,
        /// The banks that follow.
        valid_banks: u64,
    }

    /// Input of HvCallFlushVirtualAddressSpace, header of HvCallFlushVirtualAddressList.
    struct Flush(24) {
        /// CR3.
        address_space: u64,
        /// `HV_FLUSH_*`.
        flags: FlushFlags,
        /// One bit for each of VPs 0 to 63.
        processor_mask: u64,
    }

    /// Header of the flushes' Ex forms; the set's banks follow.
    struct FlushEx(32) {
        /// CR3.
        address_space: u64,
        /// `HV_FLUSH_*`.
        flags: FlushFlags,
        /// The set's format.
        format: u64,
        /// The banks that follow.
        valid_banks: u64,
    }

    /// Header of HvCallGetVpRegisters and HvCallSetVpRegisters.
    struct VpRegisters(16) {
        /// The caller's own partition.
        partition_id: PartitionId,
        /// The VP whose registers are accessed.
        vp_index: VpIndex,
        /// VTL 0.
        target_vtl: InputVtl,
        /// Must be zero.
        reserved: [u8; 3],
    }

    /// List element of HvCallSetVpRegisters.
    struct RegisterAssignment(32) {
        /// The register.
        name: u32,
        /// Must be zero.
        reserved: [u32; 3],
        /// Its new value.
        value: [u64; 2],
    }

    /// Header of HvCallGetVpIndexFromApicId.
    struct GetVpIndexFromApicId(16) {
        /// The caller's own partition.
        partition_id: PartitionId,
        /// VTL 0.
        target_vtl: InputVtl,
        /// Padding.
        padding: [u8; 7],
    }

    /// Input of HvCallStartVirtualProcessor.
    struct StartVirtualProcessor(240) {
        /// The caller's own partition.
        partition_id: PartitionId,
        /// The VP to start.
        vp_index: VpIndex,
        /// VTL 0.
        target_vtl: InputVtl,
        /// Padding.
        padding: [u8; 3],
        /// Its initial state.
        context: InitialVpContext,
    }

    /// `HV_INITIAL_VP_CONTEXT`.
    struct InitialVpContext(224) {
        /// RIP.
        rip: u64,
        /// RSP.
        rsp: u64,
        /// RFLAGS.
        rflags: u64,
        /// CS.
        cs: SegmentRegister,
        /// DS.
        ds: SegmentRegister,
        /// ES.
        es: SegmentRegister,
        /// FS.
        fs: SegmentRegister,
        /// GS.
        gs: SegmentRegister,
        /// SS.
        ss: SegmentRegister,
        /// The task register.
        tr: SegmentRegister,
        /// The local descriptor table's register.
        ldtr: SegmentRegister,
        /// The interrupt descriptor table.
        idtr: TableRegister,
        /// The global descriptor table.
        gdtr: TableRegister,
        /// EFER.
        efer: u64,
        /// CR0.
        cr0: u64,
        /// CR3.
        cr3: u64,
        /// CR4.
        cr4: u64,
        /// The page attribute table.
        pat: u64,
    }

    /// `HV_X64_SEGMENT_REGISTER`.
    struct SegmentRegister(16) {
        /// Base.
        base: u64,
        /// Limit.
        limit: u32,
        /// Selector.
        selector: u16,
        /// Type, S, DPL and P in the low byte; AVL, L, D/B and G in the high four bits.
        attributes: u16,
    }

    /// `HV_X64_TABLE_REGISTER`.
    struct TableRegister(16) {
        /// Padding.
        padding: [u16; 3],
        /// Limit.
        limit: u16,
        /// Base.
        base: u64,
    }

    /// A range of HvExtCallGetBootZeroedMemory, in pages.
    struct ZeroedRange(16) {
        /// First page.
        start: u64,
        /// Number of pages.
        count: u64,
    }

    /// Output of HvExtCallGetBootZeroedMemory.
    struct BootZeroedMemory(4088) {
        /// Number of valid ranges.
        count: u64,
        /// The ranges.
        ranges: [ZeroedRange; MAX_ZEROED_RANGES],
    }
}

/// Maximum number of ranges that HvExtCallGetBootZeroedMemory can return.
pub const MAX_ZEROED_RANGES: usize = 255;

/// `HV_FLUSH_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct FlushFlags(pub u64);

impl FlushFlags {
    /// Flush on all VPs.
    pub const ALL_PROCESSORS: u64 = 1;
    /// Flush in all address spaces.
    pub const ALL_VIRTUAL_ADDRESS_SPACES: u64 = 2;
    /// Keep global mappings. Invalid for a list.
    pub const NON_GLOBAL_MAPPINGS_ONLY: u64 = 4;
}
