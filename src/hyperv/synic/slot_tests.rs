use super::*;
use crate::hyperv::message::MessageType;
use crate::hyperv::testing::{empty_slot, ram, sint, slot};
use std::thread;

const PAGE: MessagePage = MessagePage(crate::hyperv::testing::SIMP);
const SINT: u8 = 2;

fn message(number: u64) -> Message {
    Message::new(MessageType::CHANNEL, 5, &number.to_le_bytes()).unwrap()
}

fn pending(memory: &GuestMemory) -> bool {
    slot(memory, sint(SINT)).header.flags & 1 != 0
}

#[test]
fn a_message_lies_whole_in_a_free_slot() {
    let memory = ram();
    assert_eq!(PAGE.place(&memory, sint(SINT), &message(77), false), Placed::InSlot);
    let placed = slot(&memory, sint(SINT));
    assert_eq!(placed, message(77));
    assert_eq!(slot(&memory, sint(SINT - 1)).header.message_type, MessageType::NONE);
    assert_eq!(slot(&memory, sint(SINT + 1)).header.message_type, MessageType::NONE);
}

#[test]
fn a_busy_slot_keeps_its_message_and_is_marked_pending() {
    let memory = ram();
    PAGE.place(&memory, sint(SINT), &message(1), false);
    assert!(!pending(&memory));
    assert_eq!(PAGE.place(&memory, sint(SINT), &message(2), false), Placed::Busy);
    assert!(pending(&memory));
    assert_eq!(slot(&memory, sint(SINT)).payload(), 1u64.to_le_bytes());
}

#[test]
fn a_new_message_clears_a_stale_pending_mark_unless_more_wait() {
    let memory = ram();
    PAGE.place(&memory, sint(SINT), &message(1), true);
    assert!(pending(&memory));
    empty_slot(&memory, sint(SINT));
    PAGE.place(&memory, sint(SINT), &message(2), false);
    assert!(!pending(&memory));
}

#[test]
fn the_last_flag_of_the_last_source_is_the_last_bit_of_the_page() {
    let memory = ram();
    let page = EventFlagsPage(0x2000);
    assert!(page.set(&memory, sint(15), EVENT_FLAGS - 1));
    assert!(!page.set(&memory, sint(15), EVENT_FLAGS - 1));
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2fff)).unwrap(), 0x80);
    assert!(page.set(&memory, sint(0), 0));
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2000)).unwrap(), 1);
    assert!(page.set(&memory, sint(1), 9));
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2101)).unwrap(), 2);
}

/// Host and guest race as they do in life: no message may be left waiting without a mark, and none lost or doubled.
#[test]
fn no_message_is_stranded_between_a_host_and_a_guest_that_race() {
    const MESSAGES: u64 = 20_000;
    let memory = ram();
    let (eom, waits_for_eom) = std::sync::mpsc::channel();
    let guest = thread::spawn({
        let memory = memory.clone();
        move || {
            let address = GuestAddress(PAGE.slot(sint(SINT)));
            let mut expected = 0;
            while expected < MESSAGES {
                if memory.load::<u32>(address, Ordering::SeqCst).unwrap() == 0 {
                    thread::yield_now();
                    continue;
                }
                let taken = slot(&memory, sint(SINT));
                assert_eq!(taken.payload(), expected.to_le_bytes());
                expected += 1;
                memory.store(0u32, address, Ordering::SeqCst).unwrap();
                fence(Ordering::SeqCst);
                if memory.load::<u8>(GuestAddress(address.0 + FLAGS_OFFSET), Ordering::SeqCst).unwrap() & 1 != 0 {
                    eom.send(()).unwrap();
                }
            }
        }
    });
    for number in 0..MESSAGES {
        while PAGE.place(&memory, sint(SINT), &message(number), false) == Placed::Busy {
            // Sleeps until EOM: if the mark were lost, this would time out.
            waits_for_eom.recv_timeout(std::time::Duration::from_secs(10)).expect("a message was stranded");
        }
    }
    guest.join().unwrap();
}
