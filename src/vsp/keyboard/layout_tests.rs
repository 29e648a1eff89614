use std::collections::BTreeSet;

use super::*;

fn layout(name: &str) -> ChosenLayout {
    name.parse().unwrap()
}

/// The code of a key, its level, and the dead key that is typed before.
type Typed = (u8, Option<Level>, Option<(u8, Level)>);

fn stroke(name: &str, character: char) -> Option<Typed> {
    let Stroke { key, level, after } = layout(name).of_character(character)?;
    Some((key.code(), level, after.map(|(key, level)| (key.code(), level))))
}

#[test]
fn every_layout_has_its_keys_and_types_all_of_ascii() {
    for layout in LAYOUTS {
        for (codes, row) in CODES.iter().zip(layout.rows) {
            assert_eq!(codes.len(), row.split(' ').count(), "{}: {row}", layout.name);
            for word in row.split(' ') {
                assert!((1..=3).contains(&word.chars().filter(|at| *at != DEAD).count()), "{}: {word}", layout.name);
            }
        }
        let strokes: BTreeSet<_> = (' '..='~')
            .map(|character| {
                layout.of_character(character).unwrap_or_else(|| panic!("{} lacks {character}", layout.name))
            })
            .collect();
        assert_eq!(strokes.len(), 95, "{}: no two characters are typed alike", layout.name);
        assert_eq!(layout.has_alt_gr(), layout.name != "us");
    }
    let names: BTreeSet<_> = LAYOUTS.iter().map(Layout::name).collect();
    assert_eq!(names.len(), LAYOUTS.len());
}

#[test]
fn the_us_layout_types_ascii_only() {
    assert_eq!(stroke("us", 'A'), Some((0x1e, Some(Level::Shift), None)));
    assert_eq!(stroke("us", '@'), Some((0x03, Some(Level::Shift), None)));
    assert_eq!(stroke("us", '\n'), Some((0x1c, None, None)));
    assert_eq!(['ä', '\0', '\u{7f}', DEAD, NONE].map(|character| stroke("us", character)), [None; 5]);
}

#[test]
fn other_layouts_have_their_keys_where_a_keyboard_has_them() {
    use Level::{AltGr, Plain, Shift};
    for (name, character, code, level) in [
        ("de", '@', 0x10, AltGr),
        ("de", 'z', 0x15, Plain),
        ("de", 'ß', 0x0c, Plain),
        ("de", '{', 0x08, AltGr),
        ("de", '|', 0x56, AltGr),
        ("de", '/', 0x08, Shift),
        ("fr", 'a', 0x10, Plain),
        ("fr", '1', 0x02, Shift),
        ("fr", 'é', 0x03, Plain),
        ("fr", '@', 0x0b, AltGr),
        ("uk", '@', 0x28, Shift),
        ("uk", '£', 0x04, Shift),
        ("uk", '\\', 0x56, Plain),
        ("es", 'ñ', 0x27, Plain),
        ("it", 'è', 0x1a, Plain),
        ("pl", 'ą', 0x1e, AltGr),
        ("se", 'å', 0x1a, Plain),
        ("ch", 'ü', 0x1a, Plain),
        ("tr", 'i', 0x28, Plain),
    ] {
        assert_eq!(stroke(name, character), Some((code, Some(level), None)), "{name} {character}");
    }
}

#[test]
fn dead_keys_make_the_characters_that_have_no_key() {
    use Level::{Plain, Shift};
    assert_eq!(stroke("de", '^'), Some((0x39, None, Some((0x29, Plain)))), "with Space");
    assert_eq!(stroke("de", 'é'), Some((0x12, Some(Plain), Some((0x0d, Plain)))));
    assert_eq!(stroke("de", 'À'), Some((0x1e, Some(Shift), Some((0x0d, Shift)))));
    assert_eq!(stroke("fr", 'ê'), Some((0x12, Some(Plain), Some((0x1a, Plain)))));
    assert_eq!(stroke("us", 'é'), None, "no dead key");
    assert_eq!(layout("de").strokes("naïve ¶ю"), Err('ю'));
}

#[test]
fn keysyms_of_every_kind_are_found() {
    let code = |name: &str, keysym| layout(name).of_keysym(keysym).map(|stroke| (stroke.key.code(), stroke.level));
    assert_eq!(code("us", 0x0100_0041), code("us", 0x41), "Unicode's A is Latin-1's");
    assert_eq!(code("cz", 0x1e8), Some((0x05, Some(Level::Plain))), "ccaron, of Latin-2");
    assert_eq!(code("de", 0x20ac), code("de", 0x0100_20ac), "the euro sign");
    assert_eq!(code("de", 0xfe52), Some((0x29, Some(Level::Plain))), "dead_circumflex");
    assert_eq!(code("us", 0xff0d), Some((0x1c, None)));
    assert_eq!([0, 0xfe52, 0xdead_beef, u32::MAX].map(|keysym| code("us", keysym)), [None; 4]);
    let altgr = 0xfe03;
    assert_eq!((code("us", altgr), code("de", altgr)), (None, Some((0x38, None))), "a US keyboard has none");
    for (keysym, character) in OLD_KEYSYMS {
        assert!(LAYOUTS.iter().any(|layout| layout.of_keysym(*keysym).is_some()), "{keysym:#x} {character}");
    }
}

#[test]
fn a_layout_has_a_name() {
    assert_eq!((layout("fr").to_string(), ChosenLayout::default().to_string()), ("fr".into(), "us".into()));
    let error = ChosenLayout::from_str("dvorak").unwrap_err();
    assert!(error.contains("known are: us, be,"), "{error}");
}
