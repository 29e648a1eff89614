//! `--report`: the events of a run as JSON lines, for programs.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use viridian::config::{Config, ConsoleConfig};
use viridian::fleet::Event;
use viridian::machine::Exits;
use viridian::process::Records;

/// The option of `run` and `up`.
#[derive(clap::Args)]
pub struct Target {
    /// Write JSON lines about the start and the end of each machine, with exit code and counts, to a file; - is
    /// standard output, which then must not be a console
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Writes the lines, if they are requested.
pub struct Report(Option<Records>);

/// The last line: the program is about to end.
#[derive(Serialize)]
#[serde(tag = "event", rename = "done")]
struct Done {
    time: f64,
    code: u8,
}

impl Target {
    /// Opens the report.
    ///
    /// # Errors
    /// Returns an error if the file is not writable, if a machine with these settings has it, or if standard output is also one of
    /// the consoles.
    pub fn open<'a>(&self, machines: impl IntoIterator<Item = &'a Config>) -> Result<Report, String> {
        let Some(path) = &self.report else { return Ok(Report(None)) };
        let records = if path.as_os_str() == "-" {
            if machines.into_iter().any(|config| config.console == ConsoleConfig::Stdio) {
                return Err(
                    "--report -: the console is on standard output; give --console none or file:PATH, or name a file"
                        .into(),
                );
            }
            Records::standard_output().map_err(|error| format!("--report -: {error}"))?
        } else {
            if let Some(option) = other_use(path, machines) {
                let path = path.display();
                return Err(format!(
                    "--report would overwrite {path}, which is also the file of {option}; name another file"
                ));
            }
            Records::create_lines(path).map_err(|error| format!("--report: {error}"))?
        };
        Ok(Report(Some(records)))
    }
}

/// Returns the option of a machine that has this file, too. The file of a host that does not answer within `ANSWER` is another one:
/// it is opened later, when a signal ends the wait.
fn other_use<'a>(path: &Path, machines: impl IntoIterator<Item = &'a Config>) -> Option<&'static str> {
    const ANSWER: Duration = Duration::from_millis(500);
    let (path, machines) = (path.to_owned(), machines.into_iter().cloned().collect::<Vec<_>>());
    let (sender, answers) = mpsc::sync_channel(1);
    let look = move || {
        let _ = sender.send(machines.iter().find_map(|config| config.option_with_file(&path)));
    };
    thread::Builder::new().name("report".into()).spawn(look).ok()?;
    answers.recv_timeout(ANSWER).ok().flatten()
}

impl Report {
    /// Writes an event of a machine.
    pub fn event(&self, event: &Event) {
        self.write(event);
    }

    /// Writes that the program is about to end with this exit code.
    pub fn done(&self, code: u8) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.write(&Done { time, code });
    }

    fn write(&self, event: &impl Serialize) {
        if let Some(records) = &self.0 {
            match serde_json::to_string(event) {
                Ok(line) => records.put(format!("{line}\n").as_bytes(), 1),
                Err(error) => log::warn!("a line of the report is lost: {error}"),
            }
        }
    }
}

/// Returns the counts that are not zero, in words.
pub fn exits_in_words(exits: &Exits) -> String {
    let counts = serde_json::to_value(exits).unwrap_or_default();
    let counts = counts.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
    let counts: Vec<_> = counts.map(|(name, count)| format!("{count} {}", name.replace('-', " "))).collect();
    format!("{} exits to this process: {}", exits.total(), counts.join(", "))
}
