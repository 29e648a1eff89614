//! Frames of a server's side.
//!
//! The payload of all text and binary frames is one stream of bytes, whatever the frames are. It is passed on as it arrives, so no frame
//! is held in memory, and its length does not matter. Of control frames, which have at most 125 bytes, the newest counts.

/// Maximum length of the payload of a control frame.
const MAX_CONTROL: usize = 125;
/// Maximum length of a client's frame. Those of the page have some kilobytes.
const MAX_FRAME: u64 = 16 << 20;
/// Maximum length of a head: two bytes, a length of eight bytes, and a mask.
const MAX_HEAD: usize = 14;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTROL: u8 = 0x8;

/// The kinds of frames.
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The reason why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u16);

impl Code {
    /// What there was to do is done.
    pub const NORMAL: Self = Self(1000);
    /// The other side does not keep to the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// A frame is too large.
    pub const LARGE: Self = Self(1009);
}

/// What a client has sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The payload.
    pub payload: Vec<u8>,
    /// The newest ping, to be answered by a pong with the same content.
    pub ping: Option<Vec<u8>>,
    /// It closes the connection. Nothing comes after this.
    pub closes: bool,
}

/// Reads the frames of a client.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The start of a head that is not complete.
    head: Vec<u8>,
    /// The frame whose payload arrives.
    frame: Option<Frame>,
    /// The last frame of payload was not the last of its message.
    within: bool,
    /// The payload of a control frame.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    left: u64,
    mask: [u8; 4],
    /// Number of bytes of its payload so far.
    seen: usize,
}

impl Frame {
    /// Parses a head. Returns `None` if it is not complete.
    fn parse(head: &[u8], within: bool) -> Result<Option<Self>, Code> {
        let [first, second, rest @ ..] = head else { return Ok(None) };
        let kind = first & 0xf;
        let is_final = first & FINAL != 0;
        let follows_rules = match kind {
            CONTINUATION => within,
            TEXT | BINARY => !within,
            CLOSE | PING | PONG => is_final && usize::from(second & !MASKED) <= MAX_CONTROL,
            _ => false,
        };
        // A client masks all frames, and no extension that uses the reserved bits was agreed on.
        if !follows_rules || first & RESERVED != 0 || second & MASKED == 0 {
            return Err(Code::PROTOCOL);
        }
        let (length, rest) = match second & !MASKED {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            length => (length.into(), rest),
        };
        if length > MAX_FRAME {
            return Err(Code::LARGE);
        }
        let mask = rest.first_chunk();
        Ok(mask.map(|mask| Self { kind, left: length, mask: *mask, seen: 0 }))
    }

    /// Takes what belongs to the frame from the start of `bytes`, and returns the rest.
    fn take<'a>(&mut self, bytes: &'a [u8], into: &mut Vec<u8>) -> &'a [u8] {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (own, rest) = bytes.split_at(count);
        into.extend(own.iter().zip(self.seen..).map(|(byte, at)| byte ^ self.mask[at % 4]));
        self.seen += count;
        self.left -= count as u64;
        rest
    }
}

impl Decoder {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// Returns the reason why the connection is to be closed, if the client does not keep to the protocol.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<Received, Code> {
        let mut received = Received::default();
        while !received.closes {
            let Some(frame) = &mut self.frame else {
                let Some((next, rest)) = bytes.split_first() else { break };
                bytes = rest;
                self.begin(*next)?;
                self.finish(&mut received);
                continue;
            };
            if bytes.is_empty() {
                break;
            }
            let into = if frame.kind & CONTROL == 0 { &mut received.payload } else { &mut self.control };
            bytes = frame.take(bytes, into);
            self.finish(&mut received);
        }
        Ok(received)
    }

    /// Takes a byte of a head.
    fn begin(&mut self, next: u8) -> Result<(), Code> {
        self.head.push(next);
        debug_assert!(self.head.len() <= MAX_HEAD);
        if let Some(frame) = Frame::parse(&self.head, self.within)? {
            if frame.kind & CONTROL == 0 {
                self.within = self.head[0] & FINAL == 0;
            }
            self.head.clear();
            self.frame = Some(frame);
        }
        Ok(())
    }

    /// Ends the frame if it is complete.
    fn finish(&mut self, received: &mut Received) {
        let Some(frame) = self.frame.filter(|frame| frame.left == 0) else { return };
        self.frame = None;
        let control = std::mem::take(&mut self.control);
        match frame.kind {
            PING => received.ping = Some(control),
            CLOSE => received.closes = true,
            _ => {}
        }
    }
}

/// Appends a frame with payload.
pub fn payload(bytes: &[u8], frames: &mut Vec<u8>) {
    frame(BINARY, bytes, frames);
}

/// Appends a ping.
pub fn ping(frames: &mut Vec<u8>) {
    frame(PING, &[], frames);
}

/// Appends the answer to a ping.
pub fn pong(content: &[u8], frames: &mut Vec<u8>) {
    frame(PONG, content, frames);
}

/// Appends the last frame. The reason is cut to what fits.
pub fn close(Code(code): Code, reason: &str, frames: &mut Vec<u8>) {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL - 2)];
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat(), frames);
}

fn frame(kind: u8, content: &[u8], frames: &mut Vec<u8>) {
    frames.push(FINAL | kind);
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(length @ ..126), _) => frames.push(length),
        (_, Ok(length)) => {
            frames.push(126);
            frames.extend(length.to_be_bytes());
        }
        _ => {
            frames.push(127);
            frames.extend((content.len() as u64).to_be_bytes());
        }
    }
    frames.extend(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame of a client.
    fn client(first: u8, content: &[u8]) -> Vec<u8> {
        let mut frames = Vec::new();
        frame(first & 0xf, content, &mut frames);
        let head = frames.len() - content.len();
        frames[0] = first;
        frames[1] |= MASKED;
        let mask = [1, 2, 3, 250];
        frames.splice(head..head, mask);
        frames[head + 4..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        frames
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(Decoder::default().take(&hello).unwrap().payload, b"Hello");
        let mut frames = Vec::new();
        payload(b"Hello", &mut frames);
        assert_eq!(frames, [&[0x82, 5][..], b"Hello"].concat());
    }

    #[test]
    fn the_payload_is_the_same_however_it_arrives() {
        let long: Vec<u8> = (0..70_000_u32).map(|number| (number % 251) as u8).collect();
        let sent = [
            client(FINAL | BINARY, b"a"),
            client(TEXT, b"b"),
            client(FINAL | PING, b"ping"),
            client(CONTINUATION, b""),
            client(FINAL | CONTINUATION, &long[..300]),
            client(FINAL | PONG, b""),
            client(FINAL | BINARY, &long),
            client(FINAL | CLOSE, &[3, 232]),
            b"nothing counts after it".to_vec(),
        ]
        .concat();
        let expected = [b"ab", &long[..300], &long].concat();
        for piece in [1, 2, 7, 4096, sent.len()] {
            let (mut decoder, mut all, mut pings) = (Decoder::default(), Received::default(), 0);
            for bytes in sent.chunks(piece) {
                let received = decoder.take(bytes).unwrap();
                all.payload.extend(received.payload);
                pings += usize::from(received.ping.is_some_and(|content| content == b"ping"));
                all.closes |= received.closes;
                if all.closes {
                    break;
                }
            }
            assert!(all.payload == expected && all.closes && pings == 1, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_client_that_breaks_the_rules_is_refused() {
        let unmasked = [FINAL | BINARY, 1, 0];
        let large = [&[FINAL | BINARY, MASKED | 127][..], &u64::MAX.to_be_bytes()].concat();
        let within = [client(BINARY, b"a"), client(BINARY, b"b")].concat();
        for (sent, code) in [
            (&unmasked[..], Code::PROTOCOL),
            (&client(FINAL | 0x40 | BINARY, b""), Code::PROTOCOL),
            (&client(FINAL | 3, b""), Code::PROTOCOL),
            (&client(PING, b""), Code::PROTOCOL),
            (&client(FINAL | PING, &[0; 126]), Code::PROTOCOL),
            (&client(FINAL | CONTINUATION, b""), Code::PROTOCOL),
            (&within, Code::PROTOCOL),
            (&large, Code::LARGE),
        ] {
            assert_eq!(Decoder::default().take(sent), Err(code), "{sent:x?}");
        }
    }

    #[test]
    fn frames_have_the_shortest_lengths() {
        for (length, head) in [(125, 2), (126, 4), (65535, 4), (65536, 10)] {
            let mut frames = Vec::new();
            payload(&vec![7; length], &mut frames);
            assert_eq!(frames.len(), head + length);
        }
        let mut frames = Vec::new();
        close(Code::NORMAL, &"ü".repeat(100), &mut frames);
        assert_eq!(&frames[..4], [FINAL | CLOSE, 124, 3, 232]);
        assert!(std::str::from_utf8(&frames[4..]).is_ok());
    }
}
