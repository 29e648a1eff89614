//! The parameters of the implemented hypercalls, as they are in memory.
//!
//! Fields that the TLFS calls padding are ignored. Those that it calls RsvdZ are named `reserved` and checked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::hyperv::message::{MAX_PAYLOAD, MessageType};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{ConnectionId, PartitionId, VpIndex};
use crate::wire::wire;

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

wire! { 256,
/// Input of HvCallPostMessage.
pub struct PostMessage {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Padding.
    pub padding: u32,
    /// The type; not zero, and not one of the hypervisor's own.
    pub message_type: MessageType,
    /// Length of the payload in bytes.
    pub payload_size: u32,
    /// The payload.
    pub payload: [u8; MAX_PAYLOAD],
}}

wire! { 8,
/// Input of HvCallSignalEvent.
pub struct SignalEvent {
    /// The connection.
    pub connection_id: ConnectionId,
    /// The flag of the port.
    pub flag_number: u16,
    /// Must be zero.
    pub reserved: u16,
}}

wire! { 8,
/// Input of HvCallNotifyLongSpinWait.
pub struct NotifyLongSpinWait {
    /// Number of spins.
    pub spin_count: u32,
    /// Not checked, because the call cannot fail.
    pub reserved: u32,
}}

wire! { 16,
/// Input of HvCallSendSyntheticClusterIpi.
pub struct SendSyntheticClusterIpi {
    /// Vector, 16 to 255.
    pub vector: u32,
    /// VTL 0.
    pub target_vtl: InputVtl,
    /// Must be zero, as with KVM.
    pub reserved: [u8; 3],
    /// One bit for each of VPs 0 to 63.
    pub processor_mask: u64,
}}

wire! { 24,
/// Header of HvCallSendSyntheticClusterIpiEx; the set's banks follow.
pub struct SendSyntheticClusterIpiEx {
    /// Vector, 16 to 255.
    pub vector: u32,
    /// VTL 0.
    pub target_vtl: InputVtl,
    /// Padding.
    pub padding: [u8; 3],
    /// The set's format.
    pub format: u64,
    /// The banks that follow.
    pub valid_banks: u64,
}}

wire! { 24,
/// Input of HvCallFlushVirtualAddressSpace, header of HvCallFlushVirtualAddressList.
pub struct Flush {
    /// CR3.
    pub address_space: u64,
    /// `HV_FLUSH_*`.
    pub flags: FlushFlags,
    /// One bit for each of VPs 0 to 63.
    pub processor_mask: u64,
}}

wire! { 32,
/// Header of the flushes' Ex forms; the set's banks follow.
pub struct FlushEx {
    /// CR3.
    pub address_space: u64,
    /// `HV_FLUSH_*`.
    pub flags: FlushFlags,
    /// The set's format.
    pub format: u64,
    /// The banks that follow.
    pub valid_banks: u64,
}}

wire! { 16,
/// Header of HvCallGetVpRegisters and HvCallSetVpRegisters.
pub struct VpRegisters {
    /// The caller's own partition.
    pub partition_id: PartitionId,
    /// The VP whose registers are accessed.
    pub vp_index: VpIndex,
    /// VTL 0.
    pub target_vtl: InputVtl,
    /// Must be zero.
    pub reserved: [u8; 3],
}}

wire! { 32,
/// List element of HvCallSetVpRegisters.
pub struct RegisterAssignment {
    /// The register.
    pub name: u32,
    /// Must be zero.
    pub reserved: [u32; 3],
    /// Its new value.
    pub value: [u64; 2],
}}

wire! { 16,
/// Header of HvCallGetVpIndexFromApicId.
pub struct GetVpIndexFromApicId {
    /// The caller's own partition.
    pub partition_id: PartitionId,
    /// VTL 0.
    pub target_vtl: InputVtl,
    /// Padding.
    pub padding: [u8; 7],
}}

wire! { 240,
/// Input of HvCallStartVirtualProcessor.
pub struct StartVirtualProcessor {
    /// The caller's own partition.
    pub partition_id: PartitionId,
    /// The VP to start.
    pub vp_index: VpIndex,
    /// VTL 0.
    pub target_vtl: InputVtl,
    /// Padding.
    pub padding: [u8; 3],
    /// Its initial state.
    pub context: InitialVpContext,
}}

wire! { 224,
/// `HV_INITIAL_VP_CONTEXT`.
pub struct InitialVpContext {
    /// RIP.
    pub rip: u64,
    /// RSP.
    pub rsp: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CS.
    pub cs: SegmentRegister,
    /// DS.
    pub ds: SegmentRegister,
    /// ES.
    pub es: SegmentRegister,
    /// FS.
    pub fs: SegmentRegister,
    /// GS.
    pub gs: SegmentRegister,
    /// SS.
    pub ss: SegmentRegister,
    /// The task register.
    pub tr: SegmentRegister,
    /// The local descriptor table's register.
    pub ldtr: SegmentRegister,
    /// The interrupt descriptor table.
    pub idtr: TableRegister,
    /// The global descriptor table.
    pub gdtr: TableRegister,
    /// EFER.
    pub efer: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// The page attribute table.
    pub pat: u64,
}}

wire! { 16,
/// `HV_X64_SEGMENT_REGISTER`.
pub struct SegmentRegister {
    /// Base.
    pub base: u64,
    /// Limit.
    pub limit: u32,
    /// Selector.
    pub selector: u16,
    /// Type, S, DPL and P in the low byte; AVL, L, D/B and G in the high four bits.
    pub attributes: u16,
}}

wire! { 16,
/// `HV_X64_TABLE_REGISTER`.
pub struct TableRegister {
    /// Padding.
    pub padding: [u16; 3],
    /// Limit.
    pub limit: u16,
    /// Base.
    pub base: u64,
}}

wire! { 16,
/// A range of HvExtCallGetBootZeroedMemory, in pages.
pub struct ZeroedRange {
    /// First page.
    pub start: u64,
    /// Number of pages.
    pub count: u64,
}}

wire! { 4088,
/// Output of HvExtCallGetBootZeroedMemory.
pub struct BootZeroedMemory {
    /// Number of valid ranges.
    pub count: u64,
    /// The ranges.
    pub ranges: [ZeroedRange; MAX_ZEROED_RANGES],
}}

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
