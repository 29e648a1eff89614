//! A viewer that sends given bytes to a server with a screen, a keyboard and a mouse: for tests and fuzzers.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::greeting::{Access, Encrypt, greet};
use super::input::Input;
use super::password::Password;
use super::scanner;
use super::show::Show;
use super::stage::Stage;
use super::tls::Tls;
use super::viewer::{listen, write};
use crate::vsp::keyboard::keys::Key;
use crate::vsp::keyboard::protocol::Keyboard;
use crate::vsp::keyboard::wire::VERSION;
use crate::vsp::mouse::protocol::Mouse;
use crate::vsp::pipe::provider::{Handle, Protocol};
use crate::vsp::pipe::testing::{drain, drain_all, request};
use crate::vsp::video::testing::showing;

/// Number of bytes that the viewer receives. A viewer can ask for the same picture without end.
const MAX_SENT: usize = 16 << 20;

fn show() -> Show {
    let (video, _) = showing();
    let keyboard = Handle::new(Keyboard::default());
    keyboard.change(|keyboard| {
        keyboard.opened();
        let accepted = keyboard.receive(&request(1, VERSION));
        assert!(accepted.is_ok(), "{accepted:?}");
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

/// Counts what is sent, and ends the connection after some of it.
struct Sink<'a>(&'a AtomicUsize);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        if before > MAX_SENT { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends these bytes after a greeting.
///
/// # Panics
/// Panics if they harm the server, or leave something behind: a key that is down, a text that is typed, a viewer.
pub fn send(bytes: &[u8]) {
    let show = show();
    let sent = AtomicUsize::new(0);
    let number = std::thread::scope(|scope| {
        let scans = scope.spawn(|| scanner::run(&show.video, &show.stage, &show.signal));
        let seat = show.enter();
        assert!(seat.is_some(), "nobody else looks");
        let number = seat.as_ref().map_or(0, |seat| seat.number);
        let (show, sent) = (&show, &sent);
        let sends = scope.spawn(move || write(show, number, Sink(sent)));
        assert!(listen(show, Input::new(show.input.clone(), number), bytes).is_err(), "the bytes end, or are wrong");
        drop(seat);
        assert!(sends.join().is_ok(), "no message makes the writer panic");
        show.signal.end();
        assert!(scans.join().is_ok(), "no message makes the scanner panic");
        number
    });
    assert!(show.stage.is_empty() && !show.video.read(|video| video.facts().watched), "the viewer has left");
    let Some((keyboard, _)) = &show.input else { return };
    keyboard.change(|keyboard| {
        let waiting = keyboard.facts().waiting;
        // Each key that is down may be released beyond the limit.
        assert!(waiting <= 4 * 1024 + 256);
        keyboard.forget(number);
        assert_eq!(keyboard.facts().waiting, waiting, "nothing is typed any more");
        assert_eq!(drain_all(keyboard).len(), waiting);
    });
    for key in (1..=255_u32).filter_map(Key::from_code) {
        assert!(!keyboard.read(|keyboard| keyboard.is_pressed(key)), "{key:?} is down");
    }
}

/// A viewer whose bytes end.
struct Script<'a>(&'a [u8]);

impl Read for Script<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encrypt for Script<'_> {
    fn encrypt(&mut self, _tls: &Tls) -> io::Result<()> {
        Ok(())
    }
}

/// Sends these bytes, of which the first says whether a greeting is a part of them.
pub fn send_all(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 4 != 0 {
        return send(bytes);
    }
    let password = Password::parse("secret").ok();
    let mut script = Script(bytes);
    // A wrong password would wait for a second.
    let access = Access { password: password.as_ref().filter(|_| bytes.len() < 12 + 1), tls: None };
    if greet(&mut script, access).is_ok() {
        send(script.0);
    }
}
