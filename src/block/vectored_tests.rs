use super::*;
use crate::memory;

fn pages(frames: &[u64], offset: usize, length: usize) -> GuestBuffer {
    let memory = memory::create(16 << 20, memory::Backing::Private).expect("memory");
    GuestBuffer::new(&memory, frames.iter().copied(), offset, length).expect("pages")
}

fn whole(pages: &GuestBuffer) -> Result<Vectors, BufferError> {
    Vectors::new(pages, pages.len())
}

#[test]
fn pages_are_written_to_a_file_and_read_back_in_order() {
    let file = tempfile::tempfile().expect("a file");
    let out = pages(&[9, 3, 4, 1], 100, 3 * 4096 + 50);
    let bytes: Vec<u8> = (0..out.len()).map(|at| (at % 251) as u8).collect();
    out.write(0, &bytes).expect("room");
    whole(&out).expect("vectors").write_all(&file, 1000).expect("a write");
    let back = pages(&[2, 8, 5, 7], 7, bytes.len());
    whole(&back).expect("vectors").read_all(&file, 1000).expect("a read");
    let mut read = vec![0; bytes.len()];
    back.read(0, &mut read).expect("room");
    assert_eq!(read, bytes);
}

#[test]
fn more_pieces_than_one_system_call_takes_are_transferred() {
    let file = tempfile::tempfile().expect("a file");
    let frames: Vec<u64> = (0..1500).map(|frame| 2 * frame).collect();
    let out = pages(&frames, 0, 1500 * 4096);
    out.write(1499 * 4096, b"the end").expect("room");
    let mut vectors = whole(&out).expect("vectors");
    assert_eq!(vectors.raw().1, 1024);
    vectors.write_all(&file, 0).expect("a write");
    let mut end = [0; 7];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, 1499 * 4096).expect("a read");
    assert_eq!(&end, b"the end");
}

#[test]
fn reading_past_the_end_of_a_file_is_an_error() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(5000).expect("room");
    let result = whole(&pages(&[1, 2], 0, 8192)).expect("vectors").read_all(&file, 0);
    assert_eq!(result.expect_err("too short").kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn vectors_are_aligned_if_every_piece_is() {
    let aligned = |offset, length| whole(&pages(&[1, 3], offset, length)).expect("vectors").is_aligned(512);
    assert!(aligned(0, 8192) && aligned(512, 7680));
    assert!(!aligned(4, 8000) && !aligned(0, 8000));
}

#[test]
fn only_the_requested_length_is_transferred() {
    let file = tempfile::tempfile().expect("a file");
    let out = pages(&[1, 3], 0, 8192);
    Vectors::new(&out, 5000).expect("vectors").write_all(&file, 0).expect("a write");
    assert_eq!(file.metadata().expect("a size").len(), 5000);
    assert!(Vectors::new(&out, 8193).is_err());
}

#[test]
fn advancing_skips_whole_pieces_and_parts_of_pieces() {
    let mut vectors = whole(&pages(&[1, 3, 5], 0, 3 * 4096)).expect("vectors");
    vectors.advance(5000);
    assert_eq!((vectors.left(), vectors.raw().1), (3 * 4096 - 5000, 2));
    vectors.advance(usize::MAX);
    assert_eq!((vectors.left(), vectors.raw().1), (0, 0));
}
