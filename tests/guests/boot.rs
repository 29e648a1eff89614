//! Kernels of every format are entered as their protocol requires, and find what they expect from a PC.

use std::fs;

use super::command::{Run, image, limit, run};

/// Runs an image whose bytes were changed.
fn run_changed(name: &str, options: &str, change: impl FnOnce(&mut Vec<u8>)) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel");
    let mut bytes = fs::read(image(name)).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    run(&format!("run --kernel {} {options}", path.display()))
}

#[track_caller]
fn expect_flat(name: &str, options: &str) {
    let run = run(&format!("run --kernel flat:{}@0x100000,mode=32 {options}", image(name).display()));
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn a_pvh_note_is_found_after_one_with_less_padding_than_the_segments_alignment() {
    for alignment in [4u64, 8] {
        let run = run_changed("hello-pvh", "", |bytes| move_note(bytes, alignment));
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.output.contains("boot protocol  PVH\n"), "{run:?}");
        assert!(!run.errors.contains("warn"), "{run:?}");
    }
}

/// Puts the note after another one, each padded to 4 bytes, in a segment with this alignment.
fn move_note(bytes: &mut Vec<u8>, alignment: u64) {
    let long = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let program =
        (0..usize::from(bytes[56])).map(|index| 64 + 56 * index).find(|at| bytes[*at..*at + 4] == [4, 0, 0, 0]);
    let program = program.expect("a segment of notes");
    let (offset, length) = (long(bytes, program + 8) as usize, long(bytes, program + 32) as usize);
    let other = [6u32, 4, 1].map(u32::to_le_bytes).concat();
    let notes = [&other[..], b"Other\0\0\0", &7u32.to_le_bytes(), &bytes[offset..offset + length]].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let at = bytes.len() as u64;
    bytes[program + 8..program + 16].copy_from_slice(&at.to_le_bytes());
    let sizes = [notes.len() as u64, notes.len() as u64, alignment].map(u64::to_le_bytes).concat();
    bytes[program + 32..program + 56].copy_from_slice(&sizes);
    bytes.extend_from_slice(&notes);
}

#[test]
fn a_fallback_to_another_boot_protocol_is_reported() {
    let run = run(&format!("run --kernel {}", image("hello-linux64").display()));
    assert_eq!(run.code, Some(0), "{run:?}");
    let warning = "hello-linux64: it has neither a PVH note nor a multiboot header; it is entered at ";
    assert!(run.errors.contains(warning), "{run:?}");
}

#[test]
fn a_bzimage_without_a_64_bit_entry_is_entered_in_protected_mode() {
    const XLOADFLAGS: usize = 0x236;
    let run = run_changed("hello-bzimage", "--cmdline a=b", |bytes| bytes[XLOADFLAGS] = 0);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.output.contains("boot protocol  Linux, 32-bit entry\n"), "{run:?}");
    assert!(run.output.contains("a=b"), "{run:?}");
}

#[test]
fn a_kernel_from_before_acpi_finds_a_pc() {
    expect_flat("pc32", "");
    expect_flat("pc32", "--cpus 4 --irqchip pc");
    expect_flat("pc32", "--memory 2M --hv off");
}

#[test]
fn the_interval_timer_runs_as_firmware_leaves_it() {
    expect_flat("pit32", &format!("--irqchip pc --timeout {}", limit(30)));
}

#[test]
fn a_boot_sector_can_use_the_bios_and_reset() {
    let run = run(&format!("run --kernel flat:{}", image("bios16").display()));
    assert_eq!(run.code, Some(100), "{run:?}");
    assert!(run.output.contains("bios16: printed by interrupt 0x10"), "{run:?}");
}

#[test]
fn the_error_for_a_boot_sector_as_kernel_says_how_to_start_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("boot.bin");
    let mut sector = fs::read(image("bios16")).unwrap();
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    fs::write(&path, sector).unwrap();
    let run = run(&format!("run --kernel {}", path.display()));
    assert_eq!(run.code, Some(2), "{run:?}");
    let advice = format!("is a boot sector; to start it in real mode at 0x7c00, give flat:{}", path.display());
    assert!(run.errors.contains(&advice), "{run:?}");
    let run = super::command::run(&format!("run --kernel flat:{}", path.display()));
    assert_eq!(run.code, Some(100), "as it was advised: {run:?}");
}

#[test]
fn more_memory_than_the_host_has_is_provided_with_a_warning() {
    let info = fs::read_to_string("/proc/meminfo").unwrap();
    let kibibytes = |name: &str| -> u64 {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        value.unwrap_or_else(|| panic!("{name} in {info}")).parse().unwrap()
    };
    // Half as much again. Memory is allocated only when it is touched.
    let mebibytes = (kibibytes("MemTotal:") + kibibytes("SwapTotal:")) / 1024 * 3 / 2;
    let run = run(&format!("run --memory {mebibytes}M --kernel flat:{}", image("flat16").display()));
    assert_eq!(run.code, Some(16), "{run:?}");
    let warning = format!("the guest has {mebibytes} MiB of memory, more than the ");
    assert!(run.errors.contains(&warning), "{run:?}");
}
