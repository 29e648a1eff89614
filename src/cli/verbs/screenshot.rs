//! `viridian screenshot`.

use std::path::PathBuf;

use serde_json::json;
use viridian::machine::code;

use super::{Done, Place};
use crate::cli::client::Failure;

/// The options of `viridian screenshot`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

    /// The PNG file, or a folder for NAME.png of each machine; an existing file is replaced
    file: PathBuf,

    /// Print JSON: for one NAME, or a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { place, file, json }: Arguments) -> Done {
    let machines = place.machines()?;
    let is_folder = file.is_dir() || file.as_os_str().as_encoded_bytes().ends_with(b"/");
    if !machines.is_one() && !is_folder {
        let words = format!("{}: pictures of several machines need a folder that exists", file.display());
        return Err(Failure::Other(code::USAGE, words));
    }
    let (code, taken) = machines.each(|machine| {
        let file = if is_folder { file.join(file_name(&machine.name)) } else { file.clone() };
        // The machine's process writes the file, and may have another working directory.
        let file = std::path::absolute(&file).ok().and_then(|path| path.to_str().map(str::to_owned));
        let file = file.ok_or_else(|| Failure::Other(code::USAGE, "the file needs a name in UTF-8".into()))?;
        machine.expect_own_host("writing a file of this host")?;
        machine.post("/devices/screen/screenshot", Some(&json!(file))).map_err(advised)?;
        Ok(file)
    });
    if json {
        let value = |(name, file)| json!({ "name": name, "file": file });
        machines.print_json(taken.into_iter().map(value).collect())?;
    }
    Ok(code)
}

/// Returns the name of the file with the picture of this machine, in a folder.
fn file_name(machine: &str) -> String {
    format!("{}.png", machine.replace('/', "%2F"))
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
