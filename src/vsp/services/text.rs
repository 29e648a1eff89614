//! Text in fields of a fixed size, in UTF-16 with a terminating 0.

/// A text does not fit into its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// The text is too long.
    #[error("{what} has {units} UTF-16 units; at most {room} fit")]
    Long {
        /// The purpose of the text.
        what: &'static str,
        /// Its length.
        units: usize,
        /// The room in the field, without the terminating 0.
        room: usize,
    },
    /// The text contains the character 0, which would terminate it.
    #[error("{what} contains a zero character")]
    Zero {
        /// The purpose of the text.
        what: &'static str,
    },
}

/// Writes a text into a field, whose bytes must all be 0. Returns its length in bytes, including the terminating 0.
///
/// The rest of the field must be 0 because Linux uses the length in bytes as a number of UTF-16 units, and reads up to the
/// first 0.
///
/// # Errors
/// Returns an error if the text does not fit.
pub fn put(field: &mut [u8], text: &str, what: &'static str) -> Result<u32, BadText> {
    let (units, room) = (text.encode_utf16().count(), (field.len() / 2).saturating_sub(1));
    if units > room {
        return Err(BadText::Long { what, units, room });
    }
    if text.contains('\0') {
        return Err(BadText::Zero { what });
    }
    for (place, unit) in field.chunks_exact_mut(2).zip(text.encode_utf16()) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
    Ok((units as u32 + 1) * 2)
}

/// Returns the text in a field, up to the terminating 0 or to its end. Invalid units become replacement characters.
pub fn get(field: &[u8]) -> String {
    let units = field.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_can_be_read_back_from_its_field() {
        for text in ["", "a", "Grüße 🦀", "12345"] {
            let mut field = [0; 24];
            let length = put(&mut field, text, "the text").unwrap();
            assert_eq!(length as usize, text.encode_utf16().count() * 2 + 2);
            assert_eq!(get(&field), text);
        }
    }

    #[test]
    fn a_text_that_leaves_no_room_for_the_terminating_zero_is_refused() {
        assert_eq!(put(&mut [0; 8], "abc", "a key"), Ok(8));
        let error = put(&mut [0; 8], "abcd", "a key").unwrap_err();
        assert_eq!(error.to_string(), "a key has 4 UTF-16 units; at most 3 fit");
        assert_eq!(put(&mut [0; 8], "a\0", "a key").unwrap_err().to_string(), "a key contains a zero character");
        assert!(put(&mut [], "", "a key").is_ok_and(|length| length == 2));
    }

    #[test]
    fn a_text_without_a_terminating_zero_fills_its_field_and_invalid_units_are_replaced() {
        assert_eq!(get(&[0x61, 0, 0x62, 0]), "ab");
        assert_eq!(get(&[0x61, 0, 0x62]), "a", "half a unit is ignored");
        assert_eq!(get(&[0x00, 0xd8, 0x61, 0]), "\u{fffd}a");
    }
}
