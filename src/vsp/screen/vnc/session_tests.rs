//! Viewers that send anything, to a server with a real screen, keyboard and mouse.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::vsp::keyboard::protocol::Keyboard;
use crate::vsp::keyboard::wire::VERSION;
use crate::vsp::mouse::protocol::Mouse;
use crate::vsp::pipe::provider::{Handle, Protocol};
use crate::vsp::pipe::testing::{drain, request};
use crate::vsp::screen::vnc::scanner;
use crate::vsp::screen::vnc::stage::Stage;
use crate::vsp::video::testing::showing;

fn show() -> Show {
    let (video, _) = showing();
    let keyboard = Handle::new(Keyboard::default());
    keyboard.change(|keyboard| {
        keyboard.opened();
        keyboard.receive(&request(1, VERSION)).unwrap();
        drain(keyboard, Duration::ZERO);
    });
    Show {
        name: "machine".into(),
        address: None,
        password: None,
        tls: None,
        stage: Stage::new(640, 480),
        input: Some((keyboard, Handle::new(Mouse::default()))),
        pastes: true,
        refused: AtomicU64::new(0),
        video,
        signal: Arc::default(),
        watch: Default::default(),
    }
}

/// Counts what is sent, and ends the connection after some of it: a viewer can ask for the same picture without end.
struct Sink<'a>(&'a AtomicUsize);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        if before > 16 << 20 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a message of a kind that exists, with the body as far as its length goes, or anything.
fn message((kind, body): (u8, Vec<u8>)) -> Vec<u8> {
    const ENCODINGS: [i32; 11] = [0, 1, 5, 6, 7, 16, -223, -308, -258, -261, -239];
    let body_of = |length: usize| body.iter().copied().chain(std::iter::repeat(0)).take(length);
    match kind % 10 {
        0 => [0, 0, 0, 0].into_iter().chain(Format::NATIVE.as_bytes().iter().copied()).collect(),
        1 => [0, 0, 0, 0, 8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6].into_iter().chain(body_of(3)).collect(),
        2 => {
            let known: Vec<u8> = body.iter().flat_map(|at| ENCODINGS[usize::from(*at) % 11].to_be_bytes()).collect();
            let count = (body.len() as u16).to_be_bytes();
            [&[2, 0, count[0], count[1]], &known[..]].concat()
        }
        3 => [3, 1, 0, 0, 0, 0, 255, 255, 255, 255].to_vec(),
        4 => [3].into_iter().chain(body_of(9)).collect(),
        5 => [4].into_iter().chain(body_of(7)).collect(),
        6 => [5].into_iter().chain(body_of(5)).collect(),
        7 => [&[6, 0, 0, 0], &(body.len() as u32).to_be_bytes()[..], &body].concat(),
        8 => [255, 0].into_iter().chain(body_of(10)).collect(),
        _ => body,
    }
}

proptest! {
    #[test]
    fn no_viewer_harms_the_server(messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..24)), 0..64)) {
        let show = show();
        let bytes: Vec<u8> = messages.into_iter().flat_map(message).collect();
        let sent = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let scans = scope.spawn(|| scanner::run(&show.video, &show.stage, &show.signal));
            let seat = show.enter();
            let number = seat.number;
            let (show, sent) = (&show, &sent);
            let sends = scope.spawn(move || write(show, number, Sink(sent)));
            // The bytes end, or are wrong.
            assert!(listen(show, number, &bytes[..]).is_err());
            drop(seat);
            let _ = sends.join().expect("no message makes the writer panic");
            show.signal.end();
            scans.join().expect("no message makes the scanner panic");
        });
        prop_assert!(show.stage.is_empty() && !show.video.read(|video| video.facts().watched));
        let (keyboard, _) = show.input.as_ref().unwrap();
        prop_assert!(keyboard.read(Keyboard::facts).waiting <= 4 * 1024);
        // Nothing is left down, and nothing is typed any more.
        let codes = keyboard.change(|keyboard| drain(keyboard, Duration::ZERO));
        prop_assert!(codes.len() <= 4 * 1024);
        keyboard.change(|keyboard| assert!(drain(keyboard, Duration::from_secs(60)).is_empty()));
        for key in (1..=255_u32).filter_map(crate::vsp::keyboard::keys::Key::from_code) {
            prop_assert!(!keyboard.read(|keyboard| keyboard.is_pressed(key)), "{key:?}");
        }
    }
}
