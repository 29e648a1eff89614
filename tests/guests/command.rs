//! The program `viridian`, as a user runs it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::common::patience::grown;

/// A guest image that the build made.
pub fn image(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("VIRIDIAN_GUEST_IMAGES")).join(name);
    assert!(path.exists(), "there is no guest image {name}");
    path
}

/// Returns the program's command, with an empty standard input.
pub fn viridian() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viridian"));
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Returns the same command, run by a user whose queue of signals is full (RLIMIT_SIGPENDING), so that it gets no timers.
pub fn with_full_signal_queue(command: &Command) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg("--sigpending=0:0").arg(command.get_program()).args(command.get_args());
    limited.stdin(Stdio::null()).env_remove("RUST_LOG");
    limited
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    /// The guest's console.
    pub output: String,
    /// Viridian's own messages.
    pub errors: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A process that does not outlive a failed test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program with these arguments, separated by white space.
pub fn run(arguments: &str) -> Run {
    run_with(arguments.split_whitespace())
}

/// Runs the program with these arguments.
pub fn run_with<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    viridian().args(arguments).output().unwrap().into()
}

/// Returns a value for `--timeout`: this number of seconds on a quiet host.
pub fn limit(seconds: u64) -> String {
    grown(Duration::from_secs(seconds)).as_secs().to_string()
}

/// Runs a guest image that reports its checks and their failures, and expects none to fail.
pub fn expect_all_checks(name: &str, options: &str) -> String {
    let limit = limit(60);
    let run = run(&format!("run --timeout {limit} --kernel {} {options}", image(name).display()));
    let failed: Vec<_> = run.output.lines().filter(|line| line.starts_with("not ok")).collect();
    assert!(run.code == Some(0) && failed.is_empty(), "{failed:#?}\n{}\n{}", run.output, run.errors);
    assert!(run.output.contains(" passed, 0 failed"), "{}", run.output);
    run.output
}
