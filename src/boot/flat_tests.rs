use super::*;

fn file() -> ImageFile {
    ImageFile::embedded("k", &[0xf4; 512]).unwrap()
}

#[test]
fn the_whole_file_is_loaded_at_its_address_and_entered_there() {
    let kernel = kernel(&file(), 0x7c00, FlatMode::Real16).unwrap();
    assert_eq!((kernel.protocol, kernel.entry), (BootProtocol::Flat16, 0x7c00));
    let segment = &kernel.segments[0];
    assert_eq!((segment.offset, segment.file_length, segment.address, segment.memory_length), (0, 512, 0x7c00, 512));
}

#[test]
fn an_address_that_the_mode_does_not_reach_is_refused() {
    let error = |address, mode| kernel(&file(), address, mode).unwrap_err().to_string();
    let text = error(0x1_0000, FlatMode::Real16);
    let start = "the embedded image k is not a valid flat image: ";
    assert_eq!(text, format!("{start}0x10000 is beyond what mode=16 reaches at entry; enter it lower, or in mode=32"));
    assert!(error(1 << 32, FlatMode::Protected32).ends_with("beyond what mode=32 reaches at entry; enter it lower"));
    assert!(error(u64::MAX, FlatMode::Long64).contains("mode=64"));
    assert!(kernel(&file(), 0xffff, FlatMode::Real16).is_ok());
}

#[test]
fn the_stack_does_not_overlap_the_image() {
    let stack = |protocol, address, length| {
        let mut placement = Placement::new(1 << 20, "move it");
        placement.claim("the flat image", address, length).unwrap();
        claim_stack(protocol, &mut placement)
    };
    assert_eq!(stack(BootProtocol::Flat16, 0x7c00, 512).unwrap(), 0x7c00);
    assert_eq!(stack(BootProtocol::Flat16, 0x1000, 0x8000).unwrap(), 0x1_0000);
    assert_eq!(stack(BootProtocol::Flat32, 0, 0x2_0000).unwrap(), 0x9_0000);
    let error = stack(BootProtocol::Flat16, 0, 0x2_0000).unwrap_err().to_string();
    let expected =
        "the initial stack (0x6c00..0x7c00) and the flat image (0x0..0x20000) overlap in guest memory; move it";
    assert_eq!(error, expected);
}
