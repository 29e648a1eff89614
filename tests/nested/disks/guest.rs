//! The guests of these tests, and how to start them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{changes, discards, kills, pausing, plug, roots, tools};
use crate::common::nested::{Batch, OnBoth, Outcome, Plan, is_full};

pub const VIRIDIAN: &str = env!("CARGO_BIN_EXE_viridian");
/// The script that installs missing tools.
pub const NEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lib/need");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Scripts that run in the guests.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nested/disks/guest");
/// Programs on the guests' root disk in addition to busybox.
const PACKAGES: [&str; 6] = ["e2fsprogs", "fio", "iperf3", "kexec-tools", "sg3-utils", "util-linux"];

/// Machines with their root on a disk.
pub static WITH_ROOTS: OnBoth =
    OnBoth { kernel: Batch::new(|plan| plan_roots(plan, "kernel")), user: Batch::new(|plan| plan_roots(plan, "user")) };

fn plan_roots(plan: &mut Plan, engine: &str) {
    tools::plan(plan, engine);
    discards::plan(plan, engine);
    roots::plan(plan, engine);
    pausing::plan(plan, engine);
}

/// Machines with their root in memory, and disks for data.
pub static WITH_DATA: OnBoth =
    OnBoth { kernel: Batch::new(|plan| plan_data(plan, "kernel")), user: Batch::new(|plan| plan_data(plan, "user")) };

fn plan_data(plan: &mut Plan, engine: &str) {
    changes::plan(plan, engine);
    kills::plan(plan, engine);
    plug::plan(plan, engine);
}

/// Runs a program of this host, which must succeed.
pub fn done(program: impl AsRef<Path>, arguments: &[&str]) {
    let output = Command::new(program.as_ref()).args(arguments).current_dir(ROOT).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{}: {error}", program.as_ref().display()),
    }
}

/// Makes a guest with `scripts/linux-guest`: vmlinuz, vmlinux, initrd.img, root.img and cdrom.iso in a directory.
fn make(name: &str, options: &[&str]) -> PathBuf {
    let directory = Path::new(ROOT).join("target").join(name);
    let scripts: Vec<String> = std::fs::read_dir(SCRIPTS)
        .expect("the guests' scripts")
        .map(|entry| entry.expect("the guests' scripts").file_name().into_string().expect("a plain name"))
        .map(|name| format!("{SCRIPTS}/{name}:/usr/bin/{name}"))
        .collect();
    let mut arguments = vec!["--output", directory.to_str().expect("a plain path")];
    arguments.extend(scripts.iter().flat_map(|script| ["--file", script]));
    arguments.extend(options);
    done(Path::new(ROOT).join("scripts/linux-guest"), &arguments);
    directory
}

/// Returns the guest with a root disk, a DVD, and all tools of the tests.
pub fn with_root_disk() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| {
        let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
        let options: Vec<&str> = ["--disk", "192M", "--cdrom", SCRIPTS].into_iter().chain(packages).collect();
        make("disks-test", &options)
    })
}

/// Returns the guest without a root disk.
pub fn in_memory() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| make("disks-test-memory", &["--drivers"]))
}

/// The guest with Debian's kernel for real machines, and a root disk.
pub fn with_full_kernel() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| make("disks-test-full", &["--flavour", "amd64", "--disk", "64M"]))
}

/// A root disk for the nested host, from a copy that a run may change. The first to be packed is /dev/vda there.
pub fn pack_root_disk(plan: &mut Plan, engine: &str, guest: &Path) {
    let (image, copy) = (guest.join("root.img"), guest.join(format!("root-{engine}.img")));
    done("cp", &["--reflink=auto", "--sparse=always", text(&image), text(&copy)]);
    plan.option("--disk", text(&copy));
    pack(plan, guest);
}

/// The guest's kernel and initramfs, and Viridian.
pub fn pack(plan: &mut Plan, guest: &Path) {
    for file in [Path::new(VIRIDIAN), &guest.join("vmlinux"), &guest.join("initrd.img")] {
        plan.file(text(file));
    }
}

/// A command that runs a guest on an engine.
pub fn run(engine: &str, guest: &Path, cmdline: &str, options: &str) -> String {
    let guest = guest.display();
    // The memory is for four times 64 blocks of 1 MiB.
    let memory = if is_full() { "768M" } else { "384M" };
    format!(
        "{VIRIDIAN} run --engine {engine} --kernel {guest}/vmlinux --initrd {guest}/initrd.img --memory {memory} {options} \
         --cmdline 'console=ttyS0 quiet panic=-1 {cmdline}'"
    )
}

/// A path in the target directory, which has no odd characters.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Expects that a guest powered off.
#[track_caller]
pub fn expect_power_off(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{outcome}");
    assert!(outcome.errors().ends_with("viridian: the guest powered off\n"), "{outcome}");
}

/// Expects words on the console.
#[track_caller]
pub fn expect_words(outcome: &Outcome, words: &str) {
    assert!(outcome.text().contains(words), "{words}: {outcome}");
}
