use std::process::Command;

#[path = "change_tests.rs"]
mod change;
#[path = "fuzz_tests.rs"]
mod fuzz;

use super::super::open::open;
use super::*;
use crate::block::{BackingFiles, ImageOptions};
use crate::need::{Need, ready};

/// A temporary directory in which tests make images.
struct Workshop(tempfile::TempDir);

impl Workshop {
    /// Returns `None` if the test must be skipped because there is no `qemu-img`.
    #[track_caller]
    fn new() -> Option<Self> {
        ready(&[Need::Tool("qemu-img")]).then(|| Self(tempfile::tempdir().expect("a directory")))
    }

    /// Creates the directory in memory (`/dev/shm`) if possible, so that tests do not wait for a disk.
    #[track_caller]
    fn in_memory() -> Option<Self> {
        let directory = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        ready(&[Need::Tool("qemu-img")]).then(|| Self(directory()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn qemu_img(&self, arguments: &[&str]) {
        let output = Command::new("qemu-img").args(arguments).current_dir(&self.0).output().expect("qemu-img");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Creates an image of 4 MiB. `backing` is the name and format of its backing file.
    fn image(&self, name: &str, backing: Option<(&str, &str)>) -> ImageOptions {
        match backing {
            Some((backing, format)) => {
                self.qemu_img(&["create", "-f", "qcow2", "-b", backing, "-F", format, name, "4M"]);
            }
            None => self.qemu_img(&["create", "-f", "qcow2", name, "4M"]),
        }
        ImageOptions { path: self.path(name), ..ImageOptions::default() }
    }

    fn error(&self, config: &ImageOptions) -> String {
        open(config).err().expect("an error").to_string()
    }
}

/// Changes bytes of a file.
fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).expect("room");
}

#[test]
fn an_image_keeps_writes_and_shows_its_backing_file_elsewhere() {
    let Some(workshop) = Workshop::new() else { return };
    std::fs::write(workshop.path("base.raw"), vec![0x11; 2 << 20]).expect("room");
    workshop.image("middle.qcow2", Some(("base.raw", "raw")));
    let config = workshop.image("top.qcow2", Some(("middle.qcow2", "qcow2")));
    let disk = open(&config).expect("a disk");
    assert_eq!(disk.size().expect("a size"), 4 << 20);
    let mut bytes = vec![0; 8192];
    disk.read((2 << 20) - 4096, &mut bytes).expect("a read");
    // The backing file is shorter than the image, and reads as zeros beyond its end.
    assert!(bytes[..4096].iter().all(|byte| *byte == 0x11) && bytes[4096..].iter().all(|byte| *byte == 0));
    disk.write(1 << 20, &[0x22; 512]).expect("a write");
    disk.zero(0, 65536, true).expect("zeros");
    disk.flush().expect("a flush");
    drop(disk);
    workshop.qemu_img(&["check", "top.qcow2"]);
    workshop.qemu_img(&["convert", "-O", "raw", "top.qcow2", "flat"]);
    let flat = std::fs::read(workshop.path("flat")).expect("an image");
    assert!(flat[..65536].iter().all(|byte| *byte == 0) && flat[65536] == 0x11);
    assert!(flat[1 << 20..(1 << 20) + 512].iter().all(|byte| *byte == 0x22) && flat[(1 << 20) + 512] == 0x11);
    assert_eq!(std::fs::read(workshop.path("base.raw")).expect("an image"), vec![0x11; 2 << 20]);
}

#[test]
fn a_read_only_image_refuses_writes() {
    let Some(workshop) = Workshop::new() else { return };
    let config = ImageOptions { readonly: true, ..workshop.image("a.qcow2", None) };
    let disk = open(&config).expect("a disk");
    assert!(disk.read_only() && !disk.can_discard());
    assert!(disk.write(0, &[1; 512]).is_err());
}

#[test]
fn allocation_is_reported_and_discarded_space_is_released() {
    let Some(workshop) = Workshop::new() else { return };
    let disk = open(&workshop.image("a.qcow2", None)).expect("a disk");
    disk.write(65536, &[1; 65536]).expect("a write");
    let map = |offset| disk.allocation(offset, 1 << 20).expect("a map");
    assert_eq!((map(0), map(65536)), ((65536, false), (65536, true)));
    disk.zero(65536, 65536, true).expect("zeros");
    assert!(!map(65536).1);
    let mut bytes = [1; 512];
    disk.read(65536, &mut bytes).expect("a read");
    assert_eq!(bytes, [0; 512]);
}

#[test]
fn the_error_for_a_missing_backing_file_names_it_and_its_image() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.image("base.qcow2", None);
    let config = workshop.image("top.qcow2", Some(("base.qcow2", "qcow2")));
    std::fs::remove_file(workshop.path("base.qcow2")).expect("a file");
    let text = workshop.error(&config);
    assert!(text.contains("top.qcow2 has the backing file") && text.contains("base.qcow2"), "{text}");
}

#[test]
fn a_cycle_in_a_backing_chain_is_an_error() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.image("a.qcow2", None);
    workshop.image("b.qcow2", Some(("a.qcow2", "qcow2")));
    let config = workshop.image("c.qcow2", Some(("b.qcow2", "qcow2")));
    workshop.qemu_img(&["rebase", "-u", "-f", "qcow2", "-b", "c.qcow2", "-F", "qcow2", "a.qcow2"]);
    let text = workshop.error(&config);
    assert!(text.contains("a.qcow2 has the backing file") && text.contains("never end"), "{text}");
    // The shortest cycle: an image is its own backing file, under another name.
    let own = workshop.image("own.qcow2", None);
    std::os::unix::fs::symlink("own.qcow2", workshop.path("link.qcow2")).expect("a link");
    workshop.qemu_img(&["rebase", "-u", "-f", "qcow2", "-b", "link.qcow2", "-F", "qcow2", "own.qcow2"]);
    assert!(workshop.error(&own).contains("never end"));
}

#[test]
fn the_length_of_a_backing_chain_is_limited() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.image("0", None);
    for number in 1..=MAX_CHAIN + 1 {
        workshop.image(&number.to_string(), Some((&(number - 1).to_string(), "qcow2")));
    }
    let at = |number: usize| ImageOptions { path: workshop.path(&number.to_string()), ..ImageOptions::default() };
    assert!(open(&at(MAX_CHAIN)).is_ok());
    let text = workshop.error(&at(MAX_CHAIN + 1));
    assert!(text.contains("more than 32 backing files"), "{text}");
}

#[test]
fn an_image_in_use_and_its_backing_files_are_locked() {
    let Some(workshop) = Workshop::new() else { return };
    let base = workshop.image("base.qcow2", None);
    let first = workshop.image("first.qcow2", Some(("base.qcow2", "qcow2")));
    let second = workshop.image("second.qcow2", Some(("base.qcow2", "qcow2")));
    let _first = open(&first).expect("a disk");
    let _second = open(&second).expect("a disk");
    assert!(workshop.error(&base).contains("is in use"));
    assert!(workshop.error(&first).contains("is in use"));
}

#[test]
fn a_truncated_image_is_an_error_wherever_it_ends() {
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    let disk = open(&config).expect("a disk");
    disk.write(0, &[1; 1 << 20]).expect("a write");
    disk.flush().expect("a flush");
    drop(disk);
    let whole = std::fs::read(&config.path).expect("an image");
    assert!(open(&config).is_ok());
    for length in (0..whole.len() - 65536).step_by(32768).filter(|length| *length > 0) {
        std::fs::write(&config.path, &whole[..length]).expect("room");
        let text = workshop.error(&config);
        assert!(text.contains("damaged") || text.contains("truncated"), "{length}: {text}");
    }
}

#[test]
fn headers_with_invalid_or_unsupported_values_are_refused() {
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    let whole = std::fs::read(&config.path).expect("an image");
    let long = |number: u64| number.to_be_bytes().to_vec();
    let word = |number: u32| number.to_be_bytes().to_vec();
    for (offset, bytes, said) in [
        (4, word(4), "version 4"),
        (20, word(8), "2^8 bytes"),
        (20, word(60), "2^60 bytes"),
        (32, word(1), "encryption"),
        (36, word(u32::MAX), "entries"),
        (36, word(0), "entries"),
        (24, long(1 << 61), "entries"),
        (40, long(u64::MAX), "truncated"),
        (72, long(1), "readonly=on reads it"),
        (72, long(2), "marked as corrupt"),
        (72, long(4), "external data file"),
        (72, long(1 << 40), "incompatible features"),
        (8, long(u64::MAX), "name of its backing file"),
    ] {
        std::fs::write(&config.path, &whole).expect("room");
        patch(&config.path, offset, &bytes);
        let text = workshop.error(&config);
        assert!(text.contains(said), "{offset}: {text}");
    }
}

#[test]
fn an_image_that_was_not_closed_can_be_read() {
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    open(&config).expect("a disk").write(512, &[7; 512]).expect("a write");
    patch(&config.path, 72, &1_u64.to_be_bytes());
    assert!(workshop.error(&config).contains("it was not closed"));
    let before = std::fs::read(&config.path).expect("an image");
    let disk = open(&ImageOptions { readonly: true, ..config.clone() }).expect("a disk");
    let mut bytes = [0; 512];
    disk.read(512, &mut bytes).expect("a read");
    assert_eq!(bytes, [7; 512]);
    drop(disk);
    assert!(std::fs::read(&config.path).expect("an image") == before, "reading changes nothing");
}

#[test]
fn reading_a_part_of_a_compressed_cluster_costs_all_of_it() {
    const CLUSTER: u64 = 2 << 20;
    let Some(workshop) = Workshop::new() else { return };
    std::fs::write(workshop.path("raw"), vec![1; 2 * CLUSTER as usize]).expect("room");
    let convert = ["convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=2M"];
    workshop.qemu_img(&[&convert[..], &["raw", "plain"]].concat());
    workshop.qemu_img(&[&convert[..], &["-c", "raw", "packed"]].concat());
    workshop.qemu_img(&["create", "-f", "qcow2", "-b", "packed", "-F", "qcow2", "above"]);
    let amplified = |name: &str, offset, length| {
        let disk = open(&ImageOptions { path: workshop.path(name), ..ImageOptions::default() }).expect("a disk");
        disk.amplified(Extent { offset, length })
    };
    assert_eq!(amplified("plain", 512, 512), 0);
    for packed in ["packed", "above"] {
        assert_eq!(amplified(packed, 512, 512), CLUSTER - 512);
        assert_eq!(amplified(packed, CLUSTER - 512, 1024), 2 * CLUSTER - 1024);
        assert_eq!(amplified(packed, CLUSTER, CLUSTER), 0);
        assert_eq!(amplified(packed, u64::MAX, u64::MAX), 0);
    }
}

#[test]
fn backing_files_that_are_not_paths_are_refused() {
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    for name in ["nbd://127.0.0.1/x", "json:{\"driver\":\"raw\"}"] {
        patch(&config.path, 8, &[&1024_u64.to_be_bytes()[..], &(name.len() as u32).to_be_bytes()].concat());
        patch(&config.path, 1024, name.as_bytes());
        let text = workshop.error(&config);
        assert!(text.contains("which is not a path"), "{text}");
    }
}

#[test]
fn random_damage_to_a_header_causes_only_errors() {
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    let disk = open(&config).expect("a disk");
    disk.write(0, &[1; 65536]).expect("a write");
    drop(disk);
    let whole = std::fs::read(&config.path).expect("an image");
    let mut random = 0x1234_5678_9abc_def0_u64;
    for _ in 0..300 {
        std::fs::write(&config.path, &whole).expect("room");
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Anywhere in the header, or in the tables behind it.
            let table = random >> 60 & 3;
            let offset = table * 65536 + (random >> 8) % 104;
            patch(&config.path, offset, &[(random >> 32) as u8]);
        }
        if let Ok(disk) = open(&config) {
            let size = disk.size().expect("a size");
            let mut bytes = vec![0; 4096];
            let _ = disk.read(0, &mut bytes);
            let _ = disk.read(size.saturating_sub(4096), &mut bytes);
            let _ = disk.write(8192, &bytes);
            let _ = disk.flush();
        }
    }
}

#[test]
fn wrong_refcounts_are_an_error_only_if_the_image_is_opened_for_writing() {
    let Some(workshop) = Workshop::new() else { return };
    type Damage = fn(&Path, u64);
    let cases: [(&str, Damage); 8] = [
        // Seen by a user: one damaged byte, so that the refcount table is beyond the end of the file.
        ("truncated before its table at 2147549184", |path, _| patch(path, 52, &[0x80])),
        ("refcount table has 0 clusters", |path, _| patch(path, 56, &[0; 4])),
        ("refcount table has 4294967295 clusters", |path, _| patch(path, 56, &[0xff; 4])),
        ("refcount table is at 0", |path, _| patch(path, 48, &[0; 8])),
        ("its header at 0 as unused", |path, table| patch(path, table, &[0; 8])),
        ("its refcount block and its refcount table overlap", |path, table| {
            patch(path, table, &(1_u64 << 16).to_be_bytes());
        }),
        ("its refcount block at 65537 is not aligned", |path, table| patch(path, table, &0x1_0200_u64.to_be_bytes())),
        ("its header at 0 as unused", |path, table| {
            let file = std::fs::File::open(path).expect("a file");
            let mut offset = [0; 8];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut offset, table).expect("an entry");
            patch(path, u64::from_be_bytes(offset), &[0; 2]);
        }),
    ];
    for (text, damage) in cases {
        let config = workshop.image("a.qcow2", None);
        damage(&config.path, 1 << 16);
        let error = workshop.error(&config);
        let text = text.replace("65537", "66048");
        assert!(error.contains("damaged qcow2 image") && error.contains(&text), "{error}");
        // Reading needs no refcounts.
        let reader = ImageOptions { readonly: true, ..config };
        open(&reader).expect("a disk").read(0, &mut [0; 512]).expect("a read");
    }
}

#[test]
fn guest_data_that_overlaps_a_table_is_refused() {
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    open(&config).expect("a disk").write(0, &[1; 65536]).expect("a write");
    let bytes = std::fs::read(&config.path).expect("an image");
    let entry = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) & 0x00ff_ffff_ffff_fe00;
    let (l1, refcounts) = (entry(40), entry(48));
    let (l2, block) = (entry(l1 as usize), entry(refcounts as usize));
    for (offset, what) in [(l1, "L1 table"), (l2, "L2 table"), (refcounts, "refcount table"), (block, "refcount block")]
    {
        patch(&config.path, l2, &(offset | 1 << 63).to_be_bytes());
        assert!(workshop.error(&config).contains(&format!("the guest's data at {offset} overlaps its {what}")));
        // The same for a compressed cluster: releasing it would free the table.
        patch(&config.path, l2, &(offset | 1 << 62).to_be_bytes());
        assert!(workshop.error(&config).contains(what));
    }
}

#[test]
fn a_backing_file_outside_of_the_folder_needs_backing_any() {
    let Some(workshop) = Workshop::new() else { return };
    let elsewhere = tempfile::tempdir().expect("a directory");
    let secret = elsewhere.path().join("secret");
    std::fs::write(&secret, vec![0x5e; 1 << 20]).expect("room");
    std::fs::create_dir(workshop.path("below")).expect("a directory");
    std::fs::write(workshop.path("below/base.raw"), vec![0x0b; 1 << 20]).expect("room");
    std::os::unix::fs::symlink(&secret, workshop.path("link")).expect("a link");
    std::os::unix::fs::symlink(elsewhere.path(), workshop.path("door")).expect("a link");
    let up = format!("../{}/secret", elsewhere.path().file_name().expect("a name").to_str().expect("text"));
    for name in [secret.to_str().expect("text"), &up, "link", "door/secret", "below/../link"] {
        let config = workshop.image("top.qcow2", Some((name, "raw")));
        let text = workshop.error(&config);
        assert!(text.contains("give backing=any") && text.contains("outside of"), "{text}");
        let trusted = ImageOptions { backing: BackingFiles::Any, ..config };
        let mut bytes = [0; 512];
        open(&trusted).expect("a disk").read(0, &mut bytes).expect("a read");
        assert_eq!(bytes, [0x5e; 512]);
        // The same at the end of a chain whose other images are in the folder.
        let nested = workshop.image("nested.qcow2", Some(("top.qcow2", "qcow2")));
        assert!(workshop.error(&nested).contains("top.qcow2 has the backing file"));
        open(&ImageOptions { backing: BackingFiles::Any, ..nested }).expect("a disk");
    }
    // For a file outside of the folder, the error does not reveal whether it exists.
    let config = workshop.image("top.qcow2", Some(("link", "raw")));
    std::fs::remove_file(&secret).expect("a file");
    assert!(workshop.error(&config).contains("cannot be used: there is no"));
    workshop.qemu_img(&["rebase", "-u", "-f", "qcow2", "-b", "/nowhere/at/all", "-F", "raw", "top.qcow2"]);
    assert!(workshop.error(&config).contains("give backing=any"));
    // A file inside of the folder is accepted by any name.
    for name in ["below/base.raw", "./below/../below/base.raw", workshop.path("below/base.raw").to_str().expect("text")]
    {
        let mut bytes = [0; 512];
        open(&workshop.image("top.qcow2", Some((name, "raw")))).expect("a disk").read(0, &mut bytes).expect("a read");
        assert_eq!(bytes, [0x0b; 512]);
    }
    // For an image that the user names by a symbolic link, the folder of the link counts.
    std::os::unix::fs::symlink(workshop.path("top.qcow2"), elsewhere.path().join("named.qcow2")).expect("a link");
    let named = ImageOptions { path: elsewhere.path().join("named.qcow2"), ..ImageOptions::default() };
    assert!(workshop.error(&named).contains("give backing=any"));
}

#[test]
fn an_image_of_version_2_without_a_backing_file_releases_clusters() {
    let Some(workshop) = Workshop::new() else { return };
    for clusters in ["512", "65536"] {
        let options = format!("compat=0.10,cluster_size={clusters}");
        workshop.qemu_img(&["create", "-f", "qcow2", "-o", &options, "old.qcow2", "4M"]);
        let disk = open(&ImageOptions { path: workshop.path("old.qcow2"), ..ImageOptions::default() }).expect("a disk");
        assert!(disk.can_discard());
        disk.write(0, &vec![1; 1 << 20]).expect("a write");
        for (offset, length, deallocate) in [(512, 262_144, true), (300_544, 512, true), (524_288, 65_536, false)] {
            disk.zero(offset, length, deallocate).expect("zeros");
            let mut bytes = vec![1; length as usize + 1024];
            disk.read(offset - 512, &mut bytes).expect("a read");
            let (zeros, around) = (&bytes[512..512 + length as usize], [bytes[511], bytes[512 + length as usize]]);
            assert!(zeros.iter().all(|byte| *byte == 0) && around == [1, 1], "{offset} {length}");
        }
        assert!(!disk.allocation(65536, 65536).expect("a map").1);
        assert!(disk.allocation(524_288, 65536).expect("a map").1);
        disk.flush().expect("a flush");
        drop(disk);
        workshop.qemu_img(&["check", "old.qcow2"]);
    }
}

#[test]
fn an_image_of_version_2_with_a_backing_file_writes_zeros_and_releases_nothing() {
    let Some(workshop) = Workshop::new() else { return };
    std::fs::write(workshop.path("base.raw"), vec![0x11; 4 << 20]).expect("room");
    workshop.qemu_img(&["create", "-f", "qcow2", "-o", "compat=0.10", "-b", "base.raw", "-F", "raw", "old.qcow2"]);
    let disk = open(&ImageOptions { path: workshop.path("old.qcow2"), ..ImageOptions::default() }).expect("a disk");
    assert!(!disk.can_discard());
    for deallocate in [true, false] {
        disk.zero(65536, 131_072, deallocate).expect("zeros");
        let mut bytes = vec![1; 131_072 + 2];
        disk.read(65535, &mut bytes).expect("a read");
        assert!(bytes[0] == 0x11 && bytes[131_073] == 0x11 && bytes[1..131_073].iter().all(|byte| *byte == 0));
    }
    drop(disk);
    workshop.qemu_img(&["check", "old.qcow2"]);
}

#[test]
fn zeroing_unallocated_clusters_allocates_nothing() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.qemu_img(&["create", "-f", "qcow2", "large.qcow2", "1T"]);
    let path = workshop.path("large.qcow2");
    let disk = open(&ImageOptions { path: path.clone(), ..ImageOptions::default() }).expect("a disk");
    for deallocate in [true, false] {
        disk.zero(0, 1 << 40, deallocate).expect("zeros");
    }
    disk.flush().expect("a flush");
    assert!(std::fs::metadata(path).expect("an image").len() < 1 << 20);
}

#[test]
fn the_largest_image_is_usable_to_its_end_and_larger_ones_are_refused() {
    let Some(workshop) = Workshop::in_memory() else { return };
    const LARGEST: u64 = 1 << 61;
    workshop.qemu_img(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "a.qcow2", &LARGEST.to_string()]);
    let config = ImageOptions { path: workshop.path("a.qcow2"), ..ImageOptions::default() };
    let disk = open(&config).expect("a disk");
    assert_eq!(disk.size().expect("a size"), LARGEST);
    disk.write(LARGEST - 512, &[7; 512]).expect("a write");
    let mut bytes = [0; 1024];
    disk.read(LARGEST - 1024, &mut bytes).expect("a read");
    assert!(bytes[..512] == [0; 512] && bytes[512..] == [7; 512]);
    drop(disk);
    for size in [LARGEST + 512, 1 << 62, 1 << 63, (1 << 63) - 512, u64::MAX, u64::MAX - 511] {
        patch(&config.path, 24, &size.to_be_bytes());
        assert!(workshop.error(&config).contains("entries"), "{size}");
    }
}
