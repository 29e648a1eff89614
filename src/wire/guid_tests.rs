use super::*;

#[test]
fn the_first_three_groups_of_a_guid_are_little_endian_in_memory() {
    // The bytes that Linux's GUID_INIT gives for the SCSI controller.
    let expected = [0xd9, 0x63, 0x61, 0xba, 0xa1, 0x04, 0x29, 0x4d, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f];
    assert_eq!(interface::SCSI.as_bytes(), expected);
}

#[test]
fn a_guid_parses_back_from_its_text() {
    let text = "f8615163-df3e-46c5-913f-f2d2f965ed0e";
    assert_eq!(text.parse(), Ok(interface::NETWORK));
    assert_eq!(interface::NETWORK.to_string(), text);
    assert_eq!(text.to_uppercase().parse(), Ok(interface::NETWORK));
    assert_eq!(interface::name(interface::NETWORK), Some("network"));
    assert_eq!(interface::name(Guid::default()), None);
}

#[test]
fn an_invalid_text_for_a_guid_is_refused() {
    for text in [
        "",
        "f8615163",
        "f8615163-df3e-46c5-913f-f2d2f965ed0",
        "f8615163-df3e-46c5-913f-f2d2f965ed0g",
        "f8615163df3e-46c5-913f-f2d2f965ed0e-",
        "+8615163-df3e-46c5-913f-f2d2f965ed0e",
        "{f8615163-df3e-46c5-913f-f2d2f965ed0e}",
    ] {
        assert!(text.parse::<Guid>().is_err(), "{text}");
    }
}
