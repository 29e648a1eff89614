use super::*;
use std::mem::offset_of;

#[test]
fn the_fields_have_the_layout_that_guests_expect() {
    // Offsets with the header's 8 bytes, as in Linux's structs.
    assert_eq!(offset_of!(OfferChannel, flags) + 8, 56);
    assert_eq!(offset_of!(OfferChannel, user_defined) + 8, 60);
    assert_eq!(offset_of!(OfferChannel, subchannel_index) + 8, 180);
    assert_eq!(offset_of!(OfferChannel, channel) + 8, 184);
    assert_eq!(offset_of!(OfferChannel, is_dedicated_interrupt) + 8, 190);
    assert_eq!(offset_of!(OfferChannel, connection) + 8, 192);
    assert_eq!(offset_of!(OpenChannel, downstream_offset) + 8, 24);
    assert_eq!(offset_of!(InitiateContact, interrupt_page_or_target) + 8, 16);
    assert_eq!(offset_of!(VersionResponse, connection_id) + 8, 12);
}

#[test]
fn the_target_is_in_the_field_of_the_interrupt_page() {
    let mut contact = InitiateContact::new_zeroed();
    contact.interrupt_page_or_target = [2, 1, 0, 0, 9, 0, 0, 0];
    let target = contact.target();
    assert_eq!((target.sint, target.vtl, target.feature_flags), (2, 1, 9));
}

#[test]
fn message_types_print_their_name_or_number() {
    assert_eq!(MessageType::OPENCHANNEL.to_string(), "OPENCHANNEL");
    assert_eq!(MessageType(99).to_string(), "message type 99");
    assert_eq!(MessageType(18).name(), None);
}

#[test]
fn user_defined_bytes_are_printed_without_trailing_zeros() {
    let mut bytes = UserDefined::default();
    assert_eq!(format!("{bytes:?}"), "");
    bytes.0[1] = 0xab;
    assert_eq!(format!("{bytes:?}"), "00ab");
}
