//! The hypercalls of the TLFS that Viridian implements.

use std::ops::Range;

use zerocopy::FromZeros;

use super::{
    BootZeroedMemory, Call, CallCode, Flush, FlushEx, FlushFlags, GetVpIndexFromApicId, Host, Hypercalls,
    MAX_ZEROED_RANGES, NotifyLongSpinWait, PostMessage, RegisterAssignment, SendSyntheticClusterIpi,
    SendSyntheticClusterIpiEx, SignalEvent, StartVirtualProcessor, VpRegister, VpRegisters, VpSet, ZeroedRange,
    cold_discard,
};
use crate::hyperv::features::Feature;
use crate::hyperv::message::{MAX_PAYLOAD, MessageType};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{PartitionId, VpIndex};

/// HvExtCallQueryCapabilities, bit 0.
const CAN_GET_BOOT_ZEROED_MEMORY: u64 = 1;

/// Registers all of them.
pub(super) fn register(calls: &mut Hypercalls) {
    use CallCode as Code;
    let named = |code: CallCode| code.name().unwrap_or_default();
    let flush = Some(Feature::UseHypercallForRemoteFlushAndLocalFlushEntire);
    let ipi = Some(Feature::UseSyntheticClusterIpi);

    calls.simple(Code::POST_MESSAGE, named(Code::POST_MESSAGE), Some(Feature::PostMessages), post_message);
    calls.simple(Code::SIGNAL_EVENT, named(Code::SIGNAL_EVENT), Some(Feature::SignalEvents), signal_event);
    calls.simple(Code::NOTIFY_LONG_SPIN_WAIT, named(Code::NOTIFY_LONG_SPIN_WAIT), None, notify_long_spin_wait);
    calls.simple(Code::SEND_SYNTHETIC_CLUSTER_IPI, named(Code::SEND_SYNTHETIC_CLUSTER_IPI), ipi, send_ipi);
    calls.simple_variable(
        Code::SEND_SYNTHETIC_CLUSTER_IPI_EX,
        named(Code::SEND_SYNTHETIC_CLUSTER_IPI_EX),
        ipi,
        send_ipi_ex,
    );
    calls.simple(Code::FLUSH_VIRTUAL_ADDRESS_SPACE, named(Code::FLUSH_VIRTUAL_ADDRESS_SPACE), flush, flush_space);
    calls.simple_variable(
        Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
        named(Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX),
        flush,
        flush_space_ex,
    );
    calls.rep(Code::FLUSH_VIRTUAL_ADDRESS_LIST, named(Code::FLUSH_VIRTUAL_ADDRESS_LIST), flush, flush_list);
    calls.rep_variable(
        Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX,
        named(Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX),
        flush,
        flush_list_ex,
    );
    let registers = Some(Feature::AccessVpRegisters);
    calls.rep(Code::GET_VP_REGISTERS, named(Code::GET_VP_REGISTERS), registers, get_register);
    calls.rep(Code::SET_VP_REGISTERS, named(Code::SET_VP_REGISTERS), registers, set_register);
    let start = Some(Feature::StartVirtualProcessor);
    calls.rep(Code::GET_VP_INDEX_FROM_APIC_ID, named(Code::GET_VP_INDEX_FROM_APIC_ID), start, vp_of_apic_id);
    calls.simple(Code::START_VIRTUAL_PROCESSOR, named(Code::START_VIRTUAL_PROCESSOR), start, start_vp);
    let extended = Some(Feature::EnableExtendedHypercalls);
    offer_extended_capabilities(calls, CAN_GET_BOOT_ZEROED_MEMORY);
    calls.simple(
        Code::EXT_GET_BOOT_ZEROED_MEMORY,
        named(Code::EXT_GET_BOOT_ZEROED_MEMORY),
        extended,
        |call: &Call<'_>, (): ()| Ok(boot_zeroed_memory(call.host)),
    );
}

fn offer_extended_capabilities(calls: &mut Hypercalls, capabilities: u64) {
    let code = CallCode::EXT_QUERY_CAPABILITIES;
    let (name, extended) = (code.name().unwrap_or_default(), Some(Feature::EnableExtendedHypercalls));
    calls.simple(code, name, extended, move |_: &Call<'_>, (): ()| Ok(capabilities));
}

impl Hypercalls {
    /// Answers also HvExtCallMemoryHeatHint: `discard` frees a range of guest physical addresses.
    pub(crate) fn offer_cold_discard(
        &mut self,
        discard: impl Fn(Range<u64>) -> std::io::Result<()> + Send + Sync + 'static,
    ) {
        offer_extended_capabilities(self, CAN_GET_BOOT_ZEROED_MEMORY | cold_discard::CAN_DISCARD);
        let code = CallCode::EXT_MEMORY_HEAT_HINT;
        let (name, extended) = (code.name().unwrap_or_default(), Some(Feature::EnableExtendedHypercalls));
        self.rep(code, name, extended, move |_: &Call<'_>, hint: u64, range: u64| -> HvResult<()> {
            discard(cold_discard::addresses(hint, range)?).map_err(|_| HvStatus::OPERATION_FAILED)
        });
    }
}

fn require(condition: bool, otherwise: HvStatus) -> HvResult<()> {
    if condition { Ok(()) } else { Err(otherwise) }
}

fn check_partition(partition: PartitionId) -> HvResult<()> {
    require(partition == PartitionId::SELF, HvStatus::INVALID_PARTITION_ID)
}

fn check_vp(call: &Call<'_>, vp: VpIndex) -> HvResult<VpIndex> {
    let vp = vp.or_caller(call.vp);
    require(vp.0 < call.host.vp_count(), HvStatus::INVALID_VP_INDEX)?;
    Ok(vp)
}

fn post_message(call: &Call<'_>, input: PostMessage) -> HvResult<()> {
    let size = usize::try_from(input.payload_size).unwrap_or(usize::MAX);
    let kind = input.message_type;
    let fits = size <= MAX_PAYLOAD && kind != MessageType::NONE && !kind.is_hypervisor();
    require(fits, HvStatus::INVALID_PARAMETER)?;
    require(input.connection_id.is_valid(), HvStatus::INVALID_CONNECTION_ID)?;
    call.host.post_message(input.connection_id, kind, &input.payload[..size])
}

fn signal_event(call: &Call<'_>, input: SignalEvent) -> HvResult<()> {
    require(input.reserved == 0, HvStatus::INVALID_PARAMETER)?;
    require(input.connection_id.is_valid(), HvStatus::INVALID_CONNECTION_ID)?;
    call.host.signal_event(input.connection_id, input.flag_number)
}

fn notify_long_spin_wait(call: &Call<'_>, input: NotifyLongSpinWait) -> HvResult<()> {
    call.host.long_spin_wait(input.spin_count);
    Ok(())
}

/// Returns the vector of an IPI, 16 to 255. Other vectors get the same status as from KVM.
fn ipi_vector(vector: u32) -> HvResult<u8> {
    u8::try_from(vector).ok().filter(|vector| *vector >= 16).ok_or(HvStatus::INVALID_HYPERCALL_INPUT)
}

fn send_ipi(call: &Call<'_>, input: SendSyntheticClusterIpi) -> HvResult<()> {
    require(input.reserved == [0; 3], HvStatus::INVALID_HYPERCALL_INPUT)?;
    input.target_vtl.check()?;
    call.host.send_interrupt(&VpSet::from_mask(input.processor_mask), ipi_vector(input.vector)?);
    Ok(())
}

fn send_ipi_ex(call: &Call<'_>, input: SendSyntheticClusterIpiEx, banks: &[u64]) -> HvResult<()> {
    check_ex(call)?;
    input.target_vtl.check()?;
    let targets = VpSet::from_generic(input.format, input.valid_banks, banks)?;
    call.host.send_interrupt(&targets, ipi_vector(input.vector)?);
    Ok(())
}

/// Checks that the hint for the Ex forms is offered.
fn check_ex(call: &Call<'_>) -> HvResult<()> {
    require(call.host.features().has(Feature::UseExProcessorMasks), HvStatus::ACCESS_DENIED)
}

fn check_flush(flags: FlushFlags, allowed: u64) -> HvResult<()> {
    require(flags.0 & !allowed == 0, HvStatus::INVALID_PARAMETER)
}

const SPACE_FLAGS: u64 =
    FlushFlags::ALL_PROCESSORS | FlushFlags::ALL_VIRTUAL_ADDRESS_SPACES | FlushFlags::NON_GLOBAL_MAPPINGS_ONLY;
const LIST_FLAGS: u64 = FlushFlags::ALL_PROCESSORS | FlushFlags::ALL_VIRTUAL_ADDRESS_SPACES;

fn flush_targets(input: &Flush) -> VpSet {
    // Windows Server 2012 passes an empty mask for all processors.
    if input.flags.0 & FlushFlags::ALL_PROCESSORS != 0 || input.processor_mask == 0 {
        VpSet::all()
    } else {
        VpSet::from_mask(input.processor_mask)
    }
}

fn flush_targets_ex(call: &Call<'_>, input: &FlushEx, banks: &[u64]) -> HvResult<VpSet> {
    check_ex(call)?;
    let targets = VpSet::from_generic(input.format, input.valid_banks, banks)?;
    Ok(if input.flags.0 & FlushFlags::ALL_PROCESSORS != 0 { VpSet::all() } else { targets })
}

fn flush_space(call: &Call<'_>, input: Flush) -> HvResult<()> {
    check_flush(input.flags, SPACE_FLAGS)?;
    call.host.flush_tlb(&flush_targets(&input))
}

fn flush_space_ex(call: &Call<'_>, input: FlushEx, banks: &[u64]) -> HvResult<()> {
    check_flush(input.flags, SPACE_FLAGS)?;
    call.host.flush_tlb(&flush_targets_ex(call, &input, banks)?)
}

/// Flushes whole TLBs, which includes each range.
fn flush_list(call: &Call<'_>, input: Flush, _range: u64) -> HvResult<()> {
    check_flush(input.flags, LIST_FLAGS)?;
    call.host.flush_tlb(&flush_targets(&input))
}

fn flush_list_ex(call: &Call<'_>, input: FlushEx, banks: &[u64], _range: u64) -> HvResult<()> {
    check_flush(input.flags, LIST_FLAGS)?;
    call.host.flush_tlb(&flush_targets_ex(call, &input, banks)?)
}

fn check_registers(call: &Call<'_>, header: &VpRegisters) -> HvResult<VpIndex> {
    check_partition(header.partition_id)?;
    require(header.reserved == [0; 3], HvStatus::INVALID_PARAMETER)?;
    header.target_vtl.check()?;
    check_vp(call, header.vp_index)
}

fn get_register(call: &Call<'_>, header: VpRegisters, name: u32) -> HvResult<[u64; 2]> {
    let vp = check_registers(call, &header)?;
    let register = VpRegister::from_name(name).ok_or(HvStatus::INVALID_PARAMETER)?;
    let value = call.host.read_register(vp, register)?;
    Ok([value as u64, (value >> 64) as u64])
}

fn set_register(call: &Call<'_>, header: VpRegisters, assignment: RegisterAssignment) -> HvResult<()> {
    let vp = check_registers(call, &header)?;
    require(assignment.reserved == [0; 3], HvStatus::INVALID_PARAMETER)?;
    let Some(VpRegister::Msr(msr)) = VpRegister::from_name(assignment.name) else {
        return Err(HvStatus::INVALID_PARAMETER);
    };
    let [value, beyond] = assignment.value;
    require(beyond == 0, HvStatus::INVALID_REGISTER_VALUE)?;
    call.host.write_register(vp, msr, value)
}

fn vp_of_apic_id(call: &Call<'_>, header: GetVpIndexFromApicId, apic_id: u32) -> HvResult<VpIndex> {
    check_partition(header.partition_id)?;
    header.target_vtl.check()?;
    call.host.vp_of_apic_id(apic_id).ok_or(HvStatus::INVALID_PARAMETER)
}

fn start_vp(call: &Call<'_>, input: StartVirtualProcessor) -> HvResult<()> {
    check_partition(input.partition_id)?;
    input.target_vtl.check()?;
    let vp = check_vp(call, input.vp_index)?;
    // A VP that makes a call has already been started.
    require(vp != call.vp, HvStatus::INVALID_VP_STATE)?;
    call.host.start_vp(call.vp, vp, &input.context)
}

fn boot_zeroed_memory(host: &dyn Host) -> BootZeroedMemory {
    let mut output = BootZeroedMemory::new_zeroed();
    for (slot, range) in output.ranges.iter_mut().zip(host.zeroed_pages().into_iter().take(MAX_ZEROED_RANGES)) {
        *slot = ZeroedRange { start: range.start, count: range.end.saturating_sub(range.start) };
        output.count += 1;
    }
    output
}

#[cfg(test)]
#[path = "handlers_tests.rs"]
mod tests;
