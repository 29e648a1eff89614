//! The entries of an option's value: `PATH,readonly=on,serial=a,,b`.

/// Splits at commas. Two consecutive commas are one comma of an entry.
pub fn split(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match entries.last_mut() {
            Some(entry) if character != ',' || characters.next_if_eq(&',').is_some() => entry.push(character),
            _ => entries.push(String::new()),
        }
    }
    entries
}

/// Returns an entry as it is written in a list.
pub fn escaped(entry: &str) -> String {
    entry.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_comma_belongs_to_an_entry() {
        for (text, entries) in [
            ("", &[""][..]),
            ("a,b=c", &["a", "b=c"]),
            ("a,,b,c", &["a,b", "c"]),
            (",,", &[","]),
            ("a,,,b", &["a,", "b"]),
            ("a,", &["a", ""]),
        ] {
            assert_eq!(split(text), entries, "{text}");
        }
        assert_eq!(split(&format!("{},x", escaped("a,b,,c"))), ["a,b,,c", "x"]);
    }
}
