use super::*;
use proptest::prelude::*;

fn error(text: &str) -> String {
    text.parse::<KernelSource>().unwrap_err().to_string()
}

fn flat(path: &str, address: u64, mode: FlatMode) -> Result<KernelSource, SourceError> {
    Ok(KernelSource::Flat { path: path.into(), address, mode })
}

#[test]
fn a_text_without_a_prefix_is_a_path_whatever_it_contains() {
    assert_eq!("a@b,mode=32".parse(), Ok(KernelSource::File("a@b,mode=32".into())));
    assert_eq!("./flat:x".parse(), Ok(KernelSource::File("./flat:x".into())));
}

#[test]
fn embedded_images_are_selected_by_name() {
    for (name, bytes) in guest_images::ALL {
        let text = format!("embedded:{name}");
        let source: KernelSource = text.parse().unwrap();
        assert_eq!(source, KernelSource::Embedded { name, bytes });
        assert_eq!(source.to_string(), text);
    }
    assert_eq!(error("embedded:per"), "there is no embedded image \"per\"; there are vsc and peer");
}

#[test]
fn a_flat_image_has_an_address_and_a_mode_by_default() {
    assert_eq!("flat:x".parse(), flat("x", 0x7c00, FlatMode::Real16));
    assert_eq!("flat:x@4096".parse(), flat("x", 4096, FlatMode::Real16));
    assert_eq!("flat:x@0x100000,mode=64".parse(), flat("x", 1 << 20, FlatMode::Long64));
    assert_eq!("flat:a,,b@1,mode=32".parse(), flat("a,b", 1, FlatMode::Protected32));
    assert_eq!(flat("a,b", 1, FlatMode::Long64).unwrap().to_string(), "flat:a,,b@0x1,mode=64");
    assert_eq!("flat:a@b@0XfF,mode=32".parse(), flat("a@b", 255, FlatMode::Protected32));
}

#[test]
fn the_error_for_a_flat_image_quotes_the_invalid_part() {
    assert_eq!(error(""), "\"\" does not name a file; write PATH, or flat:PATH@ADDRESS,mode=16|32|64");
    assert!(error("flat:@1").contains("does not name a file"));
    for address in ["", "0x", "7c00", "-1", "+1", "0x+1", "0x1_0", "18446744073709551616"] {
        let text = format!("flat:x@{address}");
        let expected = format!("{address:?} in {text:?} is not an address; write it as 0x7c00 or 31744");
        assert_eq!(error(&text), expected);
    }
    let modes = "write mode=16 (real), mode=32 (protected) or mode=64 (long)";
    assert_eq!(error("flat:x,mode=8"), format!("there is no mode \"8\"; {modes}"));
    assert_eq!(error("flat:x,mode"), format!("there is no mode \"\"; {modes}"));
    assert_eq!(error("flat:x,mod=16"), "a flat image has no setting \"mod\"; did you mean \"mode\"?");
    assert_eq!(error("flat:x,mode=16,mode=16"), "\"mode\" is given twice in \"flat:x,mode=16,mode=16\"");
}

proptest! {
    #[test]
    fn what_is_printed_parses_back(path in "[a-z@/. ]{1,20}", address: u64, bits in 0..3usize) {
        let mode = [FlatMode::Real16, FlatMode::Protected32, FlatMode::Long64][bits];
        let source = KernelSource::Flat { path: path.into(), address, mode };
        prop_assert_eq!(source.to_string().parse(), Ok(source));
    }

    #[test]
    fn no_text_panics(text in "(flat:)?\\PC{0,30}") {
        let _ = text.parse::<KernelSource>();
    }
}
