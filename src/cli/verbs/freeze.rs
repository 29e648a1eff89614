//! `viridian freeze`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};
use viridian::machine::code;
use viridian::process::Marked;

use super::{Done, REFUSED, Targets, failed, print_json};
use crate::cli::capture::Captured;
use crate::cli::client::{Failure, Stream};
use crate::cli::say;

/// The command cannot be started.
const NO_COMMAND: u8 = 127;

/// Time for the answer to begin.
const LIMIT: Duration = Duration::from_secs(60);

/// The options of `viridian freeze`.
#[derive(clap::Args)]
#[command(after_help = "\
The exit code is that of the command. It is 1 if the file systems could not be frozen, or were thawed before the command
had ended: then a copy is not consistent. The file systems of several machines are frozen at the same time, and the command
runs once.")]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Maximum time for which the file systems stay frozen
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..=86400))]
    limit: u64,

    /// Print one object, with the command's exit code and its output
    #[arg(long)]
    json: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

pub fn run(Arguments { targets, limit, json, command }: Arguments) -> Done {
    let machines = targets.machines()?;
    let body = json!({ "limit-seconds": limit });
    // However this process ends, the connections are closed, and the machines thaw.
    let (mut code, frozen) = machines.each(|machine| {
        let mut stream = machine.stream("POST", "/freeze", Some(&body), LIMIT)?;
        expect(&mut stream, "frozen")?;
        Ok(stream)
    });
    if code != 0 || frozen.is_empty() {
        // What is frozen thaws now.
        return Ok(code.max(REFUSED));
    }
    let (own, mut result) = execute(&command, json);
    let mut thawed = Vec::new();
    for (name, mut stream) in frozen {
        let ended = stream.finish_sending().and_then(|()| expect(&mut stream, "thawed"));
        thawed.push(json!({ "name": name, "consistent": ended.is_ok() }));
        if let Err(failure) = ended {
            code = code.max(failed(Some(&name), &failure));
        }
    }
    if json {
        result.insert("machines".into(), thawed.into());
        result.insert("code".into(), own.into());
        print_json(&Value::Object(result))?;
    }
    Ok(if code == 0 { own } else { code })
}

/// Executes a command of this host. Returns its exit code, and its output if that is wanted.
fn execute(command: &[std::ffi::OsString], captures: bool) -> (u8, Map<String, Value>) {
    let mut output = Map::new();
    let [program, arguments @ ..] = command else { return (code::USAGE, output) };
    let mut command = Command::new(program);
    command.args(arguments);
    if captures {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let status = command.spawn().and_then(|mut child| {
        let (standard, error) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            // Both are read at the same time, because the command waits if one of them is full.
            let error = error.map(|error| thread::Builder::new().spawn_scoped(scope, || Captured::read(error)));
            let error = error.transpose()?;
            if let Some(standard) = standard {
                Captured::read(standard)?.put("stdout", &mut output);
            }
            if let Some(error) = error {
                error.join().unwrap_or_else(|_| Ok(Captured::default()))?.put("stderr", &mut output);
            }
            child.wait()
        })
    });
    let code = status.map_or_else(
        |error| {
            say!("{}", Marked(&format!("{}: {error}", program.display())));
            NO_COMMAND
        },
        code_of,
    );
    (code, output)
}

/// Waits for this event.
fn expect(stream: &mut Stream, wanted: &str) -> Result<(), Failure> {
    match stream.next(None)? {
        Some(event) if event["event"] == wanted => Ok(()),
        Some(event) => match Failure::of(&event) {
            Failure::Refused { message, .. } => Err(Failure::Other(REFUSED, message)),
            failure => Err(failure),
        },
        None => Err(Failure::Other(REFUSED, "the machine has ended".into())),
    }
}

/// Returns the exit code of the command, as a shell does.
fn code_of(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(code::FAILED)
}
