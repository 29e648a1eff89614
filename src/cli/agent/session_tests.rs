use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cli::agent::frame::MAX_FROM_AGENT;

fn command() -> Command {
    Command { arguments: vec![b"true".to_vec()], ..Command::default() }
}

fn session() -> Session {
    Session::new(&command()).unwrap()
}

/// Returns the bytes of a frame of an agent.
fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend([kind, stream, 0, 0]);
    bytes.extend(payload);
    bytes
}

fn hello() -> Vec<u8> {
    frame(1, 0, b"VIRA\x01\0\0\0")
}

fn started() -> Session {
    let mut session = session();
    session.received(&[hello(), frame(3, 0, &[1, 0, 0, 0])].concat()).unwrap();
    session.sent(usize::MAX);
    session
}

#[test]
fn a_command_runs_and_its_output_and_status_arrive() {
    let mut session = started();
    session.received(&frame(4, 1, b"out")).unwrap();
    session.received(&frame(4, 2, b"err")).unwrap();
    assert_eq!((session.output(Stream::Output), session.output(Stream::Error)), (&b"out"[..], &b"err"[..]));
    session.received(&frame(9, 0, &[0, 0, 0, 0, 7, 0, 0, 0])).unwrap();
    assert_eq!(session.end(), Some(&End::Exited(Status::Code(7))));
    session.hung_up();
    assert_eq!(session.end(), Some(&End::Exited(Status::Code(7))), "the end that came first counts");
}

#[test]
fn a_signal_gives_the_exit_code_of_a_shell() {
    let mut session = started();
    session.received(&frame(9, 0, &[9, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!(session.end(), Some(&End::Exited(Status::Signal(9))));
    assert_eq!(Status::Signal(9).code(), 137);
}

#[test]
fn unread_output_is_bounded_by_the_window() {
    let mut session = started();
    let piece = vec![0; MAX_FROM_AGENT];
    for _ in 0..WINDOW_SIZE as usize / piece.len() {
        session.received(&frame(4, 1, &piece)).unwrap();
    }
    assert!(session.received(&frame(4, 1, b"x")).is_err());
}

#[test]
fn reading_output_grants_the_agent_as_much_again() {
    let mut session = started();
    let piece = vec![0; MAX_FROM_AGENT];
    for _ in 0..1000 {
        session.received(&frame(4, 1, &piece)).unwrap();
        while !session.output(Stream::Output).is_empty() {
            session.written(Stream::Output, session.output(Stream::Output).len());
        }
    }
    assert!(!session.outgoing().is_empty());
}

#[test]
fn input_stops_at_the_window_and_goes_on_when_the_agent_grants_more() {
    let mut session = started();
    let mut sent = 0;
    while session.input_room() > 0 {
        let room = session.input_room();
        session.input(&vec![0; room]);
        session.sent(usize::MAX);
        sent += room;
    }
    assert_eq!(sent, WINDOW_SIZE as usize);
    session.received(&frame(6, 0, &[1, 0, 0, 0])).unwrap();
    assert_eq!(session.input_room(), 1);
    session.input(&[]);
    assert_eq!(session.input_room(), 0, "the input is over");
}

#[test]
fn a_protocol_violation_by_the_agent_ends_the_session() {
    let refused: [(&str, Vec<u8>); 12] = [
        ("a second greeting", hello()),
        ("a second start", frame(3, 0, &[0; 4])),
        ("data on standard input", frame(4, 0, b"x")),
        ("data on a stream that is none", frame(4, 9, b"x")),
        ("too large a grant", frame(6, 0, &[1, 0, 0, 0])),
        ("an exit code above 255", frame(9, 0, &[0, 0, 0, 0, 0, 1, 0, 0])),
        ("signal 65", frame(9, 0, &[65, 0, 0, 0, 0, 0, 0, 0])),
        ("an unknown failure", frame(10, 0, &[5, 0, 0, 0, 1, 0, 0, 0])),
        ("an unknown kind", frame(99, 0, &[])),
        ("a step that nobody asked for", frame(14, 0, &[])),
        ("a long frame", (MAX_FROM_AGENT as u32 + 1).to_le_bytes().into_iter().chain([4, 1, 0, 0]).collect()),
        ("reserved bytes", vec![0, 0, 0, 0, 5, 1, 1, 0]),
    ];
    for (what, bytes) in refused {
        assert!(started().received(&bytes).is_err(), "{what}");
    }
    assert!(session().received(&frame(4, 1, b"early")).is_err());
    assert_eq!(session().received(&frame(1, 0, b"VIRA\x02\0\0\0")), Err(SessionError::Version(2)));
    let mut ended = started();
    ended.received(&frame(5, 1, &[])).unwrap();
    assert!(ended.received(&frame(4, 1, b"x")).is_err(), "data after the end of its stream");
}

#[test]
fn commands_that_do_not_fit_are_refused_before_anything_is_sent() {
    let long = Command { arguments: vec![vec![b'x'; 300 << 10]], ..Command::default() };
    assert!(matches!(Session::new(&long), Err(FrameError::TooLong(_))));
    let zero = Command { arguments: vec![b"a\0b".to_vec()], ..Command::default() };
    assert!(matches!(Session::new(&zero), Err(FrameError::ZeroByte)));
}

proptest! {
    #[test]
    fn random_bytes_from_an_agent_cause_no_panic_and_no_buffers_beyond_the_windows(
        pieces in vec(vec(any::<u8>(), 0..200), 0..30), greet in any::<bool>()
    ) {
        let mut session = if greet { started() } else { session() };
        for piece in pieces {
            if session.received(&piece).is_err() {
                break;
            }
            prop_assert!(session.output.waiting.len() + session.error.waiting.len() <= 2 * WINDOW_SIZE as usize);
        }
    }

    #[test]
    fn frames_are_assembled_from_any_pieces(
        data in vec((1u8..3, vec(any::<u8>(), 1..2000)), 0..20), cuts in vec(1usize..3000, 1..50)
    ) {
        let mut bytes = [hello(), frame(3, 0, &[0; 4])].concat();
        let mut expected: [Vec<u8>; 2] = Default::default();
        for (stream, piece) in &data {
            bytes.extend(frame(4, *stream, piece));
            expected[usize::from(*stream) - 1].extend(piece);
        }
        bytes.extend(frame(9, 0, &[0; 8]));
        let (mut session, mut rest, mut found) = (session(), &bytes[..], [Vec::<u8>::new(), Vec::new()]);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            session.received(now).unwrap();
            for (stream, found) in [Stream::Output, Stream::Error].into_iter().zip(&mut found) {
                while !session.output(stream).is_empty() {
                    let length = session.output(stream).len();
                    found.extend(session.output(stream));
                    session.written(stream, length);
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(session.end(), Some(&End::Exited(Status::Code(0))));
    }
}
