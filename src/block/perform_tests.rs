use std::io;

use super::super::testing::{self, VectorDisk, extent, pages};
use super::*;
use crate::memory;

fn run(disk: &dyn Disk, operation: Operation, pages: &GuestBuffer) -> Result<Success, RequestError> {
    testing::perform(disk, &Request { operation, durable: false }, pages)
}

#[test]
fn comparing_finds_the_first_different_byte_also_after_the_first_chunk() {
    let memory = memory::create(4 << 20, memory::Backing::Private).expect("memory");
    let disk = VectorDisk::new(1 << 20);
    let all = extent(0, 600 << 10);
    let buffer = pages(&memory, 600 << 10);
    run(&disk, Operation::Read(all), &buffer).expect("a read");
    assert_eq!(run(&disk, Operation::Compare { extent: all, repeat: None }, &buffer), Ok(Success::Done));
    buffer.write(300_001, &[0xee]).expect("room");
    let compare = Operation::Compare { extent: all, repeat: None };
    assert_eq!(run(&disk, compare, &buffer), Err(RequestError::Miscompare(300_001)));
}

#[test]
fn a_repeated_block_is_compared_with_each_block() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let disk = VectorDisk::new(1 << 20);
    let buffer = pages(&memory, 512);
    let pattern = vec![9; 512];
    buffer.write(0, &pattern).expect("room");
    let range = extent(512, 2048);
    run(&disk, Operation::Fill { extent: range, pattern }, &GuestBuffer::default()).expect("a write");
    let compare = |extent| Operation::Compare { extent, repeat: Some(512) };
    assert_eq!(run(&disk, compare(range), &buffer), Ok(Success::Done));
    assert_eq!(run(&disk, compare(extent(512, 2560)), &buffer), Err(RequestError::Miscompare(2048)));
}

#[test]
fn compare_and_write_writes_only_what_it_compared() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let disk = VectorDisk::new(8192);
    let buffer = pages(&memory, 1024);
    run(&disk, Operation::Read(extent(512, 512)), &buffer).expect("a read");
    buffer.write(512, &[3; 512]).expect("room");
    let operation = || Operation::CompareAndWrite(extent(512, 512));
    assert_eq!(run(&disk, operation(), &buffer), Ok(Success::Done));
    assert!(matches!(run(&disk, operation(), &buffer), Err(RequestError::Miscompare(_))));
    let mut now = [0; 512];
    disk.read(512, &mut now).expect("a read");
    assert_eq!(now, [3; 512]);
}

#[test]
fn errors_have_the_operation_and_the_position() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let buffer = pages(&memory, 4096);
    let mut disk = VectorDisk::new(1 << 20);
    for (kind, error) in [
        (io::ErrorKind::Other, RequestError::Write(512)),
        (io::ErrorKind::PermissionDenied, RequestError::Protected(512)),
        (io::ErrorKind::ReadOnlyFilesystem, RequestError::Protected(512)),
        (io::ErrorKind::StorageFull, RequestError::NoSpace(512)),
        (io::ErrorKind::QuotaExceeded, RequestError::NoSpace(512)),
        (io::ErrorKind::FileTooLarge, RequestError::NoSpace(512)),
    ] {
        disk.fails_at = Some((600, kind));
        assert_eq!(run(&disk, Operation::Write(extent(512, 512)), &buffer), Err(error));
        assert_eq!(run(&disk, Operation::Read(extent(512, 512)), &buffer), Err(RequestError::Read(512)));
        assert_eq!(run(&disk, Operation::Check(extent(0, 512)), &buffer), Ok(Success::Done));
    }
    disk.fails_at = Some((300 << 10, io::ErrorKind::Other));
    assert_eq!(run(&disk, Operation::Check(extent(0, 1 << 20)), &buffer), Err(RequestError::Read(256 << 10)));
}

#[test]
fn a_request_never_accesses_memory_beyond_its_pages() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let buffer = pages(&memory, 512);
    let disk = VectorDisk::new(8192);
    let two = extent(0, 1024);
    for operation in
        [Operation::Read(two), Operation::Write(two), Operation::Or(two), Operation::CompareAndWrite(extent(0, 512))]
    {
        let before = disk.bytes.lock().expect("a lock").clone();
        let result = run(&disk, operation.clone(), &buffer);
        assert!(matches!(result, Err(RequestError::Buffer | RequestError::Miscompare(_))), "{operation:?}: {result:?}");
        assert_eq!(*disk.bytes.lock().expect("a lock"), before);
    }
}
