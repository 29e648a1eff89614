use super::*;
use proptest::prelude::*;

fn text(key: &str, value: &str) -> Item {
    Item { key: key.into(), value: Value::Text(value.into()) }
}

#[test]
fn a_text_has_the_position_where_linux_reads_it() {
    let body = set(Pool::External, &text("key", "väl")).unwrap();
    assert_eq!(body.len(), 2580);
    assert_eq!(body[..4], [1, 0, 0, 0], "KVP_OP_SET, KVP_POOL_EXTERNAL");
    // value_type REG_SZ, key_size, value_size.
    assert_eq!(body[4..16], [1, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0]);
    assert_eq!(body[16..24], *b"k\0e\0y\0\0\0");
    assert_eq!(body[16 + 512..][..8], [b'v', 0, 0xe4, 0, b'l', 0, 0, 0]);
}

#[test]
fn numbers_have_the_types_that_linux_knows() {
    let body = set(Pool::Host, &Item { key: "n".into(), value: Value::Number32(0x0102_0304) }).unwrap();
    assert_eq!((body[1], body[4], body[12], &body[528..532]), (3, 4, 4, &[4, 3, 2, 1][..]));
    let body = set(Pool::Host, &Item { key: "n".into(), value: Value::Number64(1 << 63) }).unwrap();
    assert_eq!((body[4], body[12], &body[528..536]), (8, 8, &[0, 0, 0, 0, 0, 0, 0, 0x80][..]));
}

#[test]
fn a_deletion_has_its_key_at_the_position_where_linux_reads_it() {
    let body = delete(Pool::External, "key").unwrap();
    assert_eq!((body.len(), body[0], &body[4..16]), (2580, 2, &b"\x08\0\0\0k\0e\0y\0\0\0"[..]));
}

#[test]
fn keys_and_values_that_do_not_fit_are_refused() {
    assert!(set(Pool::External, &text(&"k".repeat(255), &"v".repeat(1023))).is_ok());
    let refused = |item: &Item| set(Pool::External, item).unwrap_err().to_string();
    assert_eq!(refused(&text(&"k".repeat(256), "")), "the key has 256 UTF-16 units; at most 255 fit");
    assert_eq!(refused(&text("k", &"v".repeat(1024))), "the value has 1024 UTF-16 units; at most 1023 fit");
    assert_eq!(refused(&text("", "v")), "the key is empty");
    assert_eq!(delete(Pool::External, "").unwrap_err().to_string(), "the key is empty");
}

/// The answer of a guest to an enumeration.
fn answer(value_type: u32, key_length: u32, value_length: u32) -> Vec<u8> {
    let mut body = enumerate(Pool::Intrinsic, 7);
    body[8..20].copy_from_slice([value_type, key_length, value_length].as_bytes());
    body[20..26].copy_from_slice(b"k\0e\0y\0");
    body[20 + 512..][..8].copy_from_slice(b"v\0a\0l\0\0\0");
    body
}

#[test]
fn an_enumeration_asks_for_an_index_and_gets_an_item() {
    assert_eq!(enumerate(Pool::Intrinsic, 7)[..8], [3, 2, 0, 0, 7, 0, 0, 0]);
    assert_eq!(enumerated(&answer(1, 8, 8)), Ok(text("key", "val")));
    assert_eq!(enumerated(&answer(2, 512, 2048)), Ok(text("key", "val")), "lengths may be those of the fields");
    assert_eq!(enumerated(&answer(1, 4, 0)), Ok(text("ke", "")));
    let number = u64::from_le_bytes(*b"v\0a\0l\0\0\0");
    assert_eq!(enumerated(&answer(11, 8, 8)).unwrap().value, Value::Number64(number));
    assert_eq!(enumerated(&answer(4, 8, 4)).unwrap().value, Value::Number32(number as u32));
}

#[test]
fn an_item_with_impossible_lengths_is_refused() {
    for (key, value) in [(513, 8), (8, 2049), (u32::MAX, u32::MAX)] {
        assert!(matches!(enumerated(&answer(1, key, value)), Err(Failure::BadReply(_))), "{key}, {value}");
    }
    assert!(enumerated(&answer(1, 8, 8)[..2579]).unwrap_err().to_string().contains("2579 bytes"));
    let unknown = enumerated(&answer(77, 8, 8)).unwrap_err();
    assert_eq!(unknown.to_string(), "the guest's reply is invalid: an item is of value type 77");
}

#[test]
fn the_configuration_of_an_adapter_has_the_layout_of_linux() {
    let adapter = Adapter {
        dhcp: false,
        addresses: vec!["10.0.0.2".into(), "fd00::2".into()],
        masks: vec!["255.255.255.0".into(), "64".into()],
        gateways: vec!["10.0.0.1".into()],
        name_servers: vec![],
    };
    let body = set_adapter("{f8615163-df3e-46c5-913f-f2d2f965ed0e}", &adapter).unwrap();
    assert_eq!((body.len(), body[0], body[1]), (7428, 5, 0));
    assert_eq!(body[2..6], *b"{\0f\0");
    assert_eq!(body[258..260], [3, 0], "both families, no DHCP");
    assert_eq!(text::get(&body[260..]), "10.0.0.2;fd00::2");
    assert_eq!(text::get(&body[260 + 2048..]), "255.255.255.0;64");
    assert_eq!(text::get(&body[260 + 4096..]), "10.0.0.1");
    assert_eq!(got_adapter(&body), Ok(adapter));
    let long = Adapter { addresses: vec!["10.0.0.2".into(); 200], ..Adapter::default() };
    assert!(set_adapter("{}", &long).unwrap_err().to_string().starts_with("the list of addresses has"));
    assert!(got_adapter(&body[..7427]).is_err());
    assert_eq!(get_adapter("00:15:5D:00:00:01").unwrap()[..4], [4, 0, b'0', 0]);
}

#[test]
fn lists_may_end_with_a_separator() {
    assert_eq!(split_list("10.0.2.15;fe80::1;"), ["10.0.2.15", "fe80::1"]);
    assert_eq!(split_list(""), Vec::<String>::new());
}

proptest! {
    #[test]
    fn a_random_answer_is_an_item_or_refused(start in proptest::collection::vec(any::<u8>(), 20), fill: u8) {
        let mut body = vec![fill; 2580];
        body[..20].copy_from_slice(&start);
        body[8] %= 12;
        body[9..12].fill(0);
        for at in [12, 16] {
            body[at + 1] %= 10;
            body[at + 2..at + 4].fill(0);
        }
        if let Ok(item) = enumerated(&body) {
            prop_assert!(item.key.encode_utf16().count() <= 256);
            prop_assert!(item.value.to_string().encode_utf16().count() <= 1024);
        }
    }
}
