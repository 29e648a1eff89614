//! The cost of leaving a guest: on this host, and on the nested one with both engines.
//!
//! Run it through `scripts/bench-hypercalls`. The guest image `costs` measures.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

const IMAGE: &str = concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/costs");
const VIRIDIAN: &str = env!("CARGO_BIN_EXE_viridian");
/// If this variable is set to a reason, the bench does not use the nested host.
const SKIP: &str = "VIRIDIAN_SKIP_NESTED";

/// The limit of a cost, as a multiple of the floor's.
type Limit = (&'static str, f64);

/// The measured operations: the guest's name, a description, and the limit.
const WAYS: [(&str, &str, Option<Limit>); 5] = [
    ("ioeventfd", "bare ioeventfd", None),
    ("doorbell", "doorbell signal", Some(("ioeventfd", 1.6))),
    ("port", "bare port-I/O exit", None),
    ("hypercall", "exiting hypercall", Some(("port", 1.5))),
    ("msr", "MSR exit", None),
];

/// The words of a run's command.
fn run(engine: &str) -> Vec<&str> {
    vec![VIRIDIAN, "run", "--engine", engine, "--test-device", "--timeout", "120", "--kernel", IMAGE]
}

/// Nanoseconds by what was measured.
fn costs(command: &mut Command) -> Result<BTreeMap<String, f64>, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("cost ")?.split_once(' '))
        .filter_map(|(name, cost)| Some((name.to_owned(), cost.trim().parse().ok()?)))
        .collect())
}

/// Prints a table; whether all is within what is wanted.
fn report(place: &str, costs: &BTreeMap<String, f64>) -> bool {
    println!("{place}");
    let mut all_well = true;
    for (name, words, limit) in WAYS {
        let cost = |name: &str| costs.get(name).copied().unwrap_or(f64::NAN);
        print!("  {words:20} {:9.2} us", cost(name) / 1000.0);
        if let Some((floor, most)) = limit {
            let ratio = cost(name) / cost(floor);
            print!("   {ratio:.2} x the {}, wanted {most}", floor_name(floor));
            all_well &= ratio <= most;
        }
        println!();
    }
    all_well
}

fn floor_name(name: &str) -> &'static str {
    WAYS.iter().find(|(way, ..)| *way == name).map_or("?", |(_, words, _)| words)
}

fn measure() -> Result<bool, String> {
    let here = |engine| {
        let words = run(engine);
        costs(Command::new(words[0]).args(&words[1..]))
    };
    let mut all_well = report("this host, user engine", &here("user")?);
    if let Ok(kernel) = here("kernel") {
        all_well &= report("this host, kernel engine", &kernel);
    }
    if std::env::var(SKIP).is_ok_and(|reason| !reason.is_empty()) {
        return Ok(all_well);
    }
    for engine in ["user", "kernel"] {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/nested-host"));
        command.args(["--file", IMAGE, "--timeout", "180", "--"]).args(run(engine));
        all_well &= report(&format!("nested host, {engine} engine"), &costs(&mut command)?);
    }
    Ok(all_well)
}

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("more than wanted");
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
