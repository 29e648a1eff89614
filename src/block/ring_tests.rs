use std::os::unix::fs::FileExt;

use super::*;
use crate::memory::buffer::GuestBuffer;
use crate::memory::{self, GuestMemory};
use crate::need::{Need, ready};

/// Returns `None` if the test must be skipped because the host has no io_uring.
#[track_caller]
fn ring() -> Option<Ring> {
    ready(&[Need::IoUring]).then(|| Ring::new(8).expect("io_uring"))
}

fn vectors(memory: &GuestMemory, frame: u64, length: usize) -> (GuestBuffer, Vectors) {
    let frames: Vec<u64> = (frame..frame + length.div_ceil(4096) as u64).collect();
    let pages = GuestBuffer::new(memory, frames.into_iter(), 0, length).expect("pages");
    let vectors = Vectors::new(&pages, pages.len()).expect("vectors");
    (pages, vectors)
}

fn finish(ring: &mut Ring, count: usize) -> Vec<(u32, Result<(), io::ErrorKind>)> {
    let mut done = Vec::new();
    while done.len() < count {
        ring.submit(1).expect("a working ring");
        let note = |completion: Completion| {
            done.push((completion.tag, completion.result.map_err(|(_, error)| error.kind())));
        };
        ring.reap(note).expect("a working ring");
    }
    done.sort_by_key(|(tag, _)| *tag);
    done
}

#[test]
fn written_data_is_read_back() {
    let Some(mut ring) = ring() else { return };
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let (out, out_vectors) = vectors(&memory, 0, 8192);
    out.write(0, &[0x5a; 8192]).expect("room");
    let write = FileOperation::Write { vectors: out_vectors, offset: 4096, durable: true };
    ring.push(0, file.clone(), write).expect("room");
    assert_eq!(finish(&mut ring, 1), [(0, Ok(()))]);
    let (back, back_vectors) = vectors(&memory, 16, 8192);
    ring.push(3, file.clone(), FileOperation::Read(back_vectors, 4096)).expect("room");
    ring.push(4, file, FileOperation::Flush).expect("room");
    assert_eq!(finish(&mut ring, 2), [(3, Ok(())), (4, Ok(()))]);
    let mut bytes = [0; 8192];
    back.read(0, &mut bytes).expect("room");
    assert_eq!((bytes, ring.in_flight()), ([0x5a; 8192], 0));
}

#[test]
fn errors_are_returned_and_a_read_past_the_end_is_an_error() {
    let Some(mut ring) = ring() else { return };
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&[1; 5000], 0).expect("room");
    let (_, short) = vectors(&memory, 0, 8192);
    ring.push(1, Arc::new(file), FileOperation::Read(short, 0)).expect("room");
    let read_only = File::open("/dev/null").expect("/dev/null");
    let (_, refused) = vectors(&memory, 4, 4096);
    let write = FileOperation::Write { vectors: refused, offset: 0, durable: false };
    ring.push(2, Arc::new(read_only), write).expect("room");
    let done = finish(&mut ring, 2);
    assert_eq!(done[0], (1, Err(io::ErrorKind::UnexpectedEof)));
    assert!(done[1].1.is_err());
}

#[test]
fn a_tag_in_use_or_out_of_range_is_refused() {
    let Some(mut ring) = ring() else { return };
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    ring.push(1, file.clone(), FileOperation::Flush).expect("room");
    assert!(ring.push(1, file.clone(), FileOperation::Flush).is_err());
    assert!(ring.push(8, file, FileOperation::Flush).is_err());
    assert_eq!(finish(&mut ring, 1), [(1, Ok(()))]);
}

#[test]
fn more_requests_than_one_submission_holds_all_complete() {
    let Some(mut ring) = ring() else { return };
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    for round in 0..20 {
        for tag in 0..8 {
            let (pages, vectors) = vectors(&memory, tag.into(), 4096);
            pages.write(0, &[tag as u8 + round; 4096]).expect("room");
            let write = FileOperation::Write { vectors, offset: u64::from(tag) * 4096, durable: false };
            ring.push(tag, file.clone(), write).expect("room");
        }
        assert_eq!(finish(&mut ring, 8).len(), 8);
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, 7 * 4096 + 99).expect("a byte");
    assert_eq!(byte, [7 + 19]);
}

#[test]
fn dropping_a_ring_waits_for_its_requests() {
    let Some(mut ring) = ring() else { return };
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let (pages, vectors) = vectors(&memory, 0, 65536);
    pages.write(0, &[7; 65536]).expect("room");
    ring.push(0, file.clone(), FileOperation::Write { vectors, offset: 0, durable: true }).expect("room");
    ring.enter().expect("a working ring");
    drop(ring);
    let mut bytes = vec![0; 65536];
    file.read_exact_at(&mut bytes, 0).expect("all of it");
    assert!(bytes.iter().all(|byte| *byte == 7));
}
