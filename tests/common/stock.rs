//! Stock Linux under the library, on the nested host and on both engines.
//!
//! A check of [`plan`] is an ignored test of the same module, named `nested_CHECK`: it runs on the nested host, where it boots the
//! guest that [`image`] made. The test that needs the outcome calls [`passes`].
#![allow(dead_code)] // Each test binary uses only a part.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use viridian::Builder;
use viridian::config::Engine;
use viridian::machine::{Capture, Machine};

use super::nested::{OnBoth, Outcome, Plan};
use super::patience::grown;

/// Time limit for steps that take seconds on a quiet machine.
pub const SOON: Duration = Duration::from_secs(60);

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a program of this host in the repository.
///
/// # Panics
/// Panics if the program fails.
pub fn done(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(ROOT).output().expect("the program starts");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a guest with `scripts/linux-guest` in `target/NAME-test`, and returns that directory.
pub fn image(name: &str, arguments: &[&str]) -> String {
    let directory = format!("{ROOT}/target/{name}-test");
    done("scripts/linux-guest", &[&["--output", &directory], arguments].concat());
    directory
}

/// Plans checks of a module (its `module_path!`) with the guest in the directory `image`. Each has a name, the seconds that it
/// needs, and further environment variables for [`variable`].
pub fn plan(plan: &mut Plan, module: &str, image: &str, engine: &str, checks: &[(&'static str, u32, &str)]) {
    let this = std::env::current_exe().expect("a test binary");
    let this = this.to_str().expect("a plain path");
    for file in [this, &format!("{image}/vmlinux"), &format!("{image}/initrd.img")] {
        plan.file(file);
    }
    let (_, module) = module.split_once("::").expect("a module of the test binary");
    for (check, seconds, variables) in checks {
        let test = format!("{this} --ignored --exact --nocapture {module}::nested_{check}");
        plan.check(check, *seconds, format!("IMAGE={image} ENGINE={engine} {variables} {test}"));
    }
}

/// Expects the check to pass on both engines, and prints what it measured.
#[track_caller]
pub fn passes(batches: &OnBoth, check: &str) {
    batches.outcomes(check, has_passed);
}

/// Expects that the check has passed, and prints what it measured.
#[track_caller]
pub fn has_passed(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{outcome}");
    assert!(outcome.text().contains("1 passed"), "{outcome}");
    outcome.text().lines().filter(|line| line.starts_with("measured: ")).for_each(|line| println!("{line}"));
}

/// Returns an environment variable of the check.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: this test runs only on the nested host"))
}

/// Returns a number that is an environment variable of the check.
pub fn number(name: &str) -> u32 {
    variable(name).parse().expect("a number")
}

/// Returns the engine of the check.
pub fn engine() -> Engine {
    if variable("ENGINE") == "kernel" { Engine::Kernel } else { Engine::User }
}

/// Returns a file of the check's guest.
pub fn image_file(name: &str) -> PathBuf {
    PathBuf::from(variable("IMAGE")).join(name)
}

/// A shell on the guest's console. It runs each line that it reads, and then prints the exit code between two equals signs.
pub struct Shell {
    console: Capture,
}

impl Shell {
    /// Waits until the guest's script prints that it serves.
    pub fn ready(console: &Capture) -> Self {
        let shell = Self::new(console);
        shell.wait_until_ready();
        shell
    }

    /// Creates it without waiting.
    pub fn new(console: &Capture) -> Self {
        Self { console: console.clone() }
    }

    /// Waits until the guest's script prints that it serves.
    pub fn wait_until_ready(&self) {
        self.wait_for("serving\r\n");
    }

    /// Waits for these words on the console, and returns what came up to their end.
    pub fn wait_for(&self, words: &str) -> String {
        let output = self.console.wait_for(words, grown(2 * SOON)).unwrap_or_else(|missing| panic!("{missing}"));
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Begins to run a line.
    pub fn begin(&self, line: &str) {
        self.console.type_text(&format!("{line}\n")).expect("it is read");
    }

    /// Waits for the end of a line, and returns its exit code and its output.
    pub fn finish(&self) -> (String, String) {
        let output = self.wait_for("=\r\n");
        let (output, code) = output.trim_end_matches("=\r\n").rsplit_once('=').expect("the code of the line");
        (code.to_owned(), output.replace("\r\n", "\n").trim().to_owned())
    }

    /// Runs a line, and returns its output.
    ///
    /// # Panics
    /// Panics if its exit code is not 0.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        self.begin(line);
        let (code, output) = self.finish();
        assert_eq!(code, "0", "{line}: {output}");
        output
    }
}

/// A machine whose guest has a [`Shell`].
pub struct Linux {
    pub machine: Machine,
    shell: Shell,
}

impl Deref for Linux {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}

impl Linux {
    /// Starts the machine, and waits for the guest's shell.
    pub fn start(builder: Builder) -> Self {
        let machine = builder.capture_console().start().expect("the machine starts");
        let shell = Shell::ready(machine.console().expect("it is captured"));
        Self { machine, shell }
    }
}
