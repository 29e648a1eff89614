//! `viridian copy`.

use std::fmt::Display;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use viridian::machine::code;

use super::{ALL, Done, Machines, REFUSED, print_json};
use crate::cli::agent::files;
use crate::cli::agent::target::{TargetError, of_machine};
use crate::cli::client::{Failure, Remote};
use crate::cli::progress::Bar;

/// Time for the answer to begin.
const LIMIT: Duration = Duration::from_secs(60);

/// The options of `viridian copy`.
#[derive(clap::Args)]
#[command(after_help = "\
Into a guest, the file-copy service copies; it needs nothing but the guest's daemon for it. Out of a guest, and into one of another host,
the agent copies (viridian agent prints the program).")]
pub struct Arguments {
    /// A file of this host, or NAME:/PATH, a file in the guest of a machine
    #[arg(value_name = "FROM")]
    source: PathBuf,

    /// NAME:/PATH, a file in a guest, or a file or a folder of this host. If the path ends with /, the file keeps its name. Several
    /// machines have commas between them, or a pattern: web,db:/PATH, '*:/PATH'
    #[arg(value_name = "TO")]
    target: String,

    /// Copy to all running machines; the target is only the path
    #[arg(long)]
    all: bool,

    /// Replace a file that exists
    #[arg(long)]
    overwrite: bool,

    /// Create the folder of the file
    #[arg(long)]
    make_path: bool,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { source, target, all, overwrite, make_path, json }: Arguments) -> Done {
    let usage = |words: String| Failure::Other(code::USAGE, words);
    // The name may be the path of a socket, and the guest's path may have a colon.
    let (machines, path) = match (all, target.split_once(":/")) {
        (true, _) if target.starts_with('/') => (ALL, &target[1..]),
        (true, _) => {
            return Err(usage(format!("{target}: with --all, write only the path in the guest, as /folder/file")));
        }
        (false, Some((name, path))) => (name, path),
        (false, None) => {
            if let Some((name, path)) = source.to_str().and_then(|source| source.split_once(":/")) {
                return get(name, &format!("/{path}"), Path::new(&target), (overwrite, make_path), json);
            }
            let words = format!("{target}: write the machine and the path in the guest, as NAME:/folder/file");
            return Err(usage(words));
        }
    };
    let mut path = format!("/{path}");
    if path.ends_with('/') {
        path += &source.file_name().unwrap_or_default().to_string_lossy();
    }
    let source = std::path::absolute(&source).map_err(|error| usage(format!("{}: {error}", source.display())))?;
    let machines = Machines::named(&[machines.to_owned()])?;
    let body = json!({ "source": source, "target": path, "overwrite": overwrite, "make-path": make_path });
    // One bar has room on a terminal.
    let (code, copied) = machines.each(|machine| {
        // The machine's process reads the file for the service of the guest.
        if machine.is_elsewhere() {
            return put(machine, &source, &path, (overwrite, make_path));
        }
        copy(machine, &body, !json && machines.is_one())
    });
    if json {
        let value = |(name, bytes)| json!({ "name": name, "target": path, "bytes": bytes });
        machines.print_json(copied.into_iter().map(value).collect())?;
    }
    Ok(code)
}

/// Copies a file into the guest of a machine. Returns the number of bytes.
fn copy(machine: &Remote, body: &Value, show: bool) -> Result<Value, Failure> {
    let mut events = machine.stream("POST", "/copy", Some(body), LIMIT)?;
    let mut bar = Bar::new(&machine.name, show);
    while let Some(mut event) = events.next(None)? {
        match event["event"].as_str() {
            Some("progress") => {
                let number = |key: &str| event[key].as_u64().unwrap_or_default();
                bar.show(number("copied-bytes"), number("total-bytes"));
            }
            Some("copied") => return Ok(event["bytes"].take()),
            _ => return Err(Failure::of(&event)),
        }
    }
    Err(Failure::Other(REFUSED, "the machine has ended".into()))
}

/// Copies a file of this host into the guest of a machine of another one, by the agent.
fn put(machine: &Remote, source: &Path, path: &str, (overwrite, make_path): (bool, bool)) -> Result<Value, Failure> {
    if make_path {
        let words = "a file of this host is copied by the agent, which makes no folders: leave --make-path out";
        return Err(Failure::Other(code::USAGE, words.into()));
    }
    let connection = agent(machine)?;
    let copied = files::put(&connection, source, path.as_bytes(), overwrite);
    copied.map(Value::from).map_err(|error| refused(&source.display(), &error))
}

/// Copies a file out of the guest of a machine, by the agent.
fn get(name: &str, path: &str, to: &Path, (overwrite, make_path): (bool, bool), json: bool) -> Done {
    let machine = Machines::named(&[name.to_owned()])?;
    let machine = machine.one("a file comes out of one guest; name one machine")?;
    if make_path && let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(|error| refused(&folder.display(), &error.into()))?;
    }
    let connection = agent(&machine)?;
    let (file, bytes) =
        files::get(&connection, path.as_bytes(), to, overwrite).map_err(|error| refused(&path, &error))?;
    if json {
        let file = file.to_string_lossy();
        print_json(&json!({ "name": machine.name, "source": path, "target": file, "bytes": bytes }))?;
    }
    Ok(0)
}

fn agent(machine: &Remote) -> Result<UnixStream, Failure> {
    of_machine(machine).map_err(|error| match error {
        TargetError::Name(failure) => failure,
        other => Failure::Other(REFUSED, other.to_string()),
    })
}

fn refused(what: &dyn Display, error: &anyhow::Error) -> Failure {
    Failure::Other(REFUSED, format!("{what}: {error:#}"))
}
