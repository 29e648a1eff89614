//! Errors for files that cannot be booted: what they are, and what to do instead.

use std::path::Path;

use super::error::BootError;
use crate::host::magic::{self, Compression};

/// A file format, recognised by the bytes at an offset.
struct Mark {
    offset: usize,
    bytes: &'static [u8],
    what: &'static str,
    advice: &'static str,
}

const fn mark(offset: usize, bytes: &'static [u8], what: &'static str, advice: &'static str) -> Mark {
    Mark { offset, bytes, what, advice }
}

const DISK: &str = "name the kernel that is in it, not the disk";
const ARCHIVE: &str = "unpack it and name the kernel in it";
const OTHER_MACHINE: &str = "name a kernel built for x86-64";

const NO_FIRMWARE: &str = "a machine here has no firmware: name a kernel";
const INITRAMFS: &str = "give it with --initrd, and a kernel with --kernel";

/// The most specific marks come first.
const MARKS: &[Mark] = &[
    mark(0x8001, b"CD001", "an ISO 9660 image", DISK),
    mark(0x200, b"EFI PART", "a disk image with a GPT", DISK),
    mark(0, b"hsqs", "a squashfs image", DISK),
    mark(0, b"XFSB", "an XFS file system", DISK),
    mark(0x400, b"\xe2\xe1\xf5\xe0", "an EROFS image", DISK),
    mark(0, b"LUKS\xba\xbe", "an encrypted disk (LUKS)", DISK),
    mark(0, b"070701", "a cpio archive, such as an initramfs", INITRAMFS),
    mark(0, b"070702", "a cpio archive, such as an initramfs", INITRAMFS),
    mark(0, b"070707", "a cpio archive, such as an initramfs", INITRAMFS),
    mark(0, b"!<arch>\ndebian-binary", "a Debian package", "unpack it with dpkg -x and name the kernel in its boot/"),
    mark(0, b"!<arch>\n", "an archive of object files", "link it to a kernel"),
    mark(0, b"\xed\xab\xee\xdb", "an RPM package", ARCHIVE),
    mark(0, b"PK\x03\x04", "a zip archive", ARCHIVE),
    mark(257, b"ustar", "a tar archive", ARCHIVE),
    mark(0x38, b"ARM\x64", "an arm64 Linux Image", OTHER_MACHINE),
    mark(0x38, b"RSC\x05", "a RISC-V Linux Image", OTHER_MACHINE),
    mark(0x24, b"\x18\x28\x6f\x01", "a 32-bit Arm Linux zImage", OTHER_MACHINE),
    mark(4, b"zimg", "a compressed kernel that only EFI can start", OTHER_MACHINE),
    mark(0, b"ANDROID!", "an Android boot image", "name the kernel that is in it"),
    mark(0, b"\x27\x05\x19\x56", "a U-Boot image", "name the kernel that is in it"),
    mark(0, b"\xd0\x0d\xfe\xed", "a device tree or a FIT image", "name the kernel that is in it"),
    mark(0, b"\xcf\xfa\xed\xfe", "a Mach-O program", "link it as an ELF file"),
    mark(0x28, b"_FVH", "a UEFI firmware image", NO_FIRMWARE),
    mark(0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system", DISK),
];

/// Returns the error for a file that cannot be booted, by its first bytes and its length.
pub(super) fn refuse(file: &str, length: u64, head: &[u8]) -> BootError {
    if let Err(error) = refuse_multiboot2(file, head) {
        return error;
    }
    if let Some(error) = identify(file, length, head) {
        return error;
    }
    if head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..)) {
        return not_a_kernel(file, "text".into(), "name a kernel".into());
    }
    if head.iter().all(|byte| *byte == 0) {
        return not_a_kernel(file, "zeroes at its start".into(), "copy or build it again".into());
    }
    not_a_kernel(
        file,
        "not a bzImage, ELF or multiboot kernel".into(),
        format!("name one of these, or start it as it is with flat:{file}@ADDRESS,mode=16|32|64"),
    )
}

/// Returns the error for a file with the mark of another format, or `None` if it has none.
pub(super) fn identify(file: &str, length: u64, head: &[u8]) -> Option<BootError> {
    let error = |what: String, advice: String| Some(not_a_kernel(file, what, advice));
    if let Some(compression) = Compression::of(head) {
        let what = format!("{}-compressed", compression.name);
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
        if ["initrd", "initramfs"].iter().any(|initrd| name.starts_with(initrd)) {
            return error(format!("{what}, and by its name an initramfs"), INITRAMFS.into());
        }
        return error(what, compression.advice(Path::new(file), "kernel"));
    }
    if let Some(format) = magic::disk_format(head) {
        return error(format!("a {format} disk image"), DISK.into());
    }
    if let Some(mark) = MARKS.iter().find(|mark| magic::has(head, mark.offset, mark.bytes)) {
        return error(mark.what.into(), mark.advice.into());
    }
    if head.starts_with(b"MZ") {
        return Some(refuse_executable(file, head));
    }
    if head.starts_with(b"#!") {
        let line = head[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let what = format!("a script for {}", String::from_utf8_lossy(&line[..line.len().min(64)]).trim());
        return error(what, "name a kernel".into());
    }
    let (what, advice) = name_boot_sector(file, length, head)?;
    error(what.into(), advice)
}

/// Returns the kind of a file that begins with a boot sector.
fn name_boot_sector(file: &str, length: u64, head: &[u8]) -> Option<(&'static str, String)> {
    const SECTOR: u64 = 512;
    if !magic::has(head, 0x1fe, b"\x55\xaa") {
        return None;
    }
    // A FAT file system has its name at one of two offsets, depending on its width.
    let file_system = [(0x36, "FAT1"), (0x52, "FAT32"), (3, "NTFS"), (3, "EXFAT")];
    if file_system.iter().any(|(at, name)| magic::has(head, *at, name.as_bytes())) {
        return Some(("a FAT or NTFS file system", DISK.into()));
    }
    if length > SECTOR && has_partitions(head) {
        return Some(("a disk image with a partition table", DISK.into()));
    }
    let flat = format!("to start it in real mode at 0x7c00, give flat:{file}");
    match length {
        SECTOR => Some(("a boot sector", flat)),
        _ => Some(("a boot sector with more behind it, or a disk image", format!("{flat}; else {DISK}"))),
    }
}

/// Returns `true` if the first sector has a partition table: four entries of 16 bytes with valid statuses, at least one
/// of them with a type and a length.
fn has_partitions(head: &[u8]) -> bool {
    let Some(table) = head.get(0x1be..0x1fe) else { return false };
    let mut entries = table.chunks_exact(16);
    let used = |entry: &[u8]| entry[4] != 0 && entry[12..].iter().any(|byte| *byte != 0);
    entries.clone().all(|entry| entry[0] & 0x7f == 0) && entries.any(used)
}

/// Refuses a kernel with a Multiboot 2 header (Multiboot2 Specification, 3.1.1). Call it if there is no other header.
pub(super) fn refuse_multiboot2(file: &str, head: &[u8]) -> Result<(), BootError> {
    const MAGIC: u32 = 0xe852_50d6;
    let word = |header: &[u8], at: usize| {
        header.get(at..at + 4).map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    };
    let is_header = |header: &[u8]| {
        let sum = (0..16).step_by(4).try_fold(0u32, |sum, at| Some(sum.wrapping_add(word(header, at)?)));
        word(header, 0) == Some(MAGIC) && sum == Some(0)
    };
    if !(0..head.len().min(0x8000)).step_by(8).any(|offset| is_header(&head[offset..])) {
        return Ok(());
    }
    let advice = "give it a multiboot 1 header or a PVH note as well";
    Err(not_a_kernel(file, "a multiboot 2 kernel".into(), advice.into()))
}

/// Refuses a PE executable that is not a bzImage.
fn refuse_executable(file: &str, head: &[u8]) -> BootError {
    let header =
        head.get(0x3c..0x40).map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | usize::from(*byte)));
    let machine = match header.and_then(|at| head.get(at..)?.strip_prefix(b"PE\0\0")) {
        Some([0x64, 0x86, ..]) => "x86-64",
        Some([0x4c, 0x01, ..]) => "i386",
        Some([0x64, 0xaa, ..]) => "arm64",
        Some(_) => "another machine",
        None => return not_a_kernel(file, "a DOS program".into(), "name a kernel".into()),
    };
    let advice = "name a kernel that starts without firmware: a bzImage, or for a unified kernel image the one in it \
                  (objcopy -O binary -j .linux)";
    not_a_kernel(file, format!("a PE executable for {machine}, which only EFI or Windows can start"), advice.into())
}

/// Refuses an ELF program with neither a PVH note nor a multiboot header. `interpreter` is the interpreter that it
/// names, if any.
pub(super) fn refuse_program(file: &str, interpreter: &str) -> BootError {
    // Unikernels for Solo5's own monitors name this interpreter to prevent them from being started by mistake.
    if interpreter.starts_with("/nonexistent/solo5/") {
        let advice = "build it for the target virtio, which is a multiboot kernel";
        return not_a_kernel(file, "a Solo5 unikernel for another monitor".into(), advice.into());
    }
    let what = match interpreter {
        "" => "a program that wants an operating system under it".into(),
        _ => format!("a program that wants an operating system under it, and {interpreter} to load it"),
    };
    not_a_kernel(file, what, "name a kernel, or give this one a PVH note or a multiboot header".into())
}

/// Refuses an ELF file for another processor.
pub(super) fn refuse_machine(file: &str, machine: u16) -> BootError {
    let name = match machine {
        2 | 18 | 43 => "SPARC",
        8 => "MIPS",
        20 => "32-bit PowerPC",
        21 => "64-bit PowerPC",
        22 => "S/390",
        40 => "32-bit Arm",
        50 => "Itanium",
        183 => "arm64",
        243 => "RISC-V",
        247 => "BPF",
        258 => "LoongArch",
        _ => return not_a_kernel(file, format!("an ELF file for machine number {machine}"), OTHER_MACHINE.into()),
    };
    not_a_kernel(file, format!("an ELF file for {name}"), OTHER_MACHINE.into())
}

/// Refuses ELF files whose `e_type` is not executable.
pub(super) fn refuse_elf_kind(file: &str, kind: u16) -> Result<(), BootError> {
    const EXECUTABLE: u16 = 2;
    const SHARED: u16 = 3;
    let (what, advice) = match kind {
        EXECUTABLE | SHARED => return Ok(()),
        1 => ("an object file or kernel module".into(), "link it to a kernel"),
        4 => ("a core dump".into(), "name a kernel"),
        kind => (format!("an ELF file of type {kind}"), "name a kernel"),
    };
    Err(not_a_kernel(file, what, advice.into()))
}

fn not_a_kernel(file: &str, what: String, advice: String) -> BootError {
    BootError::NotAKernel { file: file.into(), what, advice }
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
