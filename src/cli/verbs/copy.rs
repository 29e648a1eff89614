//! `viridian copy`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use viridian::machine::code;

use super::{ALL, Done, Machines};
use crate::cli::client::{Failure, Remote};
use crate::cli::progress::Bar;

/// Time for the answer to begin.
const LIMIT: Duration = Duration::from_secs(60);

/// The options of `viridian copy`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A file of this host
    #[arg(value_name = "FILE")]
    source: PathBuf,

    /// The machine, and the path of the file in the guest. If the path ends with /, the file keeps its name. Several machines have
    /// commas between them, or a pattern: web,db:/PATH, '*:/PATH'
    #[arg(value_name = "NAME:/PATH")]
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
    let (code, copied) = machines.each(|machine| copy(machine, &body, !json && machines.is_one()));
    if json {
        let value = |(name, bytes)| json!({ "name": name, "target": path, "bytes": bytes });
        machines.print_json(copied.into_iter().map(value).collect())?;
    }
    Ok(code)
}

/// Copies a file into the guest of a machine. Returns the number of bytes.
fn copy(machine: &Remote, body: &Value, show: bool) -> Result<Value, Failure> {
    // The machine's process reads the file.
    machine.expect_own_host("copying a file of this host into a guest")?;
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
    Err(Failure::Other(super::REFUSED, "the machine has ended".into()))
}
