use super::*;
use crate::hyperv::features::Features;
use crate::hyperv::message::{MessageType, TimerMessagePayload};
use crate::hyperv::status::HvStatus;
use crate::hyperv::testing::{
    RAM, SIEFP, SIMP, at, empty_slot, everything, number, partition, partition_with, patterned, sint, slot, vp,
};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::FromBytes;

const SINT: u8 = 2;
const RAISED: Action = Action::Interrupt(Interrupt { vector: 0x42, auto_eoi: false });

fn write(vp: &mut VpState, partition: &Partition, number: u32, value: u64, time: u64) -> Vec<Action> {
    vp.write_msr(number, value, partition, at(time)).unwrap().into_vec()
}

fn read(vp: &VpState, partition: &Partition, number: u32) -> u64 {
    match vp.read_msr(number, partition, at(0)).unwrap() {
        MsrRead::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

fn message(number: u8) -> Message {
    Message::new(MessageType::CHANNEL, 0, &[number]).unwrap()
}

/// Starts timer `timer`, one-shot or periodic, with messages to SINT 2.
fn start_timer(vp: &mut VpState, partition: &Partition, timer: u32, flags: u64, count: u64, time: u64) -> Vec<Action> {
    write(vp, partition, number::STIMER0_CONFIG + 2 * timer, 0, time);
    write(vp, partition, number::STIMER0_COUNT + 2 * timer, count, time);
    write(vp, partition, number::STIMER0_CONFIG + 2 * timer, u64::from(SINT) << 16 | flags | 1, time)
}

#[test]
fn a_new_vp_has_an_enabled_synic_and_everything_else_disabled() {
    let partition = partition();
    let vp = VpState::new(VpIndex(3));
    assert_eq!(read(&vp, &partition, 0x4000_0002), 3);
    assert_eq!(read(&vp, &partition, number::SCONTROL), 1);
    assert_eq!(read(&vp, &partition, 0x4000_0081), 1);
    assert!((0..16).all(|index| read(&vp, &partition, number::SINT0 + index) == 0x1_0000));
    for register in [
        number::SIMP,
        number::SIEFP,
        number::VP_ASSIST_PAGE,
        number::EOM,
        number::STIMER0_CONFIG,
        number::STIMER0_COUNT,
    ] {
        assert_eq!(read(&vp, &partition, register), 0);
    }
    assert_eq!(vp.next_deadline(), None);
}

#[test]
fn an_msr_that_is_missing_or_lacks_its_privilege_faults() {
    let bare = partition_with(Features::NONE);
    let full = partition();
    let mut vp = VpState::new(VpIndex(0));
    for (number, _) in Msr::all() {
        assert_eq!(vp.read_msr(number, &bare, at(0)), Err(GP));
        assert_eq!(vp.write_msr(number, 0, &bare, at(0)), Err(GP));
    }
    for number in [0x4000_0004, 0x4000_0fff, 0x4000_00a0] {
        assert_eq!(vp.read_msr(number, &full, at(0)), Err(GP));
    }
}

#[test]
fn each_privilege_gives_access_to_its_msrs_only() {
    for (number, msr) in Msr::all() {
        let open = partition_with(Features::NONE.with(msr.requires()));
        let closed = partition_with(everything().without(msr.requires()));
        let write_only = msr == Msr::Apic(ApicRegister::Eoi);
        assert_eq!(VpState::new(VpIndex(0)).read_msr(number, &open, at(0)).is_ok(), !write_only, "{msr}");
        assert!(VpState::new(VpIndex(0)).read_msr(number, &closed, at(0)).is_err(), "{msr}");
    }
}

#[test]
fn read_only_registers_fault_when_written() {
    let partition = partition();
    let mut vp = vp(&partition);
    for number in [0x4000_0002, 0x4000_0010, number::TIME_REF_COUNT, 0x4000_0081, 0x4000_00f0] {
        assert_eq!(vp.write_msr(number, 0, &partition, at(0)), Err(GP), "{number:#x}");
    }
}

#[test]
fn time_msrs_are_read_from_the_moment_of_the_exit() {
    let partition = partition();
    let vp = vp(&partition);
    assert_eq!(vp.read_msr(number::TIME_REF_COUNT, &partition, at(777)), Ok(MsrRead::Value(777)));
    let moment = Moment { runtime: 55, ..at(777) };
    assert_eq!(vp.read_msr(0x4000_0010, &partition, moment), Ok(MsrRead::Value(55)));
}

#[test]
fn apic_msrs_access_the_apic_and_their_reserved_bits_fault() {
    let partition = partition();
    let mut vp = vp(&partition);
    assert_eq!(vp.read_msr(0x4000_0070, &partition, at(0)), Err(GP), "EOI is not to be read");
    assert_eq!(vp.read_msr(0x4000_0072, &partition, at(0)), Ok(MsrRead::Apic(ApicRegister::Tpr)));
    let icr = u64::MAX;
    assert_eq!(write(&mut vp, &partition, 0x4000_0071, icr, 0), [Action::ApicWrite(ApicRegister::Icr, icr)]);
    assert_eq!(write(&mut vp, &partition, 0x4000_0070, 0, 0), [Action::ApicWrite(ApicRegister::Eoi, 0)]);
    for (number, value) in [(0x4000_0070, 1 << 32), (0x4000_0072, 0x100)] {
        assert_eq!(vp.write_msr(number, value, &partition, at(0)), Err(GP));
    }
}

#[test]
fn a_stale_page_does_not_look_like_an_occupied_slot() {
    let partition = partition();
    partition.memory().write_slice(&[0xff; 4096], GuestAddress(SIMP)).unwrap();
    let mut vp = vp(&partition);
    assert_eq!(
        vp.post_message(sint(SINT), message(1), &partition),
        Ok(Some(Interrupt { vector: 0x42, auto_eoi: false }))
    );
}

#[test]
fn pages_beyond_ram_fault_and_change_nothing() {
    let partition = partition();
    let mut vp = vp(&partition);
    for register in [number::SIMP, number::SIEFP, number::VP_ASSIST_PAGE] {
        let before = read(&vp, &partition, register);
        assert_eq!(vp.write_msr(register, RAM | 1, &partition, at(0)), Err(GP));
        assert_eq!(read(&vp, &partition, register), before);
        assert!(vp.write_msr(register, RAM, &partition, at(0)).is_ok());
    }
}

#[test]
fn a_write_to_eom_delivers_the_waiting_messages() {
    let partition = partition();
    let mut vp = vp(&partition);
    for number in 1..=2 {
        vp.post_message(sint(SINT), message(number), &partition).unwrap();
    }
    assert_eq!(write(&mut vp, &partition, number::EOM, 0, 0), [], "the slot is busy still");
    assert!(empty_slot(partition.memory(), sint(SINT)));
    assert_eq!(write(&mut vp, &partition, number::EOM, 0, 0), [RAISED]);
    assert_eq!(slot(partition.memory(), sint(SINT)).payload(), [2]);
}

#[test]
fn an_end_of_interrupt_delivers_only_what_waits_for_its_vector() {
    let partition = partition();
    let mut vp = vp(&partition);
    for number in 1..=2 {
        vp.post_message(sint(SINT), message(number), &partition).unwrap();
    }
    empty_slot(partition.memory(), sint(SINT));
    assert_eq!(vp.end_of_interrupt(0x41, &partition, at(0)).to_vec(), []);
    assert_eq!(vp.end_of_interrupt(0x42, &partition, at(0)).to_vec(), [RAISED]);
}

#[test]
fn messages_in_flight_survive_a_move_of_their_page() {
    let partition = partition();
    let mut vp = vp(&partition);
    for number in 1..=2 {
        vp.post_message(sint(SINT), message(number), &partition).unwrap();
    }
    assert_eq!(write(&mut vp, &partition, number::SIMP, 0x7001, 0), []);
    assert_eq!(partition.memory().read_obj::<u32>(GuestAddress(0x7200)).unwrap(), 1, "the first has moved along");
    assert_eq!(partition.memory().read_obj::<u32>(GuestAddress(SIMP + 0x200)).unwrap(), 0);
    // Disabling the page drops the messages in it. Enabling it again delivers the waiting ones.
    write(&mut vp, &partition, number::SIMP, 0, 0);
    assert_eq!(vp.post_message(sint(SINT), message(3), &partition), Err(HvStatus::INVALID_SYNIC_STATE));
    assert_eq!(write(&mut vp, &partition, number::SIMP, SIMP | 1, 0), [RAISED]);
    assert_eq!(slot(partition.memory(), sint(SINT)).payload(), [2]);
}

#[test]
fn enabling_the_synic_again_delivers_waiting_messages() {
    let partition = partition();
    let mut vp = vp(&partition);
    for number in 1..=2 {
        vp.post_message(sint(SINT), message(number), &partition).unwrap();
    }
    empty_slot(partition.memory(), sint(SINT));
    assert_eq!(write(&mut vp, &partition, number::SCONTROL, 0, 0), []);
    assert_eq!(write(&mut vp, &partition, number::EOM, 0, 0), []);
    assert_eq!(write(&mut vp, &partition, number::SCONTROL, 1, 0), [RAISED]);
}

#[test]
fn a_vp_whose_page_is_covered_by_another_vps_page_waits_and_loses_nothing() {
    let partition = partition();
    let mut one = vp(&partition);
    let mut other = VpState::new(VpIndex(1));
    one.post_message(sint(SINT), message(1), &partition).unwrap();
    write(&mut other, &partition, number::SIMP, SIMP | 1, 0);
    assert_eq!(slot(partition.memory(), sint(SINT)).header.message_type, MessageType::NONE);
    assert_eq!(one.post_message(sint(SINT + 1), message(2), &partition), Ok(None), "waits");
    write(&mut other, &partition, number::SIMP, 0, 0);
    assert_eq!(slot(partition.memory(), sint(SINT)).payload(), [1]);
    assert_eq!(write(&mut one, &partition, number::EOM, 0, 0).len(), 1);
    assert_eq!(slot(partition.memory(), sint(SINT + 1)).payload(), [2]);
}

#[test]
fn an_event_sets_its_flag_and_interrupts() {
    let partition = partition();
    let vp = vp(&partition);
    let raised = Some(Interrupt { vector: 0x42, auto_eoi: false });
    assert_eq!(vp.signal_event(sint(SINT), 17, &partition), Ok(raised));
    assert_eq!(partition.memory().read_obj::<u32>(GuestAddress(SIEFP + 0x200)).unwrap(), 1 << 17);
}

#[test]
fn a_timer_sends_its_message_with_both_times() {
    let partition = partition();
    let mut vp = vp(&partition);
    assert_eq!(start_timer(&mut vp, &partition, 1, 0, 500, 100), []);
    assert_eq!(vp.next_deadline(), Some(500));
    assert_eq!(vp.tick(&partition, at(499)).to_vec(), []);
    assert_eq!(vp.tick(&partition, at(510)).to_vec(), [RAISED]);
    let message = slot(partition.memory(), sint(SINT));
    assert_eq!(message.header.message_type, MessageType::TIMER_EXPIRED);
    assert_eq!((message.header.payload_size, message.header.flags, message.header.origination_id), (24, 0, 0));
    let payload = TimerMessagePayload::read_from_bytes(message.payload()).unwrap();
    let expected = TimerMessagePayload { timer_index: 1, reserved: 0, expiration_time: 500, delivery_time: 510 };
    assert_eq!(payload, expected);
}

#[test]
fn a_timer_that_is_already_due_expires_when_it_is_written() {
    let partition = partition();
    let mut vp = vp(&partition);
    assert_eq!(start_timer(&mut vp, &partition, 0, 0, 500, 9000), [RAISED]);
}

#[test]
fn a_direct_timer_raises_its_vector_and_needs_no_page() {
    let partition = partition();
    let mut vp = VpState::new(VpIndex(0));
    let direct = 1 << 12 | 0xed << 4 | 1;
    write(&mut vp, &partition, number::STIMER0_COUNT, 500, 0);
    write(&mut vp, &partition, number::STIMER0_CONFIG, direct, 0);
    let raised = Action::Interrupt(Interrupt { vector: 0xed, auto_eoi: false });
    assert_eq!(vp.tick(&partition, at(500)).to_vec(), [raised]);
    assert_eq!(read(&vp, &partition, number::STIMER0_CONFIG), direct - 1);
}

#[test]
fn a_timer_waits_for_a_busy_slot_and_resumes_on_eom() {
    let partition = partition();
    let mut vp = vp(&partition);
    let busy = GuestAddress(SIMP + u64::from(SINT) * 256);
    partition.memory().write_obj(0x8000_0010u32, busy).unwrap();
    start_timer(&mut vp, &partition, 0, 0, 500, 100);
    assert_eq!(vp.tick(&partition, at(500)).to_vec(), []);
    assert_eq!(vp.next_deadline(), None, "EOM brings it back, not a clock");
    assert!(empty_slot(partition.memory(), sint(SINT)));
    assert_eq!(write(&mut vp, &partition, number::EOM, 0, 900), [RAISED]);
    let payload = TimerMessagePayload::read_from_bytes(slot(partition.memory(), sint(SINT)).payload()).unwrap();
    assert_eq!((payload.expiration_time, payload.delivery_time), (500, 900));
}

#[test]
fn timer_messages_follow_posted_messages_and_each_is_marked_as_pending() {
    let partition = partition();
    let mut vp = vp(&partition);
    for number in 1..=2 {
        vp.post_message(sint(SINT), message(number), &partition).unwrap();
    }
    start_timer(&mut vp, &partition, 0, 0, 500, 100);
    start_timer(&mut vp, &partition, 1, 0, 501, 100);
    assert_eq!(vp.tick(&partition, at(600)).to_vec(), []);
    let mut seen = Vec::new();
    loop {
        let message = slot(partition.memory(), sint(SINT));
        seen.push(if message.header.message_type == MessageType::TIMER_EXPIRED {
            10 + message.payload[0]
        } else {
            message.payload[0]
        });
        if !empty_slot(partition.memory(), sint(SINT)) {
            break;
        }
        assert_eq!(write(&mut vp, &partition, number::EOM, 0, 700), [RAISED]);
    }
    assert_eq!(seen, [1, 2, 10, 11]);
}

#[test]
fn a_message_delivered_before_a_waiting_timer_is_marked_as_pending() {
    let partition = partition();
    let mut vp = vp(&partition);
    partition.memory().write_obj(1u32, GuestAddress(SIMP + u64::from(SINT) * 256)).unwrap();
    start_timer(&mut vp, &partition, 0, 0, 500, 100);
    vp.tick(&partition, at(500));
    assert!(empty_slot(partition.memory(), sint(SINT)));
    // The message is posted before the guest writes EOM.
    vp.post_message(sint(SINT), message(1), &partition).unwrap();
    assert_eq!(slot(partition.memory(), sint(SINT)).payload(), [1]);
    assert!(empty_slot(partition.memory(), sint(SINT)));
    assert_eq!(write(&mut vp, &partition, number::EOM, 0, 600), [RAISED]);
    assert_eq!(slot(partition.memory(), sint(SINT)).header.message_type, MessageType::TIMER_EXPIRED);
}

#[test]
fn a_lazy_timers_stale_message_is_not_sent() {
    let partition = partition();
    let mut vp = vp(&partition);
    partition.memory().write_obj(1u32, GuestAddress(SIMP + u64::from(SINT) * 256)).unwrap();
    start_timer(&mut vp, &partition, 0, 0b110, 10_000, 0);
    vp.tick(&partition, at(10_000));
    empty_slot(partition.memory(), sint(SINT));
    assert_eq!(write(&mut vp, &partition, number::EOM, 0, 19_000), []);
    assert_eq!(vp.next_deadline(), Some(20_000));
}

#[test]
fn a_direct_timer_is_refused_where_it_is_not_offered() {
    let partition = partition_with(everything().without(Feature::DirectSyntheticTimers));
    assert_eq!(VpState::new(VpIndex(0)).write_msr(number::STIMER0_CONFIG, 1 << 12, &partition, at(0)), Err(GP));
}

#[test]
fn a_reset_restores_registers_and_covered_pages() {
    let partition = partition();
    let mut vp = vp(&partition);
    partition.memory().write_slice(&[9; 16], GuestAddress(SIEFP)).unwrap();
    start_timer(&mut vp, &partition, 0, 2, 5000, 0);
    vp.reset(&partition);
    assert_eq!((read(&vp, &partition, number::SIMP), vp.next_deadline()), (0, None));
    assert_eq!(partition.memory().read_obj::<u64>(GuestAddress(SIEFP)).unwrap(), 0);
    assert_eq!(vp.post_message(sint(SINT), message(1), &partition), Err(HvStatus::INVALID_SYNIC_STATE));
}

/// Two VPs move their pages over each other's while a device posts to both. There is no deadlock, and memory is restored.
#[test]
fn several_vps_and_a_device_can_use_the_synic_at_once() {
    use std::sync::Mutex;
    let partition = partition();
    partition.memory().write_slice(&patterned(), GuestAddress(0)).unwrap();
    let vps = [Mutex::new(VpState::new(VpIndex(0))), Mutex::new(VpState::new(VpIndex(1)))];
    let registers = [number::SIMP, number::SIEFP, number::VP_ASSIST_PAGE, number::REFERENCE_TSC, number::EOM];
    std::thread::scope(|scope| {
        for (index, vp) in vps.iter().enumerate() {
            let partition = &partition;
            scope.spawn(move || {
                for turn in 0..3000 {
                    let value = ((turn * 7 + index) % 4 * 0x1000 + turn % 3 % 2) as u64;
                    vp.lock().unwrap().write_msr(registers[turn % 5], value, partition, at(turn as u64)).unwrap();
                    partition.reference_time(at(turn as u64).reading);
                }
            });
        }
        scope.spawn(|| {
            for turn in 0..6000u16 {
                let mut vp = vps[usize::from(turn % 2)].lock().unwrap();
                let _ = vp.post_message(sint(SINT), message(1), &partition);
                let _ = vp.signal_event(sint(SINT), turn % 2048, &partition);
            }
        });
        for turn in 0..200 {
            partition.pause(at(turn).reading);
            partition.resume(at(turn).reading);
        }
    });
    vps.iter().for_each(|vp| vp.lock().unwrap().reset(&partition));
    partition.reset();
    let mut after = vec![0; RAM as usize];
    partition.memory().read_slice(&mut after, GuestAddress(0)).unwrap();
    assert!(after == patterned(), "memory under an overlay was written");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two VPs of a hostile guest write random values to all MSRs while messages, events and timers are delivered.
    #[test]
    fn random_msr_writes_never_panic_and_a_reset_restores_covered_memory(
        steps in prop::collection::vec((any::<bool>(), 0usize..64, prop_oneof![
            any::<u64>(), Just(1), Just(0x1001), Just(0x2001), Just(0x3001), Just(0), Just(0x2_0003), 0x10u64..0x100, 0u64..20_000,
        ], 0u64..30_000), 1..120)
    ) {
        let partition = partition();
        let all: Vec<_> = Msr::all().collect();
        let before = patterned();
        partition.memory().write_slice(&before, GuestAddress(0)).unwrap();
        let mut vps = [VpState::new(VpIndex(0)), VpState::new(VpIndex(1))];
        let mut time = 0;
        for (which, index, value, wait) in steps {
            time += wait;
            let vp = &mut vps[usize::from(which)];
            let (number, msr) = all[index % all.len()];
            let old = vp.read_msr(number, &partition, at(time));
            if vp.write_msr(number, value, &partition, at(time)).is_err() {
                prop_assert_eq!(vp.read_msr(number, &partition, at(time)), old, "{}", msr);
            }
            let _ = vp.post_message(sint((value % 16) as u8), message(1), &partition);
            let _ = vp.signal_event(sint((value % 16) as u8), (value % 4096) as u16, &partition);
            let actions = vp.tick(&partition, at(time));
            prop_assert!(actions.len() <= 4, "more interrupts than timers");
            prop_assert!(vp.next_deadline().is_none_or(|deadline| deadline > time), "an expiration was left behind");
        }
        vps.iter_mut().for_each(|vp| vp.reset(&partition));
        partition.reset();
        let mut after = vec![0; RAM as usize];
        partition.memory().read_slice(&mut after, GuestAddress(0)).unwrap();
        prop_assert!(after == before, "memory under an overlay was written");
    }
}
