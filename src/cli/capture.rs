//! The output of a command, as a part of JSON.

use std::io::{self, Read};

use serde_json::{Map, Value};

use super::base64::base64;

/// Maximum length of each stream. The rest is read and left out.
const MAX: usize = 4 << 20;

/// One of the streams of a command.
#[derive(Default)]
pub struct Captured {
    bytes: Vec<u8>,
    is_truncated: bool,
}

impl Captured {
    /// Reads a stream to its end.
    ///
    /// # Errors
    /// Returns the first error of the stream.
    pub fn read(mut stream: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        stream.by_ref().take(MAX as u64).read_to_end(&mut bytes)?;
        let rest = io::copy(&mut stream, &mut io::sink())?;
        Ok(Self { bytes, is_truncated: rest > 0 })
    }

    /// Adds the stream to an object: as a text in the field `name`, or in base64 in the field `name-base64` if it is not UTF-8.
    pub fn put(self, name: &str, object: &mut Map<String, Value>) {
        let mut bytes = self.bytes;
        if self.is_truncated {
            object.insert(format!("{name}-truncated"), true.into());
            // The end may be in the middle of a character.
            if let Err(error) = std::str::from_utf8(&bytes)
                && error.error_len().is_none()
            {
                bytes.truncate(error.valid_up_to());
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => object.insert(name.to_owned(), text.into()),
            Err(error) => object.insert(format!("{name}-base64"), base64(error.as_bytes()).into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(bytes: &[u8]) -> Value {
        let mut object = Map::new();
        Captured::read(bytes).unwrap().put("stdout", &mut object);
        Value::Object(object)
    }

    #[test]
    fn a_text_is_a_text_and_other_bytes_are_in_base64() {
        assert_eq!(put("grün\n".as_bytes()), json!({ "stdout": "grün\n" }));
        assert_eq!(put(b""), json!({ "stdout": "" }));
        assert_eq!(put(b"a\xff\0"), json!({ "stdout-base64": "Yf8A" }));
        assert_eq!(put("ü".as_bytes().split_last().unwrap().1), json!({ "stdout-base64": "ww==" }));
    }

    #[test]
    fn long_output_is_truncated_between_two_characters() {
        let exact = "x".repeat(MAX);
        assert_eq!(put(exact.as_bytes()), json!({ "stdout": exact }));
        let long = put(format!("{}ü and more", &exact[1..]).as_bytes());
        assert_eq!(long, json!({ "stdout": exact[1..], "stdout-truncated": true }));
    }
}
