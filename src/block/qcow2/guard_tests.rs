use std::os::unix::fs::FileExt;
use std::path::Path;

use imago::StorageExt;

use super::*;
use crate::block::Cache;
use crate::block::cancel::Cancel;

/// Returns a guarded file of four clusters, with its header protected.
fn guarded(directory: &Path, cluster: u64) -> Guarded {
    let path = directory.join("image");
    std::fs::write(&path, vec![0x5a; 4 * cluster as usize]).expect("room");
    let opened = Opened::new(&path, true, Cache::Writeback).expect("a file");
    let (guarded, seal) = Guarded::qcow2(&opened, cluster).expect("a file");
    // The header can be written until it is sealed.
    guarded.write(&[0x77; 100][..], 0).expect("an unsealed header");
    seal.close(&opened).expect("a read");
    guarded
}

#[test]
fn in_the_first_cluster_only_the_location_of_the_refcount_table_can_be_written() {
    let directory = tempfile::tempdir().expect("a directory");
    for cluster in [512, 4096, 65536] {
        let file = guarded(directory.path(), cluster);
        file.write(&[1; 12][..], 48).expect("the refcount table moves");
        for (offset, length) in
            [(0, 512), (0, cluster), (47, 2), (59, 2), (cluster - 1, 2), (cluster - 512, 1024), (24, 8)]
        {
            let bytes = vec![1; length as usize];
            assert!(file.write(&bytes[..], offset).is_err(), "{length} bytes at {offset} of {cluster}");
            assert!(file.write_zeroes(offset, length).is_err());
        }
        file.write(&vec![1; cluster as usize][..], cluster).expect("another cluster");
        // Direct I/O also writes the surrounding bytes, unchanged.
        let mut block = vec![0x5a; 512];
        block[..100].fill(0x77);
        block[48..60].fill(9);
        file.write(&block[..], 0).expect("the same");
        let mut kept = [0; 512];
        std::fs::File::open(directory.path().join("image"))
            .expect("a file")
            .read_exact_at(&mut kept, 0)
            .expect("bytes");
        assert_eq!(kept, block[..]);
    }
}

#[test]
fn an_endless_recursion_is_an_error_and_so_are_all_later_calls() {
    fn go_round(file: &Guarded, depth: u64) -> u64 {
        let room = [depth; 64];
        let _ = file.mem_align();
        // Deeper than the limit.
        let deeper = if depth == u64::MAX { 0 } else { go_round(file, depth + 1) };
        std::hint::black_box(&room)[0] + deeper
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (file, guard) = (guarded(directory.path(), 512), Guard::default());
    assert!(guard.run(|| Ok(file.mem_align())).is_ok() && !guard.is_broken());
    assert!(guard.run(|| Ok(go_round(&file, 0))).is_err() && guard.is_broken());
    assert!(guard.run(|| -> io::Result<()> { panic!("imago is called again") }).is_err());
    // Another disk on the same thread is not affected.
    assert!(Guard::default().run(|| Ok(file.mem_align())).is_ok());
}

#[test]
fn a_cancelled_request_reads_no_more_tables() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = guarded(directory.path(), 512);
    let cancel = Cancel::default();
    let read = || file.read(&mut [0; 512][..], 512);
    assert!(cancel.scope(read).is_ok());
    cancel.target.set();
    assert!(cancel.scope(read).is_err() && read().is_ok());
}

#[test]
fn a_file_that_was_truncated_fails_all_requests_even_if_it_grows_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = guarded(directory.path(), 512);
    let host = std::fs::File::options().write(true).open(directory.path().join("image")).expect("a file");
    let read = || file.read(&mut [0; 512][..], 512);
    // Its own writes make it longer.
    file.write(&[1; 512][..], 2048).expect("room");
    host.set_len(4096).expect("room");
    read().expect("a longer file");
    host.set_len(2559).expect("a shorter file");
    assert!(read().is_err(), "one byte is missing");
    host.set_len(4096).expect("room");
    assert!(read().is_err() && file.write(&[1; 512][..], 512).is_err() && file.write_zeroes(512, 512).is_err());
}

#[test]
fn reading_beyond_the_last_cluster_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = guarded(directory.path(), 4096);
    let read = |offset| file.read(&mut [0; 512][..], offset);
    assert!(read(16384 - 512).is_ok() && read(16384).is_err() && read(1 << 55).is_err());
    // The first bytes of a cluster: the others are zeros.
    file.write(&[1; 512][..], 16384).expect("room");
    assert!(read(16384 + 3584).is_ok() && read(16384 + 4096).is_err());
}
