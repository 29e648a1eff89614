use super::*;

#[test]
fn every_version_parses_back_from_its_text() {
    for version in Version::ALL {
        assert_eq!(version.to_string().parse(), Ok(version));
    }
    assert_eq!(Version::V4_1, Version(0x0004_0001));
    assert!(Version::ALL.is_sorted());
    assert_eq!(Version::ALL.last(), Some(&Version::NEWEST));
}

#[test]
fn the_error_for_an_unknown_version_lists_the_known_ones() {
    for text in ["", "5", "5.4", "1.1", "5.03", " 5.3", "6.0"] {
        let message = text.parse::<Version>().unwrap_err().to_string();
        assert!(message.contains("2.4") && message.contains(&format!("'{text}'")), "{message}");
    }
}
