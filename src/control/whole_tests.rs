use super::*;

fn text(json: &str) -> String {
    String::from_utf8(plain(json.as_bytes()).into_owned()).unwrap()
}

#[test]
fn whole_numbers_are_integers_however_they_are_written() {
    assert_eq!(text(r#"{"a": 121.0, "b": [1e3,-2.50e1, 0.0]}"#), r#"{"a": 121  , "b": [1000,-25    , 0  ]}"#);
    assert_eq!(text("-0"), "0 ");
    assert_eq!(text("-0.0"), "0   ");
    assert_eq!(text("9007199254740992.0"), "9007199254740992  ");
}

#[test]
fn other_numbers_and_texts_stay_what_they_are() {
    for json in [
        "12",
        "-7",
        "1.5",
        "1e-3",
        "1e300",
        "18446744073709551615",
        "18446744073709551616.0",
        r#"{"1.0": "a \" 2.0", "b\\": 0.5}"#,
    ] {
        assert_eq!(text(json), json);
    }
}

#[test]
fn what_is_not_json_stays_wrong() {
    for wrong in ["1.", ".5", "01.0", "1.0.0", "1e", "--1.0", "+1.0", "1.0-", "\"1.0", "\"\\", "-", "[1.0"] {
        assert!(serde_json::from_slice::<serde_json::Value>(&plain(wrong.as_bytes())).is_err(), "{wrong}");
    }
}
