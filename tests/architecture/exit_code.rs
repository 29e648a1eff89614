//! The exit code of `scripts/test`, with a stand-in for cargo that fails where it is told to.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::root;

/// Fails if its arguments begin with `$FAILS`.
const CARGO: &str = "#!/bin/sh\ncase \"$*\" in \"$FAILS\"*) exit 101 ;; esac\n";

/// Runs `scripts/test` with cargo commands that pass, except those that begin with `fails`.
fn run(fails: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let cargo = folder.path().join("cargo");
    std::fs::write(&cargo, CARGO).expect("it is written");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    let mut path = std::ffi::OsString::from(folder.path());
    path.push(":");
    path.push(std::env::var_os("PATH").expect("a PATH"));
    Command::new(root().join("scripts/test"))
        .args(["quick", "--lib"])
        .env("PATH", path)
        .env("FAILS", fails)
        .env("CARGO_TARGET_DIR", folder.path())
        .output()
        .expect("the script starts")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_run_without_a_failure_ends_with_0() {
    let output = run("nothing");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(last_line(&output), "0 passed, 0 failed");
}

#[test]
fn a_lint_or_a_test_that_fails_is_told_and_ends_the_run_with_an_error() {
    for (fails, name) in [
        ("clippy --lib", "lints-of-the-library"),
        ("fmt", "format"),
        ("test --no-fail-fast", "cargo test ended with code 101"),
    ] {
        let output = run(fails);
        assert!(!output.status.success(), "{fails}: {output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(&format!("== Failed\n{name}\n")),
            "{fails}: {output:?}"
        );
        assert_eq!(last_line(&output), "0 passed, 1 failed");
    }
}
