//! `viridian screenshot`.

use std::path::PathBuf;

use serde_json::{Value, json};
use viridian::machine::code;

use super::{Done, done};
use crate::cli::client::{Failure, Remote};

/// The options of `viridian screenshot`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine; it needs --display on
    name: String,

    /// The PNG file; an existing file is replaced
    file: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { name, file, json }: Arguments) -> Done {
    // The machine's process writes the file, and may have another working directory.
    let file = std::path::absolute(&file).ok().and_then(|path| path.to_str().map(str::to_owned));
    let file = file.ok_or_else(|| Failure::Other(code::USAGE, "the file needs a name in UTF-8".into()))?;
    let machine = Remote::named(&name)?;
    machine.expect_own_host("writing a file of this host")?;
    machine.post("/devices/screen/screenshot", Some(&Value::String(file.clone()))).map_err(advised)?;
    done(json, &json!({ "name": machine.name, "file": file }))
}

/// Adds a remedy to the error for a machine without a screen.
fn advised(failure: Failure) -> Failure {
    match failure {
        Failure::Refused { kind, .. } if kind == "not-found" => {
            Failure::Other(code::USAGE, "the machine has no screen; run it with --display on".into())
        }
        other => other,
    }
}
