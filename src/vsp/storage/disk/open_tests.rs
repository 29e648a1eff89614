use std::io::Write;
use std::process::Command;

use super::*;

fn config(path: &Path) -> DiskConfig {
    DiskConfig { path: path.to_owned(), ..DiskConfig::default() }
}

fn file(size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().set_len(size).expect("room");
    file
}

fn error(config: &DiskConfig) -> DiskError {
    open(config).err().expect("an error")
}

#[test]
fn what_is_no_disk_is_told_for_what_it_is() {
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
fn an_open_image_makes_io_uring_wait_and_not_give_up() {
    let image = file(1 << 20);
    let disk = open(&config(image.path())).expect("a disk");
    let flags = rustix::fs::fcntl_getfl(&*disk.file().expect("a file").file).expect("flags");
    assert!(!flags.contains(OFlags::NONBLOCK));
}

#[test]
fn sizes_that_no_disk_has_are_refused() {
    assert!(matches!(error(&config(file(0).path())), DiskError::Empty { .. }));
    let odd = file(4096 + 512);
    assert!(open(&config(odd.path())).is_ok());
    let large_sectors = DiskConfig { sector: 4096, ..config(odd.path()) };
    assert!(matches!(error(&large_sectors), DiskError::Unaligned { size: 4608, sector: 4096, .. }));
    assert!(matches!(error(&config(file(1000).path())), DiskError::Unaligned { size: 1000, sector: 512, .. }));
}

#[test]
fn one_writer_or_many_readers_have_an_image() {
    let image = file(1 << 20);
    let reader = DiskConfig { readonly: true, ..config(image.path()) };
    let writer = open(&config(image.path())).expect("a disk");
    assert!(matches!(error(&config(image.path())), DiskError::Locked { .. }));
    assert!(matches!(error(&reader), DiskError::Locked { .. }));
    drop(writer);
    let _first = open(&reader).expect("a disk");
    let _second = open(&reader).expect("a disk");
    assert!(matches!(error(&config(image.path())), DiskError::Locked { .. }));
}

#[test]
fn another_process_is_kept_out_too_and_its_death_ends_that() {
    let image = file(1 << 20);
    let held = || Command::new("flock").arg("--nonblock").arg(image.path()).arg("true").status().expect("flock");
    let disk = open(&config(image.path())).expect("a disk");
    assert!(!held().success());
    drop(disk);
    assert!(held().success());
    // --no-fork: the process that holds the lock is the one that we kill.
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(image.path()).args(["sh", "-c", "echo held; exec sleep 60"]);
    let mut holder = command.stdout(std::process::Stdio::piped()).spawn().expect("flock");
    let mut said = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut said).expect("a word");
    assert!(matches!(error(&config(image.path())), DiskError::Locked { .. }));
    holder.kill().expect("a process");
    holder.wait().expect("an end");
    assert!(open(&config(image.path())).is_ok());
}

#[test]
fn a_file_that_may_not_be_written_says_what_to_do() {
    // Root may write everything but what lies on a read-only file system.
    let denied = Opened::new(Path::new("/proc/version"), true, Cache::Writeback);
    match denied.err().expect("an error") {
        error @ DiskError::Denied { .. } => assert!(error.to_string().contains("readonly=on"), "{error}"),
        DiskError::Host { .. } | DiskError::NotADisk { .. } => {}
        other => panic!("{other}"),
    }
}

#[test]
fn the_format_goes_by_the_magic_unless_it_is_given() {
    let mut image = file(1 << 20);
    image.write_all(b"QFI\xfb").expect("room");
    assert!(matches!(error(&config(image.path())), DiskError::Unsupported { .. }));
    let raw = open(&DiskConfig { format: Format::Raw, ..config(image.path()) }).expect("a disk");
    assert_eq!(raw.size().expect("a size"), 1 << 20);
    let other = file(1 << 20);
    let not_qcow2 = DiskConfig { format: Format::Qcow2, ..config(other.path()) };
    assert!(matches!(error(&not_qcow2), DiskError::NotQcow2 { .. }));
}

#[test]
fn images_that_are_not_raw_are_not_taken_for_raw_ones() {
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
        open(&DiskConfig { format: Format::Raw, ..config(image.path()) }).expect("a disk");
    }
    let compressed = with(0, b"\x1f\x8b\x08");
    assert!(matches!(error(&config(compressed.path())), DiskError::Compressed { how: "gzip", .. }));
    let direct = DiskConfig { cache: Cache::None, ..config(of_fixed_size.path()) };
    assert!(matches!(error(&direct), DiskError::Foreign { .. } | DiskError::NoDirect { .. }));
}

#[test]
fn sizes_of_memory_are_written_with_letters() {
    for (text, size) in
        [("512", Some(512)), ("4k", Some(4096)), ("1M", Some(1 << 20)), ("2G", Some(2 << 30)), ("3T", Some(3 << 40))]
    {
        assert_eq!(parse_size(text), size);
    }
    for text in ["", "K", "1.5G", "-1", "1KB", "20000000000T", "ä"] {
        assert_eq!(parse_size(text), None, "{text}");
    }
}
