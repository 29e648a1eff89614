use super::*;
use crate::boot::fixtures::{machine, save, shown};

fn occupant(start: u64, length: u64) -> Occupant {
    Occupant { what: "the kernel".into(), range: start..start + length }
}

fn message(path: &Path) -> String {
    ImageFile::open(path).unwrap_err().to_string()
}

#[test]
fn the_error_for_a_missing_file_asks_to_check_the_name() {
    let text = message(Path::new("/nowhere/vmlinuz"));
    assert_eq!(text, "cannot open /nowhere/vmlinuz: No such file or directory (os error 2); check the name");
}

#[test]
fn the_error_for_an_unreadable_file_asks_to_check_its_permissions() {
    // Creates the error directly, because the tests may run as root, who can read every file.
    let text = open_error("k", io::Error::from_raw_os_error(libc::EACCES)).to_string();
    assert!(text.starts_with("cannot open k: Permission denied (os error 13); check its owner and mode"), "{text}");
    let text = open_error("k", io::Error::from_raw_os_error(libc::EIO)).to_string();
    assert!(text.ends_with("check that other programs can read it"), "{text}");
}

#[test]
fn a_file_that_is_not_regular_is_refused_without_waiting_for_it() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(message(directory.path()), format!("{} is a directory; name a file in it", shown(directory.path())));
    assert_eq!(
        message(Path::new("/dev/null")),
        "/dev/null is a device; copy what is needed of it to a file, and name that"
    );
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(
        message(&fifo),
        format!("{} is a pipe; copy what comes out of it to a file, and name that", shown(&fifo))
    );
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(message(&socket), format!("{} is a socket; name a regular file", shown(&socket)));
}

#[test]
fn an_empty_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = save(&directory, "empty", b"");
    assert_eq!(message(&path), format!("{} is empty; copy or build it again", shown(&path)));
    assert!(ImageFile::embedded("none", b"").is_err());
}

#[test]
fn the_error_for_a_truncated_file_has_the_missing_part_and_both_lengths() {
    let file = ImageFile::embedded("k", b"0123456789").unwrap();
    file.require("the head", 0, 10).unwrap();
    let text = file.require("the tail", 8, 4).unwrap_err().to_string();
    let start = "the embedded image k is truncated: the tail reaches to byte 12, but the file has only 10; ";
    assert_eq!(text, format!("{start}copy or build it again"));
    assert!(file.require("a part", u64::MAX, u64::MAX).is_err());
}

#[test]
fn a_file_is_loaded_at_any_address_and_changes_nothing_around_it() {
    let directory = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..10_000u32).map(|byte| byte as u8 | 1).collect();
    let path = save(&directory, "kernel", &content);
    let memory = machine(4096);
    let embedded = ImageFile::embedded("k", content.clone().leak()).unwrap();
    for file in [ImageFile::open(&path).unwrap(), embedded] {
        for address in [0x1003, (3 << 30) - 9_000, (4 << 30) + 5] {
            file.load(&memory, &occupant(address, 9_000), 1_000, 9_000).unwrap();
            let mut read = vec![0; 9_002];
            let (from, length) = if address == 0x1003 { (0x1002, 9_002) } else { (address, 9_000) };
            memory.read_slice(&mut read[..length], GuestAddress(from)).unwrap();
            let skipped = (address - from) as usize;
            assert_eq!(read[skipped..skipped + 9_000], content[1_000..]);
            assert!(skipped == 0 || (read[0], read[9_001]) == (0, 0));
        }
    }
}

#[test]
fn a_long_part_is_loaded_at_any_address_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let length = READ_FROM as usize + 5;
    let content: Vec<u8> = (0..length + 1_000).map(|byte| byte as u8 | 1).collect();
    let file = ImageFile::open(&save(&directory, "kernel", &content)).unwrap();
    let memory = machine(4096);
    for address in [0x1003, (3 << 30) - length as u64, (4 << 30) + 5] {
        file.load(&memory, &occupant(address, length as u64), 1_000, length as u64).unwrap();
        let mut read = vec![0; length];
        memory.read_slice(&mut read, GuestAddress(address)).unwrap();
        assert!(read == content[1_000..], "{address:#x}");
    }
    for beside in [0x1002, 0x1003 + length as u64, (3 << 30) - length as u64 - 1, (4 << 30) + 4] {
        assert_eq!(memory.read_obj::<u8>(GuestAddress(beside)).unwrap(), 0, "{beside:#x}");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for length in [100, 2 * READ_FROM] {
        let path = save(&directory, "kernel", &vec![7; length as usize]);
        let file = ImageFile::open(&path).unwrap();
        std::fs::write(&path, [7; 40]).unwrap();
        let error = file.load(&machine(4), &occupant(0, length), 0, length).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {length} bytes at offset 0 of {}", shown(&path))), "{error}");
    }
}
