use super::*;
use crate::hyperv::message::MessageType;
use crate::hyperv::testing::{SIEFP, SIMP, empty_slot, ram, sint, slot};
use proptest::prelude::*;
use std::collections::VecDeque;

const SINT: u8 = 3;
const VECTOR: u8 = 0x50;

fn pages() -> Pages {
    Pages { messages: Some(MessagePage(SIMP)), event_flags: Some(EventFlagsPage(SIEFP)) }
}

fn synic() -> Synic {
    let mut synic = Synic { simp: PageRegister(SIMP | 1), siefp: PageRegister(SIEFP | 1), ..Synic::default() };
    synic.set_sint(sint(SINT), VECTOR.into()).unwrap();
    synic
}

fn message(number: u8) -> Message {
    Message::new(MessageType::CHANNEL, 0, &[number]).unwrap()
}

const RAISED: Option<Interrupt> = Some(Interrupt { vector: VECTOR, auto_eoi: false });

#[test]
fn a_message_waits_while_the_slot_is_busy_and_goes_out_on_rescan() {
    let (memory, mut synic) = (ram(), synic());
    assert_eq!(synic.post(&memory, pages(), sint(SINT), message(1), false), Ok(RAISED));
    assert_eq!(synic.post(&memory, pages(), sint(SINT), message(2), false), Ok(None));
    assert_eq!(synic.rescan(&memory, pages(), sint(SINT), false), None, "the slot is busy still");
    assert!(empty_slot(&memory, sint(SINT)), "MessagePending asks for EOM");
    assert_eq!(synic.rescan(&memory, pages(), sint(SINT), false), RAISED);
    assert_eq!(slot(&memory, sint(SINT)).payload(), [2]);
    assert!(!empty_slot(&memory, sint(SINT)), "nothing waits any more");
    assert_eq!(synic.rescan(&memory, pages(), sint(SINT), false), None);
}

#[test]
fn messages_arrive_in_the_order_in_which_they_were_posted() {
    let (memory, mut synic) = (ram(), synic());
    for number in 0..10 {
        synic.post(&memory, pages(), sint(SINT), message(number), false).unwrap();
    }
    for number in 0..10 {
        assert_eq!(slot(&memory, sint(SINT)).payload(), [number]);
        assert_eq!(empty_slot(&memory, sint(SINT)), number < 9);
        synic.rescan(&memory, pages(), sint(SINT), false);
    }
}

#[test]
fn the_number_of_waiting_messages_is_bounded() {
    let (memory, mut synic) = (ram(), synic());
    for _ in 0..=MAX_WAITING {
        synic.post(&memory, pages(), sint(SINT), message(0), false).unwrap();
    }
    assert_eq!(synic.post(&memory, pages(), sint(SINT), message(0), false), Err(HvStatus::INSUFFICIENT_BUFFERS));
    assert_eq!(synic.waiting(sint(SINT)), MAX_WAITING);
    assert!(synic.post(&memory, pages(), sint(SINT + 1), message(0), false).is_ok(), "each source has its own");
    assert!(!synic.take_room(), "there is none yet");
    assert!(empty_slot(&memory, sint(SINT)));
    assert_eq!(synic.rescan(&memory, pages(), sint(SINT), false), RAISED);
    assert!(synic.take_room(), "who was turned away may come again");
    assert!(!synic.take_room(), "and is told so once");
}

#[test]
fn withdrawn_messages_are_not_delivered_and_others_are() {
    let (memory, mut synic) = (ram(), synic());
    let other = Message::new(MessageType(0x1234), 0, &[9]).unwrap();
    for message in [message(1), message(2), other, message(3)] {
        synic.post(&memory, pages(), sint(SINT), message, false).unwrap();
    }
    synic.withdraw(sint(SINT), MessageType::CHANNEL);
    assert_eq!(slot(&memory, sint(SINT)).payload(), [1], "what lies in the slot is the guest's");
    assert!(empty_slot(&memory, sint(SINT)));
    synic.rescan(&memory, pages(), sint(SINT), false);
    assert_eq!(slot(&memory, sint(SINT)).payload(), [9]);
    assert!(!empty_slot(&memory, sint(SINT)), "nothing waits behind it");
}

proptest! {
    /// After any operations, a queue keeps its bound and its order, and reports free room once to senders that were refused.
    #[test]
    fn a_queue_is_bounded_and_in_order(steps in prop::collection::vec(0_u8..=255, 1..600)) {
        let (memory, mut queue) = (ram(), MessageQueue::default());
        let page = pages().messages.unwrap();
        let (mut model, mut turned_away) = (VecDeque::new(), false);
        for (step, number) in steps.into_iter().zip(0_u8..=255) {
            match step {
                0..=219 => {
                    let taken = queue.push(message(number));
                    prop_assert_eq!(taken.is_ok(), model.len() < MAX_WAITING);
                    if taken.is_ok() { model.push_back(number) } else { turned_away = true }
                }
                220..=249 => {
                    empty_slot(&memory, sint(SINT));
                    prop_assert_eq!(queue.deliver(&memory, page, sint(SINT), false), !model.is_empty());
                    if let Some(first) = model.pop_front() {
                        let found = slot(&memory, sint(SINT)).payload().to_vec();
                        prop_assert_eq!(found, [first]);
                    }
                }
                _ => {
                    queue.withdraw(MessageType::CHANNEL);
                    model.clear();
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            let room = turned_away && model.len() < MAX_WAITING;
            prop_assert_eq!(queue.take_room(), room);
            turned_away &= !room;
        }
    }
}

#[test]
fn a_disabled_synic_or_page_takes_no_messages_and_no_events() {
    let memory = ram();
    let refused = Err(HvStatus::INVALID_SYNIC_STATE);
    let mut off = synic();
    off.set_scontrol(0);
    assert_eq!(off.post(&memory, pages(), sint(SINT), message(1), false), refused);
    assert_eq!(off.signal(&memory, pages(), sint(SINT), 0), refused);
    let mut no_pages = synic();
    no_pages.simp = PageRegister(0);
    assert_eq!(no_pages.post(&memory, Pages::default(), sint(SINT), message(1), false), refused);
    assert_eq!(no_pages.signal(&memory, Pages::default(), sint(SINT), 0), refused);
}

#[test]
fn a_message_for_a_covered_page_waits_until_the_page_is_visible() {
    let (memory, mut synic) = (ram(), synic());
    assert_eq!(synic.post(&memory, Pages::default(), sint(SINT), message(1), false), Ok(None));
    assert_eq!(synic.rescan(&memory, pages(), sint(SINT), false), RAISED);
}

#[test]
fn a_masked_sint_gets_messages_without_an_interrupt_and_no_events() {
    let (memory, mut synic) = (ram(), synic());
    synic.set_sint(sint(SINT), 1 << 16 | u64::from(VECTOR)).unwrap();
    assert_eq!(synic.post(&memory, pages(), sint(SINT), message(1), false), Ok(None));
    assert_eq!(slot(&memory, sint(SINT)).payload(), [1]);
    assert_eq!(synic.signal(&memory, pages(), sint(SINT), 0), Err(HvStatus::INVALID_SYNIC_STATE));
}

#[test]
fn a_polled_sint_gets_messages_and_events_without_interrupts() {
    let (memory, mut synic) = (ram(), synic());
    for masked in [0, 1 << 16] {
        synic.set_sint(sint(SINT), 1 << 18 | masked | u64::from(VECTOR)).unwrap();
        assert_eq!(synic.signal(&memory, pages(), sint(SINT), (masked >> 16) as u16), Ok(None));
    }
    assert_eq!(synic.post(&memory, pages(), sint(SINT), message(1), false), Ok(None));
    assert_eq!(slot(&memory, sint(SINT)).payload(), [1]);
}

#[test]
fn the_interrupt_of_a_sint_carries_its_auto_eoi_setting() {
    let (memory, mut synic) = (ram(), synic());
    synic.set_sint(sint(SINT), 1 << 17 | u64::from(VECTOR)).unwrap();
    let raised = Some(Interrupt { vector: VECTOR, auto_eoi: true });
    assert_eq!(synic.post(&memory, pages(), sint(SINT), message(1), false), Ok(raised));
}

#[test]
fn an_event_interrupts_only_if_its_flag_was_clear() {
    let (memory, synic) = (ram(), synic());
    assert_eq!(synic.signal(&memory, pages(), sint(SINT), 5), Ok(RAISED));
    assert_eq!(synic.signal(&memory, pages(), sint(SINT), 5), Ok(None));
    assert_eq!(synic.signal(&memory, pages(), sint(SINT), 6), Ok(RAISED));
    assert_eq!(synic.signal(&memory, pages(), sint(SINT), EVENT_FLAGS), Err(HvStatus::INVALID_PARAMETER));
}

#[test]
fn a_vector_below_16_is_refused_unless_masked() {
    let mut synic = Synic::default();
    assert_eq!(synic.set_sint(sint(0), 15), Err(GP));
    assert_eq!(synic.sint(sint(0)), SintRegister::RESET);
    assert_eq!(synic.set_sint(sint(0), SintRegister::RESET.0), Ok(()));
    assert_eq!(synic.set_sint(sint(0), 16), Ok(()));
    // Reserved bits are kept.
    assert_eq!(synic.set_sint(sint(0), !0u64 << 19 | 0x10), Ok(()));
    assert_eq!(synic.sint(sint(0)).0, !0u64 << 19 | 0x10);
}

#[derive(Clone, Debug)]
enum Step {
    Post(u8),
    /// The guest empties the slot, and writes EOM if it must.
    Take,
    /// The guest writes EOM although it need not.
    Eom,
    /// The guest overwrites the slot with random bytes.
    Scribble(u32, u8),
}

proptest! {
    /// The model: a first-in-first-out queue whose head is in the guest's slot.
    #[test]
    fn the_queue_neither_loses_nor_duplicates_nor_reorders_messages(
        steps in prop::collection::vec(prop_oneof![
            3 => any::<u8>().prop_map(Step::Post),
            3 => Just(Step::Take),
            1 => Just(Step::Eom),
        ], 1..300)
    ) {
        let (memory, mut synic) = (ram(), synic());
        let mut model = VecDeque::new();
        for step in steps {
            match step {
                Step::Post(number) => {
                    let result = synic.post(&memory, pages(), sint(SINT), message(number), false);
                    prop_assert_eq!(result.is_ok(), model.len() <= MAX_WAITING);
                    prop_assert_eq!(result.is_ok_and(|raised| raised.is_some()), model.is_empty());
                    if result.is_ok() {
                        model.push_back(number);
                    }
                }
                Step::Take => {
                    let held = slot(&memory, sint(SINT));
                    prop_assert_eq!(held.payload().first().copied().filter(|_| held.header.message_type.0 != 0), model.pop_front());
                    let must_rescan = held.header.message_type.0 != 0 && empty_slot(&memory, sint(SINT));
                    prop_assert_eq!(must_rescan, !model.is_empty());
                    if must_rescan {
                        prop_assert_eq!(synic.rescan(&memory, pages(), sint(SINT), false), RAISED);
                    }
                }
                Step::Eom => prop_assert_eq!(synic.rescan(&memory, pages(), sint(SINT), false), None),
                Step::Scribble(..) => unreachable!(),
            }
        }
    }

    #[test]
    fn a_guest_that_overwrites_its_page_loses_only_its_own_messages(
        steps in prop::collection::vec(prop_oneof![
            any::<u8>().prop_map(Step::Post),
            Just(Step::Eom),
            (any::<u32>(), any::<u8>()).prop_map(|(kind, flags)| Step::Scribble(kind, flags)),
        ], 1..200)
    ) {
        use vm_memory::{Bytes, GuestAddress};
        let (memory, mut synic) = (ram(), synic());
        for step in steps {
            match step {
                Step::Post(number) => {
                    let _ = synic.post(&memory, pages(), sint(SINT), message(number), false);
                }
                Step::Eom | Step::Take => {
                    synic.rescan(&memory, pages(), sint(SINT), true);
                }
                Step::Scribble(kind, flags) => {
                    let at = SIMP + u64::from(SINT) * 256;
                    memory.write_obj(kind, GuestAddress(at)).unwrap();
                    memory.write_obj(flags, GuestAddress(at + 5)).unwrap();
                }
            }
            prop_assert!(synic.waiting(sint(SINT)) <= MAX_WAITING);
            prop_assert_eq!(memory.read_obj::<u64>(GuestAddress(SIMP - 8)).unwrap(), 0);
            prop_assert_eq!(memory.read_obj::<u64>(GuestAddress(SIEFP)).unwrap(), 0);
        }
    }
}
