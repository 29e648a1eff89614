//! `viridian define`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use viridian::config::{Config, FileError};
use viridian::fleet::Fleet;
use viridian::machine::code;

use super::{Done, ServiceSocket, print_json};
use crate::cli::client::{Failure, PROMPT, encoded};
use crate::cli::host::chosen;
use crate::cli::serve::{Autostart, MAX_LENGTH, Restart, Treatment, apply_defaults, is_lab, rewritten, split};

/// The options of `viridian define`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine's name, of letters, digits, dots, - and _
    #[arg(value_name = "NAME")]
    name: String,

    /// Its settings, as for `run --config`, or those of several machines, as for `up`; perhaps with a table [service]; - is standard
    /// input. Relative paths are those of the file's
    /// folder, or of the current one
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Start the machine when the service starts, once after each start of the host
    #[arg(long)]
    autostart: bool,

    /// When the service starts the machine again after its end [default: that of the file, or never]
    #[arg(long, value_name = "WHEN")]
    restart: Option<Restart>,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let definition = definition(&arguments).map_err(|message| Failure::Other(code::USAGE, message))?;
    let path = format!("/machines/{}", encoded(&arguments.name));
    let body = json!({ "definition": definition });
    let service = arguments.service.service()?;
    let machine = service.request("PUT", &path, Some(&body), PROMPT)?;
    if arguments.json {
        print_json(&machine)?;
    }
    Ok(0)
}

/// The folder of a file without a name. Relative paths in it become paths in this folder.
const NAMELESS: &str = "/proc/self/fd/";

/// Returns the text for the service: that of the user with its comments, unless its relative paths mean something here only, or
/// the options change it.
fn definition(arguments: &Arguments) -> Result<String, String> {
    let is_input = arguments.file.as_os_str() == "-";
    let file = if is_input { "standard input".into() } else { arguments.file.display().to_string() };
    let failed = |error: &dyn Display| format!("{file}: {error}");
    let place = if is_input { Path::new(".") } else { &arguments.file };
    let whole = place.canonicalize().map_err(|error| failed(&error))?;
    let text = match is_input {
        true => read(std::io::stdin()),
        false => fs::File::open(&whole).and_then(read),
    };
    let text = text.map_err(|error| failed(&error))?;
    let (settings, in_file) = split(&text).map_err(|problem| {
        let place = problem.place.as_deref().map(|place| format!("{place}: ")).unwrap_or_default();
        failed(&format!("{place}{problem}"))
    })?;
    let all = if is_lab(&settings) { lab(&settings, &file)? } else { machine(&settings, &file)? };
    let treatment = Treatment {
        autostart: if arguments.autostart { Autostart::Always } else { in_file.autostart },
        restart: arguments.restart.unwrap_or(in_file.restart),
        ..in_file
    };
    let has_relative = all.contains(NAMELESS);
    if !has_relative && treatment == in_file {
        return Ok(text);
    }
    let mut text = settings;
    if has_relative && chosen().is_some() {
        return Err(failed(&"a relative path means nothing on another host; write whole paths"));
    }
    if has_relative {
        let folder = if is_input { Some(whole.as_path()) } else { whole.parent() };
        let folder = folder.and_then(Path::to_str).unwrap_or_default();
        if folder.contains(['"', '\'', '\\']) || folder.contains(char::is_control) {
            return Err(failed(&format!("its folder {folder:?} cannot be written in a definition; use whole paths")));
        }
        text = all.replace(NAMELESS, &format!("{}/", folder.trim_end_matches('/')));
    }
    let service = BTreeMap::from([("service", treatment)]);
    let service = toml::to_string(&service).map_err(|error| failed(&error))?;
    Ok(format!("{}\n\n{service}", text.trim_end()))
}

/// Returns all settings of a machine as a text.
fn machine(settings: &str, file: &str) -> Result<String, String> {
    let loaded = load(settings, Config::load).and_then(|loaded| loaded);
    let mut config = loaded.map_err(|error| match error {
        FileError::Content { place, message, .. } => format!("{file}:{}:{}: {message}", place.line, place.column),
        // The file without a name was written by this program.
        error => format!("{file}: {error}"),
    })?;
    // If the text is written anew, it has all settings.
    apply_defaults(settings, &mut config);
    config.to_toml().map_err(|error| format!("{file}: {error}"))
}

/// Returns all settings of the machines of a lab as a text.
fn lab(settings: &str, file: &str) -> Result<String, String> {
    let mut nameless = String::new();
    let fleet = load(settings, |path| {
        nameless = path.display().to_string();
        Fleet::load(path)
    });
    let fleet = fleet.map_err(|error| format!("{file}: {error}"))?;
    let fleet = fleet.map_err(|error| error.to_string().replace(&nameless, file))?;
    rewritten(settings, &fleet.configs().cloned().collect::<Vec<_>>()).map_err(|error| format!("{file}: {error}"))
}

/// Reads a text that is not longer than a definition.
fn read(file: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    file.take(MAX_LENGTH as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_LENGTH {
        return Err(std::io::Error::other(format!("longer than {MAX_LENGTH} bytes; is this a settings file?")));
    }
    Ok(text)
}

/// Parses settings. The library reads them from a file, which here has no name.
fn load<T>(settings: &str, read: impl FnOnce(&Path) -> T) -> Result<T, FileError> {
    let write = || {
        let memory = memfd_create("settings", MemfdFlags::CLOEXEC)?;
        let mut memory = fs::File::from(memory);
        memory.write_all(settings.as_bytes())?;
        std::io::Result::Ok(memory)
    };
    let nameless = || PathBuf::from(NAMELESS);
    let memory = write().map_err(|source| FileError::Read { path: nameless(), source })?;
    Ok(read(&nameless().join(memory.as_raw_fd().to_string())))
}
