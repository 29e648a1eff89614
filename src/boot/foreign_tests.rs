use super::*;

fn error(head: &[u8]) -> String {
    refuse("k", head.len() as u64, head).to_string()
}

fn at(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut head = vec![0; offset];
    head.extend_from_slice(bytes);
    head.resize(head.len().max(1024), 0);
    head
}

#[test]
fn the_error_for_a_compressed_file_has_the_command_that_unpacks_it() {
    let error = |name: &str, head: &[u8]| refuse(name, 9, head).to_string();
    assert_eq!(error("v.gz", b"\x1f\x8b\x08"), "v.gz is gzip-compressed; unpack it first: gunzip -k v.gz");
    assert_eq!(error("v.xz", b"\xfd7zXZ\0"), "v.xz is xz-compressed; unpack it first: unxz -k v.xz");
    let other = "unpack it first: gunzip < vmlinux > kernel (gunzip -k wants a name that ends in .gz)";
    assert_eq!(error("vmlinux", b"\x1f\x8b\x08"), format!("vmlinux is gzip-compressed; {other}"));
}

#[test]
fn the_error_for_a_disk_an_archive_or_a_kernel_of_another_machine_says_what_it_is() {
    assert_eq!(error(b"QFI\xfb"), "k is a qcow2 disk image; name the kernel that is in it, not the disk");
    assert!(error(&at(0x8001, b"CD001")).starts_with("k is an ISO 9660 image; "));
    assert!(error(&at(0x38, b"ARM\x64")).starts_with("k is an arm64 Linux Image; "));
    assert_eq!(
        error(b"070701"),
        "k is a cpio archive, such as an initramfs; give it with --initrd, and a kernel with --kernel"
    );
    assert!(error(b"!<arch>\ndebian-binary").starts_with("k is a Debian package; "));
    assert!(error(b"!<arch>\nx.o/").starts_with("k is an archive of object files; "));
}

#[test]
fn the_error_for_a_script_text_or_zeros_says_what_the_file_is() {
    assert_eq!(error(b"#! /bin/sh -e\necho"), "k is a script for /bin/sh -e; name a kernel");
    assert_eq!(error("grüße\n".as_bytes()), "k is text; name a kernel");
    assert_eq!(error(&[0; 2000]), "k is zeroes at its start; copy or build it again");
}

#[test]
fn the_error_for_a_firmware_executable_names_its_machine() {
    let mut head = at(0x80, b"PE\0\0\x64\x86");
    head[..2].copy_from_slice(b"MZ");
    head[0x3c] = 0x80;
    assert!(
        error(&head).starts_with("k is a PE executable for x86-64, which only EFI or Windows can start; name a kernel")
    );
    head[0x84..0x86].copy_from_slice(&[0x64, 0xaa]);
    assert!(error(&head).contains("for arm64"));
    head[0x3c..0x40].copy_from_slice(&[0xff; 4]);
    assert_eq!(error(&head), "k is a DOS program; name a kernel");
    assert_eq!(error(b"MZ"), "k is a DOS program; name a kernel");
}

#[test]
fn the_error_for_a_boot_sector_says_how_to_start_it() {
    let sector = &at(0x1fe, b"\x55\xaa")[..0x200];
    assert_eq!(error(sector), "k is a boot sector; to start it in real mode at 0x7c00, give flat:k");
    let more = "k is a boot sector with more behind it, or a disk image; to start it in real mode at 0x7c00, give flat:k; \
                else name the kernel that is in it, not the disk";
    assert_eq!(error(&at(0x1fe, b"\x55\xaa")), more);
}

#[test]
fn a_disk_is_distinguished_from_a_boot_sector_by_its_partition_table() {
    let mut disk = at(0x1fe, b"\x55\xaa");
    disk[0x1c2] = 0x83;
    disk[0x1ca] = 1;
    assert!(error(&disk).starts_with("k is a disk image with a partition table; "), "{}", error(&disk));
    disk[0x1ce] = 0x12;
    assert!(error(&disk).starts_with("k is a boot sector with more behind it"), "no entry has such a status");
    for (at, name) in [(0x36, "FAT16   "), (0x52, "FAT32   "), (3, "NTFS    ")] {
        let mut disk = disk.clone();
        disk[at..at + 8].copy_from_slice(name.as_bytes());
        assert!(error(&disk).starts_with("k is a FAT or NTFS file system; "), "{name}");
    }
}

#[test]
fn a_compressed_initramfs_is_recognised_by_its_file_name() {
    let text = refuse("boot/initrd.img-6.1", 9, b"\x28\xb5\x2f\xfd").to_string();
    assert!(text.ends_with(
        "is zstd-compressed, and by its name an initramfs; give it with --initrd, and a kernel with --kernel"
    ));
}

#[test]
fn only_a_valid_header_makes_a_file_a_multiboot_2_kernel() {
    let header: [u32; 4] = [0xe852_50d6, 0, 16, 0u32.wrapping_sub(0xe852_50d6 + 16)];
    let mut bytes = header.map(u32::to_le_bytes).concat();
    let expected = "k is a multiboot 2 kernel; give it a multiboot 1 header or a PVH note as well";
    assert_eq!(error(&at(64, &bytes)), expected);
    assert!(refuse_multiboot2("k", &bytes[..15]).is_ok());
    bytes[12] ^= 1;
    assert!(refuse_multiboot2("k", &bytes).is_ok());
}

#[test]
fn the_error_for_an_unknown_file_lists_the_formats_that_are_supported() {
    let expected = "k is not a bzImage, ELF or multiboot kernel; name one of these, or start it as it is with \
                    flat:k@ADDRESS,mode=16|32|64";
    assert_eq!(error(&[0xfa, 0xfc, 0, 1]), expected);
}
