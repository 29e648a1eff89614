//! `--report`: a run as lines of JSON, for programs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use viridian::console::ConsoleConfig;
use viridian::host::records::Records;
use viridian::machine::{End, Exits, Machine};

/// The option of `run` and `up`.
#[derive(clap::Args)]
pub struct Target {
    /// Write a JSON line for each start and end of a machine, with exit code and counts, into a file; - is standard output,
    /// where no console may be
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Writes the lines, where they are wanted.
pub struct Report(Option<Records>);

/// One line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    /// A machine runs.
    Started { time: f64, partition: &'a str, process: u32, pty: Option<&'a Path> },
    /// A machine has ended, or could not start.
    Ended { time: f64, partition: &'a str, seconds: f64, end: &'a End, exits: Option<Exits> },
    /// The program ends.
    Done { time: f64, code: u8 },
}

impl Target {
    /// Opens the report.
    ///
    /// # Errors
    /// The file cannot be written, or standard output is one of the `consoles` already.
    pub fn open<'a>(&self, consoles: impl IntoIterator<Item = &'a ConsoleConfig>) -> Result<Report, String> {
        let Some(path) = &self.report else { return Ok(Report(None)) };
        let records = if path.as_os_str() == "-" {
            if consoles.into_iter().any(|console| *console == ConsoleConfig::Stdio) {
                return Err(
                    "--report -: the console is on standard output; give --console none or file:PATH, or name a file"
                        .into(),
                );
            }
            Records::standard_output()
        } else {
            Records::create_lines(path).map_err(|error| format!("--report: {error}"))?
        };
        Ok(Report(Some(records)))
    }
}

impl Report {
    /// A machine runs.
    pub fn started(&self, partition: &str, machine: &Machine) {
        let (time, pty) = (now(), machine.pty_path());
        self.write(&Event::Started { time, partition, process: std::process::id(), pty });
    }

    /// A machine has ended; one that never started has no exits.
    pub fn ended(&self, partition: &str, end: &End, time: Duration, exits: Option<Exits>) {
        self.write(&Event::Ended { time: now(), partition, seconds: time.as_secs_f64(), end, exits });
    }

    /// The program is about to end with that exit code.
    pub fn done(&self, code: u8) {
        self.write(&Event::Done { time: now(), code });
    }

    fn write(&self, event: &Event<'_>) {
        if let Some(records) = &self.0 {
            match serde_json::to_string(event) {
                Ok(line) => records.put(format!("{line}\n").as_bytes(), 1),
                Err(error) => log::warn!("the report lacks a line: {error}"),
            }
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The counts that are not zero, in words.
pub fn exits_in_words(exits: &Exits) -> String {
    let counts = serde_json::to_value(exits).unwrap_or_default();
    let counts = counts.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
    let counts: Vec<_> = counts.map(|(name, count)| format!("{count} {}", name.replace('-', " "))).collect();
    format!("{} exits to this process: {}", exits.total(), counts.join(", "))
}
