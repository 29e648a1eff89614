use super::*;
use crate::boot::error::Occupant;
use crate::boot::fixtures::{machine, multiboot_header, multiboot_kernel};
use crate::boot::layout;
use proptest::prelude::*;

/// Returns a file of `length` bytes with a header with addresses at `offset`.
fn addressed(offset: usize, length: usize, addresses: [u32; 5]) -> Vec<u8> {
    let mut bytes = vec![0x90; length];
    let header = [multiboot_header(HAS_ADDRESSES), addresses.as_bytes().to_vec()].concat();
    bytes[offset..offset + header.len()].copy_from_slice(&header);
    bytes
}

fn recognise(bytes: Vec<u8>) -> Result<Kernel, BootError> {
    let file = ImageFile::embedded("k", bytes.leak()).unwrap();
    let head = file.head(0x9000).unwrap();
    let elf = Elf::recognise(&file, &head).unwrap();
    kernel(&file, &Header::find(&head).unwrap(), elf)
}

fn error(bytes: Vec<u8>) -> String {
    recognise(bytes).unwrap_err().to_string().trim_start_matches("the embedded image k is ").into()
}

#[test]
fn a_header_is_found_at_any_fourth_byte_of_the_first_8192() {
    let at = |offset: usize| {
        let mut bytes = vec![0; offset];
        bytes.extend(multiboot_header(3));
        Header::find(&bytes).map(|header| header.offset)
    };
    assert_eq!((at(0), at(4), at(8180)), (Some(0), Some(4), Some(8180)));
    assert_eq!((at(2), at(8184), at(8192)), (None, None, None));
}

#[test]
fn a_header_with_a_wrong_checksum_is_ignored() {
    let mut bytes = multiboot_header(3);
    bytes[8] ^= 1;
    assert_eq!(Header::find(&bytes), None);
    bytes.extend(multiboot_header(1));
    assert_eq!(Header::find(&bytes).unwrap().offset, 12);
}

#[test]
fn an_elf_file_is_loaded_at_the_addresses_of_its_segments() {
    let kernel = recognise(multiboot_kernel()).unwrap();
    assert_eq!((kernel.protocol, kernel.entry), (BootProtocol::Multiboot, 0x10_000c));
    assert_eq!((kernel.segments[0].address, kernel.segments[0].memory_length), (0x10_0000, 0x3000));
}

#[test]
fn a_file_is_loaded_at_the_addresses_in_its_header() {
    let kernel = recognise(addressed(64, 4096, [0x10_0020, 0x10_0000, 0x10_0400, 0x10_0800, 0x10_0100])).unwrap();
    assert_eq!(kernel.entry, 0x10_0100);
    let segment = &kernel.segments[0];
    assert_eq!((segment.offset, segment.file_length), (32, 0x400));
    assert_eq!((segment.address, segment.memory_length), (0x10_0000, 0x800));
}

#[test]
fn addresses_of_zero_mean_the_whole_file_and_no_bss() {
    let kernel = recognise(addressed(0, 4096, [0x10_0000, 0x10_0000, 0, 0, 0x10_0040])).unwrap();
    assert_eq!((kernel.segments[0].file_length, kernel.segments[0].memory_length), (4096, 4096));
}

#[test]
fn the_error_for_invalid_addresses_has_their_values() {
    let error = |addresses| error(addressed(64, 4096, addresses)).replace("not a valid multiboot image: ", "");
    assert_eq!(error([0xf0000, 0x10_0000, 0, 0, 0]), "its header_addr (0xf0000) is below 0x100000");
    assert_eq!(error([0x10_0041, 0x10_0000, 0, 0, 0]), "its load_addr (0x100000) is before the start of the file");
    assert_eq!(error([64, 0, u32::MAX, 0, 0]), TRUNCATED);
    assert_eq!(error([0x10_0000, 0x10_0000, 1, 0, 0]), "its load_end_addr (0x1) is below 0x100000");
    assert_eq!(
        error([0x10_0000, 0x10_0000, 0x10_0010, 0x10_000f, 0]),
        "its bss_end_addr (0x10000f) is before the end of its data"
    );
    assert_eq!(error([0x10_0000, 0x10_0000, 0, 1, 0]), "its bss_end_addr (0x1) is below 0x100000");
    assert_eq!(
        error([0x10_0000, 0x10_0000, 0, 0, 0x10_1000]),
        "its entry_addr (0x101000) is outside of the segment that it loads"
    );
}

const TRUNCATED: &str = "truncated: what its multiboot header loads reaches to byte 4294967295, but the file has only 4096; \
                         copy or build it again";

#[test]
fn a_header_that_requires_an_unknown_feature_is_refused() {
    let mut bytes = multiboot_header(8);
    bytes.resize(100, 0);
    let expected = "not a valid multiboot image: its header requires features (0x8) that multiboot does not have";
    assert_eq!(error(bytes), expected);
    let mut bytes = multiboot_header(3);
    bytes.resize(100, 0);
    let expected = "not a valid multiboot image: its header has no addresses, and it is not an ELF file either";
    assert_eq!(error(bytes), expected);
}

#[test]
fn the_command_line_starts_with_the_kernels_name() {
    assert_eq!(command_line("k", "a b"), "k a b");
    assert_eq!(command_line("k", ""), "k");
}

fn read_string(memory: &GuestMemory, address: u32) -> String {
    let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
    let bytes: Vec<u8> = (u64::from(address)..).map(byte).take_while(|byte| *byte != 0).collect();
    String::from_utf8(bytes).unwrap()
}

fn read<T: FromBytes + IntoBytes>(memory: &GuestMemory, address: u32) -> T {
    let mut value = T::new_zeroed();
    memory.read_slice(value.as_mut_bytes(), GuestAddress(address.into())).unwrap();
    value
}

#[test]
fn the_boot_information_describes_memory_module_and_loader() {
    let memory = machine(4);
    let initrd = Some(Occupant { what: "the initrd".into(), range: 0x10_3000..0x10_3123 });
    let handover = Handover { initrd, initrd_name: "x".repeat(255), framebuffer: None };
    let map = layout::memory_map(5 << 30);
    let address = write_information(&memory, &handover, &map).unwrap();
    let information: Information = read(&memory, address as u32);
    assert_eq!(information.flags, 0b10_0100_1101);
    assert_eq!((information.memory_lower, information.memory_upper), (639, 3 * 1024 * 1024 - 1024));
    assert_eq!(read_string(&memory, information.boot_loader_name), "viridian");
    assert_eq!(u64::from(information.command_line), COMMAND_LINE.start);
    let module: Module = read(&memory, information.modules);
    assert_eq!((information.module_count, module.start, module.end), (1, 0x10_3000, 0x10_3123));
    assert_eq!(read_string(&memory, module.text), handover.initrd_name);
    let mut at = information.map;
    for entry in &map {
        let memory: Memory = read(&memory, at);
        let (base, length, kind, size) = (memory.base, memory.length, memory.kind, memory.size);
        assert_eq!((base..base + length, kind, size), (entry.range.clone(), entry.kind as u32, 20));
        at += size + 4;
    }
    assert_eq!(at - information.map, information.map_length);
    assert!(u64::from(information.modules) + 16 <= BOOT_INFORMATION.end);
}

#[test]
fn a_kernel_that_asks_for_a_picture_of_pixels_is_told_where_it_is() {
    let draws = |flags: u32, kind: u32| {
        let header = [multiboot_header(flags), vec![0; 20], [kind, 1024, 768, 32].as_bytes().to_vec()].concat();
        Header::find(&header).unwrap().draws
    };
    assert!(draws(WANTS_VIDEO, 0) && !draws(WANTS_VIDEO, 1) && !draws(0, 0));
    assert!(!Header::find(&multiboot_header(WANTS_VIDEO)).unwrap().draws, "the header is cut off");
    let framebuffer = Some(Framebuffer { address: 0xf800_0000, width: 1024, height: 768 });
    let memory = machine(4);
    let handover = Handover { framebuffer, ..Handover::default() };
    let address = write_information(&memory, &handover, &layout::memory_map(4 << 20)).unwrap();
    let bytes: [u8; 28] = read(&memory, address as u32 + 88);
    let numbers: Vec<_> = bytes[..20].chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(numbers, [0xf800_0000, 0, 4096, 1024, 768]);
    assert_eq!(bytes[20..], [32, 1, 16, 8, 8, 8, 0, 8]);
    assert_eq!(read::<u32>(&memory, address as u32) & HAS_FRAMEBUFFER, HAS_FRAMEBUFFER);
}

#[test]
fn the_smallest_machine_has_no_upper_memory() {
    let memory = machine(1);
    let address = write_information(&memory, &Handover::default(), &layout::memory_map(1 << 20)).unwrap();
    let information: Information = read(&memory, address as u32);
    assert_eq!((information.memory_lower, information.memory_upper), (639, 0));
    assert_eq!(information.flags & HAS_MODULES, 0);
}

proptest! {
    #[test]
    fn the_segment_lies_within_the_file_for_any_addresses(addresses: [u32; 5], near in any::<bool>()) {
        let addresses = if near { addresses.map(|address| 0x10_0000 + address % 0x1800) } else { addresses };
        if let Ok(kernel) = recognise(addressed(64, 4096, addresses)) {
            let segment = &kernel.segments[0];
            prop_assert!(segment.offset + segment.file_length <= 4096);
            prop_assert!(segment.file_length <= segment.memory_length);
            prop_assert!((segment.address..segment.end()).contains(&kernel.entry));
        }
    }
}
