use super::super::open::open;
use super::*;
use crate::block::{Cache, Format, ImageOptions};
use crate::memory;
use crate::need::{Need, ready};

fn pages(length: usize, offset: usize) -> GuestBuffer {
    let memory = memory::create(8 << 20, memory::Backing::Private).expect("memory");
    let frames: Vec<u64> = (0..(offset + length).div_ceil(4096) as u64).map(|page| 2 * page).collect();
    GuestBuffer::new(&memory, frames.into_iter(), offset, length).expect("pages")
}

fn file(size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().set_len(size).expect("room");
    file
}

fn writes_and_reads(disk: &dyn Disk) {
    for (offset, length, misplaced) in [(0, 512, 0), (4096, 300 << 10, 0), (512, 8192, 20)] {
        let out = pages(length, misplaced);
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        out.write(0, &bytes).expect("room");
        disk.write_pages(offset, &out).expect("a write");
        let back = pages(length, misplaced);
        disk.read_pages(offset, &back).expect("a read");
        let mut read = vec![0; length];
        back.read(0, &mut read).expect("room");
        assert!(read == bytes);
        let mut again = vec![1; length];
        disk.read(offset, &mut again).expect("a read");
        assert!(again == bytes);
    }
    disk.flush().expect("a flush");
}

#[test]
fn a_memory_disk_allocates_only_what_is_written() {
    let disk = FileDisk::memory(64 << 20, false, true).expect("memory");
    writes_and_reads(&disk);
    assert_eq!(disk.size().expect("a size"), 64 << 20);
    assert_eq!(disk.allocation(32 << 20, 4 << 20).expect("a map"), (4 << 20, false));
}

#[test]
fn a_file_is_written_with_and_without_the_hosts_cache() {
    for cache in [Cache::Writeback, Cache::None] {
        let image = file(1 << 20);
        let config = ImageOptions { path: image.path().into(), cache, sector: 4096, ..ImageOptions::default() };
        match open(&config) {
            Ok(disk) => {
                let direct = disk.file().expect("a file").alignment > 1;
                assert_eq!(direct, cache == Cache::None);
                if !direct {
                    writes_and_reads(&*disk);
                    continue;
                }
                // Direct I/O takes whole blocks, at any alignment of the pages.
                for misplaced in [0, 20] {
                    let out = pages(8192, misplaced);
                    out.write(0, &[0x77; 8192]).expect("room");
                    disk.write_pages(4096, &out).expect("a write");
                    let back = pages(8192, misplaced);
                    disk.read_pages(4096, &back).expect("a read");
                    let mut bytes = [0; 8192];
                    back.read(0, &mut bytes).expect("room");
                    assert_eq!(bytes, [0x77; 8192]);
                }
                let mut odd = vec![0; 4097];
                disk.read(4096, &mut odd[1..]).expect("a read");
                assert_eq!(odd[1..], [0x77; 4096]);
            }
            Err(error) => assert!(cache == Cache::None, "{error}"),
        }
    }
}

#[test]
fn discarded_blocks_read_as_zeros_and_release_their_space() {
    let image = file(1 << 20);
    let disk = FileDisk::new(image.reopen().expect("a file"), 1, false, true);
    disk.write(0, &[9; 65536]).expect("a write");
    assert_eq!(disk.allocation(0, 1 << 20).expect("a map"), (65536, true));
    disk.zero(8192, 16384, true).expect("zeros");
    let mut bytes = [1; 65536];
    disk.read(0, &mut bytes).expect("a read");
    assert!(bytes[8192..24576].iter().all(|byte| *byte == 0) && bytes[24576] == 9 && bytes[8191] == 9);
    assert_eq!(disk.allocation(8192, 1 << 20).expect("a map"), (16384, false));
    disk.zero(24576, 4096, false).expect("zeros");
    disk.read(0, &mut bytes).expect("a read");
    assert!(bytes[24576..28672].iter().all(|byte| *byte == 0));
    assert_eq!(disk.size().expect("a size"), 1 << 20);
}

#[test]
fn zeros_are_written_if_the_host_cannot_punch_holes_or_zero_ranges() {
    let image = file(1 << 20);
    let disk = FileDisk::new(image.reopen().expect("a file"), 1, false, true);
    disk.missing.store(Zeroing::PunchHole as u8 | Zeroing::ZeroRange as u8, Ordering::Relaxed);
    disk.write(0, &[9; 600 << 10]).expect("a write");
    disk.zero(512, 599 << 10, true).expect("zeros");
    let mut bytes = vec![1; 600 << 10];
    disk.read(0, &mut bytes).expect("a read");
    assert_eq!((bytes[511], bytes[512], bytes[(599 << 10) + 511], bytes[(599 << 10) + 512]), (9, 0, 0, 9));
}

#[test]
fn a_disk_that_grows_has_its_new_size_at_once() {
    let image = file(1 << 20);
    let disk = FileDisk::new(image.reopen().expect("a file"), 1, false, true);
    image.as_file().set_len(2 << 20).expect("room");
    assert_eq!(disk.size().expect("a size"), 2 << 20);
    image.as_file().set_len(4096).expect("less");
    let short = disk.read(4096, &mut [0; 512]).expect_err("nothing there");
    assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_guest_cannot_write_a_qcow2_header_to_a_disk_that_was_detected_as_raw() {
    let image = file(1 << 20);
    let config = ImageOptions { path: image.path().into(), ..ImageOptions::default() };
    let disk = open(&config).expect("a disk");
    let header = pages(4096, 0);
    header.write(0, b"QFI\xfb\0\0\0\x03").expect("room");
    let refused = disk.write_pages(0, &header).expect_err("a refusal");
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    disk.write_pages(4096, &header).expect("a write after the start");
    header.write(0, b"MBR").expect("room");
    disk.write_pages(0, &header).expect("a write");
    drop(disk);
    let disk = open(&ImageOptions { format: Format::Raw, ..config }).expect("a disk");
    header.write(0, b"QFI\xfb").expect("room");
    disk.write_pages(0, &header).expect("a write with format=raw");
}

#[test]
fn what_the_host_has_allocated_is_that_of_a_file_and_not_of_memory() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(64 << 20).expect("a hole");
    let disk = FileDisk::new(file, 1, false, true);
    let before = disk.allocated().expect("a number");
    disk.write(0, &vec![1; 1 << 20]).expect("a write");
    disk.flush().expect("a flush");
    let after = disk.allocated().expect("a number");
    assert!(before < 1 << 20 && after >= 1 << 20, "{before} {after}");
    let memory = FileDisk::memory(1 << 20, false, true).expect("a disk");
    assert_eq!(memory.allocated(), None);
    let device = File::open("/dev/null").expect("a device");
    assert_eq!(allocated(&device), None);
}

#[test]
fn a_full_host_disk_fails_writes_until_there_is_room_again() {
    if !ready(&[Need::Namespaces, Need::Tool("mount")]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mount = |arguments: &[&str]| {
        let mut command = std::process::Command::new(arguments[0]);
        command.args(&arguments[1..]).arg(directory.path()).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    assert!(mount(&["mount", "-t", "tmpfs", "-o", "size=1M", "none"]));
    let full = || -> io::Result<()> {
        let ballast = directory.path().join("ballast");
        std::fs::write(&ballast, vec![1; 512 << 10])?;
        let file = File::options().read(true).write(true).create_new(true).open(directory.path().join("disk"))?;
        file.set_len(4 << 20)?;
        let disk = FileDisk::new(file, 1, false, true);
        let buffer = pages(1 << 20, 0);
        let error = disk.write_pages(0, &buffer).expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        std::fs::remove_file(ballast)?;
        disk.zero(0, 1 << 20, true)?;
        let less = buffer.part(0, 768 << 10).expect("a part");
        disk.write_pages(0, &less)
    };
    let result = full();
    assert!(mount(&["umount"]));
    result.expect("room again");
}
