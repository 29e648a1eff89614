//! Limits of the host that are too low for a machine: its error names the limit, and nothing panics or aborts.

use std::process::{Command, Stdio};

use super::command::{Run, image};

/// Runs a machine with many kinds of devices under a limit (an option of prlimit). Its guest writes 7 to the exit port.
fn under(limit: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut command = Command::new("prlimit");
    command.args([limit, env!("CARGO_BIN_EXE_viridian"), "run", "--cpus", "2", "--cmdline", "exit=7", "--kernel"]);
    command.arg(image("exits")).args(["--disk", "memory:1M", "--net", "user", "--net", "switch=a", "--display", "on"]);
    command.args(["--vsock", &path("vsock"), "--console", "none", "--control", &path("control")]);
    command.args(["--trace", &format!("all={}", path("trace"))]);
    command.stdin(Stdio::null()).env_remove("RUST_LOG").output().unwrap().into()
}

/// Expects that a run has succeeded, or failed with an error that names the limit. Returns `true` if it has succeeded.
#[track_caller]
fn is_whole(run: &Run, limit: &str) -> bool {
    assert!(!run.errors.contains("panicked"), "{limit}: {run:?}");
    match run.code {
        Some(7) => true,
        Some(125) => {
            assert!(run.errors.contains("ulimit"), "{limit}: {run:?}");
            false
        }
        _ => panic!("{limit}: {run:?}"),
    }
}

#[test]
fn a_process_with_too_few_descriptors_says_so_and_a_few_more_are_enough() {
    for (failed, most) in (10..200).step_by(3).enumerate() {
        if is_whole(&under(&format!("--nofile={most}:{most}")), &format!("{most} descriptors")) {
            assert!(failed > 5, "{most} descriptors are enough");
            return;
        }
    }
    panic!("200 descriptors are not enough");
}
