use super::*;
use crate::hyperv::features::Features;
use crate::hyperv::hypercall::{InitialVpContext, Mode, VpRegister, VpSet};
use crate::hyperv::message::MessageType;
use crate::hyperv::msr::Msr;
use crate::hyperv::testing::{RAM, everything, ram};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A host with all features, whose methods do nothing.
struct Idle {
    features: Features,
    guest_os_id: u64,
}

const IDLE: fn() -> Idle = || Idle { features: everything(), guest_os_id: 1 };

impl Host for Idle {
    fn features(&self) -> Features {
        self.features
    }
    fn guest_os_id(&self) -> u64 {
        self.guest_os_id
    }
    fn vp_count(&self) -> u32 {
        4
    }
    fn post_message(&self, _: ConnectionId, _: MessageType, _: &[u8]) -> HvResult<()> {
        Ok(())
    }
    fn signal_event(&self, _: ConnectionId, _: u16) -> HvResult<()> {
        Ok(())
    }
    fn send_interrupt(&self, _: &VpSet, _: u8) {}
    fn long_spin_wait(&self, _: u32) {}
    fn start_vp(&self, _: VpIndex, _: VpIndex, _: &InitialVpContext) -> HvResult<()> {
        Ok(())
    }
    fn vp_of_apic_id(&self, _: u32) -> Option<VpIndex> {
        None
    }
    fn read_register(&self, _: VpIndex, _: VpRegister) -> HvResult<u128> {
        Ok(u128::MAX)
    }
    fn write_register(&self, _: VpIndex, _: Msr, _: u64) -> HvResult<()> {
        Ok(())
    }
    fn zeroed_pages(&self) -> Vec<Range<u64>> {
        Vec::new()
    }
}

const ECHO: CallCode = CallCode(0x7001);
const SUM: CallCode = CallCode(0x7002);
const DOUBLE: CallCode = CallCode(0x7003);
const SUM_LIST: CallCode = CallCode(0x7004);
const WIDE: CallCode = CallCode(0x7005);
const NOTHING: CallCode = CallCode(0x7006);
const INPUT: u64 = 0x8000;
const OUTPUT: u64 = 0x9000;

/// Returns calls of a library user: simple and rep calls, with fixed and variable headers.
fn calls() -> Hypercalls {
    let mut calls = Hypercalls::empty();
    calls.simple(ECHO, "Echo", None, |_: &Call<'_>, value: u64| Ok(value));
    calls.simple_variable(SUM, "Sum", None, |_: &Call<'_>, first: u64, rest: &[u64]| {
        Ok(rest.iter().fold(first, |sum, next| sum.wrapping_add(*next)))
    });
    calls.rep(DOUBLE, "Double", None, |_: &Call<'_>, limit: u64, element: u32| {
        if u64::from(element) < limit { Ok(u64::from(element) * 2) } else { Err(HvStatus::INVALID_PARAMETER) }
    });
    calls.rep_variable(SUM_LIST, "SumList", None, |_: &Call<'_>, (): (), addends: &[u64], element: u64| {
        Ok(addends.iter().fold(element, |sum, next| sum.wrapping_add(*next)))
    });
    calls.simple(WIDE, "Wide", None, |_: &Call<'_>, values: [u64; 14]| {
        if values.iter().eq((1..=14u64).collect::<Vec<_>>().iter()) { Ok(()) } else { Err(HvStatus::INVALID_PARAMETER) }
    });
    calls.simple(NOTHING, "Nothing", None, |_: &Call<'_>, (): ()| Ok(()));
    calls
}

fn long(input: HypercallInput) -> Registers {
    Registers { rcx: input.0, rdx: INPUT, r8: OUTPUT, ..Registers::new(Mode::LONG) }
}

fn protected(input: HypercallInput) -> Registers {
    Registers {
        rdx: input.0 >> 32,
        rax: input.0 & 0xffff_ffff,
        rcx: INPUT,
        rsi: OUTPUT,
        // The high halves of a 32-bit caller's registers must be ignored.
        rbx: 0xffff_ffff_0000_0000,
        rdi: 0xffff_ffff_0000_0000,
        ..Registers::new(Mode::PROTECTED)
    }
}

fn dispatch(memory: &GuestMemory, registers: &mut Registers) -> CallOutcome {
    calls().dispatch(VpIndex(0), &IDLE(), memory, registers)
}

fn status(memory: &GuestMemory, mut registers: Registers) -> HvStatus {
    match dispatch(memory, &mut registers) {
        CallOutcome::Done(result) => result.status,
        other => panic!("{other:?}"),
    }
}

fn with_input(values: &[u64]) -> GuestMemory {
    let memory = ram();
    memory.write_slice(values.as_bytes(), GuestAddress(INPUT)).unwrap();
    memory
}

fn output(memory: &GuestMemory, index: u64) -> u64 {
    memory.read_obj(GuestAddress(OUTPUT + 8 * index)).unwrap()
}

#[test]
fn both_calling_conventions_pass_their_parameters_and_their_result() {
    let input = HypercallInput::new(ECHO);
    for mut registers in [long(input), protected(input)] {
        let memory = with_input(&[0x1234]);
        (registers.rax, registers.rdx) = match registers.mode.long {
            true => (u64::MAX, registers.rdx),
            false => (registers.rax, registers.rdx),
        };
        let outcome = dispatch(&memory, &mut registers);
        assert_eq!(outcome, CallOutcome::Done(HvStatus::SUCCESS.into()));
        assert_eq!((registers.rax, output(&memory, 0)), (0, 0x1234));
    }
}

#[test]
fn a_call_from_user_mode_or_real_mode_or_before_the_os_id_is_an_undefined_opcode() {
    let memory = ram();
    let before = long(HypercallInput::new(NOTHING));
    let modes = [
        Mode { cpl: 3, ..Mode::LONG },
        Mode { cpl: 1, ..Mode::PROTECTED },
        Mode { protected: false, ..Mode::PROTECTED },
    ];
    for mode in modes {
        let mut registers = Registers { mode, ..before };
        assert_eq!(dispatch(&memory, &mut registers), CallOutcome::Fault(Fault::UndefinedOpcode));
        assert_eq!(registers, Registers { mode, ..before });
    }
    let mut registers = before;
    let unknown = Idle { guest_os_id: 0, ..IDLE() };
    assert_eq!(
        calls().dispatch(VpIndex(0), &unknown, &memory, &mut registers),
        CallOutcome::Fault(Fault::UndefinedOpcode)
    );
}

#[test]
fn an_unknown_code_and_reserved_bits_have_their_statuses() {
    let memory = ram();
    assert_eq!(status(&memory, long(HypercallInput(0x7fff))), HvStatus::INVALID_HYPERCALL_CODE);
    for bit in (27..32).chain(44..48).chain(60..64) {
        let input = HypercallInput(HypercallInput::new(NOTHING).0 | 1 << bit);
        assert_eq!(status(&memory, long(input)), HvStatus::INVALID_HYPERCALL_INPUT, "bit {bit}");
    }
}

#[test]
fn rep_counts_and_variable_headers_are_refused_by_calls_without_them() {
    let memory = ram();
    let simple = HypercallInput::new(ECHO);
    let rep = HypercallInput::new(DOUBLE);
    for wrong in [
        simple.with_rep_count(1),
        simple.with_rep_start(1),
        simple.with_variable_header(1),
        rep,
        rep.with_rep_count(3).with_rep_start(3),
        rep.with_rep_count(3).with_rep_start(4),
        rep.with_rep_count(1).with_variable_header(1),
    ] {
        assert_eq!(status(&memory, long(wrong)), HvStatus::INVALID_HYPERCALL_INPUT, "{wrong:?}");
    }
}

#[test]
fn parameters_are_aligned_in_memory_and_within_a_page() {
    let memory = ram();
    let input = HypercallInput::new(ECHO);
    for bad in [INPUT + 4, INPUT + 1, RAM, RAM + 0x1000, u64::MAX - 7, 1 << 63] {
        assert_eq!(status(&memory, Registers { rdx: bad, ..long(input) }), HvStatus::INVALID_ALIGNMENT, "{bad:#x}");
        assert_eq!(status(&memory, Registers { r8: bad, ..long(input) }), HvStatus::INVALID_ALIGNMENT, "{bad:#x}");
    }
    assert_eq!(status(&memory, Registers { rdx: 0x8ff8, ..long(input) }), HvStatus::SUCCESS);
    let two = HypercallInput::new(SUM).with_variable_header(1);
    assert_eq!(status(&memory, Registers { rdx: 0x8ff8, ..long(two) }), HvStatus::INVALID_ALIGNMENT);
    assert_eq!(status(&memory, Registers { rdx: 0x8ff0, ..long(two) }), HvStatus::SUCCESS);
}

#[test]
fn addresses_of_missing_parameters_are_ignored() {
    let registers = Registers { rdx: 3, r8: u64::MAX, ..long(HypercallInput::new(NOTHING)) };
    assert_eq!(status(&ram(), registers), HvStatus::SUCCESS);
}

#[test]
fn input_and_output_may_be_the_same_page_as_in_linux() {
    let memory = with_input(&[0x77]);
    assert_eq!(status(&memory, Registers { r8: INPUT, ..long(HypercallInput::new(ECHO)) }), HvStatus::SUCCESS);
    assert_eq!(memory.read_obj::<u64>(GuestAddress(INPUT)).unwrap(), 0x77);
}

#[test]
fn a_variable_header_follows_the_fixed_one() {
    let memory = with_input(&[1, 20, 300]);
    assert_eq!(status(&memory, long(HypercallInput::new(SUM).with_variable_header(2))), HvStatus::SUCCESS);
    assert_eq!(output(&memory, 0), 321);
}

#[test]
fn reps_begin_at_the_start_index_and_other_elements_are_not_written() {
    let memory = with_input(&[100, 2 << 32 | 1, 4 << 32 | 3]);
    let mut registers = long(HypercallInput::new(DOUBLE).with_rep_count(4).with_rep_start(2));
    let CallOutcome::Done(result) = dispatch(&memory, &mut registers) else { panic!() };
    assert_eq!((result.status, result.reps_completed), (HvStatus::SUCCESS, 4));
    assert_eq!([0, 1, 2, 3].map(|index| output(&memory, index)), [0, 0, 6, 8]);
    assert_eq!(registers.input().rep_start(), 4, "RCX has the new rep start index");
    assert_eq!((registers.rdx, registers.r8), (INPUT, OUTPUT));
}

#[test]
fn an_element_that_fails_ends_the_call_with_the_reps_before_it() {
    let memory = with_input(&[4, 2 << 32 | 1, 5 << 32 | 9]);
    let mut registers = long(HypercallInput::new(DOUBLE).with_rep_count(4));
    let CallOutcome::Done(result) = dispatch(&memory, &mut registers) else { panic!() };
    assert_eq!((result.status, result.reps_completed), (HvStatus::INVALID_PARAMETER, 2));
    assert_eq!(registers.rax, 2 << 32 | 5);
    assert_eq!([0, 1, 2].map(|index| output(&memory, index)), [2, 4, 0]);
}

#[test]
fn a_long_list_continues_in_another_exit_in_both_conventions() {
    const REPS: usize = 500;
    let values: Vec<u64> = (0..REPS as u64).collect();
    let list = HypercallInput::new(SUM_LIST).with_variable_header(1).with_rep_count(REPS);
    for mut registers in [long(list), protected(list)] {
        let memory = ram();
        memory.write_slice([&[1000], &values[..]].concat().as_bytes(), GuestAddress(INPUT)).unwrap();
        let mut exits = 1;
        while dispatch(&memory, &mut registers) == CallOutcome::Continue {
            assert_eq!(registers.input().rep_start(), exits * REPS_PER_EXIT);
            exits += 1;
        }
        assert_eq!(exits, REPS.div_ceil(REPS_PER_EXIT));
        let result = if registers.mode.long { registers.rax } else { registers.rdx << 32 | registers.rax };
        assert_eq!(result, (REPS as u64) << 32);
        assert!((0..REPS as u64).all(|index| output(&memory, index) == 1000 + index));
    }
}

#[test]
fn fast_input_comes_in_two_registers_and_output_in_the_next_xmm() {
    let mut registers = Registers { rdx: 0x1122, ..long(HypercallInput::new(ECHO).with_fast()) };
    assert!(calls().needs_xmm(&registers));
    assert_eq!(dispatch(&ram(), &mut registers), CallOutcome::Done(HvStatus::SUCCESS.into()));
    assert_eq!(u128::from_le_bytes(registers.xmm[0]), 0x1122);
    assert!(registers.xmm_changed);
    assert_eq!((registers.rdx, registers.r8), (0x1122, OUTPUT), "input registers stay");
}

#[test]
fn output_of_a_call_without_input_comes_in_general_registers() {
    let mut calls = Hypercalls::empty();
    calls.simple(ECHO, "Pair", None, |_: &Call<'_>, (): ()| Ok([5u64, 6, 7]));
    let mut registers = long(HypercallInput::new(ECHO).with_fast());
    calls.dispatch(VpIndex(0), &IDLE(), &ram(), &mut registers);
    assert_eq!((registers.rdx, registers.r8, registers.xmm[0][0]), (5, 6, 7));
}

#[test]
fn xmm_input_is_one_block_with_the_general_registers() {
    for long_mode in [true, false] {
        let input = HypercallInput::new(WIDE).with_fast();
        let mut registers = if long_mode { long(input) } else { protected(input) };
        if long_mode {
            (registers.rdx, registers.r8) = (1, 2);
        } else {
            (registers.rbx, registers.rcx, registers.rdi, registers.rsi) = (0, 1, 0, 2);
        }
        for (index, register) in registers.xmm.iter_mut().enumerate() {
            let low = index as u128 * 2 + 3;
            *register = (low | (low + 1) << 64).to_le_bytes();
        }
        assert!(calls().needs_xmm(&registers));
        assert_eq!(status(&ram(), registers), HvStatus::SUCCESS);
    }
}

#[test]
fn xmm_parameters_without_their_feature_are_an_undefined_opcode() {
    let host = |without| Idle { features: everything().without(without), ..IDLE() };
    let memory = ram();
    let fault = CallOutcome::Fault(Fault::UndefinedOpcode);
    let no_input = host(Feature::XmmRegistersForFastHypercallAvailable);
    let mut wide = long(HypercallInput::new(WIDE).with_fast());
    assert_eq!(calls().dispatch(VpIndex(0), &no_input, &memory, &mut wide), fault);
    let no_output = host(Feature::FastHypercallOutputAvailable);
    let mut echo = long(HypercallInput::new(ECHO).with_fast());
    assert_eq!(calls().dispatch(VpIndex(0), &no_output, &memory, &mut echo), fault);
    let mut echo = protected(HypercallInput::new(ECHO).with_fast());
    assert_eq!(dispatch(&memory, &mut echo), fault, "fast output is for 64-bit callers");
}

#[test]
fn a_block_that_does_not_fit_into_registers_is_refused() {
    let mut registers = long(HypercallInput::new(SUM).with_fast().with_variable_header(14));
    assert_eq!(dispatch(&ram(), &mut registers), CallOutcome::Done(HvStatus::INVALID_HYPERCALL_INPUT.into()));
    // 14 values of input leave no room for one of output.
    let mut registers = long(HypercallInput::new(SUM).with_fast().with_variable_header(13));
    assert_eq!(dispatch(&ram(), &mut registers), CallOutcome::Done(HvStatus::INVALID_HYPERCALL_INPUT.into()));
    let registers = long(HypercallInput::new(SUM).with_fast().with_variable_header(11));
    assert_eq!(status(&ram(), registers), HvStatus::SUCCESS);
}

#[test]
fn a_small_fast_call_needs_no_xmm() {
    let registers = long(HypercallInput::new(CallCode::SIGNAL_EVENT).with_fast());
    assert!(!Hypercalls::standard().needs_xmm(&registers));
    assert!(!Hypercalls::standard().needs_xmm(&long(HypercallInput::new(CallCode::POST_MESSAGE))));
    assert!(!calls().needs_xmm(&long(HypercallInput(0x7fff).with_fast())));
}

#[test]
fn a_watcher_sees_every_call_with_its_typed_input_and_a_later_handler_replaces_an_earlier() {
    let (seen, replaced) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let mut calls = calls();
    calls.watch({
        let seen = seen.clone();
        move |observation| seen.lock().unwrap().push((observation.header::<u64>(), observation.outcome))
    });
    calls.simple(ECHO, "Echo", None, {
        let replaced = replaced.clone();
        move |_: &Call<'_>, value: u64| {
            replaced.fetch_add(1, Ordering::SeqCst);
            Ok(value + 1)
        }
    });
    let memory = with_input(&[41]);
    calls.dispatch(VpIndex(0), &IDLE(), &memory, &mut long(HypercallInput::new(ECHO)));
    calls.dispatch(VpIndex(0), &IDLE(), &memory, &mut long(HypercallInput(0x7fff)));
    assert_eq!((output(&memory, 0), replaced.load(Ordering::SeqCst)), (42, 1));
    assert_eq!(
        *seen.lock().unwrap(),
        [
            (Some(41), CallOutcome::Done(HvStatus::SUCCESS.into())),
            (None, CallOutcome::Done(HvStatus::INVALID_HYPERCALL_CODE.into()))
        ]
    );
}

#[test]
fn a_call_without_its_feature_is_denied_before_its_input_is_checked() {
    let mut calls = Hypercalls::empty();
    calls.simple(ECHO, "Echo", Some(Feature::PostMessages), |_: &Call<'_>, value: u64| Ok(value));
    let host = Idle { features: Features::NONE, ..IDLE() };
    let mut registers = long(HypercallInput(HypercallInput::new(ECHO).0 | 1 << 63));
    assert_eq!(
        calls.dispatch(VpIndex(0), &host, &ram(), &mut registers),
        CallOutcome::Done(HvStatus::ACCESS_DENIED.into())
    );
}

fn any_input() -> impl Strategy<Value = u64> {
    let codes: Vec<_> = Hypercalls::standard().definitions().chain(calls().definitions()).map(|d| d.code.0).collect();
    let fields = (prop::sample::select(codes), any::<bool>(), 0usize..20, 0usize..600, 0usize..600).prop_map(
        |(code, fast, header, count, start)| {
            let input = HypercallInput::new(CallCode(code));
            let input = if fast { input.with_fast() } else { input };
            let header = if header > 10 { 0 } else { header };
            let count = if count > 300 { 0 } else { count };
            input.with_variable_header(header).with_rep_count(count).with_rep_start(start.min(count / 2)).0
        },
    );
    prop_oneof![3 => fields, 1 => any::<u64>()]
}

fn any_gpa() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..RAM / 8).prop_map(|at| at * 8),
        1 => 0..RAM,
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// With any registers, there is no panic, only the named blocks are read and written, and only the registers that the TLFS
    /// calls volatile are changed.
    #[test]
    fn a_call_with_any_registers_changes_only_the_output_block_and_the_volatile_registers(
        input in any_input(), first in any_gpa(), second in any_gpa(), long_mode: bool, seed: u8,
    ) {
        let mut all = calls();
        crate::hyperv::hypercall::handlers::register(&mut all);
        let memory = ram();
        let around = |gpa: u64| {
            let start = (gpa & !0xfff).saturating_sub(4096).min(RAM - 3 * 4096);
            let mut bytes = vec![seed; 3 * 4096];
            memory.write_slice(&bytes, GuestAddress(start)).unwrap();
            bytes.fill(seed);
            start
        };
        let (around_first, around_second) = (around(first), around(second));
        let mut registers = if long_mode {
            Registers { rcx: input, rdx: first, r8: second, ..Registers::new(Mode::LONG) }
        } else {
            Registers {
                rdx: input >> 32, rax: input & 0xffff_ffff,
                rbx: first >> 32, rcx: first & 0xffff_ffff,
                rdi: second >> 32, rsi: second & 0xffff_ffff,
                ..Registers::new(Mode::PROTECTED)
            }
        };
        let before = registers;
        all.needs_xmm(&registers);
        let outcome = all.dispatch(VpIndex(0), &IDLE(), &memory, &mut registers);

        let sizes = all.definitions.get(&HypercallInput(input).code()).and_then(|d| d.shape.sizes(HypercallInput(input)).ok());
        let fast = HypercallInput(input).fast();
        let writable = match (sizes, outcome) {
            (Some(sizes), CallOutcome::Done(_) | CallOutcome::Continue) if !fast => second..second.saturating_add(sizes.output as u64),
            _ => 0..0,
        };
        for start in [around_first, around_second] {
            let mut bytes = vec![0; 3 * 4096];
            memory.read_slice(&mut bytes, GuestAddress(start)).unwrap();
            let spoiled = bytes.iter().zip(start..).find(|(byte, at)| **byte != seed && !writable.contains(at));
            prop_assert_eq!(spoiled, None);
        }
        let expected = match (outcome, long_mode) {
            (CallOutcome::Fault(_), _) => before,
            (_, true) => Registers { rax: registers.rax, rcx: registers.rcx, ..before },
            (_, false) => Registers { rax: registers.rax, rdx: registers.rdx, ..before },
        };
        let expected = if fast && long_mode {
            Registers { rdx: registers.rdx, r8: registers.r8, xmm: registers.xmm, xmm_changed: registers.xmm_changed, ..expected }
        } else {
            expected
        };
        prop_assert_eq!(registers, expected);
        prop_assert_eq!(registers.input().0 & !(0xfff << 48) == input & !(0xfff << 48) || !long_mode, true);
    }
}

#[test]
fn a_call_with_a_handler_of_its_own_is_not_left_to_kvm() {
    let mut calls = Hypercalls::standard();
    assert_eq!(calls.left_to_kvm(), CallCode::ANSWERED_BY_KVM);
    calls.simple(CallCode::NOTIFY_LONG_SPIN_WAIT, "Spin", None, |_, _: u64| Ok(()));
    assert!(!calls.left_to_kvm().contains(&CallCode::NOTIFY_LONG_SPIN_WAIT));
    assert_eq!(calls.left_to_kvm().len(), CallCode::ANSWERED_BY_KVM.len() - 1);
}

#[test]
fn a_panic_in_a_handler_fails_its_call_and_is_reported_with_its_name() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut calls = Hypercalls::standard();
    calls.simple(ECHO, "Echo", None, |_: &Call<'_>, _: u64| -> HvResult<u64> { panic!("no echo here") });
    calls.rep(DOUBLE, "Double", None, |_: &Call<'_>, (): (), element: u64| -> HvResult<u64> {
        assert!(element != 3, "three");
        Ok(2 * element)
    });
    calls.watch(|_| panic!("seen too much"));
    let sink = told.clone();
    calls.on_panic(move |what, message| sink.lock().unwrap().push((what, message)));

    let memory = ram();
    memory.write_slice([1_u64, 3, 5].as_bytes(), GuestAddress(INPUT)).unwrap();
    let mut registers = Registers::new(Mode::LONG);
    (registers.rcx, registers.rdx, registers.r8) = (HypercallInput::new(DOUBLE).with_rep_count(3).0, INPUT, OUTPUT);
    let outcome = calls.dispatch(VpIndex(0), &IDLE(), &memory, &mut registers);
    let one = HypercallResult { status: HvStatus::OPERATION_FAILED, reps_completed: 1 };
    assert_eq!(outcome, CallOutcome::Done(one), "what was done before it counts");

    registers.rcx = HypercallInput::new(ECHO).with_fast().0;
    let outcome = calls.dispatch(VpIndex(0), &IDLE(), &memory, &mut registers);
    assert_eq!(outcome, CallOutcome::Done(HvStatus::OPERATION_FAILED.into()));
    let told = told.lock().unwrap();
    let told: Vec<_> = told.iter().map(|(what, message)| (what.as_str(), message.as_str())).collect();
    let watcher = ("a watcher of hypercalls", "seen too much");
    let double = ("the handler of hypercall Double (0x7003)", "three");
    assert_eq!(told, [double, watcher, ("the handler of hypercall Echo (0x7001)", "no echo here"), watcher]);
}
