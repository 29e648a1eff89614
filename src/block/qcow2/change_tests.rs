//! Images that another program changes while they are in use.

use super::*;

#[test]
fn an_image_that_is_damaged_while_it_is_in_use_is_an_error_of_that_disk() {
    const CLUSTER: u64 = 65536;
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    open(&config).expect("a disk").write(0, &[1; 4 * CLUSTER as usize]).expect("a write");
    let bytes = std::fs::read(&config.path).expect("an image");
    let entry = |at: u64| u64::from_be_bytes(bytes[at as usize..][..8].try_into().expect("8 bytes"));
    let l2 = entry(entry(40)) & 0x00ff_ffff_ffff_fe00;
    let other = open(&workshop.image("other.qcow2", None)).expect("a disk");
    let disk = open(&config).expect("a disk");
    let read = |cluster: u64| disk.read(cluster * CLUSTER, &mut [0; 512]);
    // Tables are read when they are first needed. Two entries refer to nothing: far away, and behind the last cluster.
    patch(&config.path, l2, &(1_u64 << 63 | 1 << 50).to_be_bytes());
    let end = (bytes.len() as u64).next_multiple_of(CLUSTER);
    patch(&config.path, l2 + 8, &(1_u64 << 63 | end).to_be_bytes());
    assert!(read(0).is_err() && read(1).is_err());
    assert!(read(2).is_ok(), "its entry is whole");
    // The same for a file that becomes shorter, also when a write makes it longer again.
    let file = std::fs::File::options().write(true).open(&config.path).expect("a file");
    file.set_len(bytes.len() as u64 - CLUSTER).expect("a shorter file");
    assert!(read(2).is_err() && disk.write(2 * CLUSTER, &[1; 512]).is_err());
    file.set_len(2 * bytes.len() as u64).expect("room");
    assert!(read(2).is_err() && disk.flush().is_err());
    drop(disk);
    other.write(0, &[1; 512]).expect("a write");
    other.read(0, &mut [0; 512]).expect("a read");
}

#[test]
fn a_backing_file_that_becomes_shorter_is_an_error() {
    let Some(workshop) = Workshop::new() else { return };
    std::fs::write(workshop.path("base.raw"), vec![0x11; 1 << 20]).expect("room");
    let disk = open(&workshop.image("top.qcow2", Some(("base.raw", "raw")))).expect("a disk");
    disk.read(0, &mut [0; 512]).expect("a read");
    let base = std::fs::File::options().write(true).open(workshop.path("base.raw")).expect("a file");
    base.set_len(1 << 19).expect("a shorter file");
    assert!(disk.read(1 << 19, &mut [0; 512]).is_err());
    // What is not in the backing file can be used.
    disk.write(2 << 20, &[1; 512]).expect("a write");
    disk.read(2 << 20, &mut [0; 512]).expect("a read");
}
