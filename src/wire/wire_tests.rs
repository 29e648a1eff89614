use zerocopy::{FromBytes, IntoBytes};

open_enum! {
/// A kind of fruit.
Fruit: u16, "fruit {:#x}";
    APPLE = 1;
    /// Not a nut.
    PEANUT = 7, "a legume";
}

wire! { 6,
/// A basket.
pub struct Basket {
    /// What is in it.
    pub fruit: Fruit,
    /// Their number, in the byte order of the protocol.
    pub count: [u8; 4],
}}

#[test]
fn a_value_is_printed_as_its_text_its_constant_or_its_number() {
    assert_eq!(Fruit::APPLE.to_string(), "APPLE");
    assert_eq!(Fruit::PEANUT.to_string(), "a legume");
    assert_eq!(format!("{:?}", Fruit(0x123)), "fruit 0x123");
    assert_eq!(Fruit(0x123).name(), None);
    assert_eq!(Fruit::ALL, [Fruit(1), Fruit(7)]);
}

#[test]
fn a_structure_keeps_unknown_values() {
    let bytes = [0x23, 1, 4, 3, 2, 1];
    let basket = Basket::read_from_bytes(&bytes).unwrap();
    assert_eq!(basket, Basket { fruit: Fruit(0x123), count: [4, 3, 2, 1] });
    assert_eq!(basket.as_bytes(), bytes);
}
