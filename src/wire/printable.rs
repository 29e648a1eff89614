//! Makes text from guests, images and peers safe for a terminal and a log.
//!
//! Such text could move the cursor, change colours or titles, and start lines that look like Viridian's own.
//! [`Escaped`] replaces such characters by escapes; [`Marked`] keeps the lines of the text, and marks each except the
//! first as a continuation.

use std::fmt::{self, Write};

/// Text that is printed as one line, whatever it contains.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match u32::from(c) {
            number if !is_dangerous(c) => char::from_u32(number).map_or(Ok(()), |c| f.write_char(c)),
            number @ 0..=0xff => write!(f, "\\x{number:02x}"),
            number => write!(f, "\\u{{{number:x}}}"),
        })
    }
}

/// Returns `true` if a character has an effect other than being visible: controls except the tab, line separators, and
/// characters that change the direction of text.
fn is_dangerous(c: char) -> bool {
    c.is_control() && c != '\t'
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text of several lines. All lines except the first begin with `CONTINUATION`.
#[derive(Clone, Copy, Debug)]
pub struct Marked<'a>(pub &'a str);

/// Marks a line as a continuation of the previous one.
pub const CONTINUATION: &str = "  | ";

impl fmt::Display for Marked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.lines();
        lines.next().map_or(Ok(()), |first| Escaped(first).fmt(f))?;
        lines.try_for_each(|line| write!(f, "\n{CONTINUATION}{}", Escaped(line)))
    }
}

#[cfg(test)]
#[path = "printable_tests.rs"]
mod tests;
