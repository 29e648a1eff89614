use super::*;
use crate::hyperv::hypercall::{CallOutcome, HypercallInput, InitialVpContext, Mode, Registers};
use crate::hyperv::msr::Msr;
use crate::hyperv::testing::{everything, ram};
use crate::hyperv::types::ConnectionId;
use crate::memory::GuestMemory;
use std::cell::RefCell;
use std::ops::Range;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const VPS: u32 = 100;
const INPUT: u64 = 0x8000;
const OUTPUT: u64 = 0x9000;

/// A host that records the calls of its methods.
#[derive(Default)]
struct Recorder {
    without: Vec<Feature>,
    log: RefCell<Vec<String>>,
}

impl Recorder {
    fn note(&self, text: String) -> HvResult<()> {
        self.log.borrow_mut().push(text);
        Ok(())
    }
}

impl Host for Recorder {
    fn features(&self) -> crate::hyperv::features::Features {
        // Only the kernel engine offers flushes, but they are answered by the same code.
        let all = everything().with(Feature::UseHypercallForRemoteFlushAndLocalFlushEntire);
        self.without.iter().fold(all, |features, feature| features.without(*feature))
    }
    fn guest_os_id(&self) -> u64 {
        1
    }
    fn vp_count(&self) -> u32 {
        VPS
    }
    fn post_message(&self, connection: ConnectionId, message_type: MessageType, payload: &[u8]) -> HvResult<()> {
        self.note(format!("post {connection} {message_type} {payload:?}"))
    }
    fn signal_event(&self, connection: ConnectionId, flag: u16) -> HvResult<()> {
        self.note(format!("signal {connection} flag {flag}"))
    }
    fn send_interrupt(&self, targets: &VpSet, vector: u8) {
        let _ = self.note(format!("interrupt {targets:?} {vector:#x}"));
    }
    fn long_spin_wait(&self, spin_count: u32) {
        let _ = self.note(format!("spin {spin_count}"));
    }
    fn flush_tlb(&self, targets: &VpSet) -> HvResult<()> {
        self.note(format!("flush {targets:?}"))
    }
    fn start_vp(&self, _: VpIndex, vp: VpIndex, context: &InitialVpContext) -> HvResult<()> {
        self.note(format!("start {vp} at {:#x}", context.rip))
    }
    fn vp_of_apic_id(&self, apic_id: u32) -> Option<VpIndex> {
        (apic_id.is_multiple_of(2) && apic_id < 2 * VPS).then_some(VpIndex(apic_id / 2))
    }
    fn read_register(&self, vp: VpIndex, register: VpRegister) -> HvResult<u128> {
        match register {
            VpRegister::Cpuid(leaf) => Ok(u128::from(leaf) << 64 | 5),
            VpRegister::Msr(Msr::VpIndex) => Ok(vp.0.into()),
            VpRegister::Msr(_) => Ok(42),
        }
    }
    fn write_register(&self, vp: VpIndex, msr: Msr, value: u64) -> HvResult<()> {
        self.note(format!("{vp} {msr} = {value:#x}"))
    }
    fn zeroed_pages(&self) -> Vec<Range<u64>> {
        (0..1000).map(|index| index * 10..index * 10 + 3).collect()
    }
}

struct Guest {
    memory: GuestMemory,
    host: Recorder,
    calls: Hypercalls,
}

impl Guest {
    fn new() -> Self {
        Self { memory: ram(), host: Recorder::default(), calls: Hypercalls::standard() }
    }

    fn without(feature: Feature) -> Self {
        Self { host: Recorder { without: vec![feature], ..Recorder::default() }, ..Self::new() }
    }

    /// Makes a call from VP 1 with its parameters in memory. Returns the status and the number of reps completed.
    fn call(&self, input: HypercallInput, parameters: &[u8]) -> (HvStatus, usize) {
        self.memory.write_slice(parameters, GuestAddress(INPUT)).unwrap();
        let mut registers = Registers { rcx: input.0, rdx: INPUT, r8: OUTPUT, ..Registers::new(Mode::LONG) };
        match self.calls.dispatch(VpIndex(1), &self.host, &self.memory, &mut registers) {
            CallOutcome::Done(result) => {
                assert_eq!(registers.rax, result.bits());
                (result.status, result.reps_completed)
            }
            other => panic!("{other:?}"),
        }
    }

    fn simple(&self, code: CallCode, parameters: &(impl IntoBytes + Immutable)) -> HvStatus {
        self.call(HypercallInput::new(code), parameters.as_bytes()).0
    }

    fn output<T: FromBytes>(&self, index: u64) -> T {
        let mut bytes = vec![0; size_of::<T>()];
        self.memory.read_slice(&mut bytes, GuestAddress(OUTPUT + index * size_of::<T>() as u64)).unwrap();
        T::read_from_bytes(&bytes).unwrap()
    }

    fn log(&self) -> Vec<String> {
        self.host.log.take()
    }
}

fn post(connection: u32, message_type: u32, payload_size: u32) -> PostMessage {
    let mut payload = [0; MAX_PAYLOAD];
    payload[..3].copy_from_slice(&[1, 2, 3]);
    PostMessage {
        connection_id: ConnectionId(connection),
        padding: 0xffff_ffff,
        message_type: MessageType(message_type),
        payload_size,
        payload,
    }
}

#[test]
fn a_message_is_posted_with_its_payload_only() {
    let guest = Guest::new();
    assert_eq!(guest.simple(CallCode::POST_MESSAGE, &post(1, 7, 3)), HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["post connection 0x1 type 0x7 [1, 2, 3]"]);
    assert_eq!(guest.simple(CallCode::POST_MESSAGE, &post(1, 7, 240)), HvStatus::SUCCESS);
}

#[test]
fn a_message_that_is_too_long_or_has_no_type_or_a_type_of_the_hypervisor_is_refused() {
    let guest = Guest::new();
    for (kind, size) in [(7, 241), (7, u32::MAX), (0, 3), (0x8000_0010, 3)] {
        assert_eq!(guest.simple(CallCode::POST_MESSAGE, &post(1, kind, size)), HvStatus::INVALID_PARAMETER);
    }
    assert_eq!(guest.simple(CallCode::POST_MESSAGE, &post(1 << 24, 7, 3)), HvStatus::INVALID_CONNECTION_ID);
    assert_eq!(guest.log(), Vec::<String>::new());
}

#[test]
fn calls_without_their_privilege_are_denied() {
    for (feature, code) in [
        (Feature::PostMessages, CallCode::POST_MESSAGE),
        (Feature::SignalEvents, CallCode::SIGNAL_EVENT),
        (Feature::UseSyntheticClusterIpi, CallCode::SEND_SYNTHETIC_CLUSTER_IPI),
        (Feature::UseSyntheticClusterIpi, CallCode::SEND_SYNTHETIC_CLUSTER_IPI_EX),
        (Feature::UseExProcessorMasks, CallCode::SEND_SYNTHETIC_CLUSTER_IPI_EX),
        (Feature::AccessVpRegisters, CallCode::GET_VP_REGISTERS),
        (Feature::AccessVpRegisters, CallCode::SET_VP_REGISTERS),
        (Feature::StartVirtualProcessor, CallCode::START_VIRTUAL_PROCESSOR),
        (Feature::EnableExtendedHypercalls, CallCode::EXT_QUERY_CAPABILITIES),
        (Feature::UseHypercallForRemoteFlushAndLocalFlushEntire, CallCode::FLUSH_VIRTUAL_ADDRESS_SPACE),
    ] {
        let guest = Guest::without(feature);
        assert_eq!(guest.simple(code, &[0u64; 30]), HvStatus::ACCESS_DENIED, "{code}");
    }
    // The doorbell is HvCallSignalEvent as well.
    let guest = Guest::without(Feature::SignalEvents);
    assert_eq!(guest.calls.doorbell(VpIndex(0), &guest.host, 1), HvStatus::ACCESS_DENIED);
}

#[test]
fn an_event_is_signalled_by_call_and_by_doorbell() {
    let guest = Guest::new();
    let signal = SignalEvent { connection_id: ConnectionId(9), flag_number: 3, reserved: 0 };
    assert_eq!(guest.simple(CallCode::SIGNAL_EVENT, &signal), HvStatus::SUCCESS);
    assert_eq!(guest.calls.doorbell(VpIndex(0), &guest.host, 10), HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["signal connection 0x9 flag 3", "signal connection 0xa flag 0"]);
    let reserved = SignalEvent { reserved: 1, ..signal };
    assert_eq!(guest.simple(CallCode::SIGNAL_EVENT, &reserved), HvStatus::INVALID_PARAMETER);
    assert_eq!(guest.calls.doorbell(VpIndex(0), &guest.host, u32::MAX), HvStatus::INVALID_CONNECTION_ID);
}

#[test]
fn a_notification_of_a_long_spin_always_succeeds() {
    let guest = Guest::new();
    assert_eq!(guest.simple(CallCode::NOTIFY_LONG_SPIN_WAIT, &[0xffff_ffff_0000_0005u64]), HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["spin 5"]);
}

#[test]
fn the_targets_of_an_ipi_are_a_mask() {
    let guest = Guest::new();
    let ipi = SendSyntheticClusterIpi {
        vector: 0xef,
        target_vtl: Default::default(),
        reserved: [0; 3],
        processor_mask: 0b1010,
    };
    assert_eq!(guest.simple(CallCode::SEND_SYNTHETIC_CLUSTER_IPI, &ipi), HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["interrupt {1, 3} 0xef"]);
    for vector in [0, 15, 256] {
        let bad = SendSyntheticClusterIpi { vector, ..ipi };
        assert_eq!(guest.simple(CallCode::SEND_SYNTHETIC_CLUSTER_IPI, &bad), HvStatus::INVALID_HYPERCALL_INPUT);
    }
    let other_vtl = SendSyntheticClusterIpi { target_vtl: super::super::InputVtl(0x11), ..ipi };
    assert_eq!(guest.simple(CallCode::SEND_SYNTHETIC_CLUSTER_IPI, &other_vtl), HvStatus::INVALID_PARAMETER);
}

#[test]
fn the_targets_of_an_ex_ipi_are_a_sparse_set() {
    let guest = Guest::new();
    let input = |banks| HypercallInput::new(CallCode::SEND_SYNTHETIC_CLUSTER_IPI_EX).with_variable_header(banks);
    let parameters = [0xefu64, 0, 0b10, 0b11];
    assert_eq!(guest.call(input(1), parameters.as_bytes()).0, HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["interrupt {64, 65} 0xef"]);
    assert_eq!(guest.call(input(2), parameters.as_bytes()).0, HvStatus::INVALID_HYPERCALL_INPUT);
    assert_eq!(guest.call(input(0), [0xefu64, 1, 0].as_bytes()).0, HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["interrupt all VPs 0xef"]);
}

#[test]
fn flushes_check_their_flags_and_reach_their_targets() {
    let guest = Guest::new();
    let space = |flags: u64, mask: u64| guest.simple(CallCode::FLUSH_VIRTUAL_ADDRESS_SPACE, &[0x1000, flags, mask]);
    assert_eq!(
        (space(0, 0b100), space(1, 0b100), space(4, 0)),
        (HvStatus::SUCCESS, HvStatus::SUCCESS, HvStatus::SUCCESS)
    );
    assert_eq!(guest.log(), ["flush {2}", "flush all VPs", "flush all VPs"]);
    assert_eq!(space(16, 1), HvStatus::INVALID_PARAMETER);
    let list = |flags: u64| {
        let input = HypercallInput::new(CallCode::FLUSH_VIRTUAL_ADDRESS_LIST).with_rep_count(2);
        guest.call(input, [0x1000u64, flags, 1, 0xa000, 0xb000].as_bytes())
    };
    assert_eq!(list(0), (HvStatus::SUCCESS, 2));
    assert_eq!(list(4), (HvStatus::INVALID_PARAMETER, 0), "a list cannot be of non-global mappings only");
    let ex = HypercallInput::new(CallCode::FLUSH_VIRTUAL_ADDRESS_SPACE_EX).with_variable_header(1);
    guest.log();
    assert_eq!(guest.call(ex, [0x1000u64, 0, 0, 1, 0b11].as_bytes()).0, HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["flush {0, 1}"]);
}

fn registers_header(partition: u64, vp: u32) -> Vec<u8> {
    let header = VpRegisters {
        partition_id: PartitionId(partition),
        vp_index: VpIndex(vp),
        target_vtl: Default::default(),
        reserved: [0; 3],
    };
    header.as_bytes().to_vec()
}

#[test]
fn accessible_registers_are_read_in_order() {
    let guest = Guest::new();
    let names = [0x0009_0003u32, 0x0000_0200, 0x000a_0002];
    let input = HypercallInput::new(CallCode::GET_VP_REGISTERS).with_rep_count(3);
    let parameters = [registers_header(u64::MAX, VpIndex::SELF.0), names.as_bytes().to_vec()].concat();
    assert_eq!(guest.call(input, &parameters), (HvStatus::SUCCESS, 3));
    assert_eq!(guest.output::<u128>(0), 1, "VP 1 is the caller");
    assert_eq!(guest.output::<u128>(1), 0x4000_0003 << 64 | 5);
    assert_eq!(guest.output::<u128>(2), 42);
}

#[test]
fn an_inaccessible_register_ends_the_list_there() {
    let guest = Guest::new();
    let names = [0x0009_0003u32, 0x0002_0000, 0x0009_0003];
    let input = HypercallInput::new(CallCode::GET_VP_REGISTERS).with_rep_count(3);
    let parameters = [registers_header(u64::MAX, 7), names.as_bytes().to_vec()].concat();
    assert_eq!(guest.call(input, &parameters), (HvStatus::INVALID_PARAMETER, 1));
    assert_eq!((guest.output::<u128>(0), guest.output::<u128>(1)), (7, 0));
}

#[test]
fn registers_of_other_partitions_and_of_missing_vps_are_refused() {
    let guest = Guest::new();
    let input = HypercallInput::new(CallCode::GET_VP_REGISTERS).with_rep_count(1);
    let call = |partition, vp| guest.call(input, &[registers_header(partition, vp), vec![0; 8]].concat());
    assert_eq!(call(5, 0), (HvStatus::INVALID_PARTITION_ID, 0));
    assert_eq!(call(u64::MAX, VPS), (HvStatus::INVALID_VP_INDEX, 0));
    assert_eq!(call(u64::MAX, VpIndex::ANY.0), (HvStatus::INVALID_VP_INDEX, 0));
}

#[test]
fn registers_are_written_one_by_one() {
    let guest = Guest::new();
    let assignment = |name, value, reserved| RegisterAssignment { name, reserved: [0, reserved, 0], value };
    let write = |assignments: &[RegisterAssignment]| {
        let input = HypercallInput::new(CallCode::SET_VP_REGISTERS).with_rep_count(assignments.len());
        guest.call(input, &[registers_header(u64::MAX, 0), assignments.as_bytes().to_vec()].concat())
    };
    assert_eq!(
        write(&[assignment(0x000a_0003, [0x33, 0], 0), assignment(0x0009_0002, [9, 0], 0)]),
        (HvStatus::SUCCESS, 2)
    );
    assert_eq!(guest.log(), ["VP 0 SINT3 = 0x33", "VP 0 GUEST_OS_ID = 0x9"]);
    assert_eq!(write(&[assignment(0x000a_0003, [0, 1], 0)]), (HvStatus::INVALID_REGISTER_VALUE, 0));
    assert_eq!(write(&[assignment(0x000a_0003, [0, 0], 1)]), (HvStatus::INVALID_PARAMETER, 0));
    assert_eq!(write(&[assignment(0x0000_0200, [0, 0], 0)]), (HvStatus::INVALID_PARAMETER, 0), "CPUID is read-only");
}

#[test]
fn apic_ids_are_translated_to_vp_indexes() {
    let guest = Guest::new();
    let header =
        GetVpIndexFromApicId { partition_id: PartitionId::SELF, target_vtl: Default::default(), padding: [0; 7] };
    let input = HypercallInput::new(CallCode::GET_VP_INDEX_FROM_APIC_ID).with_rep_count(3);
    let parameters = [header.as_bytes(), [4u32, 6, 7].as_bytes()].concat();
    assert_eq!(guest.call(input, &parameters), (HvStatus::INVALID_PARAMETER, 2));
    assert_eq!((guest.output::<u32>(0), guest.output::<u32>(1)), (2, 3));
}

#[test]
fn a_vp_is_started_with_its_context() {
    let guest = Guest::new();
    let mut input = StartVirtualProcessor::new_zeroed();
    (input.partition_id, input.vp_index, input.context.rip) = (PartitionId::SELF, VpIndex(2), 0x1234);
    assert_eq!(guest.simple(CallCode::START_VIRTUAL_PROCESSOR, &input), HvStatus::SUCCESS);
    assert_eq!(guest.log(), ["start VP 2 at 0x1234"]);
    for (vp, status) in [
        (VPS, HvStatus::INVALID_VP_INDEX),
        (1, HvStatus::INVALID_VP_STATE),
        (VpIndex::SELF.0, HvStatus::INVALID_VP_STATE),
    ] {
        input.vp_index = VpIndex(vp);
        assert_eq!(guest.simple(CallCode::START_VIRTUAL_PROCESSOR, &input), status);
    }
}

#[test]
fn extended_calls_report_capabilities_and_zeroed_memory() {
    let guest = Guest::new();
    assert_eq!(guest.simple(CallCode::EXT_QUERY_CAPABILITIES, &()), HvStatus::SUCCESS);
    assert_eq!(guest.output::<u64>(0), 1);
    assert_eq!(guest.simple(CallCode::EXT_GET_BOOT_ZEROED_MEMORY, &()), HvStatus::SUCCESS);
    let zeroed: BootZeroedMemory = guest.output(0);
    assert_eq!(zeroed.count, 255);
    assert_eq!(zeroed.ranges[254], ZeroedRange { start: 2540, count: 3 });
}

/// Makes a call whose reps may take several dispatches.
fn discard(guest: &Guest, hint: u64, ranges: &[u64]) -> (HvStatus, usize) {
    let input = HypercallInput::new(CallCode::EXT_MEMORY_HEAT_HINT).with_rep_count(ranges.len());
    guest.memory.write_slice([&[hint], ranges].concat().as_bytes(), GuestAddress(INPUT)).unwrap();
    let mut registers = Registers { rcx: input.0, rdx: INPUT, ..Registers::new(Mode::LONG) };
    loop {
        match guest.calls.dispatch(VpIndex(1), &guest.host, &guest.memory, &mut registers) {
            CallOutcome::Done(result) => return (result.status, result.reps_completed),
            CallOutcome::Continue => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn free_pages_are_discarded_if_cold_discard_is_offered() {
    const LARGE: u64 = 1 << 11;
    const GIGABYTE: u64 = LARGE | 1 << 12;
    let mut guest = Guest::new();
    assert_eq!(discard(&guest, 2, &[LARGE]).0, HvStatus::INVALID_HYPERCALL_CODE);
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = log.clone();
    guest.calls.offer_cold_discard(move |range| {
        sink.lock().unwrap().push(range.start >> 20..range.end >> 20);
        if range.start == 7 << 30 { Err(std::io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    });
    let mebibytes = || std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(guest.simple(CallCode::EXT_QUERY_CAPABILITIES, &()), HvStatus::SUCCESS);
    assert_eq!(guest.output::<u64>(0), 1 | 1 << 8);
    assert_eq!(discard(&guest, 2, &[4 << 20 | LARGE | 2, 3 << 30 | GIGABYTE]), (HvStatus::SUCCESS, 2));
    assert_eq!(mebibytes(), [4..10, 3072..4096]);
    let many: Vec<_> = (0..511).map(|index| index << 21 | LARGE).collect();
    assert_eq!(discard(&guest, 2, &many), (HvStatus::SUCCESS, 511));
    assert_eq!(mebibytes().len(), 511);
    for (hint, ranges, done) in [
        // Other hints, small pages, a gigabyte that starts in the middle, and addresses that do not exist.
        (0, [LARGE, LARGE], 0),
        (1, [LARGE, LARGE], 0),
        (6, [LARGE, LARGE], 0),
        (2, [LARGE, 0x5000 | 0x7ff], 1),
        (2, [1 << 21 | GIGABYTE, LARGE], 0),
        (2, [LARGE, !0], 1),
    ] {
        assert_eq!(discard(&guest, hint, &ranges), (HvStatus::INVALID_PARAMETER, done), "{hint} {ranges:x?}");
        assert_eq!(mebibytes().len(), done);
    }
    assert_eq!(discard(&guest, 2, &[LARGE, 7 << 30 | LARGE]), (HvStatus::OPERATION_FAILED, 1));
    let hidden = Guest { calls: guest.calls, ..Guest::without(Feature::EnableExtendedHypercalls) };
    assert_eq!(discard(&hidden, 2, &[LARGE]).0, HvStatus::ACCESS_DENIED);
}

#[test]
fn every_standard_call_has_its_tlfs_name() {
    for definition in Hypercalls::standard().definitions() {
        assert_eq!(Some(&*definition.name), definition.code.name());
    }
    assert_eq!(Hypercalls::standard().definitions().count(), 15);
    assert!(CallCode::ANSWERED_BY_KVM.iter().all(|code| code.name().is_some() && code.0 < 0x80));
}
