//! `viridian screenshot`.

use std::fs::File;
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};

use serde_json::json;
use viridian::machine::code;
use viridian::process::path_remedy;

use super::{Done, Place, REFUSED, advised, print_bytes};
use crate::cli::client::{Failure, Remote};

/// The options of `viridian screenshot`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

    /// The PNG file, a folder for NAME.png of each machine, or - for standard output; an existing file is replaced
    file: PathBuf,

    /// Print JSON: for one NAME, or a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { place, file, json }: Arguments) -> Done {
    let usage = |words: &str| Failure::Other(code::USAGE, words.to_owned());
    let machines = place.machines()?;
    if file.as_os_str() == "-" {
        if json {
            return Err(usage("standard output has the picture; --json needs a file"));
        }
        if stdout().is_terminal() {
            return Err(usage("standard output is a terminal; write the picture to a file"));
        }
        let machine = machines.one("standard output has the picture of one machine; give a folder for several")?;
        print_bytes(&picture(&machine)?)?;
        return Ok(0);
    }
    let is_folder = file.is_dir() || file.as_os_str().as_encoded_bytes().ends_with(b"/");
    if !machines.is_one() && !is_folder {
        return Err(usage(&format!("{}: pictures of several machines need a folder that exists", file.display())));
    }
    let (code, taken) = machines.each(|machine| {
        let file = if is_folder { file.join(file_name(&machine.name)) } else { file.clone() };
        let picture = picture(machine)?;
        let failed = |error| {
            let remedy = path_remedy(&error);
            let code = if remedy.is_empty() { REFUSED } else { code::USAGE };
            Failure::Other(code, format!("{}: {error}{remedy}", file.display()))
        };
        save(&file, &picture).map_err(failed)?;
        std::path::absolute(&file).map_err(failed)
    });
    if json {
        let value = |(name, file): (String, PathBuf)| json!({ "name": name, "file": file.to_string_lossy() });
        machines.print_json(taken.into_iter().map(value).collect())?;
    }
    Ok(code)
}

/// Returns what the screen of a machine shows, as a PNG file.
fn picture(machine: &Remote) -> Result<Vec<u8>, Failure> {
    machine.bytes("/screen/picture").map_err(advised("the machine has no screen; run it with --display on"))
}

/// Writes a file. One that exists is replaced.
fn save(path: &Path, picture: &[u8]) -> std::io::Result<()> {
    File::create(path)?.write_all(picture)
}

/// Returns the name of the file with the picture of this machine, in a folder.
fn file_name(machine: &str) -> String {
    format!("{}.png", machine.replace('/', "%2F"))
}
