//! Random guests: with any messages, and any closing of the channel, a service keeps its bounds, and every request is finished
//! exactly once.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::testing::Pair;
use super::super::wire::MAX_PACKET;
use super::super::{file_copy, kvp, shutdown, vss};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// The service sends, if it has something to send.
    Send,
    /// The guest answers the last packet, with a status and this byte at this place of the body.
    Answer {
        status: u32,
        at: usize,
        byte: u8,
    },
    /// The guest answers with only the start of the packet, with valid or invalid lengths.
    Short {
        length: usize,
        honest: bool,
    },
    /// The guest sends these bytes.
    Garbage(Vec<u8>),
    Wait {
        milliseconds: u64,
    },
    Request {
        which: u8,
    },
    Cancel {
        back: u64,
    },
    Close,
    Open,
    Reset,
    Resume,
    Negotiate,
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![6 => Just(0), 1 => Just(0x8007_0103), 1 => Just(0x8000_4005), 1 => any::<u32>()];
    prop_oneof![
        8 => Just(Step::Send),
        8 => (status, 0..600_usize, any::<u8>()).prop_map(|(status, at, byte)| Step::Answer { status, at, byte }),
        1 => (0..80_usize, any::<bool>()).prop_map(|(length, honest)| Step::Short { length, honest }),
        1 => proptest::collection::vec(any::<u8>(), 0..64).prop_map(Step::Garbage),
        2 => (0..100_000_u64).prop_map(|milliseconds| Step::Wait { milliseconds }),
        4 => (0..6_u8).prop_map(|which| Step::Request { which }),
        1 => (0..4_u64).prop_map(|back| Step::Cancel { back }),
        1 => Just(Step::Close),
        1 => Just(Step::Open),
        1 => Just(Step::Reset),
        1 => Just(Step::Resume),
        2 => Just(Step::Negotiate),
    ]
}

fn request(which: u8) -> Request {
    let second = Duration::from_secs(1);
    match which {
        0 => Request::Shutdown(shutdown::Shutdown::new(shutdown::Kind::Restart)),
        1 => Request::SyncTime,
        2 => Request::KeyValue(kvp::KeyValue::List(kvp::Pool::Guest)),
        3 => Request::Freeze(vss::Freeze { patience: second, limit: second * 20 }),
        4 => Request::Thaw,
        _ => Request::Copy(file_copy::Copy {
            target: "/tmp/a".into(),
            overwrite: true,
            make_path: true,
            size: 20_000,
            source: Box::new(std::io::repeat(7)),
        }),
    }
}

/// Runs a service with a guest that takes these steps.
fn live(kind: Kind, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut pair = Pair::opened(kind, Forced::default());
    let (mut accepted, mut finished) = (BTreeSet::new(), BTreeSet::new());
    let mut has_packet = false;
    for step in steps {
        match step {
            Step::Send => has_packet |= pair.take().is_some(),
            Step::Answer { status, at, byte } if has_packet => {
                pair.send_back_with(WireStatus(status), |body| {
                    let length = body.len();
                    body[at % length] ^= byte;
                });
            }
            Step::Short { length, honest } if has_packet => {
                let mut reply = pair.reply_with(WireStatus::SUCCESS, |_| ());
                reply.truncate(length);
                let length = reply.len();
                if honest && reply.len() >= 28 {
                    reply[4..8].copy_from_slice(&(length as u32 - 8).to_le_bytes());
                    reply[18..20].copy_from_slice(&(length as u16 - 28).to_le_bytes());
                    pair.service.receive(&pair.now, &reply).expect("the lengths are right");
                } else {
                    // The request may be refused.
                    let _ = pair.service.receive(&pair.now, &reply);
                }
            }
            Step::Answer { .. } | Step::Short { .. } => {}
            Step::Garbage(bytes) => {
                let _ = pair.service.receive(&pair.now, &bytes);
            }
            Step::Wait { milliseconds } => pair.wait(Duration::from_millis(milliseconds)),
            Step::Request { which } => accepted.extend(pair.service.request(&pair.now, request(which))),
            Step::Cancel { back } => {
                let newest: Option<&Ticket> = accepted.last();
                let ticket = newest.and_then(|ticket| ticket.0.checked_sub(back));
                ticket.into_iter().for_each(|ticket| pair.service.cancel(Ticket(ticket)));
            }
            Step::Close => pair.service.closed(),
            Step::Open => {
                pair.service.opened();
                has_packet = false;
            }
            Step::Reset => pair.service.reset(),
            Step::Resume => pair.service.resumed(&pair.now),
            Step::Negotiate => {
                pair.service.opened();
                pair.negotiate();
                has_packet = true;
            }
        }
        for (ticket, _) in pair.outcomes() {
            prop_assert!(accepted.contains(&ticket) && finished.insert(ticket), "{ticket:?} is finished once");
        }
        let status = serde_json::to_string(&pair.status()).expect("a status is text");
        prop_assert!(status.len() < 8 << 20);
        // After the due actions, the next deadline is in the future, or there is a message to send.
        pair.service.tick(&pair.now);
        if pair.service.deadline(true).is_some_and(|deadline| deadline <= pair.now.running) {
            prop_assert!(pair.take().is_some(), "the service wants to be called without end");
            has_packet = true;
        }
    }
    pair.service.closed();
    finished.extend(pair.outcomes().into_iter().map(|(ticket, _)| ticket));
    prop_assert_eq!(accepted, finished, "every request is finished");
    prop_assert_eq!((pair.take(), pair.service.deadline(true)), (None, None));
    Ok(())
}

proptest! {
    #[test]
    fn random_guests_never_panic_a_service(kind in 0..6_usize, steps in proptest::collection::vec(step(), 0..120)) {
        live(Kind::ALL[kind], steps)?;
    }

    #[test]
    fn a_guest_that_may_be_frozen_is_eventually_thawed(steps in proptest::collection::vec(step(), 0..60)) {
        let mut pair = Pair::connected(Kind::Vss);
        let mut frozen = false;
        let mut status = WireStatus::SUCCESS;
        for step in steps {
            match step {
                Step::Send => {
                    if let Some((_, body)) = pair.take() {
                        frozen |= body[0] == 5;
                        // The guest thaws on every THAW, but may fail to confirm it.
                        frozen &= body[0] != 6;
                    }
                }
                Step::Answer { status, .. } => pair.send_back(WireStatus(status)),
                Step::Wait { milliseconds } => pair.wait(Duration::from_millis(milliseconds)),
                Step::Request { which } => {
                    let _ = pair.service.request(&pair.now, request(which));
                }
                Step::Cancel { back } => pair.service.cancel(Ticket(back)),
                Step::Close | Step::Open | Step::Negotiate => {
                    pair.service.opened();
                    pair.negotiate();
                }
                Step::Short { .. } => status = WireStatus::FAIL,
                _ => {}
            }
        }
        // From now on, the guest answers, and no thaw is requested.
        for _ in 0..200 {
            if let Some((header, body)) = pair.take() {
                frozen = (frozen || body.first() == Some(&5)) && body.first() != Some(&6);
                let is_thaw = header.message_type == MessageType::VSS && body[0] == 6;
                pair.send_back(if is_thaw { WireStatus::SUCCESS } else { status });
            }
            pair.wait(Duration::from_secs(5));
        }
        prop_assert!(!frozen);
        let Details::Vss(facts) = pair.status().details else { panic!("the details are another service's") };
        prop_assert_eq!(facts.file_systems, vss::FileSystems::Thawed);
    }
}

#[test]
fn the_longest_packet_is_bounded() {
    let mut pair = Pair::connected(Kind::Heartbeat);
    let long = vec![0; MAX_PACKET + 1];
    assert_eq!(pair.service.receive(&pair.now, &long), Err(Violation::Long(MAX_PACKET + 1)));
}
