//! `viridian define`.

use std::path::PathBuf;

use serde_json::json;
use viridian::config::Config;
use viridian::machine::code;

use super::{Done, ServiceSocket, print_json};
use crate::cli::client::{Failure, PROMPT, encoded};
use crate::cli::host::chosen;
use crate::cli::serve::Restart;

/// The options of `viridian define`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine's name, of letters, digits, dots, - and _
    #[arg(value_name = "NAME")]
    name: String,

    /// Its settings, as for `run --config`. Relative paths are those of the file's folder
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Start the machine when the service starts, once after each start of the host
    #[arg(long)]
    autostart: bool,

    /// When the service starts the machine again after its end
    #[arg(long, value_name = "WHEN", default_value = "never")]
    restart: Restart,

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

fn definition(arguments: &Arguments) -> Result<String, String> {
    let file = &arguments.file;
    let whole = file.canonicalize().map_err(|error| format!("{}: {error}", file.display()))?;
    let config = Config::load(&whole).map_err(|error| error.to_string())?;
    let settings = config.to_toml().map_err(|error| format!("{}: {error}", file.display()))?;
    // The text of the user, with its comments, unless its relative paths mean something here only.
    let folder = whole.parent().and_then(|folder| folder.to_str()).unwrap_or_default();
    let mut text = match std::fs::read_to_string(&whole) {
        Ok(text) if !settings.contains(folder) => text,
        Ok(text) if chosen().is_some() && !text.contains(folder) => {
            return Err(format!(
                "{}: a relative path means nothing on another host; write whole paths",
                file.display()
            ));
        }
        _ => settings,
    };
    if arguments.autostart || arguments.restart != Restart::Never {
        let restart = serde_json::to_string(&arguments.restart).map_err(|error| error.to_string())?;
        text = format!("{}\n\n[service]\nautostart = {}\nrestart = {restart}\n", text.trim_end(), arguments.autostart);
    }
    Ok(text)
}
