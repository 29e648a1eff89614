//! Tests on the nested test host, a real KVM with Hyper-V emulation on any host.
//!
//! Starting the nested host (`scripts/nested-host`) takes seconds, so tests share it where they can: a [`Batch`] is a list of
//! named checks that run there one after another. Each check is a shell script with its own time limit. The first test that
//! asks for an outcome starts the machine; the others wait for theirs. If the command line of the test binary selects only
//! some of its tests, the machine runs only the checks that these ask for.
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
//! Each test binary is one process under `cargo test`. Its batches run in parallel, one for each processor.
//! A host that cannot run the nested host fails these tests, unless they are left out for a reason: see [`need`](super::need).
#![allow(dead_code)] // Each test binary uses only a part.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::need::{Need, SKIP, left_out, ready};
use super::patience::holds_within;

/// Time limit for the start and the end of the outer machine itself, in seconds.
const OVERHEAD: u32 = 60;
/// Factor between the measured time of a check and its limit. The limits grow on a host that is busy or slow, here and in the
/// outer machine.
const MARGIN: u32 = 2;
/// Names the clock of the outer machine.
const CLOCK: &str = include_str!("clock.sh");
/// The repository, which is also the checks' working directory.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The outcome of a check.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code, or `None` if the check was ended at its time limit.
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

/// The files, options and checks of a batch.
#[derive(Default)]
pub struct Plan {
    options: Vec<String>,
    checks: Vec<Check>,
    waits: bool,
}

struct Check {
    name: &'static str,
    /// The check that must run before this one.
    after: Option<&'static str>,
    seconds: u32,
    script: String,
}

impl Plan {
    /// Adds an option of `scripts/nested-host` with its value.
    pub fn option(&mut self, name: &str, value: &str) {
        self.options.extend([name.to_owned(), value.to_owned()]);
    }

    /// Packs a file. Checks find it at the same path, or at GUEST for `HOST:GUEST`.
    pub fn file(&mut self, file: &str) {
        self.option("--file", file);
    }

    /// Packs Debian's QEMU, as a VMM to compare with.
    pub fn qemu(&mut self) {
        self.options.push("--qemu".to_owned());
    }

    /// Says that the checks wait for most of their time. The nested host then runs beside those that keep a processor busy.
    pub fn waits(&mut self) {
        self.waits = true;
    }

    /// Adds a check: a script for busybox's shell that runs in an empty directory and takes at most `seconds` on a quiet host.
    /// `$SLOWNESS` is how many times slower than usual the machine is.
    pub fn check(&mut self, name: &'static str, seconds: u32, script: impl Into<String>) {
        self.add(Check { name, after: None, seconds: seconds * MARGIN, script: script.into() });
    }

    /// Adds a check that needs the results of an earlier one in the machine.
    pub fn check_after(&mut self, after: &'static str, name: &'static str, seconds: u32, script: impl Into<String>) {
        self.add(Check { name, after: Some(after), seconds: seconds * MARGIN, script: script.into() });
    }

    fn add(&mut self, check: Check) {
        assert!(self.checks.iter().all(|other| other.name != check.name), "two checks are named {}", check.name);
        assert!(
            check.after.is_none_or(|name| self.find(name).is_some()),
            "no check before {} has the name",
            check.name
        );
        self.checks.push(check);
    }

    fn find(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// Returns the checks with these names and those that must run before them, in order.
    fn with_those_before(&self, names: &[&str]) -> Vec<&Check> {
        let mut wanted: Vec<&str> = Vec::new();
        for name in names {
            let first = self.find(name).unwrap_or_else(|| panic!("the batch has no check {name}"));
            let chain = std::iter::successors(Some(first), |check| self.find(check.after?));
            wanted.extend(chain.map(|check| check.name));
        }
        self.checks.iter().filter(|check| wanted.contains(&check.name)).collect()
    }
}

/// Checks that share one start of the nested host.
pub struct Batch {
    make: fn(&mut Plan),
    plan: OnceLock<Plan>,
    ran: Mutex<BTreeMap<&'static str, Result<Outcome, String>>>,
}

impl Batch {
    /// Creates the batch that `make` describes. Nothing runs before the first [`Batch::outcome`].
    pub const fn new(make: fn(&mut Plan)) -> Self {
        Self { make, plan: OnceLock::new(), ran: Mutex::new(BTreeMap::new()) }
    }

    /// Calls `judge` with the outcome of the check `name`.
    ///
    /// # Panics
    /// Panics if `judge` does, or if the nested host cannot run.
    #[track_caller]
    pub fn outcome(&self, name: &str, judge: impl FnOnce(&Outcome)) {
        if !ready(&[Need::NestedHost]) {
            return;
        }
        self.run(&[name]);
        let outcome = self.ran.lock().unwrap_or_else(PoisonError::into_inner)[name].clone();
        match outcome {
            Ok(outcome) => judge(&outcome),
            Err(problem) => {
                panic!("{problem}\nTo do without the nested host, give a reason: {SKIP}='nested host: …'")
            }
        }
    }

    /// Runs these checks now, unless they have run: for a test that needs several of them, or several batches in parallel. If all
    /// tests of this binary run, so do all checks of the batch.
    pub fn run(&self, names: &[&str]) {
        if left_out(&[Need::NestedHost]).is_some() {
            return;
        }
        let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        if names.iter().all(|name| ran.contains_key(name)) {
            return;
        }
        let plan = self.plan.get_or_init(|| {
            let mut plan = Plan::default();
            (self.make)(&mut plan);
            plan
        });
        let checks = if all_tests_run() { plan.checks.iter().collect() } else { plan.with_those_before(names) };
        let turn = (!plan.waits).then(|| Turn::take(checks.iter().map(|check| check.seconds).sum()));
        let outcomes = run(&plan.options, &checks);
        drop(turn);
        ran.extend(checks.iter().map(|check| match &outcomes {
            Ok(outcomes) => (check.name, outcomes[check.name].clone()),
            Err(problem) => (check.name, Err(problem.clone())),
        }));
        for name in names {
            assert!(ran.contains_key(name), "the batch has no check {name}");
        }
    }
}

/// The permission to run a nested host, until it is dropped. A nested host keeps a processor busy, so this process runs at most as many at once as
/// there are processors. One more takes longer in all.
struct Turn;

struct Turns {
    running: usize,
    /// The expected durations of the waiting batches, in seconds.
    waiting: Vec<u32>,
}

static TURNS: (Mutex<Turns>, Condvar) = (Mutex::new(Turns { running: 0, waiting: Vec::new() }), Condvar::new());

impl Turn {
    /// Waits until a nested host may be started. The longest batches start first, so that no processor is idle while a long
    /// batch still runs at the end.
    fn take(seconds: u32) -> Self {
        let limit = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut turns = TURNS.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.waiting.push(seconds);
        let others = |turns: &mut Turns| turns.running >= limit || turns.waiting.iter().any(|other| *other > seconds);
        let mut turns = TURNS.1.wait_while(turns, others).unwrap_or_else(PoisonError::into_inner);
        turns.running += 1;
        let mine = turns.waiting.iter().position(|waiting| *waiting == seconds);
        turns.waiting.swap_remove(mine.expect("it was added"));
        TURNS.1.notify_all();
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.0.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
        TURNS.1.notify_all();
    }
}

/// Returns `true` if the command line of this test binary selects all of its tests.
fn all_tests_run() -> bool {
    static ALL: OnceLock<bool> = OnceLock::new();
    let selected_by = |arguments: &[OsString]| {
        let program = std::env::current_exe().expect("a test binary");
        let listed = Command::new(program).args(arguments).arg("--list").output().expect("it runs");
        String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.ends_with(": test")).count()
    };
    *ALL.get_or_init(|| selected_by(&std::env::args_os().skip(1).collect::<Vec<_>>()) == selected_by(&[]))
}

/// The same checks on both engines, each on a nested host of its own.
pub struct OnBoth {
    pub kernel: Batch,
    pub user: Batch,
}

impl OnBoth {
    /// Runs these checks now, unless they have run.
    pub fn run(&self, checks: &[&str]) {
        // An error of the second is reported when its outcome is requested.
        let _ = std::thread::scope(|scope| {
            let second = scope.spawn(|| self.user.run(checks));
            self.kernel.run(checks);
            second.join()
        });
    }

    /// Calls `judge` with the outcomes of the check.
    #[track_caller]
    pub fn outcomes(&self, check: &str, judge: impl Fn(&Outcome)) {
        if !ready(&[Need::NestedHost]) {
            return;
        }
        self.run(&[check]);
        for (engine, batch) in [("kernel", &self.kernel), ("user", &self.user)] {
            println!("on the {engine} engine:");
            batch.outcome(check, &judge);
        }
    }
}

/// Returns `true` if repeated steps should be done in full, which takes long.
pub fn is_full() -> bool {
    std::env::var_os("VIRIDIAN_FULL").is_some()
}

/// Returns the number of repetitions: `few`, or 50 in a full run.
pub fn times(few: u32) -> u32 {
    if is_full() { 50 } else { few }
}

/// Returns the command `scripts/nested-host`, for tests that start a machine of their own.
pub fn command() -> Command {
    let mut command = Command::new(Path::new(ROOT).join("scripts/nested-host"));
    command.current_dir(ROOT).stdin(Stdio::null());
    command
}

/// Runs checks on a nested host.
fn run(options: &[String], checks: &[&Check]) -> Result<BTreeMap<&'static str, Result<Outcome, String>>, String> {
    let directory = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let runner = directory.path().join("checks");
    fs::write(&runner, runner_script(checks)).map_err(|error| format!("cannot write the checks: {error}"))?;
    let (results, said) = (directory.path().join("results"), directory.path().join("said"));
    let seconds = OVERHEAD + checks.iter().map(|check| check.seconds).sum::<u32>();

    let mut command = command();
    command
        .args(options)
        .arg("--file")
        .arg(format!("{}:/checks", runner.display()))
        .arg("--result")
        .arg(format!("/results:{}", results.display()))
        .args(["--", "sh", "/checks"])
        .stdout(Stdio::null())
        .stderr(File::create(&said).map_err(|error| format!("cannot write {}: {error}", said.display()))?);
    // The checks have limits of their own. This one is for a machine that hangs.
    let ended = finish(&mut command, Duration::from_secs(u64::from(seconds * MARGIN)));
    let said = String::from_utf8_lossy(&fs::read(&said).unwrap_or_default()).into_owned();
    match ended {
        Err(error) => Err(format!("cannot run scripts/nested-host: {error}\n{said}")),
        Ok(None) => Err(format!("the nested host hung and was ended:\n{said}")),
        Ok(Some(status)) if !status.success() => Err(format!("the nested host failed ({status}):\n{said}")),
        Ok(Some(_)) => {
            note_seconds(checks, &results);
            let lost = |name, error| format!("the check {name} left no result: {error}");
            let collect = |name| collect(&results.join(name)).map_err(|error| lost(name, error));
            Ok(checks.iter().map(|check| (check.name, collect(check.name))).collect())
        }
    }
}

/// Adds a line for each check to `checks` in the directory of results, if `scripts/test` names one: seconds in the outer machine,
/// test binary, check.
fn note_seconds(checks: &[&Check], results: &Path) {
    let Some(directory) = std::env::var_os("VIRIDIAN_RESULTS") else { return };
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let program = program.rsplit_once('-').map_or(&*program, |(name, _)| name);
    let lines = checks.iter().filter_map(|check| {
        let seconds = fs::read_to_string(results.join(check.name).join("seconds")).ok()?;
        Some(format!("{} {program}: {}\n", seconds.trim(), check.name))
    });
    let lines: String = lines.collect();
    let file = File::options().create(true).append(true).open(Path::new(&directory).join("checks"));
    if let Err(error) = file.and_then(|mut file| file.write_all(lines.as_bytes())) {
        eprintln!("cannot note the checks' seconds: {error}");
    }
}

/// Runs a command to its end. Returns `None` if it had to be killed.
fn finish(command: &mut Command, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let mut ended = None;
    holds_within(limit, || {
        ended = child.try_wait().transpose();
        ended.is_some()
    });
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    ended.transpose()
}

/// Returns the script that runs the checks one after another. It writes a directory for each, which [`collect`] reads.
fn runner_script(checks: &[&Check]) -> String {
    let mut script = CLOCK.to_owned();
    for Check { name, seconds, script: check, .. } in checks {
        let directory = quoted(&format!("/results/{name}"));
        script += &format!(
            "mkdir -p {directory}/files && cd {directory}/files || exit 1\n\
             measure_slowness\n\
             began=$(cut -d. -f1 /proc/uptime)\n\
             SLOWNESS=$SLOWNESS setsid sh -c {check} >../stdout 2>../stderr & check=$!\n\
             {{ wait_out {seconds} && touch ../expired && kill -KILL -$check; }} & limit=$!\n\
             wait $check\n\
             echo $? >../code\n\
             echo $(($(cut -d. -f1 /proc/uptime) - began)) >../seconds\n\
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
