//! The output of a guest as lines among those of other guests.
//!
//! A guest could overwrite its label with a carriage return, or other guests' lines by moving the cursor. Colours are
//! kept, and end with the line. All other terminal control sequences are shown as escapes.

use std::fmt::Write;
use std::mem::take;

use crate::wire::printable::Escaped;

/// Ends all colours.
const RESET: &str = "\x1b[0m";

/// Returns the line `raw`, without its end, in pieces of at most `room` bytes. Each piece ends its colours.
pub(super) fn clean(raw: &[u8], room: usize) -> Vec<String> {
    let mut pieces = Pieces { room: room - RESET.len(), done: Vec::new(), piece: String::new(), is_coloured: false };
    for chunk in raw.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(first) = rest.chars().next() {
            let colour = colour_length(rest);
            let (part, others) = rest.split_at(colour.unwrap_or(first.len_utf8()));
            match colour {
                Some(_) => pieces.add(part, true),
                None => pieces.add(&Escaped(part).to_string(), false),
            }
            rest = others;
        }
        for byte in chunk.invalid() {
            let mut escape = String::new();
            let _ = write!(escape, "\\x{byte:02x}");
            pieces.add(&escape, false);
        }
    }
    pieces.end();
    pieces.done
}

struct Pieces {
    room: usize,
    done: Vec<String>,
    piece: String,
    is_coloured: bool,
}

impl Pieces {
    /// Adds a part that must not be split.
    fn add(&mut self, part: &str, is_colour: bool) {
        if self.piece.len() + part.len() > self.room {
            self.end();
        }
        self.piece.push_str(part);
        self.is_coloured |= is_colour;
    }

    fn end(&mut self) {
        if take(&mut self.is_coloured) {
            self.piece.push_str(RESET);
        }
        self.done.push(take(&mut self.piece));
    }
}

/// Returns the length of a sequence that selects colours (`CSI … m`) at the start of `text`, if there is one.
fn colour_length(text: &str) -> Option<usize> {
    const LONGEST: usize = 24;
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.bytes().take(LONGEST).position(|byte| !byte.is_ascii_digit() && byte != b';')?;
    (parameters.as_bytes()[end] == b'm').then_some(2 + end + 1)
}
