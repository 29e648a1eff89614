use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_end_in_one_direction_leaves_the_other_open() {
    let mut transfer = Transfer::new(5);
    assert_eq!((transfer.receive(4), transfer.receive(0)), (Ok(true), Ok(true)));
    assert_eq!((transfer.next(), transfer.waiting()), (None, 9));
    transfer.peer_took(9);
    assert_eq!(transfer.next(), Some(Next::TellPeer), "after the data");
    transfer.peer_told();
    assert_eq!((transfer.next(), transfer.wants_data()), (None, true));
    transfer.sent(100);
    transfer.peer_ended();
    assert_eq!(transfer.next(), Some(Next::TellGuest));
    transfer.guest_told();
    assert_eq!((transfer.next(), transfer.counts()), (Some(Next::Over), (4, 100)));
}

#[test]
fn a_peer_that_hangs_up_is_over_when_its_data_is_delivered() {
    let mut transfer = Transfer::default();
    transfer.receive(4).unwrap();
    transfer.peer_is_gone();
    assert_eq!((transfer.waiting(), transfer.next()), (0, None), "it may have data to read");
    transfer.peer_ended();
    assert_eq!(transfer.next(), Some(Next::TellGuest));
    transfer.guest_told();
    assert_eq!(transfer.next(), Some(Next::Over));
}

#[test]
fn data_after_the_end_is_malformed_and_a_second_end_is_not() {
    let mut transfer = Transfer::default();
    transfer.receive(0).unwrap();
    transfer.receive(0).unwrap();
    assert_eq!(transfer.receive(1), Err(Malformed::AfterEnd));
}

#[test]
fn waits_after_the_end_of_the_guest_are_bounded() {
    let mut transfer = Transfer::default();
    transfer.moved(3 * SECOND);
    assert_eq!((transfer.deadline(true), transfer.deadline(false)), (None, None));
    transfer.receive(0).unwrap();
    assert_eq!(transfer.deadline(true), Some(3 * SECOND + UNREAD_PATIENCE));
    assert_eq!(transfer.deadline(false), Some(3 * SECOND + SILENT_PATIENCE));
    transfer.moved(5 * SECOND);
    transfer.receive(0).unwrap();
    for unread in [true, false] {
        assert_eq!(transfer.deadline(unread), Some(5 * SECOND + CLOSED_PATIENCE));
    }
}

#[test]
fn a_peer_that_is_deaf_is_not_waited_for() {
    let mut transfer = Transfer::default();
    assert_eq!((transfer.receive(4088), transfer.waiting()), (Ok(true), 4088));
    transfer.peer_is_deaf();
    assert_eq!((transfer.receive(4088), transfer.waiting()), (Ok(false), 0), "nobody wants it");
    assert_eq!(transfer.counts(), (2 * 4088, 0));
}

/// A step of the guest, the peer, or the shell between them.
#[derive(Clone, Debug)]
enum Step {
    GuestSends(usize),
    GuestEnds,
    PeerSends(usize),
    PeerEnds,
    PeerHangsUp,
    PeerIsDeaf,
    /// The shell moves: a packet of the guest, bytes to the peer, bytes of the peer.
    Receive,
    ToPeer(usize),
    ToGuest(usize),
    Act,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..9000_usize).prop_map(Step::GuestSends),
        1 => Just(Step::GuestEnds),
        4 => (1..9000_usize).prop_map(Step::PeerSends),
        1 => Just(Step::PeerEnds),
        1 => prop_oneof![9 => Just(Step::Act), 1 => Just(Step::PeerHangsUp), 1 => Just(Step::PeerIsDeaf)],
        8 => Just(Step::Receive),
        8 => (1..20_000_usize).prop_map(Step::ToPeer),
        8 => (1..20_000_usize).prop_map(Step::ToGuest),
        8 => Just(Step::Act),
    ]
}

/// Both ends of a connection, which count what they have sent and got.
#[derive(Default)]
struct Model {
    guest_sent: u64,
    guest_ended: bool,
    /// Lengths of the packets in the guest's ring whose headers were not read.
    ring: VecDeque<usize>,
    peer_sent: u64,
    peer_ended: bool,
    /// Bytes of the peer that nobody has read.
    socket: usize,
    hung_up: bool,
    deaf: bool,
    peer_got: u64,
    peer_told: bool,
    guest_got: u64,
    guest_told: bool,
}

impl Model {
    fn step(&mut self, transfer: &mut Transfer, step: &Step) {
        match *step {
            Step::GuestSends(count) if !self.guest_ended => {
                self.ring.push_back(count);
                self.guest_sent += count as u64;
            }
            Step::GuestEnds if !self.guest_ended => {
                self.guest_ended = true;
                self.ring.push_back(0);
            }
            Step::PeerSends(count) if !self.peer_ended => {
                self.peer_sent += count as u64;
                self.socket += count;
            }
            Step::PeerEnds => self.peer_ended = true,
            Step::PeerHangsUp => (self.peer_ended, self.hung_up, self.deaf) = (true, true, true),
            Step::PeerIsDeaf => self.deaf = true,
            Step::Receive => {
                if let Some(count) = self.ring.pop_front() {
                    transfer.receive(count).unwrap();
                }
            }
            Step::ToPeer(count) if self.deaf && count > 0 && transfer.waiting() > 0 => {
                if self.hung_up {
                    transfer.peer_is_gone();
                } else {
                    transfer.peer_is_deaf();
                }
            }
            Step::ToPeer(count) => {
                let count = count.min(transfer.waiting());
                assert!(!self.peer_told || count == 0, "nothing comes after the end");
                transfer.peer_took(count);
                self.peer_got += count as u64;
            }
            Step::ToGuest(count) if transfer.wants_data() => {
                let count = count.min(self.socket);
                self.socket -= count;
                self.guest_got += count as u64;
                transfer.sent(count);
                assert!(!self.guest_told);
                if count == 0 && self.peer_ended {
                    transfer.peer_ended();
                }
            }
            Step::Act => {
                if self.hung_up && transfer.awaits_hang_up() {
                    transfer.peer_is_gone();
                }
                match transfer.next() {
                    Some(Next::TellPeer) => {
                        transfer.peer_told();
                        assert!(!std::mem::replace(&mut self.peer_told, true));
                        assert!(self.guest_ended && self.ring.is_empty());
                        assert!(self.deaf || self.peer_got == self.guest_sent, "all data comes before the end");
                    }
                    Some(Next::TellGuest) => {
                        transfer.guest_told();
                        assert!(!std::mem::replace(&mut self.guest_told, true));
                        assert!(self.peer_ended && self.guest_got == self.peer_sent);
                    }
                    Some(Next::Over) => {
                        assert!(self.guest_told, "all data of the peer was delivered");
                        assert!(self.peer_told || self.hung_up);
                    }
                    None => {}
                }
            }
            _ => {}
        }
        let unread: usize = self.ring.iter().sum();
        let taken = self.guest_sent - self.peer_got - unread as u64;
        assert_eq!(transfer.waiting() as u64, if transfer.peer_deaf { 0 } else { taken });
    }
}

proptest! {
    #[test]
    fn all_bytes_arrive_and_each_direction_ends_once(steps in prop::collection::vec(step(), 1..200)) {
        let (mut transfer, mut model) = (Transfer::default(), Model::default());
        steps.iter().for_each(|step| model.step(&mut transfer, step));
        // Then both sides end, and the shell goes on: the connection must be over, with everything delivered.
        model.step(&mut transfer, &Step::GuestEnds);
        model.step(&mut transfer, &Step::PeerEnds);
        for _ in 0..10_000 {
            if transfer.next() == Some(Next::Over) {
                break;
            }
            for step in [Step::Receive, Step::ToPeer(20_000), Step::ToGuest(20_000), Step::Act] {
                model.step(&mut transfer, &step);
            }
        }
        prop_assert_eq!(transfer.next(), Some(Next::Over));
        prop_assert_eq!((model.guest_got, model.socket), (model.peer_sent, 0));
        prop_assert!(model.deaf || model.peer_got == model.guest_sent);
        prop_assert_eq!(transfer.counts().1, model.peer_sent);
    }
}
