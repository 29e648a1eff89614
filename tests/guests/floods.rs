//! Guests that flood the host do not affect others, and cause only a few log messages.

use super::command::{image, limit, run_with};

/// Runs the guest `flood` with this command line.
fn flood(cmdline: &str, options: &[&str]) -> super::command::Run {
    let (kernel, limit) = (image("flood"), limit(60));
    let common =
        ["run", "--kernel", kernel.to_str().unwrap(), "--cmdline", cmdline, "--timeout", &limit, "--cpus", "2"];
    run_with(common.iter().chain(options))
}

#[test]
fn a_warning_that_a_guest_causes_repeatedly_is_printed_once_per_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let run = flood("flood=headers n=1000", &["--disk", disk.to_str().unwrap()]);
    assert!(run.code == Some(0) && run.output.contains("1001 commands, 1001 answers"), "{run:?}");
    assert_eq!(run.errors.matches("qcow2 header").count(), 1, "{run:?}");
}

#[test]
fn a_kernel_that_connects_repeatedly_finds_at_most_one_old_answer_and_its_own() {
    let run = flood("flood=contacts n=3000", &[]);
    assert!(run.code == Some(0) && run.output.contains("3000 contacts, 2 answers\n"), "{run:?}");
}

#[test]
fn a_channel_whose_ring_is_never_empty_can_be_closed() {
    let run = flood("flood=ring seconds=1", &["--disk", "memory:1M", "--memory", "64M"]);
    assert!(run.code == Some(0) && run.output.contains("VMBus is left\n"), "{run:?}");
}
