use std::process::Command;

use super::super::open;
use super::*;
use crate::need::{Need, ready};
use crate::vsp::storage::config::DiskConfig;

/// A directory to make images in.
struct Workshop(tempfile::TempDir);

impl Workshop {
    /// Returns `None` where a reason leaves the test out.
    #[track_caller]
    fn new() -> Option<Self> {
        ready(&[Need::Tool("qemu-img")]).then(|| Self(tempfile::tempdir().expect("a directory")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn qemu_img(&self, arguments: &[&str]) {
        let output = Command::new("qemu-img").args(arguments).current_dir(&self.0).output().expect("qemu-img");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An image of 4 MiB, on another if `backing` names one.
    fn image(&self, name: &str, backing: Option<(&str, &str)>) -> DiskConfig {
        match backing {
            Some((backing, format)) => {
                self.qemu_img(&["create", "-f", "qcow2", "-b", backing, "-F", format, name, "4M"]);
            }
            None => self.qemu_img(&["create", "-f", "qcow2", name, "4M"]),
        }
        DiskConfig { path: self.path(name), ..DiskConfig::default() }
    }

    fn error(&self, config: &DiskConfig) -> String {
        open(config).err().expect("an error").to_string()
    }
}

/// Changes bytes of a file.
fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).expect("room");
}

#[test]
fn an_image_holds_what_is_written_and_shows_what_it_stands_on() {
    let Some(workshop) = Workshop::new() else { return };
    std::fs::write(workshop.path("base.raw"), vec![0x11; 2 << 20]).expect("room");
    workshop.image("middle.qcow2", Some(("base.raw", "raw")));
    let config = workshop.image("top.qcow2", Some(("middle.qcow2", "qcow2")));
    let disk = open(&config).expect("a disk");
    assert_eq!(disk.size().expect("a size"), 4 << 20);
    let mut bytes = vec![0; 8192];
    disk.read((2 << 20) - 4096, &mut bytes).expect("a read");
    // The base is shorter than what stands on it.
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
fn an_image_that_is_not_to_be_written_is_not() {
    let Some(workshop) = Workshop::new() else { return };
    let config = DiskConfig { readonly: true, ..workshop.image("a.qcow2", None) };
    let disk = open(&config).expect("a disk");
    assert!(disk.read_only() && !disk.can_discard());
    assert!(disk.write(0, &[1; 512]).is_err());
}

#[test]
fn space_is_told_and_given_back() {
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
fn a_missing_backing_file_is_named_with_the_image_that_wants_it() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.image("base.qcow2", None);
    let config = workshop.image("top.qcow2", Some(("base.qcow2", "qcow2")));
    std::fs::remove_file(workshop.path("base.qcow2")).expect("a file");
    let text = workshop.error(&config);
    assert!(text.contains("top.qcow2 has the backing file") && text.contains("base.qcow2"), "{text}");
}

#[test]
fn a_backing_chain_that_goes_round_is_found() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.image("a.qcow2", None);
    workshop.image("b.qcow2", Some(("a.qcow2", "qcow2")));
    let config = workshop.image("c.qcow2", Some(("b.qcow2", "qcow2")));
    workshop.qemu_img(&["rebase", "-u", "-f", "qcow2", "-b", "c.qcow2", "-F", "qcow2", "a.qcow2"]);
    let text = workshop.error(&config);
    assert!(text.contains("a.qcow2 has the backing file") && text.contains("round for ever"), "{text}");
    // The shortest way round, by another name of the same file.
    let own = workshop.image("own.qcow2", None);
    std::os::unix::fs::symlink("own.qcow2", workshop.path("link.qcow2")).expect("a link");
    workshop.qemu_img(&["rebase", "-u", "-f", "qcow2", "-b", "link.qcow2", "-F", "qcow2", "own.qcow2"]);
    assert!(workshop.error(&own).contains("round for ever"));
}

#[test]
fn a_chain_without_end_is_given_up() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.image("0", None);
    for number in 1..=MAX_CHAIN + 1 {
        workshop.image(&number.to_string(), Some((&(number - 1).to_string(), "qcow2")));
    }
    let at = |number: usize| DiskConfig { path: workshop.path(&number.to_string()), ..DiskConfig::default() };
    assert!(open(&at(MAX_CHAIN)).is_ok());
    let text = workshop.error(&at(MAX_CHAIN + 1));
    assert!(text.contains("more than 32 backing files"), "{text}");
}

#[test]
fn an_image_in_use_is_locked_and_so_is_what_it_stands_on() {
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
fn an_image_that_was_cut_short_is_found_wherever_it_ends() {
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
        assert!(text.contains("damaged") || text.contains("cut short"), "{length}: {text}");
    }
}

#[test]
fn headers_that_promise_what_we_do_not_are_refused() {
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
        (40, long(u64::MAX), "cut short"),
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
fn backing_files_that_are_no_paths_are_refused() {
    let Some(workshop) = Workshop::new() else { return };
    let config = workshop.image("a.qcow2", None);
    for name in ["nbd://127.0.0.1/x", "json:{\"driver\":\"raw\"}"] {
        patch(&config.path, 8, &[&1024_u64.to_be_bytes()[..], &(name.len() as u32).to_be_bytes()].concat());
        patch(&config.path, 1024, name.as_bytes());
        let text = workshop.error(&config);
        assert!(text.contains("which is no path"), "{text}");
    }
}

#[test]
fn random_damage_to_a_header_never_does_more_than_fail() {
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
