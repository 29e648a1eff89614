//! One viewer.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::IntoBytes;

use super::connection::Connection;
use super::encoder::{COPY, CURSOR, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, Encoder, LIGHTS, QEMU_KEYS, best};
use super::format::Format;
use super::greeting::{self, Access, Patient};
use super::input::Input;
use super::messages::Message;
use super::show::{MAX_VIEWERS, Show};
use super::turn::{Turn, Wishes};
use super::update::{head, rectangle};
use crate::host::limited;

/// The time that a viewer has to read some of what it was sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Number of bytes that are sent at once.
const CHUNK: usize = 1 << 20;

/// Serves a viewer until it is gone.
///
/// # Errors
/// Returns the error of the connection, or one about what the viewer did wrong.
pub fn serve(show: &Show, connection: &Arc<Connection>) -> io::Result<()> {
    connection.set_timeouts(None, Some(PATIENCE))?;
    let access = Access { password: show.password.as_ref(), tls: show.tls.as_ref() };
    let access = if connection.is_control() { Access::default() } else { access };
    greeting::greet(&mut Patient::new(connection), access)?;
    connection.set_timeouts(None, Some(PATIENCE))?;
    let crowded = || io::Error::new(io::ErrorKind::PermissionDenied, format!("there are {MAX_VIEWERS}"));
    let seat = show.enter().ok_or_else(crowded)?;
    connection.progress().seat();
    let (number, (width, height)) = (seat.number, seat.size);
    let mut start = Vec::new();
    start.extend((width as u16).to_be_bytes());
    start.extend((height as u16).to_be_bytes());
    start.extend(Format::NATIVE.as_bytes());
    start.extend((show.name.len() as u32).to_be_bytes());
    start.extend(show.name.as_bytes());
    (&**connection).write_all(&start)?;
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name(format!("{}/viewer", show.name));
        let writer = writer.spawn_scoped(scope, || {
            let result = write(show, number, &**connection);
            connection.close();
            result
        })?;
        let devices = if connection.only_watches() { None } else { show.input.clone() };
        let heard = listen(show, Input::new(devices, number), io::BufReader::new(&**connection));
        drop(seat);
        connection.close();
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        heard.and(written)
    })
}

/// Reads what the viewer sends. Keys, buttons and texts go to `input`.
pub fn listen(show: &Show, mut input: Input, mut from: impl Read) -> io::Result<()> {
    let number = input.number();
    loop {
        match Message::read(&mut from)? {
            Message::Format(format) => show.stage.wish(number, |wishes| wishes.format = format),
            Message::Encodings(known) => show.stage.wish(number, |wishes| {
                let extended = known.contains(&EXTENDED_DESKTOP_SIZE);
                *wishes = Wishes {
                    format: wishes.format,
                    encoding: best(&known),
                    resizes: extended || known.contains(&DESKTOP_SIZE),
                    extended,
                    keys: known.contains(&QEMU_KEYS),
                    size: extended,
                    answer: None,
                    copies: known.contains(&COPY),
                    pointer: known.contains(&CURSOR),
                    lights: known.contains(&LIGHTS),
                };
            }),
            Message::Update { incremental, area } => show.stage.want(number, incremental, area),
            Message::Keysym { down, keysym } => input.keysym(keysym, down),
            Message::Key { down, keysym, code } => input.key(code, keysym, down),
            Message::Pointer { buttons, x, y } => input.point((x, y), show.stage.size(), buttons),
            Message::Size { width, height, screens } => {
                let answer = show.ask_for_size(width, height, screens);
                show.stage.wish(number, |wishes| wishes.answer = Some(answer).filter(|_| wishes.extended));
            }
            Message::Text(text) if show.pastes => {
                if let Err(error) = input.paste(&text) {
                    let name = &show.name;
                    limited::warn!(of: name, "{name}: the clipboard of a viewer is not typed: {error}");
                }
            }
            Message::LongText if show.pastes => {
                let name = &show.name;
                limited::warn!(of: name, "{name}: the clipboard of a viewer is not typed: it has more than 1024 characters");
            }
            Message::Text(_) | Message::LongText | Message::Ignored => {}
        }
    }
}

/// Sends what the viewer asks for.
pub fn write(show: &Show, number: u64, mut to: impl Write) -> io::Result<()> {
    let (mut encoder, mut pixels) = (Encoder::default(), Vec::new());
    while let Some(turn) = show.stage.turn(number, || show.signal.release()) {
        let Turn { wishes, rectangles, .. } = &turn;
        let mut bytes = head(&turn);
        for area in rectangles {
            let (width, height) = (area.right - area.left, area.bottom - area.top);
            rectangle(&mut bytes, [area.left, area.top, width, height], wishes.encoding);
            pixels.clear();
            show.stage.copy(*area, &mut pixels);
            encoder.encode(&mut bytes, (&wishes.format, wishes.encoding), &mut pixels, width as usize)?;
            if bytes.len() >= CHUNK {
                to.write_all(&bytes)?;
                bytes.clear();
            }
        }
        show.stage.taken(number);
        to.write_all(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
