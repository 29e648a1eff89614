use super::*;
use proptest::prelude::*;

#[test]
fn escape_sequences_are_shown_as_text() {
    let text = "a\x1b]0;PWNED\x07\x1b[31m\u{9b}2J\rb\tc\u{202e}ü\u{2028}\0";
    let shown = "a\\x1b]0;PWNED\\x07\\x1b[31m\\x9b2J\\x0db\tc\\u{202e}ü\\u{2028}\\x00";
    assert_eq!(Escaped(text).to_string(), shown);
}

#[test]
fn every_line_but_the_first_is_marked() {
    assert_eq!(Marked("oops\nviridian: forged\r\n\nend\n").to_string(), "oops\n  | viridian: forged\n  | \n  | end");
    assert_eq!(Marked("one").to_string(), "one");
    assert_eq!(Marked("").to_string(), "");
}

proptest! {
    #[test]
    fn printable_text_has_no_control_characters_and_no_unmarked_lines(text in "(?s).{0,200}") {
        let escaped = Escaped(&text).to_string();
        prop_assert!(!escaped.chars().any(is_dangerous), "{:?}", escaped);
        let marked = Marked(&text).to_string();
        prop_assert!(!marked.chars().any(|c| c != '\n' && is_dangerous(c)), "{:?}", marked);
        prop_assert!(marked.split('\n').skip(1).all(|line| line.starts_with(CONTINUATION)), "{:?}", marked);
    }
}
