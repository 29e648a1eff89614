//! One viewer.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::IntoBytes;

use super::connection::Connection;
use super::encoder::{DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, Encoder, QEMU_KEYS, best};
use super::format::Format;
use super::greeting::{self, Patient};
use super::input::Input;
use super::messages::Message;
use super::show::Show;
use super::stage::{Turn, Wishes};

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
    let password = show.password.as_ref().filter(|_| !matches!(**connection, Connection::Control(_)));
    greeting::greet(&mut Patient::new(connection), password)?;
    connection.set_timeouts(None, Some(PATIENCE))?;
    let seat = show.enter();
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
        let heard = listen(show, number, io::BufReader::new(&**connection));
        drop(seat);
        connection.close();
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        heard.and(written)
    })
}

/// Reads what the viewer sends.
fn listen(show: &Show, number: u64, mut from: impl Read) -> io::Result<()> {
    let mut input = Input::new(show.input.clone());
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
                    refused: false,
                };
            }),
            Message::Update { incremental, area } => show.stage.want(number, incremental, area),
            Message::Keysym { down, keysym } => input.keysym(keysym, down),
            Message::Key { down, keysym, code } => input.key(code, keysym, down),
            Message::Pointer { buttons, x, y } => input.point((x, y), show.stage.size(), buttons),
            Message::Size => show.stage.wish(number, |wishes| wishes.refused = wishes.extended),
            Message::Ignored => {}
        }
    }
}

/// Sends what the viewer asks for.
fn write(show: &Show, number: u64, mut to: impl Write) -> io::Result<()> {
    let (mut encoder, mut pixels) = (Encoder::default(), Vec::new());
    while let Some(turn) = show.stage.turn(number) {
        let Turn { wishes, rectangles, .. } = &turn;
        let mut bytes = head(&turn);
        for area in rectangles {
            let (width, height) = (area.right - area.left, area.bottom - area.top);
            rectangle(&mut bytes, [area.left, area.top, width, height], wishes.encoding);
            pixels.clear();
            show.stage.copy(*area, &mut pixels);
            encoder.encode(&mut bytes, (&wishes.format, wishes.encoding), &pixels, width as usize)?;
            if bytes.len() >= CHUNK {
                to.write_all(&bytes)?;
                bytes.clear();
            }
        }
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// Appends the header of a rectangle.
fn rectangle(bytes: &mut Vec<u8>, at: [u32; 4], encoding: i32) {
    at.iter().for_each(|number| bytes.extend((*number as u16).to_be_bytes()));
    bytes.extend(encoding.to_be_bytes());
}

/// Returns the start of an update: its header, and the rectangles that are no pixels.
fn head(turn: &Turn) -> Vec<u8> {
    let Turn { wishes, keys, desktop, rectangles } = turn;
    let count = rectangles.len() + usize::from(*keys) + usize::from(desktop.is_some());
    let mut bytes = vec![0, 0];
    bytes.extend((count as u16).to_be_bytes());
    if *keys {
        rectangle(&mut bytes, [0; 4], QEMU_KEYS);
    }
    let Some(desktop) = desktop else { return bytes };
    let (width, height) = desktop.size;
    if wishes.extended {
        // The reason: the server, or this viewer. The result: success, or the size cannot be changed.
        let answer = u32::from(desktop.refused);
        rectangle(&mut bytes, [answer, answer, width, height], EXTENDED_DESKTOP_SIZE);
        // One screen, at the origin, with number and flags 0.
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend((width as u16).to_be_bytes());
        bytes.extend((height as u16).to_be_bytes());
        bytes.extend([0; 4]);
    } else {
        rectangle(&mut bytes, [0, 0, width, height], DESKTOP_SIZE);
    }
    bytes
}
