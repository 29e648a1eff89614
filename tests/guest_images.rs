//! Checks that the files that the build script makes from `guest-images/` match their boot protocols.

use std::fs;
use std::path::Path;

const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;
const MULTIBOOT_MAGIC: u32 = 0x1bad_b002;
const MULTIBOOT_HAS_ADDRESSES: u32 = 1 << 16;
const BASE: u32 = 0x10_0000;

fn image(name: &str) -> Vec<u8> {
    let path = Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn word(image: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(image[offset..offset + 4].try_into().expect("four bytes"))
}

fn is_elf(image: &[u8], class: u8) -> bool {
    image.starts_with(b"\x7fELF") && image[4] == class
}

fn has_xen_note(image: &[u8]) -> bool {
    // Size of the name, size of the description, type 18 (the 32-bit entry point), name.
    image.windows(16).any(|window| window == b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0")
}

/// The multiboot header's words, from the first 8 KiB.
fn multiboot_header(image: &[u8]) -> Option<[u32; 8]> {
    let magic = MULTIBOOT_MAGIC.to_le_bytes();
    let offset = image[..8192].chunks_exact(4).position(|chunk| chunk == magic)? * 4;
    Some(std::array::from_fn(|index| word(image, offset + index * 4)))
}

#[test]
fn the_embedded_image_is_small_and_boots_by_pvh_and_by_linux_entry() {
    let embedded = viridian::internals::guest_images::EMBEDDED;
    assert_eq!((embedded, viridian::internals::guest_images::PEER), (&*image("vsc"), &*image("peer")));
    assert!(is_elf(embedded, ELFCLASS64) && has_xen_note(embedded));
    assert!(embedded.len() < 96 << 10, "the embedded image has {} bytes", embedded.len());
}

#[test]
fn each_elf_variant_offers_only_its_own_protocol() {
    let (linux, pvh, multiboot) = (image("hello-linux64"), image("hello-pvh"), image("hello-multiboot"));
    assert!(is_elf(&linux, ELFCLASS64) && !has_xen_note(&linux) && multiboot_header(&linux).is_none());
    assert!(is_elf(&pvh, ELFCLASS64) && has_xen_note(&pvh) && multiboot_header(&pvh).is_none());
    assert!(is_elf(&multiboot, ELFCLASS32) && !has_xen_note(&multiboot));
}

#[test]
fn multiboot_headers_have_a_valid_checksum_and_only_the_plain_binary_has_addresses() {
    for (name, addresses) in [("hello-multiboot", false), ("hello-multiboot-addresses", true)] {
        let header = multiboot_header(&image(name)).expect(name);
        assert_eq!(header[..3].iter().fold(0, |sum: u32, &word| sum.wrapping_add(word)), 0, "{name}");
        assert_eq!(header[1] & MULTIBOOT_HAS_ADDRESSES != 0, addresses, "{name}");
    }
    let binary = image("hello-multiboot-addresses");
    let [.., load, load_end, bss_end, entry] = multiboot_header(&binary).expect("checked above");
    assert_eq!(load, BASE);
    assert_eq!((load_end - load) as usize, binary.len());
    assert!(bss_end >= load_end && (load..load_end).contains(&entry));
}

#[test]
fn the_bzimage_has_a_64_bit_entry_and_its_size() {
    let image = image("hello-bzimage");
    let setup = (usize::from(image[0x1f1]) + 1) * 512;
    assert_eq!(&image[0x202..0x206], b"HdrS");
    assert_eq!(image[0x1fe..0x200], [0x55, 0xaa]);
    assert_eq!(image[0x236] & 1, 1, "XLF_KERNEL_64");
    assert_eq!(word(&image, 0x214), BASE, "code32_start");
    assert_eq!(word(&image, 0x1f4) as usize * 16, image.len() - setup, "syssize");
    assert!(word(&image, 0x260) as usize > image.len() - setup, "init_size includes memory that is not in the file");
}

#[test]
fn flat_images_fit_where_they_are_loaded() {
    for name in ["hello-flat16", "flat16", "instant16"] {
        assert!(image(name).len() < 0x9_0000, "{name} must end below the extended BIOS data area");
    }
    for name in ["hello-flat32", "hello-flat64", "flat32", "flat64", "instant64"] {
        assert!(!image(name).is_empty(), "{name}");
    }
}

#[test]
fn every_test_kernel_is_built() {
    let about_the_machine = ["smp", "memory", "exits", "selftest"];
    let about_hyperv = ["cpuid", "msr", "hypercall", "synic", "stimer", "reftime", "crash", "hostile"];
    for name in about_the_machine.into_iter().chain(about_hyperv) {
        assert!(is_elf(&image(name), ELFCLASS64), "{name}");
    }
}
