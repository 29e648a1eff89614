use proptest::prelude::*;

use super::*;
use crate::vsp::pipe::testing::{drain, request};

fn negotiate(mouse: &mut Mouse, version: u32) -> Vec<Vec<u8>> {
    mouse.receive(&wrap(&[&request(0, 4), &version.to_le_bytes()])).unwrap();
    drain(mouse, Duration::ZERO)
}

fn ready() -> Mouse {
    let mut mouse = Mouse::default();
    mouse.opened();
    assert_eq!(negotiate(&mut mouse, VERSION).len(), 2);
    mouse.receive(&wrap(&[&request(3, 1), &[0]])).unwrap();
    assert_eq!(mouse.facts().state, State::Ready);
    mouse
}

fn reports(mouse: &mut Mouse) -> Vec<(u8, u16, u16, i8)> {
    let report = |packet: &Vec<u8>| {
        let (header, report) = Header::read_from_prefix(unwrap(packet).unwrap()).unwrap();
        assert_eq!((header.message_type, header.length), (MessageType::INPUT_REPORT, 7));
        let report = Report::read_from_bytes(report).unwrap();
        (report.buttons, report.x.get(), report.y.get(), report.wheel)
    };
    drain(mouse, Duration::ZERO).iter().map(report).collect()
}

#[test]
fn the_device_is_described_once_its_version_is_approved() {
    let mut mouse = Mouse::default();
    mouse.opened();
    for version in [0, 1 << 16, VERSION + 1] {
        let [refusal] = &negotiate(&mut mouse, version)[..] else { panic!("one answer") };
        assert_eq!(refusal[16..], [&version.to_le_bytes()[..], &[0]].concat());
    }
    let [response, info] = &negotiate(&mut mouse, VERSION)[..] else { panic!("an answer and a description") };
    assert_eq!(response[..], [1, 0, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 2, 0, 1]);
    assert!(info.len() <= Mouse::MAX_PACKET && info[8] == 2);
    assert_eq!(mouse.report(1, 2, 0, 0), Err(MouseError::NotReady));
}

#[test]
fn an_acknowledgement_before_the_description_is_ignored() {
    let mut mouse = Mouse::default();
    mouse.opened();
    let acknowledgement = wrap(&[&request(3, 1), &[0]]);
    mouse.receive(&acknowledgement).unwrap();
    mouse.receive(&wrap(&[&request(0, 4), &VERSION.to_le_bytes()])).unwrap();
    mouse.receive(&acknowledgement).unwrap();
    assert_eq!((mouse.facts().state, mouse.facts().unknown), (State::Described, 2));
}

#[test]
fn waiting_moves_are_merged_and_clicks_keep_their_positions() {
    let mut mouse = ready();
    for at in 0..100 {
        mouse.report(at, at, 0, 0).unwrap();
    }
    mouse.report(99, 99, 1, 0).unwrap();
    for at in 100..200 {
        mouse.report(at, at, 1, 0).unwrap();
    }
    mouse.report(199, 199, 0, 0).unwrap();
    mouse.report(199, 199, 0, -1).unwrap();
    mouse.report(199, 199, 0, -1).unwrap();
    mouse.report(199, 199, 0, 0).unwrap();
    let expected = [
        (0, 0, 0, 0),
        (0, 99, 99, 0),
        (1, 99, 99, 0),
        (1, 199, 199, 0),
        (0, 199, 199, 0),
        (0, 199, 199, -1),
        (0, 199, 199, -1),
    ];
    assert_eq!(reports(&mut mouse), expected);
}

#[test]
fn reports_for_a_guest_that_does_not_read_are_dropped() {
    let mut mouse = ready();
    let taken = (0..1000).filter(|index| mouse.report(0, 0, (index % 2) as u8, 0).is_ok()).count();
    assert_eq!(
        (taken, mouse.facts().waiting),
        (1000 - mouse.facts().dropped as usize, MAX_WAITING + 1),
        "the release of the last press finds room"
    );
    mouse.closed();
    assert_eq!(mouse.facts().waiting, 0);
}

#[test]
fn corners_are_mapped_to_corners_at_every_size() {
    for size in [1, 2, 640, 1920, 7680] {
        assert_eq!(coordinate(0, size), 0);
        assert_eq!(coordinate(u32::MAX, size), MAX_COORDINATE, "{size}");
    }
    for at in 0..1920 {
        let back = u32::from(coordinate(at, 1920)) * 1919 / u32::from(MAX_COORDINATE);
        assert_eq!(back, at);
    }
}

proptest! {
    #[test]
    fn random_messages_never_panic_the_mouse(messages: Vec<Vec<u8>>, reports: Vec<(u16, u16, u8, i8)>) {
        let mut mouse = ready();
        for message in messages {
            let _ = mouse.receive(&message);
            let _ = mouse.receive(&wrap(&[&request(u32::from(message.len() as u8 % 6), 0), &message]));
        }
        for (x, y, buttons, wheel) in reports {
            let _ = mouse.report(x, y, buttons, wheel);
            prop_assert!(mouse.facts().waiting <= MAX_WAITING);
        }
        for packet in drain(&mut mouse, Duration::ZERO) {
            prop_assert!(packet.len() <= Mouse::MAX_PACKET);
        }
        mouse.opened();
        prop_assert_eq!(negotiate(&mut mouse, VERSION).len(), 2);
    }

    /// The last sent report is the last one that was made, whichever reports were dropped.
    #[test]
    fn the_last_report_has_the_last_position(moves in prop::collection::vec((0..=MAX_COORDINATE, 0..=MAX_COORDINATE, 0_u8..4), 1..100)) {
        let mut mouse = ready();
        for (x, y, buttons) in &moves {
            mouse.report(*x, *y, *buttons, 0).unwrap();
        }
        let (x, y, buttons) = moves[moves.len() - 1];
        prop_assert_eq!(reports(&mut mouse).pop(), Some((buttons, x, y, 0)));
    }
}
