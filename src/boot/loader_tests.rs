use super::*;
use crate::boot::FlatMode;
use crate::boot::fixtures::*;
use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use std::path::PathBuf;

fn flat(path: PathBuf, address: u64, mode: FlatMode) -> KernelSource {
    KernelSource::Flat { path, address, mode }
}

fn text(memory: &GuestMemory, address: u64) -> String {
    let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
    String::from_utf8((address..).map(byte).take_while(|byte| *byte != 0).collect()).unwrap()
}

fn bytes(memory: &GuestMemory, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

fn error(memory: u64, kernel: &KernelSource, initrd: Option<&Path>, command_line: &str) -> String {
    load(&machine(memory), kernel, initrd, command_line, &one_vp(), None).unwrap_err().to_string()
}

#[test]
fn a_bzimage_finds_everything_through_its_zero_page() {
    let directory = tempfile::tempdir().unwrap();
    let initrd = save(&directory, "initrd", &[0x42; 5000]);
    let kernel = KernelSource::File(save(&directory, "bzImage", &bzimage(4096)));
    let memory = machine(64);
    let entry = load(&memory, &kernel, Some(&initrd), "console=ttyS0", &one_vp(), None).unwrap();
    assert_eq!((entry.protocol, entry.registers.rip), (BootProtocol::Linux64, 0x100_0200));

    let page: boot_params = memory.read_obj(GuestAddress(entry.registers.rsi)).unwrap();
    let header = page.hdr;
    let (magic, loader, start, length) =
        (header.header, header.type_of_loader, header.ramdisk_image, header.ramdisk_size);
    assert_eq!((magic, loader, start, length), (linux::HEADER_MAGIC, 0xff, (64 << 20) - 8192, 5000));
    assert_eq!(bytes(&memory, start.into(), 5001), [vec![0x42; 5000], vec![0]].concat());
    assert_eq!(text(&memory, header.cmd_line_ptr.into()), "console=ttyS0");
    assert_eq!(bytes(&memory, page.acpi_rsdp_addr, 8), b"RSD PTR ");
    assert_eq!(bytes(&memory, 0x100_0000, 4097), [vec![0x90; 4096], vec![0]].concat());
    let map = layout::memory_map(64 << 20);
    assert_eq!(usize::from(page.e820_entries), map.len());
    for (index, entry) in map.iter().enumerate() {
        let (start, size, kind) =
            (page.e820_table[index].addr, page.e820_table[index].size, page.e820_table[index].r#type);
        assert_eq!((start..start + size, kind), (entry.range.clone(), entry.kind as u32));
    }
    assert_eq!(page.sentinel, 0);
}

#[test]
fn a_32_bit_bzimage_finds_the_same_in_protected_mode() {
    let memory = machine(64);
    let entry = load(&memory, &embed(bzimage32(4096)), None, "quiet", &one_vp(), None).unwrap();
    let registers = entry.registers;
    assert_eq!(
        (entry.protocol, registers.rip, registers.rsi),
        (BootProtocol::Linux32, 0x100_0000, BOOT_INFORMATION.start)
    );
    assert_eq!((registers.rbx, registers.rbp, registers.rdi), (0, 0, 0), "as the protocol asks");
    let page: boot_params = memory.read_obj(GuestAddress(registers.rsi)).unwrap();
    let (start, loader) = (page.hdr.code32_start, page.hdr.type_of_loader);
    assert_eq!((start, loader), (0x100_0000, 0xff));
    assert_eq!(text(&memory, page.hdr.cmd_line_ptr.into()), "quiet");
    let (small, large) = (page.screen_info.ext_mem_k, page.alt_mem_k);
    assert_eq!((small, large), (0xfc00, 63 << 10), "the memory above 1 MiB, as BIOS calls give it");
    let gdt: [u64; 4] = memory.read_obj(GuestAddress(layout::GDT)).unwrap();
    assert_eq!(gdt[2..], [0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff], "selectors 0x10 and 0x18, flat");
}

#[test]
fn an_elf_file_without_a_note_gets_a_zero_page_too() {
    let memory = machine(4);
    let entry = load(&memory, &embed(bare_elf64()), None, "", &one_vp(), None).unwrap();
    let page: boot_params = memory.read_obj(GuestAddress(entry.registers.rsi)).unwrap();
    let (flag, version, size) = (page.hdr.boot_flag, page.hdr.version, page.hdr.ramdisk_size);
    assert_eq!((flag, version, size), (0xaa55, 0x20c, 0));
    assert_eq!(entry.registers.rip, 0x10_0020);
}

#[test]
fn a_pvh_kernel_finds_everything_through_its_start_info() {
    let directory = tempfile::tempdir().unwrap();
    let initrd = save(&directory, "initrd", &[0x42; 5000]);
    let memory = machine(4);
    let entry = load(&memory, &embed(pvh_kernel()), Some(&initrd), "a b", &one_vp(), None).unwrap();
    assert_eq!((entry.protocol, entry.registers.rip), (BootProtocol::Pvh, 0x10_0010));
    let info: hvm_start_info = memory.read_obj(GuestAddress(entry.registers.rbx)).unwrap();
    assert_eq!((info.magic, info.version, info.nr_modules), (0x336e_c578, 1, 1));
    assert_eq!(text(&memory, info.cmdline_paddr), "a b");
    assert_eq!(bytes(&memory, info.rsdp_paddr, 8), b"RSD PTR ");
    let module: hvm_modlist_entry = memory.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
    assert_eq!((module.paddr, module.size), ((4 << 20) - 8192, 5000));
    assert_eq!(bytes(&memory, module.paddr, 5000), [0x42; 5000]);
    let map = layout::memory_map(4 << 20);
    assert_eq!(info.memmap_entries as usize, map.len());
    for (index, entry) in (0u64..).zip(&map) {
        let told: hvm_memmap_table_entry = memory.read_obj(GuestAddress(info.memmap_paddr + index * 24)).unwrap();
        assert_eq!((told.addr..told.addr + told.size, told.type_), (entry.range.clone(), entry.kind as u32));
    }
}

#[test]
fn a_kernel_is_told_where_it_can_draw_if_its_protocol_has_a_place_for_that() {
    let framebuffer = Some(Framebuffer { address: layout::FRAMEBUFFER, width: 1920, height: 1080 });
    let kernels = [bzimage(4096), bzimage32(4096), bare_elf64(), multiboot_kernel(), pvh_kernel()].map(embed);
    let draws = kernels.map(|kernel| {
        let memory = machine(64);
        let entry = load(&memory, &kernel, None, "", &one_vp(), framebuffer).unwrap();
        let page: boot_params = memory.read_obj(GuestAddress(BOOT_INFORMATION.start)).unwrap();
        let screen = page.screen_info;
        let (base, size, width, line) = (screen.lfb_base, screen.lfb_size, screen.lfb_width, screen.lfb_linelength);
        let told = (screen.orig_video_isVGA, base, size, width, line) == (0x70, 0xf800_0000, 8_294_400, 1920, 7680);
        assert_eq!(told && screen.red_pos == 16, entry.draws);
        entry.draws
    });
    assert_eq!(draws, [true, true, true, false, false], "a multiboot kernel must have asked for it");
    let memory = machine(64);
    let entry = load(&memory, &embed(bzimage(4096)), None, "", &one_vp(), None).unwrap();
    let page: boot_params = memory.read_obj(GuestAddress(entry.registers.rsi)).unwrap();
    assert_eq!((entry.draws, page.screen_info.orig_video_isVGA), (false, 0), "there is no screen");
}

#[test]
fn a_multiboot_kernel_gets_its_module_right_after_itself() {
    let directory = tempfile::tempdir().unwrap();
    let initrd = save(&directory, "module", &[0x42; 5000]);
    let memory = machine(2);
    let entry = load(&memory, &embed(multiboot_kernel()), Some(&initrd), "a", &one_vp(), None).unwrap();
    let registers = entry.registers;
    assert_eq!((registers.rax, registers.rip), (0x2bad_b002, 0x10_000c));
    assert_eq!(bytes(&memory, 0x10_3000, 5000), [0x42; 5000]);
    assert_eq!(text(&memory, COMMAND_LINE.start), "test a");
}

#[test]
fn kernels_boot_in_one_mebibyte() {
    let directory = tempfile::tempdir().unwrap();
    let low = elf64(0x1_0000, &[load_program(0x1_0000, 0x8_1000)], &multiboot_content());
    let initrd = save(&directory, "module", &[0x42; 28 << 10]);
    // There are no free 28 KiB between the boot structures, and the area below the kernel is not used.
    let text = error(1, &embed(low), Some(&initrd), "");
    assert!(text.ends_with("give --memory 2M or more"), "{text}");
    let low = elf64(0x1_0000, &[load_program(0x1_0000, 0x1000)], &multiboot_content());
    let entry = load(&machine(1), &embed(low), Some(&initrd), "", &one_vp(), None).unwrap();
    assert_eq!(entry.protocol, BootProtocol::Multiboot);
}

fn load_program(address: u64, memory_size: u64) -> crate::boot::elf::Program64 {
    loaded(CONTENT, address, 64, memory_size)
}

fn multiboot_content() -> Vec<u8> {
    let mut content = multiboot_header(0);
    content.resize(64, 0xf4);
    content
}

#[test]
fn a_flat_image_is_entered_in_its_mode_with_a_stack() {
    let directory = tempfile::tempdir().unwrap();
    let path = save(&directory, "flat", &[0xf4; 100]);
    for (mode, protocol) in [
        (FlatMode::Real16, BootProtocol::Flat16),
        (FlatMode::Protected32, BootProtocol::Flat32),
        (FlatMode::Long64, BootProtocol::Flat64),
    ] {
        let memory = machine(1);
        let entry = load(&memory, &flat(path.clone(), 0x7c00, mode), None, "", &one_vp(), None).unwrap();
        assert_eq!((entry.protocol, entry.registers.rip, entry.registers.rsp), (protocol, 0x7c00, 0x7c00));
        assert_eq!(bytes(&memory, 0x7c00, 101), [vec![0xf4; 100], vec![0]].concat());
        assert_eq!(bytes(&memory, 0xe0000, 8), b"RSD PTR ");
    }
}

#[test]
fn a_flat_image_takes_neither_initrd_nor_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let source = flat(save(&directory, "flat", &[0xf4; 100]), 0x7c00, FlatMode::Real16);
    let text = error(1, &source, Some(Path::new("/nowhere")), "");
    assert_eq!(text, "a flat image takes no initrd; leave out --initrd /nowhere");
    assert_eq!(error(1, &source, None, "x"), "a flat image takes no command line; leave out --cmdline");
}

#[test]
fn the_error_for_an_overlap_names_both_parts_and_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let source = flat(save(&directory, "flat", &[0xf4; 0xa0000]), 0x7c00, FlatMode::Long64);
    let text = error(1, &source, None, "");
    let expected = "the flat image (0x7c00..0xa7c00) and the boot GDT (0x91000..0x91030) overlap in guest memory; \
                    give another address: flat:PATH@ADDRESS";
    assert_eq!(text, expected);
    let twice = [load_program(0x10_0000, 0x1000), load_program(0x10_0fff, 1)];
    let twice =
        elf64(0x10_0000, &twice.map(|program| crate::boot::elf::Program64 { file_size: 1, ..program }), &[0xf4; 64]);
    let expected = "the kernel's segment 1 (0x100fff..0x101000) and the kernel's segment 0 (0x100000..0x101000) overlap in \
                    guest memory; link the kernel to other addresses";
    assert_eq!(error(2, &embed(twice), None, ""), expected);
    let tables = elf64(0xe_0000, &[load_program(0xe_0000, 64)], &[0xf4; 64]);
    assert!(error(2, &embed(tables), None, "").contains("segment 0 (0xe0000..0xe0040) and the ACPI tables (0xe0000.."));
}

#[test]
fn the_error_for_a_kernel_that_exceeds_memory_names_a_sufficient_size() {
    let programs = [load_program(0x10_0000, 0x20_0000), load_program(0x80_0000, 0x1000)];
    let text = error(2, &embed(elf64(0x10_0000, &programs, &[0xf4; 64])), None, "");
    let expected = "the kernel's segment 1 (0x800000..0x801000) is outside of the machine's 2097152 bytes of memory; \
                    give --memory 9M or more";
    assert_eq!(text, expected);
}

#[test]
fn the_error_for_an_initrd_that_exceeds_memory_names_a_sufficient_size() {
    let directory = tempfile::tempdir().unwrap();
    let initrd = save(&directory, "initrd", b"x");
    let grow = |length| std::fs::File::options().write(true).open(&initrd).unwrap().set_len(length).unwrap();
    grow(16 << 20);
    let name = shown(&initrd);
    let expected = format!(
        "the initrd {name} (16777216 bytes) does not fit beside the kernel (0x1000000..0x1200000) in 20971520 bytes of memory; \
         give --memory 34M or more"
    );
    let kernel = embed(bzimage(4096));
    assert_eq!(error(20, &kernel, Some(&initrd), ""), expected);
    load(&machine(34), &kernel, Some(&initrd), "", &one_vp(), None).unwrap();
    // The file is sparse and is not read.
    grow(5 << 30);
    let text = error(20, &kernel, Some(&initrd), "");
    assert!(text.ends_with("the kernel takes an initrd only below 0x80000000; make the initrd smaller"), "{text}");
}

#[test]
fn an_initrd_is_loaded_below_the_limit_of_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let initrd = save(&directory, "initrd", &[1; 4096]);
    let mut kernel = bzimage(4096);
    kernel[0x22c..0x230].copy_from_slice(&0x1ff_ffffu32.to_le_bytes());
    let memory = machine(64);
    load(&memory, &embed(kernel), Some(&initrd), "", &one_vp(), None).unwrap();
    assert_eq!(bytes(&memory, 0x1ff_f000, 4096), [1; 4096]);
}

#[test]
fn the_error_for_an_unusable_initrd_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let empty = save(&directory, "empty", b"");
    let kernel = embed(pvh_kernel());
    assert_eq!(error(2, &kernel, Some(&empty), ""), format!("{} is empty; leave out --initrd", shown(&empty)));
    assert!(error(2, &kernel, Some(directory.path()), "").ends_with("is a directory; name a file in it"));
}

#[test]
fn a_command_line_too_long_or_with_a_nul_is_refused() {
    let kernel = embed(bzimage(4096));
    let text = error(32, &kernel, None, &"x".repeat(2048));
    let expected = "the command line has 2048 bytes, but the embedded image test takes at most 2047; shorten --cmdline";
    assert_eq!(text, expected);
    load(&machine(32), &kernel, None, &"x".repeat(2047), &one_vp(), None).unwrap();
    let text = error(32, &kernel, None, "a\0b");
    assert_eq!(text, "the command line has a NUL at byte 1, where the kernel would stop reading; remove it");
    // The longest command line fills its area to the last byte.
    let memory = machine(2);
    load(&memory, &embed(pvh_kernel()), None, &"x".repeat(16383), &one_vp(), None).unwrap();
    assert_eq!(memory.read_obj::<u8>(GuestAddress(COMMAND_LINE.end - 1)).unwrap(), 0);
    assert!(load(&memory, &embed(pvh_kernel()), None, &"x".repeat(16384), &one_vp(), None).is_err());
}

#[test]
fn memory_to_which_nothing_is_loaded_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = KernelSource::File(save(&directory, "bzImage", &bzimage(4096)));
    let memory = machine(64);
    load(&memory, &kernel, None, "", &one_vp(), None).unwrap();
    let region = memory.iter().next().unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&region.file_offset().unwrap().file().metadata().unwrap());
    // The claims: kernel, GDT, six page tables, zero page, command line, ACPI tables; the firmware's data areas, MP table, services.
    assert_eq!(blocks * 512, 15 * 4096);
}
