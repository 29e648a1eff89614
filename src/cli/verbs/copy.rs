//! `viridian copy`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use viridian::machine::code;

use super::{Done, print_json};
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

    /// The machine, and the path of the file in the guest. If the path ends with /, the file keeps its name
    #[arg(value_name = "NAME:/PATH")]
    target: String,

    /// Replace a file that exists
    #[arg(long)]
    overwrite: bool,

    /// Create the folder of the file
    #[arg(long)]
    make_path: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { source, target, overwrite, make_path, json }: Arguments) -> Done {
    let usage = |words: String| Failure::Other(code::USAGE, words);
    // The name may be the path of a socket, and the guest's path may have a colon.
    let Some((name, path)) = target.split_once(":/") else {
        return Err(usage(format!("{target}: write the machine and the path in the guest, as NAME:/folder/file")));
    };
    let mut path = format!("/{path}");
    if path.ends_with('/') {
        path += &source.file_name().unwrap_or_default().to_string_lossy();
    }
    let source = std::path::absolute(&source).map_err(|error| usage(format!("{}: {error}", source.display())))?;
    let machine = Remote::named(name)?;
    // The machine's process reads the file.
    machine.expect_own_host("copying a file of this host into a guest")?;
    let body = json!({ "source": source, "target": path, "overwrite": overwrite, "make-path": make_path });
    let mut events = machine.stream("POST", "/copy", Some(&body), LIMIT)?;
    let mut bar = Bar::new(name, !json);
    while let Some(event) = events.next(None)? {
        match event["event"].as_str() {
            Some("progress") => {
                let number = |key: &str| event[key].as_u64().unwrap_or_default();
                bar.show(number("copied-bytes"), number("total-bytes"));
            }
            Some("copied") => {
                drop(bar);
                if json {
                    print_json(&json!({ "name": machine.name, "target": path, "bytes": event["bytes"] }))?;
                }
                return Ok(0);
            }
            _ => return Err(Failure::of(&event)),
        }
    }
    Err(Failure::Other(super::REFUSED, "the machine has ended".into()))
}
