//! `viridian type`.

use serde_json::{Value, json};
use viridian::machine::code;

use super::{Done, done};
use crate::cli::client::{Failure, Remote};

/// The options of `viridian type`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine; it needs --display none,input=on
    name: String,

    /// The text, of at most 1024 characters of a US keyboard
    #[arg(allow_hyphen_values = true, required_unless_present = "keys")]
    text: Option<String>,

    /// Press Enter after the text
    #[arg(long)]
    enter: bool,

    /// Press a key or a combination of keys, such as ctrl+alt+f2, after the text; repeat for more
    #[arg(long = "key", value_name = "KEYS")]
    keys: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { name, text, enter, keys, json }: Arguments) -> Done {
    let machine = Remote::named(&name)?;
    let text = text.unwrap_or_default() + if enter { "\n" } else { "" };
    let typed = Some(("type", text)).filter(|(_, text)| !text.is_empty());
    for (command, argument) in typed.into_iter().chain(keys.into_iter().map(|key| ("press", key))) {
        machine.post(&format!("/devices/keyboard/{command}"), Some(&Value::String(argument))).map_err(advised)?;
    }
    done(json, &json!({ "name": machine.name }))
}

/// Adds a remedy to the error for a machine without a keyboard.
fn advised(failure: Failure) -> Failure {
    match failure {
        Failure::Refused { kind, .. } if kind == "not-found" => {
            Failure::Other(code::USAGE, "the machine has no keyboard; run it with --display none,input=on".into())
        }
        other => other,
    }
}
