//! Messages from viewers.

use std::io::{self, ErrorKind, Read};

use zerocopy::FromBytes;

use super::format::Format;
use crate::vsp::video::damage::Rectangle;

/// Maximum number of encodings that a viewer can name.
const MAX_ENCODINGS: u16 = 1024;
/// Maximum length of a viewer's clipboard, in bytes.
const MAX_TEXT: u32 = 1 << 20;
/// Maximum length of a text that is typed, in bytes.
const MAX_TYPED: i32 = 1024;

/// A message of a viewer.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Pixels are to have this format.
    Format(Format),
    /// The encodings that the viewer knows, the best first.
    Encodings(Vec<i32>),
    /// The viewer wants the rectangle, `incremental`: what has changed in it.
    Update {
        /// Only what has changed.
        incremental: bool,
        /// The rectangle.
        area: Rectangle,
    },
    /// A key, by its X11 keysym.
    Keysym {
        /// It is pressed.
        down: bool,
        /// The keysym.
        keysym: u32,
    },
    /// A key, by its scan code (QEMU's extension).
    Key {
        /// It is pressed.
        down: bool,
        /// The keysym.
        keysym: u32,
        /// The code, 0 if the viewer does not know it.
        code: u32,
    },
    /// The pointer and its buttons.
    Pointer {
        /// Bits: left, middle, right, wheel up, down, left, right, and back.
        buttons: u8,
        /// The column.
        x: u16,
        /// The line.
        y: u16,
    },
    /// The viewer asks for another size of the screen, with a layout of screens on it.
    Size {
        /// Pixels in a line.
        width: u16,
        /// Lines.
        height: u16,
        /// Number of screens.
        screens: u8,
    },
    /// The text of the viewer's clipboard.
    Text(String),
    /// The same, but too long to be typed.
    LongText,
    /// A message that the server does not use.
    Ignored,
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn word(from: &mut impl Read) -> io::Result<u16> {
    array(from).map(u16::from_be_bytes)
}

fn long(from: &mut impl Read) -> io::Result<u32> {
    array(from).map(u32::from_be_bytes)
}

fn skip(from: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// Returns the error of the connection, or one about what is wrong with the message.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let [kind] = array(from)?;
        match kind {
            0 => {
                let bytes: [u8; 19] = array(from)?;
                let format = Format::read_from_suffix(&bytes).map_err(|_| wrong("a pixel format"))?.1;
                if !format.is_possible() {
                    return Err(wrong(
                        "the viewer wants pixels that the server does not have: with a palette, or not of 8, 16 or 32 bits",
                    ));
                }
                Ok(Self::Format(format))
            }
            2 => {
                let [_, high, low] = array(from)?;
                let count = u16::from_be_bytes([high, low]);
                if count > MAX_ENCODINGS {
                    return Err(wrong("the viewer names too many encodings"));
                }
                let encodings = (0..count).map(|_| array(from).map(i32::from_be_bytes));
                encodings.collect::<io::Result<_>>().map(Self::Encodings)
            }
            3 => {
                let [incremental] = array(from)?;
                let [left, top, width, height] = [word(from)?, word(from)?, word(from)?, word(from)?].map(u32::from);
                let area = Rectangle { left, top, right: left + width, bottom: top + height };
                Ok(Self::Update { incremental: incremental != 0, area })
            }
            4 => {
                let [down, _, _] = array(from)?;
                Ok(Self::Keysym { down: down != 0, keysym: long(from)? })
            }
            5 => {
                let [buttons] = array(from)?;
                Ok(Self::Pointer { buttons, x: word(from)?, y: word(from)? })
            }
            6 => {
                let _: [u8; 3] = array(from)?;
                let length = long(from)?.cast_signed();
                if length.unsigned_abs() > MAX_TEXT {
                    return Err(wrong("the viewer's clipboard is too long"));
                }
                // The extended clipboard, which no viewer is offered, counts downwards from 0.
                if !(0..=MAX_TYPED).contains(&length) {
                    skip(from, length.unsigned_abs().into())?;
                    return Ok(if length < 0 { Self::Ignored } else { Self::LongText });
                }
                let mut text = vec![0; length as usize];
                from.read_exact(&mut text)?;
                // Latin-1.
                Ok(Self::Text(text.into_iter().map(char::from).collect()))
            }
            251 => {
                let _: [u8; 1] = array(from)?;
                let (width, height, [screens, _]) = (word(from)?, word(from)?, array(from)?);
                skip(from, u64::from(screens) * 16)?;
                Ok(Self::Size { width, height, screens })
            }
            255 => {
                let [kind] = array(from)?;
                if kind != 0 {
                    return Err(wrong("the viewer uses an extension that it was not offered"));
                }
                let down = word(from)? != 0;
                Ok(Self::Key { down, keysym: long(from)?, code: long(from)? })
            }
            _ => Err(wrong("the viewer sends a message that is not of the protocol")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Message> {
        Message::read(&mut &bytes[..])
    }

    #[test]
    fn messages_are_read_as_the_protocol_has_them() {
        let area = Rectangle { left: 1, top: 2, right: 4, bottom: 6 };
        assert_eq!(read(&[3, 1, 0, 1, 0, 2, 0, 3, 0, 4]).unwrap(), Message::Update { incremental: true, area });
        assert_eq!(read(&[2, 0, 0, 1, 0xff, 0xff, 0xff, 0x21]).unwrap(), Message::Encodings(vec![-223]));
        assert_eq!(read(&[4, 1, 0, 0, 0, 0, 0xff, 0x0d]).unwrap(), Message::Keysym { down: true, keysym: 0xff0d });
        let key = Message::Key { down: true, keysym: 0x61, code: 30 };
        assert_eq!(read(&[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 30]).unwrap(), key);
        assert_eq!(read(&[5, 1, 0, 9, 0, 8]).unwrap(), Message::Pointer { buttons: 1, x: 9, y: 8 });
        assert_eq!(read(&[6, 0, 0, 0, 0, 0, 0, 2, b'a', 0xe4]).unwrap(), Message::Text("a\u{e4}".into()));
        assert_eq!(read(&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'a']).unwrap(), Message::Ignored);
        let long = [&[6, 0, 0, 0, 0, 0, 4, 1][..], &[b'a'; 1025]].concat();
        assert_eq!(read(&long).unwrap(), Message::LongText);
        let size = [&[251, 0, 4, 0, 3, 0, 1, 0][..], &[0; 16]].concat();
        assert_eq!(read(&size).unwrap(), Message::Size { width: 1024, height: 768, screens: 1 });
        assert_eq!(read(&size[..23]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_too_long_or_unknown_ends_the_connection() {
        for wrong in
            [&[2, 0, 255, 255][..], &[6, 0, 0, 0, 0x7f, 0, 0, 0], &[6, 0, 0, 0, 0x80, 0, 0, 0], &[255, 1], &[9]]
        {
            assert_eq!(read(wrong).unwrap_err().kind(), ErrorKind::InvalidData, "{wrong:?}");
        }
        assert_eq!(read(&[0; 20]).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(&[5, 1, 0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    /// Returns its bytes one at a time.
    struct OneByOne<'a>(&'a [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let length = bytes.len().min(1);
            self.0.read(&mut bytes[..length])
        }
    }

    fn all(from: &mut impl Read) -> (Vec<Message>, ErrorKind) {
        let mut messages = Vec::new();
        loop {
            match Message::read(from) {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, error.kind()),
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_ends_the_connection(bytes: Vec<u8>) {
            let (_, kind) = all(&mut &bytes[..]);
            prop_assert!(matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof));
        }

        #[test]
        fn messages_that_arrive_in_pieces_are_the_same(parts: Vec<(u8, Vec<u8>)>) {
            let kinds = [2, 3, 4, 5, 6, 251, 255];
            let bytes: Vec<_> = parts.iter().flat_map(|(kind, body)| {
                let kind = kinds[usize::from(*kind) % kinds.len()];
                [&[kind][..], &body[..]].concat()
            }).collect();
            prop_assert_eq!(all(&mut OneByOne(&bytes)), all(&mut &bytes[..]));
        }
    }
}
