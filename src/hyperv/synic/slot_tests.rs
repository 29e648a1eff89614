use super::*;
use crate::hyperv::message::MessageType;
use crate::hyperv::testing::{empty_slot, ram, sint, slot};
use crate::patience::Patience;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

const PAGE: MessagePage = MessagePage(crate::hyperv::testing::SIMP);
const SINT: u8 = 2;

fn message(number: u64) -> Message {
    Message::new(MessageType::CHANNEL, 5, &number.to_le_bytes()).unwrap()
}

fn pending(memory: &GuestMemory) -> bool {
    slot(memory, sint(SINT)).header.flags & 1 != 0
}

#[test]
fn a_message_is_written_completely_into_a_free_slot() {
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
fn the_last_flag_of_the_last_sint_is_the_last_bit_of_the_page() {
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

/// Host and guest race on two threads: no message may be left waiting without a mark, and none lost, torn or duplicated.
///
/// Both spin, and the host acts a little earlier or later each time, so that every interleaving occurs. On a machine with fewer
/// than two free processors, each round takes long. Then there are fewer rounds, but at least a minimum.
#[test]
fn no_message_is_stranded_between_a_host_and_a_guest_that_race() {
    const MESSAGES: u64 = 60_000;
    const LEAST: u64 = 300;
    const LAST: u64 = u64::MAX;
    let memory = ram();
    let address = GuestAddress(PAGE.slot(sint(SINT)));
    let eoms = Arc::new(AtomicU64::new(0));
    let guest = thread::spawn({
        let (memory, eoms) = (memory.clone(), eoms.clone());
        move || {
            for expected in 0.. {
                let mut patience = Patience::new(Duration::from_secs(20));
                while memory.load::<u32>(address, Ordering::SeqCst).unwrap() == 0 {
                    assert!(!patience.is_over(), "a message was stranded");
                    std::hint::spin_loop();
                }
                let payload: u64 = memory.read_obj(GuestAddress(address.0 + 16)).unwrap();
                memory.store(0u32, address, Ordering::SeqCst).unwrap();
                fence(Ordering::SeqCst);
                if memory.load::<u8>(GuestAddress(address.0 + FLAGS_OFFSET), Ordering::SeqCst).unwrap() & 1 != 0 {
                    eoms.fetch_add(1, Ordering::SeqCst);
                }
                if payload == LAST {
                    return;
                }
                assert_eq!(payload, expected);
            }
        }
    });
    let (start, mut seen) = (Instant::now(), 0);
    let enough = |number: u64| number >= LEAST && start.elapsed() > Duration::from_secs(2);
    for number in (0..MESSAGES).take_while(|number| !enough(*number)).chain([LAST]) {
        (0..number % 97).for_each(|_| std::hint::spin_loop());
        while PAGE.place(&memory, sint(SINT), &message(number), false) == Placed::Busy {
            // Wait for EOM as a queue does. If the mark was set too late, there is none.
            while eoms.load(Ordering::SeqCst) == seen && !guest.is_finished() {
                std::hint::spin_loop();
            }
            assert!(!guest.is_finished(), "the guest has given up");
            seen = eoms.load(Ordering::SeqCst);
        }
    }
    guest.join().unwrap();
}
