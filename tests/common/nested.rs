//! Tests on a real KVM with Hyper-V emulation, wherever they run: the nested test host.
//!
//! A start of the nested host (`scripts/nested-host`) costs seconds, so tests that can share one do: a
//! [`Batch`] is a list of named checks that run there one after another, each a shell script with a time limit of
//! its own. The first test that asks for an outcome starts the machine; the others wait and take theirs.
//!
//! ```ignore
//! static BATCH: Batch = Batch::new(|plan| {
//!     plan.file(env!("CARGO_BIN_EXE_viridian"));
//!     plan.check("greeting", 20, "$VIRIDIAN run");
//! });
//!
//! #[test]
//! fn the_guest_greets() {
//!     BATCH.outcome("greeting", |outcome| assert_eq!(outcome.code, Some(0), "{outcome}"));
//! }
//! ```
//!
//! Each test binary is one process under `cargo test`, and its batches run side by side where its test threads do.
//! A host that cannot run the nested host fails these tests, unless `VIRIDIAN_SKIP_NESTED` is set to a reason.
#![allow(dead_code)] // Each test binary uses its part.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Set to a reason, lets tests of the nested host pass without having run.
const SKIP: &str = "VIRIDIAN_SKIP_NESTED";
/// Seconds that the outer machine gets for its own start and end.
const OVERHEAD: u32 = 60;
/// A host may be so many times slower than those that the checks' time limits were chosen on.
const PATIENCE: u32 = 2;
/// The repository, which is also the checks' working directory.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How a check ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code, or `None` where the check was ended at its time limit.
    pub code: Option<u8>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The files that the check left in its working directory.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(out, "exit code {code}")?,
            None => write!(out, "not done in time")?,
        }
        write!(out, "\n--- standard output\n{}\n--- standard error\n{}", self.text(), self.errors())
    }
}

/// What a batch needs and does.
#[derive(Default)]
pub struct Plan {
    options: Vec<String>,
    checks: Vec<Check>,
}

struct Check {
    name: &'static str,
    seconds: u32,
    script: String,
}

impl Plan {
    /// Adds an option of `scripts/nested-host` with its value.
    pub fn option(&mut self, name: &str, value: &str) {
        self.options.extend([name.to_owned(), value.to_owned()]);
    }

    /// Packs a file; the checks find it under the same path, or as `HOST:GUEST` says.
    pub fn file(&mut self, file: &str) {
        self.option("--file", file);
    }

    /// Packs Debian's QEMU, as a VMM to compare with.
    pub fn qemu(&mut self) {
        self.options.push("--qemu".to_owned());
    }

    /// Adds a check: a script for busybox's shell, run in an empty directory, that `seconds` are enough for.
    pub fn check(&mut self, name: &'static str, seconds: u32, script: impl Into<String>) {
        assert!(self.checks.iter().all(|check| check.name != name), "two checks are named {name}");
        self.checks.push(Check { name, seconds: seconds * PATIENCE, script: script.into() });
    }
}

/// Checks that share one start of the nested host.
pub struct Batch {
    plan: fn(&mut Plan),
    ran: OnceLock<Result<BTreeMap<&'static str, Outcome>, String>>,
}

impl Batch {
    /// A batch that `plan` describes; nothing runs before the first [`Batch::outcome`].
    pub const fn new(plan: fn(&mut Plan)) -> Self {
        Self { plan, ran: OnceLock::new() }
    }

    /// Hands the outcome of the check `name` to `judge`.
    ///
    /// # Panics
    /// Where `judge` does, and where the nested host cannot run.
    pub fn outcome(&self, name: &str, judge: impl FnOnce(&Outcome)) {
        if let Some(reason) = skipped() {
            eprintln!("skipped the check {name}: {SKIP}={reason}");
            return;
        }
        match self.outcomes() {
            Ok(outcomes) => judge(outcomes.get(name).unwrap_or_else(|| panic!("the batch has no check {name}"))),
            Err(problem) => panic!("{problem}\nTo do without the nested host, set {SKIP} to the reason."),
        }
    }

    /// Runs the checks now, for a test that wants several batches side by side.
    pub fn start(&self) {
        if skipped().is_none() {
            let _ = self.outcomes();
        }
    }

    fn outcomes(&self) -> &Result<BTreeMap<&'static str, Outcome>, String> {
        self.ran.get_or_init(|| {
            let mut plan = Plan::default();
            (self.plan)(&mut plan);
            run(&plan)
        })
    }
}

/// The same checks on both engines, each on a nested host of its own.
pub struct OnBoth {
    pub kernel: Batch,
    pub user: Batch,
}

impl OnBoth {
    /// Hands the outcomes of the check to `judge`.
    pub fn outcomes(&self, check: &str, judge: impl Fn(&Outcome)) {
        /// Held by whoever starts nested hosts.
        static TURN: Mutex<()> = Mutex::new(());
        // Both nested hosts run at once, and no others beside them: each keeps a processor busy. What goes wrong with the second
        // is said when its turn comes.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = std::thread::scope(|scope| {
            let second = scope.spawn(|| self.user.outcome(check, |_| {}));
            self.kernel.outcome(check, |_| {});
            second.join()
        });
        drop(turn);
        for (engine, batch) in [("kernel", &self.kernel), ("user", &self.user)] {
            println!("on the {engine} engine:");
            batch.outcome(check, &judge);
        }
    }
}

/// Whether everything is to be done that a run which has to be short leaves out.
pub fn is_full() -> bool {
    std::env::var_os("VIRIDIAN_FULL").is_some()
}

/// How often something is repeated: a few times, or 50 where all of it is wanted.
pub fn times(few: u32) -> u32 {
    if is_full() { 50 } else { few }
}

/// The reason for which the nested host is not to be used, where there is one.
pub fn skipped() -> Option<String> {
    std::env::var(SKIP).ok().filter(|reason| !reason.is_empty())
}

/// `scripts/nested-host` itself, for tests that need a start of their own.
pub fn command() -> Command {
    let mut command = Command::new(Path::new(ROOT).join("scripts/nested-host"));
    command.current_dir(ROOT).stdin(Stdio::null());
    command
}

fn run(plan: &Plan) -> Result<BTreeMap<&'static str, Outcome>, String> {
    let directory = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let runner = directory.path().join("checks");
    fs::write(&runner, runner_script(&plan.checks)).map_err(|error| format!("cannot write the checks: {error}"))?;
    let results = directory.path().join("results");
    let seconds = OVERHEAD + plan.checks.iter().map(|check| check.seconds).sum::<u32>();

    let ended = command()
        .args(&plan.options)
        .arg("--file")
        .arg(format!("{}:/checks", runner.display()))
        .arg("--result")
        .arg(format!("/results:{}", results.display()))
        .args(["--timeout", &seconds.to_string(), "--", "sh", "/checks"])
        .output()
        .map_err(|error| format!("cannot start scripts/nested-host: {error}"))?;
    if !ended.status.success() {
        return Err(format!("the nested host failed ({}):\n{}", ended.status, String::from_utf8_lossy(&ended.stderr)));
    }
    plan.checks
        .iter()
        .map(|check| match collect(&results.join(check.name)) {
            Ok(outcome) => Ok((check.name, outcome)),
            Err(error) => Err(format!("the check {} left no result: {error}", check.name)),
        })
        .collect()
}

/// The script that runs the checks one after another and leaves, in a directory for each, what [`collect`] reads.
fn runner_script(checks: &[Check]) -> String {
    let mut script = String::new();
    for Check { name, seconds, script: check } in checks {
        let directory = quoted(&format!("/results/{name}"));
        script += &format!(
            "mkdir -p {directory}/files && cd {directory}/files || exit 1\n\
             setsid sh -c {check} >../stdout 2>../stderr & check=$!\n\
             {{ sleep {seconds} && touch ../expired && kill -KILL -$check; }} & limit=$!\n\
             wait $check\n\
             echo $? >../code\n\
             kill $limit 2>/dev/null\n\
             kill -KILL -$check 2>/dev/null\n",
            check = quoted(check),
        );
    }
    script + "exit 0\n"
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn collect(directory: &Path) -> std::io::Result<Outcome> {
    let code = fs::read_to_string(directory.join("code"))?.trim().parse().map_err(std::io::Error::other)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory.join("files"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name().into(), fs::read(entry.path())?);
        }
    }
    Ok(Outcome {
        code: if directory.join("expired").exists() { None } else { Some(code) },
        stdout: fs::read(directory.join("stdout"))?,
        stderr: fs::read(directory.join("stderr"))?,
        files,
    })
}
