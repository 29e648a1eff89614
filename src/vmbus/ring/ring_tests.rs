use super::guest::{GuestReceiver, GuestSender};
use super::*;
use crate::memory::GuestMemory;
use proptest::prelude::*;
use std::collections::VecDeque;

pub(super) const PAGE: usize = PAGE_SIZE as usize;

/// Creates a ring of `pages` data pages in each direction, scattered over guest memory in descending order.
pub(super) fn scattered_pair(pages: usize) -> (RingMemory, RingMemory) {
    let total = 2 * (pages + 1);
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), total * PAGE)]).unwrap();
    let range = GuestBuffer::new(&memory, (0..total as u32).rev().map(u64::from), 0, total * PAGE).unwrap();
    RingMemory::pair(&range, pages as u32 + 1).unwrap()
}

fn guest_to_host(pages: usize) -> (GuestSender, IncomingRing, RingMemory) {
    let (memory, _) = scattered_pair(pages);
    (GuestSender::new(memory.clone()), IncomingRing::new(memory.clone()).unwrap(), memory)
}

fn host_to_guest(pages: usize) -> (OutgoingRing, GuestReceiver, RingMemory) {
    let (_, memory) = scattered_pair(pages);
    let receiver = GuestReceiver::new(memory.clone());
    (OutgoingRing::new(memory.clone()).unwrap(), receiver, memory)
}

#[test]
fn a_packet_has_the_layout_of_linux() {
    let (mut outgoing, _, memory) = host_to_guest(1);
    outgoing.write(&NewPacket::in_band(0x1122, &[b"abc"])).unwrap();
    let packet = NewPacket {
        kind: PacketKind::TRANSFER_PAGES,
        wants_completion: true,
        extra: &[9; 16],
        ..NewPacket::in_band(7, &[b"12345", b"678"])
    };
    outgoing.write(&packet).unwrap();
    assert_eq!(memory.write_index().load(Ordering::Relaxed), 0, "not published yet");
    let _ = outgoing.publish();
    assert_eq!(memory.write_index().load(Ordering::Relaxed), 32 + 48);

    let mut bytes = [0; 80];
    memory.copy_out(0, &mut bytes);
    assert_eq!(bytes[..16], [6, 0, 2, 0, 3, 0, 0, 0, 0x22, 0x11, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..32], *b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(bytes[32..48], [7, 0, 4, 0, 5, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[48..64], [9; 16]);
    assert_eq!(bytes[64..80], *b"12345678\0\0\0\0\x20\0\0\0");
    assert_eq!(memory.features().load(Ordering::Relaxed), 1);
}

#[test]
fn the_host_reads_packets_by_copy_and_in_place() {
    let (mut sender, mut incoming, memory) = guest_to_host(1);
    let packet = NewPacket {
        kind: PacketKind::GPA_DIRECT,
        extra: &[1; 24],
        wants_completion: true,
        ..NewPacket::in_band(5, &[b"payload!"])
    };
    let _ = sender.send(&packet).unwrap();
    let _ = sender.send(&packet).unwrap();

    let mut buffer = Vec::new();
    let copied = incoming.receive(&mut buffer).unwrap().unwrap();
    assert_eq!((copied.extra, copied.payload), (&[1; 24][..], &b"payload!"[..]));
    assert!(copied.header.wants_completion() && copied.header.transaction_id == 5);

    let packet = incoming.next_packet().unwrap().unwrap();
    assert_eq!(packet.kind(), PacketKind::GPA_DIRECT);
    assert_eq!(packet.extra(), [1; 24]);
    assert_eq!(packet.read_value::<[u8; 4]>(2), Some(*b"yloa"));
    assert_eq!(packet.read_value::<u64>(1), None);
    assert!(!packet.read(usize::MAX, &mut [0; 2]));
    assert_eq!((packet.span(1, 8), packet.span(usize::MAX, 2)), (None, None));
    let span = packet.span(3, 5).unwrap();
    let mut bytes = [0; 5];
    let mut at = 0;
    for slice in incoming.slices(span) {
        at += slice.copy_to(&mut bytes[at..]);
    }
    assert_eq!((bytes, span.len()), (*b"load!", 5));
    assert!(incoming.receive(&mut buffer).unwrap().is_none());
    let read = || memory.read_index().load(Ordering::Relaxed);
    let _ = incoming.publish();
    assert_eq!(read(), 56, "only the first packet is the guest's again");
    incoming.release(span);
    let _ = incoming.publish();
    assert_eq!(read(), 2 * 56);
}

#[test]
fn only_a_packet_into_an_empty_unmasked_ring_signals() {
    let (mut sender, mut incoming, _) = guest_to_host(1);
    let (packet, mut buffer) = (NewPacket::in_band(0, &[]), Vec::new());
    assert_eq!(sender.send(&packet), Ok(Signal::Needed));
    assert_eq!(sender.send(&packet), Ok(Signal::NotNeeded), "the first is still there");
    while incoming.receive(&mut buffer).unwrap().is_some() {}
    assert_eq!(sender.send(&packet), Ok(Signal::NotNeeded), "read, but not given back");
    assert!(incoming.receive(&mut buffer).unwrap().is_some());
    assert_eq!(incoming.publish(), Signal::NotNeeded);
    incoming.mask();
    assert_eq!(sender.send(&packet), Ok(Signal::NotNeeded), "masked");
    assert!(incoming.unmask().unwrap(), "a packet came while it was masked");
    assert!(incoming.receive(&mut buffer).unwrap().is_some());
    let _ = incoming.publish();
    assert!(!incoming.unmask().unwrap());
    assert_eq!(sender.send(&packet), Ok(Signal::Needed));
}

#[test]
fn the_host_signals_a_batch_once_and_only_a_guest_that_may_sleep() {
    let (mut outgoing, mut receiver, _) = host_to_guest(1);
    let (packet, mut buffer) = (NewPacket::in_band(0, &[]), Vec::new());
    assert_eq!(outgoing.publish(), Signal::NotNeeded, "nothing was written");
    for _ in 0..3 {
        outgoing.write(&packet).unwrap();
    }
    assert_eq!(outgoing.publish(), Signal::Needed);
    outgoing.write(&packet).unwrap();
    assert_eq!(outgoing.publish(), Signal::NotNeeded, "the batch is still there");
    while receiver.receive(&mut buffer).is_some() {}
    receiver.begin_read();
    let _ = receiver.close();
    outgoing.write(&packet).unwrap();
    assert_eq!(outgoing.publish(), Signal::NotNeeded, "masked");
    assert!(receiver.end_read());
}

/// Fills the ring with packets of 24 bytes and returns how many there are.
fn fill(mut send: impl FnMut(&NewPacket<'_>) -> bool) -> usize {
    (0..).take_while(|_| send(&NewPacket::in_band(0, &[]))).count()
}

#[test]
fn a_guest_that_waits_for_room_is_signalled_when_there_is_enough() {
    let (mut sender, mut incoming, memory) = guest_to_host(1);
    let mut buffer = Vec::new();
    // 4096 bytes hold 170 packets of 24 bytes and leave 16.
    assert_eq!(fill(|packet| sender.send(packet).is_ok()), 170);
    assert!(!sender.set_pending(48));
    let mut read_one = |incoming: &mut IncomingRing| {
        incoming.receive(&mut buffer).unwrap().unwrap();
        incoming.publish()
    };
    assert_eq!(read_one(&mut incoming), Signal::NotNeeded, "40 bytes are too few");
    assert_eq!(read_one(&mut incoming), Signal::Needed, "64 are enough");
    assert_eq!(read_one(&mut incoming), Signal::NotNeeded, "the guest knows");
    sender.set_pending(0);
    assert_eq!(read_one(&mut incoming), Signal::NotNeeded);

    // Exactly the awaited size is too little, because a full ring would look empty.
    fill(|packet| sender.send(packet).is_ok());
    assert!(!sender.set_pending(40));
    assert_eq!(read_one(&mut incoming), Signal::NotNeeded);
    assert_eq!(read_one(&mut incoming), Signal::Needed);

    // A guest without the feature polls.
    fill(|packet| sender.send(packet).is_ok());
    memory.features().store(0, Ordering::Relaxed);
    assert!(!incoming.guest_minds_room());
    assert!(!sender.set_pending(24));
    assert_eq!(read_one(&mut incoming), Signal::NotNeeded);
}

#[test]
fn a_host_that_waits_for_room_publishes_and_is_signalled() {
    let (mut outgoing, mut receiver, memory) = host_to_guest(1);
    let mut buffer = Vec::new();
    assert_eq!(fill(|packet| outgoing.write(packet).is_ok()), 170);
    assert_eq!(outgoing.wait_for_room(24), Ok((false, Signal::Needed)));
    assert_eq!(memory.pending_send_size().load(Ordering::Relaxed), 24);
    receiver.receive(&mut buffer).unwrap();
    assert_eq!(receiver.close(), Signal::Needed, "40 bytes are more than 24");
    assert_eq!(outgoing.wait_for_room(24), Ok((true, Signal::NotNeeded)));
    outgoing.write(&NewPacket::in_band(0, &[])).unwrap();
    assert_eq!(memory.pending_send_size().load(Ordering::Relaxed), 0, "it waits no more");
}

#[test]
fn packets_whose_data_is_put_into_the_ring_are_like_written_ones() {
    let (mut outgoing, mut receiver, _) = host_to_guest(2);
    let mut buffer = Vec::new();
    let start = |length: usize| (length as u64).to_le_bytes();
    // Odd lengths, so that packets and their data are wrapped in all places.
    let mut next = 0_u64;
    for round in 0..2000_usize {
        let length = round * 37 % 2500;
        let filled = outgoing.fill(800, start, |room| {
            assert!(room.iter().map(|piece| piece.len()).sum::<usize>().is_multiple_of(800));
            let data: Vec<u8> = (next..).take(length).map(|place| (place % 251) as u8).collect();
            let mut rest = &data[..];
            for piece in room {
                piece.copy_from(rest);
                rest = &rest[piece.len().min(rest.len())..];
            }
            Ok::<_, RingError>(data.len() - rest.len())
        });
        let Some(filled) = filled.unwrap() else { panic!("there is room for a packet in round {round}") };
        let (mut got, end) = (0, next + filled as u64);
        let _ = outgoing.publish();
        while let Some(packet) = receiver.receive(&mut buffer) {
            assert_eq!((packet.header.kind, packet.extra), (PacketKind::IN_BAND, &[][..]));
            let (size, data) = packet.payload.split_at(8);
            let size = u64::from_le_bytes(size.try_into().unwrap()) as usize;
            assert_eq!((data.len(), size <= 800), (size.next_multiple_of(8), true));
            assert!(data[..size].iter().zip(next..).all(|(byte, place)| *byte == (place % 251) as u8));
            (next, got) = (next + size as u64, got + size);
        }
        let _ = receiver.close();
        assert_eq!((got, next), (filled, end));
    }
    let refused = outgoing.fill(800, start, |_| Err(RingError::Index { name: "any", value: 0, size: 0 }));
    assert!(refused.is_err() && outgoing.publish() == Signal::NotNeeded, "then nothing is written");
    assert!(matches!(outgoing.fill(8192, start, |_| Ok::<_, RingError>(0)), Err(RingError::TooLong { .. })));
    fill(|packet| outgoing.write(packet).is_ok());
    assert_eq!(outgoing.fill(800, start, |_| Ok::<_, RingError>(0)), Ok(None));
}

#[test]
fn a_mark_is_read_when_all_bytes_before_it_are_even_after_wraps() {
    let (mut outgoing, mut receiver, _) = host_to_guest(1);
    let mut buffer = Vec::new();
    assert_eq!(outgoing.is_read(outgoing.mark()), Ok(true), "nothing was written");
    for round in 0..1000 {
        outgoing.write(&NewPacket::in_band(round, &[&[0; 100]])).unwrap();
        let mark = outgoing.mark();
        outgoing.write(&NewPacket::in_band(round, &[])).unwrap();
        assert_eq!(outgoing.is_read(mark), Ok(false), "not even published");
        let _ = outgoing.publish();
        assert_eq!(outgoing.is_read(mark), Ok(false));
        receiver.receive(&mut buffer).unwrap();
        let _ = receiver.close();
        assert_eq!(outgoing.is_read(mark), Ok(true), "what came after it does not count");
        assert_eq!(outgoing.is_read(outgoing.mark()), Ok(false));
        receiver.receive(&mut buffer).unwrap();
        let _ = receiver.close();
    }
}

#[test]
fn a_host_that_waits_for_an_empty_ring_is_signalled_only_by_the_last_read() {
    let (mut outgoing, mut receiver, _) = host_to_guest(1);
    let mut buffer = Vec::new();
    (0..3).for_each(|id| outgoing.write(&NewPacket::in_band(id, &[])).unwrap());
    let all = outgoing.all_room();
    assert_eq!(outgoing.wait_for_room(all), Ok((false, Signal::Needed)));
    for expected in [Signal::NotNeeded, Signal::NotNeeded, Signal::Needed] {
        receiver.receive(&mut buffer).unwrap();
        assert_eq!(receiver.close(), expected);
    }
    assert_eq!(outgoing.wait_for_room(all), Ok((true, Signal::NotNeeded)));
}

#[test]
fn a_packet_larger_than_the_ring_is_refused_permanently() {
    let (mut outgoing, _, _) = host_to_guest(1);
    let too_long = |result| matches!(result, Err(WriteError::Ring(RingError::TooLong { .. })));
    assert!(outgoing.write(&NewPacket::in_band(0, &[&[0; PAGE - 32]])).is_ok());
    assert!(too_long(outgoing.write(&NewPacket::in_band(0, &[&[0; PAGE - 24]]))));
    assert!(too_long(outgoing.write(&NewPacket { extra: &[0; 4], ..NewPacket::in_band(0, &[]) })));
    let (mut outgoing, _, _) = host_to_guest(200);
    let longest = vec![0; 65535 * 8 - 16];
    assert!(outgoing.write(&NewPacket::in_band(0, &[&longest])).is_ok());
    assert!(too_long(outgoing.write(&NewPacket::in_band(0, &[&longest, &[1]]))));
}

#[test]
fn an_invalid_index_closes_the_ring() {
    for value in [PAGE as u32, PAGE as u32 + 8, 4, 7, u32::MAX, 0x8000_0000] {
        let (_, mut incoming, memory) = guest_to_host(1);
        memory.write_index().store(value, Ordering::Relaxed);
        let wrong = |name| RingError::Index { name, value, size: PAGE as u32 };
        assert_eq!(incoming.next_packet().unwrap_err(), wrong("write"));
        assert_eq!(incoming.unmask().unwrap_err(), wrong("write"));
        assert_eq!(IncomingRing::new(memory).unwrap_err(), wrong("write"));

        let (mut outgoing, _, memory) = host_to_guest(1);
        memory.read_index().store(value, Ordering::Relaxed);
        assert_eq!(outgoing.wait_for_room(u32::MAX).unwrap_err(), wrong("read"));
        assert_eq!(OutgoingRing::new(memory).unwrap_err(), wrong("read"));
    }
}

#[test]
fn a_packet_with_inconsistent_lengths_closes_the_ring() {
    // (payload offset, length) in units of eight bytes, and the write index.
    for (offset8, length8, written) in
        [(2, 1, 64), (1, 2, 64), (0, 0, 64), (3, 2, 64), (2, 2, 16), (2, 8, 64), (2, 2, 8), (2, 0xffff, 4088)]
    {
        let (_, mut incoming, memory) = guest_to_host(1);
        let header =
            PacketHeader { kind: PacketKind::IN_BAND, payload_offset8: offset8, length8, flags: 0, transaction_id: 0 };
        memory.copy_in(0, header.as_bytes());
        memory.write_index().store(written, Ordering::Relaxed);
        let error = incoming.next_packet().unwrap_err();
        assert!(matches!(error, RingError::Packet { offset: 0, .. }), "{offset8} {length8} {written}: {error}");
        assert_eq!(incoming.receive(&mut Vec::new()).unwrap_err(), error, "it stays refused");
    }
}

#[test]
fn a_guest_cannot_move_the_hosts_own_indexes() {
    let (mut sender, mut incoming, memory) = guest_to_host(1);
    let mut buffer = Vec::new();
    for id in 0..4 {
        let _ = sender.send(&NewPacket::in_band(id, &[])).unwrap();
    }
    for id in 0..4 {
        memory.read_index().store(8 * id as u32, Ordering::Relaxed);
        assert_eq!(incoming.receive(&mut buffer).unwrap().unwrap().header.transaction_id, id);
        let _ = incoming.publish();
    }
}

#[test]
fn a_gpadl_that_is_too_small_for_two_rings_is_refused() {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 16 * PAGE)]).unwrap();
    let pair = |frames: std::ops::Range<u64>, offset, length, split| {
        RingMemory::pair(
            &GuestBuffer::new(&memory, frames.collect::<Vec<_>>().into_iter(), offset, length).unwrap(),
            split,
        )
    };
    assert!(pair(0..4, 0, 4 * PAGE, 2).is_ok());
    for split in [0, 1, 3, 4, 5, u32::MAX] {
        assert!(pair(0..4, 0, 4 * PAGE, split).is_err(), "{split}");
    }
    assert!(pair(0..5, 8, 4 * PAGE, 2).is_err());
    assert!(pair(0..4, 0, 4 * PAGE - 8, 2).is_err());
    assert!(pair(0..0, 0, 0, 0).is_err());
    let (upstream, downstream) = pair(0..9, 0, 9 * PAGE, 3).unwrap();
    assert_eq!((upstream.size(), downstream.size()), (2 * PAGE as u32, 5 * PAGE as u32));
}

#[derive(Clone, Debug)]
enum Step {
    Send { extra: usize, payload: usize, completion: bool },
    Receive,
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..5, prop_oneof![0usize..64, 0usize..3000], any::<bool>())
            .prop_map(|(extra, payload, completion)| Step::Send { extra: extra * 8, payload, completion }),
        4 => Just(Step::Receive),
        1 => Just(Step::Publish),
    ]
}

/// A packet in the model: transaction, whether it requires a completion, extra, payload with padding.
type Sent = (u64, bool, Vec<u8>, Vec<u8>);

fn make(id: u64, extra: usize, payload: usize) -> (Vec<u8>, Vec<u8>) {
    let byte = |at: usize| (id as usize * 31 + at * 7) as u8;
    ((0..extra).map(byte).collect(), (0..payload).map(byte).collect())
}

fn remember(id: u64, completion: bool, extra: Vec<u8>, mut payload: Vec<u8>) -> Sent {
    payload.resize(payload.len().next_multiple_of(8), 0);
    (id, completion, extra, payload)
}

fn seen(packet: &Packet<'_>) -> Sent {
    let Packet { header, extra, payload } = packet;
    (header.transaction_id, header.wants_completion(), extra.to_vec(), payload.to_vec())
}

/// Returns the space of the model's packets in the ring, in bytes.
fn used(model: &VecDeque<Sent>) -> usize {
    model.iter().map(|(_, _, extra, payload)| 24 + extra.len() + payload.len()).sum()
}

proptest! {
    #[test]
    fn the_guest_to_host_ring_behaves_like_a_queue(steps in prop::collection::vec(step(), 1..200)) {
        let (mut sender, mut incoming, memory) = guest_to_host(2);
        let (mut queue, mut held, mut buffer) = (VecDeque::new(), VecDeque::new(), Vec::new());
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { extra, payload, completion } => {
                    let (extra, payload) = make(id as u64, extra, payload);
                    let pieces: [&[u8]; 2] = payload.split_at(payload.len() / 3).into();
                    let packet = NewPacket {
                        wants_completion: completion,
                        extra: &extra,
                        ..NewPacket::in_band(id as u64, &pieces)
                    };
                    let sent = sender.send(&packet);
                    let taken = used(&queue) + used(&held);
                    let packet = remember(id as u64, completion, extra, payload);
                    let fits = taken + used(&VecDeque::from([packet.clone()])) < memory.size() as usize;
                    prop_assert_eq!(sent.is_ok(), fits);
                    if let Ok(signal) = sent {
                        prop_assert_eq!(signal.is_needed(), taken == 0);
                        queue.push_back(packet);
                    }
                }
                Step::Receive => {
                    let received = incoming.receive(&mut buffer).unwrap();
                    prop_assert_eq!(received.as_ref().map(seen), queue.front().cloned());
                    held.extend(queue.pop_front());
                }
                Step::Publish => {
                    let _ = incoming.publish();
                    held.clear();
                }
            }
        }
    }

    #[test]
    fn the_host_to_guest_ring_behaves_like_a_queue(steps in prop::collection::vec(step(), 1..200)) {
        let (mut outgoing, mut receiver, memory) = host_to_guest(2);
        let (mut staged, mut queue, mut buffer) = (VecDeque::new(), VecDeque::new(), Vec::new());
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { extra, payload, completion } => {
                    let (extra, payload) = make(id as u64, extra, payload);
                    let pieces: [&[u8]; 1] = [&payload];
                    let packet = NewPacket {
                        wants_completion: completion,
                        extra: &extra,
                        ..NewPacket::completion(id as u64, &pieces)
                    };
                    let written = outgoing.write(&packet);
                    let taken = used(&queue) + used(&staged);
                    let packet = remember(id as u64, completion, extra, payload);
                    let fits = taken + used(&VecDeque::from([packet.clone()])) < memory.size() as usize;
                    prop_assert_eq!(written.is_ok(), fits);
                    if fits {
                        staged.push_back(packet);
                    }
                }
                Step::Receive => {
                    prop_assert_eq!(receiver.receive(&mut buffer).as_ref().map(seen), queue.pop_front());
                    let _ = receiver.close();
                }
                Step::Publish => {
                    let signal = outgoing.publish();
                    prop_assert_eq!(signal.is_needed(), queue.is_empty() && !staged.is_empty());
                    queue.append(&mut staged);
                }
            }
        }
    }

    #[test]
    fn a_ring_of_random_bytes_never_panics(
        words in prop::collection::vec(any::<u64>(), 512),
        small in any::<bool>(),
        write in 0u32..512,
        read in 0u32..512,
    ) {
        let (_, _, memory) = guest_to_host(1);
        let mask = if small { 0x0001_0007_0003_000f } else { u64::MAX };
        for (index, word) in words.iter().enumerate() {
            memory.copy_in(8 * index as u32, &(word & mask).to_le_bytes());
        }
        memory.read_index().store(8 * read, Ordering::Relaxed);
        memory.write_index().store(8 * write, Ordering::Relaxed);
        let mut incoming = IncomingRing::new(memory).unwrap();
        let mut buffer = Vec::new();
        let mut bytes = 0;
        while let Ok(Some(packet)) = incoming.receive(&mut buffer) {
            bytes += packet.header.length() + 8;
            prop_assert!(bytes < PAGE as u32, "more came out of the ring than fits into it");
        }
        let _ = incoming.publish();
    }
}

#[test]
fn those_who_look_on_see_how_full_a_ring_is() {
    let (mut sender, mut incoming, memory) = guest_to_host(1);
    assert_eq!(memory.fill(), Some(0));
    let _ = sender.send(&NewPacket::in_band(0, &[b"12345678"])).unwrap();
    assert_eq!(memory.fill(), Some(32));
    assert!(incoming.receive(&mut Vec::new()).unwrap().is_some());
    let _ = incoming.publish();
    assert_eq!(memory.fill(), Some(0));
    memory.write_index().store(memory.size(), Ordering::Relaxed);
    assert_eq!(memory.fill(), None, "a guest may write anything there");
}
