use super::*;

#[test]
fn sizes_are_read_and_written_with_their_unit() {
    for (text, bytes, back) in [
        ("4096", 4096, "4K"),
        ("1m", 1 << 20, "1M"),
        ("256MiB", 256 << 20, "256M"),
        ("3GB", 3 << 30, "3G"),
        ("1T", 1 << 40, "1T"),
        ("4097", 4097, "4097"),
        ("0", 0, "0"),
    ] {
        let size: Size = text.parse().unwrap();
        assert_eq!((size.0, size.to_string().as_str()), (bytes, back));
        assert_eq!(back.parse(), Ok(size));
    }
}

#[test]
fn the_error_for_an_invalid_size_has_an_example() {
    for text in ["", "M", "-1", "1.5G", "12X", "0x10", "١"] {
        assert!(text.parse::<Size>().unwrap_err().contains("256M"), "{text}");
    }
    assert!("99999999T".parse::<Size>().unwrap_err().contains("64 bits"));
}
