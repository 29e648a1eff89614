//! `viridian freeze`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::json;
use viridian::machine::code;

use super::Done;
use crate::cli::client::{Failure, Remote, Stream};
use crate::cli::say;

/// The command cannot be started.
const NO_COMMAND: u8 = 127;

/// Time for the answer to begin.
const LIMIT: Duration = Duration::from_secs(60);

/// The options of `viridian freeze`.
#[derive(clap::Args)]
#[command(after_help = "\
The exit code is that of the command. It is 1 if the file systems could not be frozen, or were thawed before the command
had ended: then a copy is not consistent.")]
pub struct Arguments {
    /// The machine
    name: String,

    /// Maximum time for which the file systems stay frozen
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..=86400))]
    limit: u64,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

pub fn run(Arguments { name, limit, command }: Arguments) -> Done {
    let [program, arguments @ ..] = &command[..] else { return Ok(code::USAGE) };
    let machine = Remote::named(&name)?;
    // However this process ends, the connection is closed, and the machine thaws.
    let mut stream = machine.stream("POST", "/freeze", Some(&json!({ "limit-seconds": limit })), LIMIT)?;
    expect(&mut stream, "frozen")?;
    let status = Command::new(program).args(arguments).status();
    stream.finish_sending()?;
    expect(&mut stream, "thawed")?;
    match status {
        Ok(status) => Ok(code_of(status)),
        Err(error) => {
            say!("{}: {error}", program.display());
            Ok(NO_COMMAND)
        }
    }
}

/// Waits for this event.
fn expect(stream: &mut Stream, wanted: &str) -> Result<(), Failure> {
    match stream.next(None)? {
        Some(event) if event["event"] == wanted => Ok(()),
        Some(event) => match Failure::of(&event) {
            Failure::Refused { message, .. } => Err(Failure::Other(super::REFUSED, message)),
            failure => Err(failure),
        },
        None => Err(Failure::Other(super::REFUSED, "the machine has ended".into())),
    }
}

/// Returns the exit code of the command, as a shell does.
fn code_of(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(code::FAILED)
}
