//! Errors in disks are reported before a guest starts, with a remedy.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::bad_input::with_mounts;
use super::command::{Killed, Run, image, run_with, viridian};
use crate::common::need::{Need, ready};
use crate::common::patience::holds_within;

/// Expects a refusal with code 2 and these words, before the guest has printed anything.
#[track_caller]
fn refused(run: &Run, words: &[&str]) {
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.output.is_empty() && !run.errors.contains("panicked"), "{run:?}");
    for word in words {
        assert!(run.errors.contains(word), "{word:?} is not in {run:?}");
    }
}

/// Runs the program with these disks.
fn disks(disks: &[&str]) -> Run {
    run_with(["run"].into_iter().chain(disks.iter().flat_map(|disk| ["--disk", disk])))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn image(&self, name: &str, size: u64) -> String {
        fs::File::create(self.path(name)).unwrap().set_len(size).unwrap();
        self.path(name)
    }

    /// Writes the header and the first tables of a qcow2 image of 4 MiB, with this backing file if any.
    fn qcow2(&self, name: &str, backing: Option<&str>) -> String {
        const CLUSTER: u64 = 65536;
        let backing = backing.unwrap_or("");
        let words: [(u64, &[u8]); 12] = [
            (0, b"QFI\xfb"),
            (4, &3_u32.to_be_bytes()),
            (8, &if backing.is_empty() { 0_u64 } else { 112 }.to_be_bytes()),
            (16, &(backing.len() as u32).to_be_bytes()),
            (20, &16_u32.to_be_bytes()),
            (24, &(4_u64 << 20).to_be_bytes()),
            (36, &1_u32.to_be_bytes()),
            (40, &(3 * CLUSTER).to_be_bytes()),
            (48, &CLUSTER.to_be_bytes()),
            (56, &1_u32.to_be_bytes()),
            (96, &4_u32.to_be_bytes()),
            (100, &104_u32.to_be_bytes()),
        ];
        let path = self.path(name);
        let file = fs::File::create(&path).unwrap();
        file.set_len(4 * CLUSTER).unwrap();
        for (offset, bytes) in words {
            file.write_all_at(bytes, offset).unwrap();
        }
        file.write_all_at(backing.as_bytes(), 112).unwrap();
        // The only refcount block: each of the four clusters has a refcount of 1.
        file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER).unwrap();
        file.write_all_at(&[0, 1, 0, 1, 0, 1, 0, 1], 2 * CLUSTER).unwrap();
        path
    }
}

#[test]
fn missing_files_and_files_that_are_not_images_are_refused() {
    let folder = Folder::new();
    refused(&disks(&["/nowhere/disk.img"]), &["--disk", "there is no /nowhere/disk.img", "truncate -s"]);
    refused(&disks(&["/"]), &["/ is a directory"]);
    refused(&disks(&["/dev/null"]), &["/dev/null is a character device"]);
    let fifo = folder.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    refused(&disks(&[&fifo]), &["is a FIFO"]);
}

#[test]
fn images_in_other_formats_are_refused_with_the_command_that_converts_them() {
    let folder = Folder::new();
    let with = |name: &str, offset: u64, bytes: &[u8]| {
        let path = folder.image(name, 1 << 20);
        fs::File::options().write(true).open(&path).unwrap().write_all_at(bytes, offset).unwrap();
        path
    };
    let azure = with("azure.vhd", (1 << 20) - 512, b"conectix");
    refused(&disks(&[&azure]), &["azure.vhd is a VHD image", "qemu-img convert -O qcow2", "format=raw"]);
    refused(&disks(&[&with("d.vmdk", 0, b"KDMV")]), &["d.vmdk is a VMDK image"]);
    refused(&disks(&[&with("d.img.gz", 0, b"\x1f\x8b\x08")]), &["d.img.gz is gzip-compressed", "gunzip -k"]);
    let raw = disks(&[&format!("{azure},format=raw")]);
    assert_eq!(raw.code, Some(0), "{raw:?}");
}

#[test]
fn images_of_invalid_sizes_are_refused() {
    let folder = Folder::new();
    refused(&disks(&[&folder.image("empty", 0)]), &["empty", "give it a size"]);
    let odd = folder.image("odd", (1 << 20) + 100);
    refused(&disks(&[&odd]), &["odd has 1048676 bytes", "sector size 512", "truncated", "truncate -s %512"]);
    let sectors = format!("{},sector=4096", folder.image("sectors", (1 << 20) + 512));
    refused(&disks(&[&sectors]), &["sector size 4096"]);
    refused(&disks(&["memory:"]), &["memory:1G"]);
    refused(&disks(&["memory:1000"]), &["multiple of the sector size 512"]);
}

#[test]
fn the_error_for_an_unwritable_image_says_how_to_use_it_read_only() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let folder = Folder::new();
    let image = folder.image("image", 1 << 20);
    let run = |disk: &str| {
        let mount = format!("mount --bind {image} {image} && mount -o remount,ro,bind {image}");
        with_mounts(&mount, &format!("{} run --disk {disk}", env!("CARGO_BIN_EXE_viridian")))
    };
    refused(&run(&image), &["may not be read and written", "readonly=on"]);
    let read = run(&format!("{image},readonly=on"));
    assert_eq!(read.code, Some(0), "{read:?}");
}

/// Starts a machine with this disk. It does not end by itself.
fn running_with(disk: &str) -> Killed {
    let mut command = viridian();
    command.args(["run", "--console", "none", "--cmdline", "halt", "--disk", disk, "--kernel"]);
    Killed(command.arg(image("exits")).spawn().unwrap())
}

/// Waits until a process holds the lock of an image.
fn wait_for_lock(path: &str) {
    let file = fs::File::open(path).unwrap();
    let is_locked = || {
        let is_free = file.try_lock().is_ok();
        if is_free {
            file.unlock().unwrap();
        }
        !is_free
    };
    assert!(holds_within(Duration::from_secs(20), is_locked), "nobody locks {path}");
}

#[test]
fn an_image_has_one_writer_or_many_readers() {
    let folder = Folder::new();
    let image = folder.image("image", 1 << 20);
    let words = ["image is in use", "two machines", "readonly=on"];
    {
        let _writer = running_with(&image);
        wait_for_lock(&image);
        refused(&disks(&[&image]), &words);
        refused(&disks(&[&format!("{image},readonly=on")]), &words);
    }
    {
        // A killed machine holds no locks.
        let _reader = running_with(&format!("{image},readonly=on"));
        wait_for_lock(&image);
        refused(&disks(&[&image]), &words);
        let reader = disks(&[&format!("{image},readonly=on")]);
        assert_eq!(reader.code, Some(0), "{reader:?}");
    }
    refused(&disks(&[&image, &image]), &words);
}

#[test]
fn broken_qcow2_images_are_refused() {
    let folder = Folder::new();
    let good = folder.qcow2("good.qcow2", None);
    let run = disks(&[&good]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let cut = folder.qcow2("cut.qcow2", None);
    fs::File::options().write(true).open(&cut).unwrap().set_len(100_000).unwrap();
    refused(&disks(&[&cut]), &["cut.qcow2 is a damaged qcow2 image", "qemu-img check"]);
    // Its refcount table is beyond the end of the file. Without the check, the first write would end the process.
    let bad = folder.qcow2("bad.qcow2", None);
    fs::OpenOptions::new().write(true).open(&bad).unwrap().write_all_at(&[0x80], 52).unwrap();
    refused(&disks(&[&bad]), &["bad.qcow2 is a damaged qcow2 image", "truncated before its table at 2147549184"]);
    refused(&disks(&[&format!("{},format=qcow2", folder.image("raw", 1 << 20))]), &["is not a qcow2 image"]);
}

#[test]
fn qcow2_images_with_missing_or_cyclic_backing_files_are_refused() {
    let folder = Folder::new();
    let alone = folder.qcow2("alone.qcow2", Some("nowhere.img"));
    refused(
        &disks(&[&alone]),
        &["alone.qcow2 has the backing file", "nowhere.img, which cannot be used", "there is no"],
    );
    let first = folder.qcow2("first.qcow2", Some("second.qcow2"));
    folder.qcow2("second.qcow2", Some("first.qcow2"));
    refused(&disks(&[&first]), &["second.qcow2 has the backing file", "never end"]);
    let own = folder.qcow2("own.qcow2", Some("own.qcow2"));
    refused(&disks(&[&own]), &["never end"]);
    for number in 0..40 {
        folder.qcow2(&format!("{number}.qcow2"), Some(&format!("{}.qcow2", number + 1)));
    }
    refused(&disks(&[&folder.path("0.qcow2")]), &["has more than 32 backing files"]);
}

#[test]
fn disks_without_a_valid_and_free_lun_are_refused() {
    refused(
        &disks(&["memory:1M,lun=3", "memory:2M,lun=3"]),
        &["memory:1M and memory:2M both have controller=0,lun=3", "another lun="],
    );
    refused(&disks(&["memory:1M,lun=64"]), &["LUNs 0 to 63"]);
    refused(&disks(&["memory:1M,controller=4"]), &["controllers 0 to 3"]);
    refused(&disks(&["readonly=on"]), &["a disk needs a path"]);
    let full: Vec<_> = (0..65).map(|_| "memory:1M").collect();
    refused(&disks(&full), &["no free LUN"]);
}

#[test]
fn unknown_keys_and_values_of_disks_are_refused() {
    refused(&disks(&["memory:1M,sector=520"]), &["512 or 4096"]);
    refused(&disks(&["memory:1M,cache=some"]), &["some", "none"]);
    refused(&disks(&["memory:1M,serial="]), &["1 to 36 printable"]);
    refused(&disks(&["memory:1M,serail=x"]), &["serail", "did you mean `serial`?"]);
}

#[test]
fn the_error_for_a_disk_in_a_settings_file_has_its_line() {
    let folder = Folder::new();
    let path = PathBuf::from(folder.path("vm.toml"));
    let with = |content: &str| {
        fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        run_with([Path::new("run"), Path::new("--config"), &path])
    };
    refused(&with("[[disk]]\npath = 'x'\nlum = 1"), &["vm.toml:3", "lum", "lun"]);
    refused(&with("disk = ['missing.img']"), &[&folder.path("missing.img")]);
}
