use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::*;
use crate::memory::GuestMemory;
use crate::memory::buffer::GuestBuffer;

/// Answers each line with its letters in upper case. Nobody waits for the reply to an empty line; `!` is an error.
struct Shout;

impl Answerer for Shout {
    fn answer(&mut self, sent: &[u8], replies: &mut Replies) -> io::Result<usize> {
        let mut taken = 0;
        while replies.has_room() {
            let Some(length) = sent[taken..].iter().position(|byte| *byte == b'\n') else { break };
            let line = &sent[taken..=taken + length];
            if line == b"!\n" {
                return Err(io::ErrorKind::InvalidData.into());
            }
            replies.add(&line.to_ascii_uppercase(), length > 0);
            taken += length + 1;
        }
        Ok(taken)
    }
}

struct NoPort;

impl Port for NoPort {
    fn signal_guest(&self) {}
    fn wake(&self) {}
    fn offer_subchannels(&self, _count: u16) {}
}

/// A peer, and guest memory of two pieces that are not adjacent.
struct Bench {
    peer: Peer,
    buffer: GuestBuffer,
}

impl Bench {
    fn new() -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 4 * 4096)]).unwrap();
        assert_eq!(memory.num_regions(), 1);
        let buffer = GuestBuffer::new(&memory, [2_u64, 0].into_iter(), 0, 2 * 4096).unwrap();
        let answerer: Box<dyn Answerer> = Box::new(Shout);
        Self { peer: answerer.into(), buffer }
    }

    fn send(&mut self, text: &[u8]) -> Result<usize, Errno> {
        self.buffer.write(4094, text).unwrap();
        let slices: Vec<_> = self.buffer.slices(4094, text.len()).unwrap().collect();
        self.peer.send(&NoPort, &slices)
    }

    fn receive(&mut self, room: usize) -> Result<Vec<u8>, Errno> {
        let slices: Vec<_> = self.buffer.slices(4096 - room / 2, room).unwrap().collect();
        let count = self.peer.receive(&NoPort, &slices)?;
        let mut bytes = vec![0; count];
        self.buffer.read(4096 - room / 2, &mut bytes).unwrap();
        Ok(bytes)
    }
}

#[test]
fn what_is_complete_is_answered_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.receive(10), Err(Errno::AGAIN));
    assert_eq!(
        (bench.send(b"one\ntwo"), bench.receive(3), bench.receive(10)),
        (Ok(7), Ok(b"ONE".into()), Ok(b"\n".into()))
    );
    assert_eq!(
        (bench.receive(10), bench.send(b"\n"), bench.receive(10)),
        (Err(Errno::AGAIN), Ok(1), Ok(b"TWO\n".into()))
    );
    assert!(!bench.peer.has_hung_up());
    bench.peer.end();
    assert_eq!((bench.receive(10), bench.send(b"x"), bench.peer.has_hung_up()), (Ok(vec![]), Err(Errno::PIPE), true));
}

#[test]
fn a_reply_that_nobody_waits_for_comes_with_the_next_or_after_a_short_time() {
    let mut bench = Bench::new();
    assert_eq!((bench.send(b"\n"), bench.receive(10)), (Ok(1), Err(Errno::AGAIN)));
    assert_eq!((bench.send(b"a\n"), bench.receive(10)), (Ok(2), Ok(b"\nA\n".into())));
    assert_eq!((bench.send(b"\n"), bench.receive(10)), (Ok(1), Err(Errno::AGAIN)));
    assert_eq!(bench.peer.keeps(), Some(HOLD));
    assert_eq!((bench.receive(10), bench.peer.keeps()), (Ok(b"\n".into()), None));
}

#[test]
fn a_guest_that_reads_no_replies_is_not_read_from_and_an_error_ends_the_connection() {
    let mut bench = Bench::new();
    let line = [&[b'a'; 1023][..], b"\n"].concat();
    let sent = (0..).take_while(|_| bench.send(&line).is_ok()).count();
    assert_eq!(sent, MAX_REPLIES / 1024);
    assert_eq!(bench.send(&line), Err(Errno::AGAIN));
    assert_eq!(bench.receive(2048).unwrap().len(), 2048);
    assert_eq!(bench.send(b"!\n"), Ok(2));
    assert!(bench.peer.has_hung_up());
    let mut got = 0;
    while let Ok(bytes) = bench.receive(4096) {
        if bytes.is_empty() {
            break;
        }
        got += bytes.len();
    }
    assert_eq!(got, sent * 1024 - 2048, "what was answered before still comes");
}

#[test]
fn requests_wait_for_room_for_their_replies() {
    let mut bench = Bench::new();
    // All of them are sent before the first is answered, and there is room for half of their replies.
    let lines = [&[b'a'; 63][..], b"\n"].concat().repeat(2 * MAX_REPLIES / 64);
    let Peer::Local(local) = &mut bench.peer else { unreachable!() };
    local.sent = lines.clone();
    local.answer(&NoPort);
    assert_eq!((local.replies.waiting().len(), local.sent.len()), (MAX_REPLIES, MAX_REPLIES));
    let mut got = Vec::new();
    while let Ok(bytes) = bench.receive(4096) {
        got.extend(bytes);
    }
    assert_eq!(got, lines.to_ascii_uppercase());
}
