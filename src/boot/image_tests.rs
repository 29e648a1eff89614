use super::*;
use crate::boot::fixtures::*;
use proptest::prelude::*;

fn image(bytes: Vec<u8>) -> Result<Kernel, BootError> {
    recognise(&ImageFile::embedded("k", bytes.leak()).unwrap())
}

fn protocol(bytes: Vec<u8>) -> BootProtocol {
    image(bytes).unwrap().protocol
}

#[test]
fn each_kind_of_kernel_is_recognised() {
    assert_eq!(protocol(bzimage(4096)), BootProtocol::Linux64);
    assert_eq!(protocol(bzimage32(4096)), BootProtocol::Linux32);
    assert_eq!(protocol(bare_elf64()), BootProtocol::Linux64);
    assert_eq!(protocol(pvh_kernel()), BootProtocol::Pvh);
    assert_eq!(protocol(multiboot_kernel()), BootProtocol::Multiboot);
}

#[test]
fn a_64_bit_kernel_with_both_headers_is_entered_by_pvh_and_a_32_bit_one_by_multiboot() {
    let notes = pvh_note(0x10_0010);
    let mut content = multiboot_header(0);
    content.resize(0x40, 0xf4);
    content.extend_from_slice(&notes);
    let notes = program(elf::PT_NOTE, CONTENT + 0x40, notes.len() as u64);
    let programs = [loaded(CONTENT, 0x10_0000, 0x40, 0x40), notes];
    assert_eq!(protocol(elf64(0x10_0000, &programs, &content)), BootProtocol::Pvh);
    assert_eq!(protocol(elf32(0x10_0000, &programs, &content)), BootProtocol::Multiboot);
    content[0] = 0;
    assert_eq!(protocol(elf32(0x10_0000, &programs, &content)), BootProtocol::Pvh);
}

#[test]
fn a_64_bit_elf_file_may_be_a_multiboot_kernel() {
    let content = [multiboot_header(0), vec![0xf4; 0x40]].concat();
    assert_eq!(
        protocol(elf64(0x10_0010, &[loaded(CONTENT, 0x10_0000, 0x40, 0x40)], &content)),
        BootProtocol::Multiboot
    );
}

#[test]
fn an_elf_file_without_a_supported_entry_is_refused() {
    let bytes = elf32(0x10_0000, &[loaded(CONTENT, 0x10_0000, 16, 16)], &[0; 16]);
    let text = image(bytes).unwrap_err().to_string();
    let start = "the embedded image k is a 32-bit ELF file without a multiboot header or PVH note; ";
    let advice = "give it one of these in its first 8192 bytes or its notes, or name a 64-bit kernel; for Linux, name its \
                  bzImage";
    assert_eq!(text, format!("{start}{advice}"));
    let programs = [loaded(CONTENT, 0x40_0000, 16, 16), program(elf::PT_TLS, 0, 0)];
    let text = image(elf64(0x40_0000, &programs, &[0; 16])).unwrap_err().to_string();
    assert!(text.contains("is a program that wants an operating system under it"), "{text}");
}

/// Adds a segment to those of a kernel.
fn interpreted(build: fn(u32, &[elf::Program64], &[u8]) -> Vec<u8>, content: &[u8], notes: u64) -> Vec<u8> {
    const PATH: &[u8] = b"/nonexistent/solo5/\0";
    let at = CONTENT + content.len() as u64;
    let programs = [
        program(elf::PT_INTERP, at, PATH.len() as u64),
        loaded(CONTENT, 0x10_0000, 0x40, 0x40),
        program(elf::PT_NOTE, CONTENT + 0x40, notes),
    ];
    build(0x10_0010, &programs, &[content, PATH].concat())
}

#[test]
fn an_elf_file_with_an_interpreter_is_a_kernel_only_if_it_has_a_kernels_entry() {
    let wide = |entry: u32, programs: &[elf::Program64], content: &[u8]| elf64(entry.into(), programs, content);
    let plain = [0xf4; 0x40];
    let mut headed = multiboot_header(0);
    headed.resize(0x40, 0xf4);
    let noted = [plain.as_slice(), &pvh_note(0x10_0010)].concat();
    for build in [wide, elf32] {
        assert_eq!(protocol(interpreted(build, &headed, 0)), BootProtocol::Multiboot);
        assert_eq!(protocol(interpreted(build, &noted, 24)), BootProtocol::Pvh);
        let text = image(interpreted(build, &plain, 0)).unwrap_err().to_string();
        let start = "the embedded image k is a Solo5 unikernel for another monitor; ";
        assert_eq!(text, format!("{start}build it for the target virtio, which is a multiboot kernel"));
    }
    let path = b"/lib64/ld-linux-x86-64.so.2\0";
    let programs = [program(elf::PT_INTERP, CONTENT, path.len() as u64), loaded(CONTENT, 0x40_0000, 16, 16)];
    let text = image(elf64(0x40_0000, &programs, path)).unwrap_err().to_string();
    let what = "a program that wants an operating system under it, and /lib64/ld-linux-x86-64.so.2 to load it";
    assert_eq!(
        text,
        format!("the embedded image k is {what}; name a kernel, or give this one a PVH note or a multiboot header")
    );
}

#[test]
fn a_boot_protocol_chosen_because_there_is_no_pvh_entry_is_reported() {
    let remark = |bytes| image(bytes).unwrap().remark;
    assert_eq!(remark(pvh_kernel()), None);
    assert_eq!(remark(multiboot_kernel()), None);
    assert_eq!(remark(bzimage(4096)), None);
    let bare =
        "it has neither a PVH note nor a multiboot header; it is entered at 0x100020 by the Linux 64-bit boot protocol";
    assert_eq!(remark(bare_elf64()).unwrap(), bare);
    let cut = |content: &[u8]| {
        let notes = program(elf::PT_NOTE, CONTENT + 0x40, 20);
        elf64(0x10_0010, &[loaded(CONTENT, 0x10_0000, 0x40, 0x40), notes], content)
    };
    let mut content = multiboot_header(0);
    content.resize(0x40, 0xf4);
    content.extend_from_slice(&pvh_note(0x10_0010));
    let text = "its ELF notes do not add up, and no PVH entry was found; the protocol used is multiboot";
    assert_eq!(remark(cut(&content)).unwrap(), text);
    content[0] = 0;
    assert!(remark(cut(&content)).unwrap().ends_with("the protocol used is Linux 64-bit boot protocol"));
}

#[test]
fn a_disk_image_that_contains_a_multiboot_header_is_not_a_multiboot_kernel() {
    let mut disk = vec![0; 8192];
    disk[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
    disk[0x400..0x40c].copy_from_slice(&multiboot_header(3));
    let text = image(disk.clone()).unwrap_err().to_string();
    assert!(text.contains("is a boot sector with more behind it, or a disk image; to start it in real mode"), "{text}");
    disk[0x1be..0x1ce].copy_from_slice(&[0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    let text = image(disk).unwrap_err().to_string();
    assert!(
        text.ends_with("is a disk image with a partition table; name the kernel that is in it, not the disk"),
        "{text}"
    );
}

/// Returns kernels of every kind, to be damaged.
fn kernels() -> [Vec<u8>; 6] {
    let addressed =
        [multiboot_header(0x1_0000), [0x10_0000u32, 0x10_0000, 0, 0x10_1000, 0x10_0000].map(u32::to_le_bytes).concat()];
    [bzimage(4096), bzimage32(4096), bare_elf64(), pvh_kernel(), multiboot_kernel(), addressed.concat()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_kernels_are_refused_or_loaded_completely_within_memory(
        which in 0..6usize,
        damage in prop::collection::vec((0..0x500usize, prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f)]), 0..6),
        keep in prop_oneof![Just(1.0), 0.0..1.0],
    ) {
        let mut bytes = kernels()[which].clone();
        let length = bytes.len();
        for (offset, value) in damage {
            bytes[offset % length] = value;
        }
        bytes.truncate(((length as f64 * keep) as usize).max(1));
        let length = bytes.len() as u64;
        let source = embed(bytes.clone());
        if let Ok(kernel) = image(bytes) {
            for segment in &kernel.segments {
                prop_assert!(segment.offset + segment.file_length <= length);
                prop_assert!(segment.file_length <= segment.memory_length);
            }
            prop_assert!(kernel.segments.iter().any(|segment| (segment.address..segment.end()).contains(&kernel.entry)));
        }
        // All errors are found before anything is written.
        match crate::boot::load(&machine(20), &source, None, "quiet", &one_vp(), None) {
            Ok(entry) => prop_assert!(entry.registers.rip < 20 << 20),
            Err(error) => prop_assert!(!matches!(error, BootError::Write { .. } | BootError::Read { .. }), "{}", error),
        }
    }

    #[test]
    fn random_files_are_refused_without_panic(start in 0..8usize, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let starts: [&[u8]; 8] = [b"", b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x01\x01", b"MZ", b"#!", b"BZh", b"\x1f\x8b", b"\x02\xb0\xad\x1b"];
        let bytes = [starts[start], &rest, b"\0"].concat();
        let _ = image(bytes).map(|kernel| kernel.segments).map_err(|error| error.to_string());
    }
}
