use proptest::prelude::*;

use super::*;

type Colour = [u8; 3];
const GREY: Colour = [0xaa; 3];
const BLACK: Colour = [0; 3];

/// Draws lines of text as a console of that many columns does.
fn drawn(
    columns: usize,
    lines: &[&str],
    (foreground, background): (Colour, Colour),
    cursor: Option<(u32, u32)>,
) -> Picture {
    let cells: Vec<Vec<char>> = lines.iter().map(|line| line.chars().collect()).collect();
    Picture::of(columns as u32 * WIDTH, lines.len() as u32 * HEIGHT, |x, y| {
        let (column, row) = (x / WIDTH, y / HEIGHT);
        let character = cells[row as usize].get(column as usize).copied().unwrap_or(' ');
        let number = CHARACTERS.chars().position(|other| other == character).map_or(0, |at| at + 1);
        let line = SHAPES[number * 16 + (y % HEIGHT) as usize];
        let is_cursor = cursor == Some((column, row)) && y % HEIGHT >= 14;
        if is_cursor || line >> (7 - x % WIDTH) & 1 == 1 { foreground } else { background }
    })
}

#[test]
fn each_character_of_ascii_is_read_in_all_colours() {
    let ascii: String = (' '..='~').collect();
    for colours in [(GREY, BLACK), (BLACK, GREY), ([1, 2, 3], [1, 2, 4])] {
        assert_eq!(lines(&drawn(100, &[&ascii, "", "a b "], colours, None)), [&ascii, "", "a b"]);
    }
    assert_eq!(CHARACTERS.chars().count(), 254);
}

#[test]
fn frames_and_letters_beyond_ascii_are_read() {
    let text = "┌─┐ │é│ ╔═╗ äöüß ░▒▓";
    assert_eq!(lines(&drawn(30, &[text], (GREY, BLACK), None)), [text]);
}

#[test]
fn the_cursor_hides_nothing() {
    for at in 0..4 {
        assert_eq!(lines(&drawn(4, &["gy_#"], (GREY, BLACK), Some((at, 0)))), ["gy_#"]);
    }
    assert_eq!(lines(&drawn(4, &["", "$ "], (GREY, BLACK), Some((2, 1)))), ["", "$"]);
}

#[test]
fn a_text_is_found_in_a_line_over_lines_and_broken_at_the_edge() {
    let picture = drawn(10, &["login: roo", "t", "Password: "], (GREY, BLACK), None);
    for text in ["login: root", "login:", "t\nPassword:", "Password:"] {
        assert!(contains(&picture, text), "{text}");
    }
    assert!(!contains(&picture, "rootPassword") && !contains(&picture, "Login"));
}

#[test]
fn what_is_no_text_is_not_read_as_some() {
    let picture = Picture::of(20, 40, |x, y| [x as u8, y as u8, 0]);
    assert_eq!(lines(&picture), ["\u{fffd}\u{fffd}"; 2]);
    assert_eq!(lines(&Picture::of(7, 15, |_, _| GREY)), [""; 0]);
    assert_eq!(lines(&Picture::of(64, 64, |_, _| GREY)), [""; 0]);
}

proptest! {
    #[test]
    fn every_picture_can_be_read(width in 0_u32..70, height in 0_u32..70, seed: u32) {
        let picture = Picture::of(width, height, |x, y| {
            let noise = (x ^ y.rotate_left(7)).wrapping_mul(seed | 1);
            [(noise >> 13) as u8 & 1, (noise >> 21) as u8 & 1, 0]
        });
        prop_assert_eq!(cells(&picture).len() as u32, height / HEIGHT);
        contains(&picture, "a");
    }
}
