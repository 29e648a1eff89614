use proptest::prelude::*;

use super::*;
use crate::vsp::pipe::testing::{drain, drain_all, request};

fn ready() -> Keyboard {
    let mut keyboard = Keyboard::default();
    keyboard.opened();
    keyboard.receive(&request(1, VERSION)).unwrap();
    assert_eq!(drain(&mut keyboard, Duration::ZERO), [vec![2, 0, 0, 0, 1, 0, 0, 0]]);
    keyboard
}

/// Returns code and flags of what is sent.
fn sent(keyboard: &mut Keyboard, now: Duration) -> Vec<(u16, u32)> {
    codes(&drain(keyboard, now))
}

fn codes(packets: &[Vec<u8>]) -> Vec<(u16, u32)> {
    packets
        .iter()
        .map(|packet| Keystroke::read_from_bytes(packet).unwrap())
        .map(|stroke| (stroke.code, stroke.flags))
        .collect()
}

/// Returns code and flags of all that is sent from a time on, if the guest reads it at once, and the time of the end.
fn all(keyboard: &mut Keyboard, mut now: Duration) -> (Vec<(u16, u32)>, Duration) {
    let mut all = Vec::new();
    while !keyboard.waiting.is_empty() || all.is_empty() {
        all.extend(sent(keyboard, now));
        now += TYPING;
    }
    (all, now)
}

fn key(name: &str) -> Key {
    Key::named(name).unwrap()
}

#[test]
fn an_unknown_version_is_refused_and_another_can_be_requested() {
    let mut keyboard = Keyboard::default();
    keyboard.opened();
    for version in [0, 1, VERSION + 1, 2 << 16, u32::MAX] {
        keyboard.receive(&request(1, version)).unwrap();
        assert_eq!(drain(&mut keyboard, Duration::ZERO), [vec![2, 0, 0, 0, 0, 0, 0, 0]]);
        assert_eq!(keyboard.press(key("a"), true), Err(KeyError::NotReady));
    }
    keyboard.receive(&request(1, VERSION)).unwrap();
    assert_eq!(keyboard.facts().state, State::Ready);
}

#[test]
fn keys_are_sent_with_their_prefixes() {
    let mut keyboard = ready();
    for name in ["a", "left", "ctrl-right", "pause"] {
        keyboard.press(key(name), true).unwrap();
        keyboard.press(key(name), false).unwrap();
    }
    let expected =
        [(0x1e, 0), (0x1e, 2), (0x4b, 4), (0x4b, 6), (0x1d, 4), (0x1d, 6), (0x1d, 8), (0x45, 0), (0x1d, 10), (0x45, 2)];
    assert_eq!(all(&mut keyboard, Duration::ZERO).0, expected);
}

#[test]
fn shift_is_pressed_or_released_as_the_keysym_requires() {
    let mut keyboard = ready();
    let mut now = Duration::ZERO;
    let mut press = |keysym, down| {
        keyboard.press_stroke(keyboard.layout().of_keysym(keysym).unwrap(), down).unwrap();
        let (sent, end) = all(&mut keyboard, now);
        now = end;
        sent
    };
    assert_eq!(press(u32::from('A'), true), [(0x2a, 0), (0x1e, 0), (0x2a, 2)]);
    assert_eq!(press(u32::from('A'), false), [(0x1e, 2)]);
    assert_eq!(press(0xffe1, true), [(0x2a, 0)]);
    assert_eq!(press(u32::from('A'), true), [(0x1e, 0)], "Shift is held already");
    assert_eq!(press(u32::from('1'), true), [(0x2a, 2), (0x02, 0), (0x2a, 0)], "as a French keyboard types digits");
    assert_eq!(press(0xff0d, true), [(0x1c, 0)], "Enter is Enter with and without");
}

/// A keyboard whose guest has this layout, and a function that presses or releases a keysym and returns what is sent.
fn with_layout(name: &str) -> impl FnMut(u32, bool) -> Vec<(u16, u32)> {
    let mut keyboard = Keyboard::new(name.parse().unwrap());
    keyboard.opened();
    keyboard.receive(&request(1, VERSION)).unwrap();
    drain(&mut keyboard, Duration::ZERO);
    let mut now = Duration::ZERO;
    move |keysym, down| {
        if let Some(stroke) = keyboard.layout().of_keysym(keysym) {
            keyboard.press_stroke(stroke, down).unwrap();
        }
        if keyboard.waiting.is_empty() {
            return Vec::new();
        }
        let (sent, end) = all(&mut keyboard, now);
        now = end;
        sent
    }
}

#[test]
fn altgr_of_a_viewer_does_not_reach_a_guest_with_another_layout() {
    // A German viewer types @ with AltGr and Q.
    const ALTGR: u32 = 0xfe03;
    let mut us = with_layout("us");
    assert_eq!(us(ALTGR, true), []);
    assert_eq!(us(u32::from('@'), true), [(0x2a, 0), (0x03, 0), (0x2a, 2)]);
    assert_eq!((us(u32::from('@'), false), us(ALTGR, false)), (vec![(0x03, 2)], vec![]));
    // Alt on the right is a command.
    assert_eq!((us(0xffea, true), us(u32::from('x'), true)), (vec![(0x38, 4)], vec![(0x2d, 0)]));

    let mut german = with_layout("de");
    assert_eq!(german(ALTGR, true), [(0x38, 4)]);
    assert_eq!(german(u32::from('@'), true), [(0x10, 0)], "it is held already");
    assert_eq!(german(u32::from('@'), false), [(0x10, 2)]);
    assert_eq!(
        german(u32::from('!'), true),
        [(0x2a, 0), (0x38, 6), (0x02, 0), (0x38, 4), (0x2a, 2)],
        "as others have it"
    );
    assert_eq!(german(ALTGR, false), [(0x38, 6)]);
    assert_eq!(german(u32::from('{'), true), [(0x38, 4), (0x08, 0), (0x38, 6)]);
    assert_eq!(german(u32::from('^'), true), [(0x29, 0), (0x29, 2), (0x39, 0)], "a dead key, and Space");
}

#[test]
fn a_text_is_typed_in_the_layout_of_the_guest() {
    let mut keyboard = Keyboard::new("de".parse().unwrap());
    keyboard.opened();
    keyboard.receive(&request(1, VERSION)).unwrap();
    let strokes = keyboard.strokes("zÄ@é").unwrap();
    drain(&mut keyboard, Duration::ZERO);
    keyboard.type_strokes(&strokes).unwrap();
    let expected = [
        [(0x15, 0), (0x15, 2)].as_slice(),
        &[(0x2a, 0), (0x28, 0), (0x28, 2), (0x2a, 2)],
        &[(0x38, 4), (0x10, 0), (0x10, 2), (0x38, 6)],
        &[(0x0d, 0), (0x0d, 2), (0x12, 0), (0x12, 2)],
    ];
    assert_eq!(codes(&drain_all(&mut keyboard)), expected.concat());
}

#[test]
fn a_text_is_typed_a_character_at_a_time() {
    let mut keyboard = ready();
    for stroke in keyboard.strokes("aB\r\n").unwrap() {
        assert_eq!(keyboard.type_stroke(stroke), Ok(true));
    }
    assert_eq!(sent(&mut keyboard, Duration::ZERO), [(0x1e, 0), (0x1e, 2)]);
    assert_eq!(keyboard.deadline(), Some(TYPING));
    assert_eq!(sent(&mut keyboard, TYPING), [(0x2a, 0), (0x30, 0)]);
    assert_eq!(sent(&mut keyboard, 2 * TYPING), [(0x30, 2), (0x2a, 2)]);
    assert!(!keyboard.is_done());
    assert_eq!(sent(&mut keyboard, 3 * TYPING), [(0x1c, 0), (0x1c, 2)]);
    assert!(keyboard.is_done() && keyboard.deadline().is_none());
    assert_eq!(keyboard.strokes("naïve"), Err(KeyError::Character { character: 'ï', layout: "us" }));
}

#[test]
fn the_next_character_waits_until_the_guest_has_read_the_one_before() {
    let mut keyboard = ready();
    let strokes = keyboard.strokes("ab").unwrap();
    keyboard.type_strokes(&strokes).unwrap();
    assert_eq!(sent(&mut keyboard, Duration::ZERO), [(0x1e, 0), (0x1e, 2)]);
    keyboard.note(false);
    for late in 1..100 {
        assert_eq!(sent(&mut keyboard, late * TYPING), []);
        assert_eq!(keyboard.deadline(), Some((late + 1) * TYPING));
    }
    keyboard.note(true);
    assert_eq!(sent(&mut keyboard, 101 * TYPING), [(0x30, 0), (0x30, 2)]);
}

#[test]
fn many_keys_that_are_pressed_at_once_are_sent_as_fast_as_the_guest_reads_them() {
    let mut keyboard = ready();
    (0..20).for_each(|at| keyboard.press(key("a"), at % 2 == 0).unwrap());
    assert_eq!(sent(&mut keyboard, Duration::ZERO).len(), BURST);
    assert_eq!(keyboard.deadline(), Some(TYPING));
    assert_eq!(sent(&mut keyboard, TYPING / 2), []);
    keyboard.note(false);
    assert_eq!(sent(&mut keyboard, TYPING), []);
    assert_eq!(keyboard.deadline(), Some(2 * TYPING), "it is looked at again");
    keyboard.note(true);
    assert_eq!(sent(&mut keyboard, 2 * TYPING).len(), BURST);
    assert_eq!(all(&mut keyboard, 3 * TYPING).0.len(), 20 - 2 * BURST);
    assert_eq!((keyboard.deadline(), keyboard.is_done()), (None, true));
    // After a pause, a key is sent at once.
    (0..1000).for_each(|_| keyboard.press(key("a"), true).unwrap());
    assert_eq!(sent(&mut keyboard, 100 * TYPING), [(0x1e, 0)], "repeats are merged");
}

#[test]
fn keys_for_a_guest_that_does_not_read_are_dropped() {
    let mut keyboard = ready();
    (0..MAX_WAITING).for_each(|at| keyboard.press(key(["a", "b"][at % 2]), true).unwrap());
    assert_eq!((keyboard.press(key("c"), true), keyboard.facts().dropped), (Err(KeyError::Full), 1));
    keyboard.closed();
    assert_eq!(
        (keyboard.facts().waiting, keyboard.is_pressed(key("a"))),
        (0, false),
        "a new driver starts without keys"
    );
}

#[test]
fn the_guest_sets_the_lights() {
    let mut keyboard = ready();
    keyboard.receive(&[4, 0, 0, 0, 6, 0]).unwrap();
    assert_eq!(keyboard.facts().leds, Some(Leds { scroll: false, num: true, caps: true }));
    assert!(keyboard.receive(&[4, 0, 0, 0, 6]).is_err());
}

proptest! {
    /// After any messages of the guest, the keyboard keeps its bounds and can be negotiated again.
    #[test]
    fn random_messages_never_panic_the_keyboard(messages: Vec<(u8, Vec<u8>)>) {
        let mut keyboard = ready();
        for (message_type, rest) in messages {
            let _ = keyboard.receive(&[&[message_type % 6, 0, 0, 0][..], &rest].concat());
            let _ = keyboard.press(key("a"), true);
            prop_assert!(keyboard.facts().waiting <= MAX_WAITING);
        }
        keyboard.opened();
        keyboard.receive(&request(1, VERSION)).unwrap();
        prop_assert_eq!(drain(&mut keyboard, Duration::ZERO), [vec![2, 0, 0, 0, 1, 0, 0, 0]]);
    }

    /// Keys are pressed and released in the order of the calls.
    #[test]
    fn keys_are_sent_in_the_order_in_which_they_are_pressed(codes: Vec<(u8, bool)>) {
        let mut keyboard = ready();
        let mut expected = Vec::new();
        for (code, down) in codes.into_iter().take(200) {
            let Some(key) = Key::from_code(code.into()).filter(|key| *key != Key::PAUSE) else { continue };
            keyboard.press(key, down).unwrap();
            let flags = if down { 0 } else { 2 } | if code & 0x80 != 0 { 4 } else { 0 };
            let event = (u16::from(code & 0x7f), flags);
            if !down || expected.last() != Some(&event) {
                expected.push(event);
            }
        }
        prop_assert!(expected.is_empty() || all(&mut keyboard, Duration::ZERO).0 == expected);
    }
}
