//! Integers in JSON texts: `121.0` and `1e3` are read as 121 and 1000.
//!
//! JSON has one kind of number, and a JSON schema's `integer` includes `121.0` and `1e3`. A parser with types of its own takes these
//! for floating-point numbers, and refuses them where it reads an integer.

use std::borrow::Cow;

/// The largest integer up to which a double has all integers.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// Returns a JSON text in which whole numbers have neither a fraction nor an exponent. Spaces keep what follows at its place, if the
/// number is not longer than before. What is not JSON stays what it is.
pub fn plain(text: &[u8]) -> Cow<'_, [u8]> {
    let mut changed = Vec::new();
    // The part of `text` before this is in `changed`.
    let mut copied = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'-' | b'0'..=b'9' => {
                let length = text[at..].iter().take_while(|byte| is_in_number(**byte)).count();
                let number = &text[at..at + length];
                if let Some(digits) = whole(number) {
                    changed.extend_from_slice(&text[copied..at]);
                    changed.extend_from_slice(format!("{digits:<length$}").as_bytes());
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    changed.extend_from_slice(&text[copied..]);
    Cow::Owned(changed)
}

/// Returns the position after the string that begins here.
fn end_of_string(text: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn is_in_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Returns the digits of a whole number that is written with a fraction, with an exponent, or as a negative zero.
fn whole(number: &[u8]) -> Option<String> {
    if number != b"-0" && !number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return None;
    }
    let value: f64 = serde_json::from_slice(number).ok()?;
    // The cast is exact in this range, and makes 0 of -0.
    (value.fract() == 0.0 && value.abs() <= LARGEST).then(|| (value as i64).to_string())
}

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
