use super::*;

#[test]
fn a_name_is_a_plain_file_name_of_bounded_length() {
    assert_eq!(file_name("web-1.a_B"), "web-1.a_B");
    assert_eq!(file_name("../a b\0ü"), "%2E.%2Fa%20b%00%C3%BC");
    assert_eq!(file_name(""), "%");
    assert!(file_name(&"ü".repeat(1000)).len() < MAX_NAME + 6);
}
