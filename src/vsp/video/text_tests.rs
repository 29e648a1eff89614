use std::sync::OnceLock;

use proptest::prelude::*;

use super::testing::{Colours, PLAIN, drawn, drawn_font, memory_with};
use super::*;

const USUAL: (usize, usize) = (8, 16);

/// Returns the text of a picture whose guest has the fonts of these sizes.
fn read_in(sizes: &[(usize, usize)], picture: &Picture) -> Option<Text> {
    let fonts: Vec<_> = sizes.iter().map(|(width, height)| drawn_font(*width, *height)).collect();
    let parts: Vec<_> = (0x10_0000..).step_by(0x1_0000).zip(&fonts).map(|(at, font)| (at, &font[..])).collect();
    Fonts::default().read(picture, &memory_with(&parts))
}

/// Returns the text of a picture whose guest has the three fonts of Debian's kernels.
fn text(picture: &Picture) -> Text {
    static FONTS: OnceLock<Vec<Font>> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let fonts = [(0x10_0000, drawn_font(8, 8)), (0x11_0000, drawn_font(8, 16)), (0x12_0000, drawn_font(16, 32))];
        search::fonts(&memory_with(&fonts.each_ref().map(|(at, font)| (*at, &font[..]))))
    });
    Text::best(picture, fonts).unwrap()
}

fn shown(columns: usize, lines: &[&str], colours: Colours, cursor: Option<(usize, usize)>) -> Vec<String> {
    text(&drawn(USUAL, columns, lines, colours, cursor)).lines()
}

#[test]
fn each_character_of_ascii_is_read_in_all_colours() {
    let ascii: String = (' '..='~').collect();
    for colours in [PLAIN, (PLAIN.1, PLAIN.0), ([1, 2, 3], [1, 2, 4])] {
        assert_eq!(shown(100, &[&ascii, "", "a b "], colours, None), [&ascii, "", "a b"]);
    }
}

#[test]
fn frames_and_letters_beyond_ascii_are_read() {
    let text = "┌─┐ │é│ ╔═╗ äöüß ░▒▓";
    assert_eq!(shown(30, &[text], PLAIN, None), [text]);
}

#[test]
fn text_is_read_in_each_size_that_the_guest_has() {
    for size in [(8, 8), USUAL, (16, 32)] {
        assert_eq!(text(&drawn(size, 20, &["login: root", "# "], PLAIN, None)).lines(), ["login: root", "#"]);
    }
}

#[test]
fn without_its_font_no_text_is_read() {
    let picture = drawn(USUAL, 20, &["login: root"], PLAIN, None);
    assert_eq!(read_in(&[], &picture), None);
    assert!(!read_in(&[(16, 32)], &picture).unwrap().contains("login"));
    let fonts = Fonts::default();
    let memory = memory_with(&[]);
    assert_eq!(fonts.read(&picture, &memory), None);
    assert_eq!(
        fonts.read(&picture, &memory_with(&[(0, &drawn_font(8, 16))])),
        None,
        "it is not searched again at once"
    );
}

#[test]
fn the_cursor_hides_nothing() {
    for at in 0..4 {
        assert_eq!(shown(4, &["gy_#"], PLAIN, Some((at, 0))), ["gy_#"]);
    }
    assert_eq!(shown(4, &["", "$ "], PLAIN, Some((2, 1))), ["", "$"]);
}

#[test]
fn a_text_is_found_in_a_line_over_lines_and_broken_at_the_edge() {
    let read = text(&drawn(USUAL, 10, &["login: roo", "t", "Password: "], PLAIN, None));
    for text in ["login: root", "login:", "t\nPassword:", "Password:"] {
        assert!(read.contains(text), "{text}");
    }
    assert!(!read.contains("rootPassword") && !read.contains("Login"));
}

#[test]
fn what_is_no_text_is_not_read_as_some() {
    let noise = |width, height| Picture::of(width, height, |x, y| [x as u8, y as u8, 0]);
    let lines = |picture: &Picture| read_in(&[USUAL], picture).unwrap().lines();
    assert_eq!(lines(&noise(20, 40)), ["\u{fffd}\u{fffd}"; 2]);
    assert_eq!(lines(&noise(7, 15)), [""; 0]);
    assert_eq!(lines(&Picture::of(64, 64, |_, _| PLAIN.0)), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_picture_can_be_read(width in 0_u32..70, height in 0_u32..70, seed: u32) {
        let picture = Picture::of(width, height, |x, y| {
            let noise = (x ^ y.rotate_left(7)).wrapping_mul(seed | 1);
            [(noise >> 13) as u8 & 1, (noise >> 21) as u8 & 1, 0]
        });
        text(&picture).contains("a");
    }

    #[test]
    fn a_drawn_text_is_read(size in 0_usize..3, lines in prop::collection::vec("[ -~]{0,20}", 1..5)) {
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        let picture = drawn([(8, 8), USUAL, (16, 32)][size], 20, &lines, PLAIN, None);
        let mut expected = lines.clone();
        expected.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1));
        prop_assert_eq!(text(&picture).lines(), expected);
    }
}
