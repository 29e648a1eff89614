use std::io::Write;
use std::process::Command;

use rustix::fs::OFlags;

use super::*;
use crate::need::{Need, ready};

fn config(path: &Path) -> ImageOptions {
    ImageOptions { path: path.to_owned(), ..ImageOptions::default() }
}

fn file(size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().set_len(size).expect("room");
    file
}

fn error(config: &ImageOptions) -> DiskError {
    open(config).err().expect("an error")
}

#[test]
fn a_path_that_is_not_a_disk_is_refused_with_its_kind() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing");
    let text = error(&config(&missing)).to_string();
    assert!(text.contains("truncate -s 10G"), "{text}");
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    for (path, what) in
        [(directory.path(), "a directory"), (&fifo, "a FIFO"), (Path::new("/dev/null"), "a character device")]
    {
        assert!(matches!(error(&config(path)), DiskError::NotADisk { what: found, .. } if found == what), "{what}");
    }
}

#[test]
fn an_open_image_is_not_in_non_blocking_mode() {
    let image = file(1 << 20);
    let disk = open(&config(image.path())).expect("a disk");
    let flags = rustix::fs::fcntl_getfl(&*disk.file().expect("a file").file).expect("flags");
    assert!(!flags.contains(OFlags::NONBLOCK));
}

#[test]
fn invalid_disk_sizes_are_refused() {
    assert!(matches!(error(&config(file(0).path())), DiskError::Empty { .. }));
    let odd = file(4096 + 512);
    assert!(open(&config(odd.path())).is_ok());
    let large_sectors = ImageOptions { sector: 4096, ..config(odd.path()) };
    assert!(matches!(error(&large_sectors), DiskError::Unaligned { size: 4608, sector: 4096, .. }));
    assert!(matches!(error(&config(file(1000).path())), DiskError::Unaligned { size: 1000, sector: 512, .. }));
}

#[test]
fn the_largest_disk_is_usable_to_its_end_and_larger_ones_are_refused() {
    // A file system in memory has files of all sizes.
    let file = File::from(rustix::fs::memfd_create("large", rustix::fs::MemfdFlags::CLOEXEC).expect("a file"));
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let config = config(Path::new(&path));
    for size in [MAX_SIZE + 1, MAX_SIZE + 512, i64::MAX as u64 - 511, i64::MAX as u64] {
        file.set_len(size).expect("room");
        for format in [Format::Auto, Format::Raw, Format::Qcow2] {
            let error = error(&ImageOptions { format, ..config.clone() });
            assert!(matches!(error, DiskError::TooLarge { size: found, .. } if found == size), "{error}");
        }
    }
    file.set_len(MAX_SIZE).expect("room");
    let image = crate::block::Image::open(&config).expect("a disk");
    assert_eq!(image.sectors().expect("a size"), MAX_SIZE / 512);
    image.disk().write(MAX_SIZE - 512, &[7; 512]).expect("a write");
    let mut bytes = [0; 1024];
    image.disk().read(MAX_SIZE - 1024, &mut bytes).expect("a read");
    assert!(bytes[..512] == [0; 512] && bytes[512..] == [7; 512]);
    let text = image.grow(MAX_SIZE + 512).expect_err("too large").to_string();
    assert!(text.contains("at most 4194304T"), "{text}");
    let memory = |size: &str| open(&ImageOptions { path: format!("memory:{size}").into(), ..ImageOptions::default() });
    assert_eq!(memory("4194304T").expect("a disk").size().expect("a size"), MAX_SIZE);
    for (size, words) in [("4194305T", "at most 4194304T"), ("8388608T", "at most 4194304T"), ("16777216T", "64 bits")]
    {
        let text = memory(size).err().expect("an error").to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn one_writer_or_several_readers_can_open_an_image() {
    let image = file(1 << 20);
    let reader = ImageOptions { readonly: true, ..config(image.path()) };
    let writer = open(&config(image.path())).expect("a disk");
    assert!(matches!(error(&config(image.path())), DiskError::Locked { .. }));
    assert!(matches!(error(&reader), DiskError::Locked { .. }));
    drop(writer);
    let _first = open(&reader).expect("a disk");
    let _second = open(&reader).expect("a disk");
    assert!(matches!(error(&config(image.path())), DiskError::Locked { .. }));
}

#[test]
fn the_lock_of_another_process_ends_with_that_process() {
    let image = file(1 << 20);
    let held = || Command::new("flock").arg("--nonblock").arg(image.path()).arg("true").status().expect("flock");
    let disk = open(&config(image.path())).expect("a disk");
    assert!(!held().success());
    drop(disk);
    assert!(held().success());
    // With --no-fork, the process that holds the lock is the one that is killed below.
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(image.path()).args(["sh", "-c", "echo held; exec sleep 60"]);
    let mut holder = command.stdout(std::process::Stdio::piped()).spawn().expect("flock");
    let mut said = [0; 5];
    io::Read::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut said).expect("the word held");
    assert!(matches!(error(&config(image.path())), DiskError::Locked { .. }));
    holder.kill().expect("a process");
    holder.wait().expect("an end");
    assert!(open(&config(image.path())).is_ok());
}

#[test]
fn the_error_for_an_unwritable_file_has_a_remedy() {
    // Root may write everything that is not on a read-only file system.
    let denied = Opened::new(Path::new("/proc/version"), true, Cache::Writeback);
    match denied.err().expect("an error") {
        error @ DiskError::Denied { .. } => assert!(error.to_string().contains("readonly=on"), "{error}"),
        DiskError::Host { .. } | DiskError::NotADisk { .. } => {}
        other => panic!("{other}"),
    }
}

#[test]
fn the_format_is_detected_by_its_magic_number_unless_it_is_given() {
    let mut image = file(1 << 20);
    image.write_all(b"QFI\xfb").expect("room");
    assert!(matches!(error(&config(image.path())), DiskError::Unsupported { .. }));
    let raw = open(&ImageOptions { format: Format::Raw, ..config(image.path()) }).expect("a disk");
    assert_eq!(raw.size().expect("a size"), 1 << 20);
    let other = file(1 << 20);
    let not_qcow2 = ImageOptions { format: Format::Qcow2, ..config(other.path()) };
    assert!(matches!(error(&not_qcow2), DiskError::NotInFormat { .. }));
}

#[test]
fn images_of_unsupported_formats_are_not_used_as_raw() {
    let with = |offset: u64, bytes: &[u8]| {
        let image = file(1 << 20);
        image.as_file().write_all_at(bytes, offset).expect("room");
        image
    };
    let growing = with(0, b"vhdxfile");
    let of_fixed_size = with((1 << 20) - 512, b"conectix");
    for (image, name) in [(&growing, "VHDX"), (&of_fixed_size, "VHD")] {
        match error(&config(image.path())) {
            DiskError::Foreign { format, .. } => assert_eq!(format, name),
            other => panic!("{other}"),
        }
        open(&ImageOptions { format: Format::Raw, ..config(image.path()) }).expect("a disk");
    }
    let compressed = with(0, b"\x1f\x8b\x08");
    assert!(matches!(error(&config(compressed.path())), DiskError::Compressed { how: "gzip", .. }));
    let direct = ImageOptions { cache: Cache::None, ..config(of_fixed_size.path()) };
    assert!(matches!(error(&direct), DiskError::Foreign { .. } | DiskError::NoDirect { .. }));
}

#[test]
fn memory_disks_take_the_same_sizes_as_other_options() {
    for (text, size) in
        [("1MiB", 1 << 20), ("1m", 1 << 20), ("4K", 4096), ("1024", 1024), ("2GiB", 2 << 30), ("512B", 512)]
    {
        let disk = open(&config(Path::new(&format!("memory:{text}")))).expect("a disk");
        assert_eq!(disk.size().expect("a size"), size, "{text}");
    }
    for (text, reason) in [
        ("1X", "is not a size"),
        ("1000", "multiple of the sector size"),
        ("99999999T", "64 bits"),
        ("-1", "is not a size"),
    ] {
        let error = open(&config(Path::new(&format!("memory:{text}")))).err().expect("an error").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// Runs one of the ignored tests below in a process of its own, with a mount namespace of its own. `script` is shell code
/// that runs before it.
#[track_caller]
fn in_a_process(test: &str, script: &str) {
    if !ready(&[Need::Namespaces, Need::Tool("qemu-img")]) {
        return;
    }
    let name = format!("block::open::tests::{test}");
    let script = format!("{script} exec \"$0\" --exact {name} --ignored --nocapture");
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().expect("this"));
    let output = command.output().expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_size_limit_is_reported_as_a_full_disk() {
    in_a_process("under_a_limit", "ulimit -f 2048;");
}

#[test]
#[ignore = "run by a_file_size_limit_is_reported_as_a_full_disk"]
fn under_a_limit() {
    let image = tempfile::NamedTempFile::new().expect("a file");
    let qcow2 = tempfile::NamedTempFile::new().expect("a file");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(qcow2.path()).arg("8M").status();
    assert!(made.expect("qemu-img").success());
    image.as_file().set_len(1 << 20).expect("room");
    let refused = error(&config(Path::new("memory:2M"))).to_string();
    assert!(refused.ends_with("raise the limit on the size of files: ulimit -f"), "{refused}");
    let disk = open(&config(image.path())).expect("a disk");
    // ulimit counts blocks of 512 bytes, so the limit is 1 MiB.
    disk.write((1 << 20) - 4096, &[1; 4096]).expect("a write below the limit");
    let error = disk.write(1 << 20, &[1; 4096]).expect_err("a write above the limit");
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    let disk = open(&config(qcow2.path())).expect("a disk");
    let failed = (0..128).find_map(|part| disk.write(part * 65536, &[1; 65536]).err()).expect("a full image");
    assert_eq!(failed.kind(), ErrorKind::FileTooLarge);
    let mut bytes = [0; 512];
    disk.read(0, &mut bytes).expect("a read");
    assert_eq!(bytes, [1; 512]);
}

#[test]
fn a_disk_on_a_file_system_without_holes_does_not_offer_to_discard() {
    in_a_process("on_ramfs", "mount -t ramfs none /mnt && cd /mnt &&");
}

#[test]
#[ignore = "run by a_disk_on_a_file_system_without_holes_does_not_offer_to_discard"]
fn on_ramfs() {
    std::fs::write("disk.img", vec![1; 1 << 20]).expect("room");
    let disk = open(&config(Path::new("disk.img"))).expect("a disk");
    assert!(!disk.can_discard());
    // Zeros can still be written, and a discard without support for it also makes the range read as zeros.
    for (offset, deallocate) in [(0, false), (65536, true)] {
        disk.zero(offset, 65536, deallocate).expect("zeros");
        let mut bytes = vec![1; 65536];
        disk.read(offset, &mut bytes).expect("a read");
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
    // An image there is allocated completely.
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "image.qcow2", "1M"]).status();
    assert!(made.expect("qemu-img").success());
    let disk = open(&config(Path::new("image.qcow2"))).expect("a disk");
    disk.write(512, &[1; 512]).expect("a write to a part of a cluster");
    disk.zero(0, 4096, false).expect("zeros");
    disk.flush().expect("a flush");
}
