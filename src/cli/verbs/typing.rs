//! `viridian type`.

use serde_json::json;

use super::{Done, Place, advised};

/// The options of `viridian type`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

    /// The text, of at most 1024 characters of the machine's keyboard layout
    #[arg(allow_hyphen_values = true, required_unless_present = "keys")]
    text: Option<String>,

    /// Press Enter after the text
    #[arg(long)]
    enter: bool,

    /// Press a key or a combination of keys, such as ctrl+alt+f2, after the text; repeat for more
    #[arg(long = "key", value_name = "KEYS")]
    keys: Vec<String>,

    /// Print JSON: for one NAME, or a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { place, text, enter, keys, json }: Arguments) -> Done {
    let machines = place.machines()?;
    let text = text.unwrap_or_default() + if enter { "\n" } else { "" };
    let typed = Some(("type", text)).filter(|(_, text)| !text.is_empty());
    let typed: Vec<_> = typed.into_iter().chain(keys.into_iter().map(|key| ("press", key))).collect();
    let (code, done) = machines.each(|machine| {
        typed.iter().try_for_each(|(command, argument)| {
            let path = format!("/devices/keyboard/{command}");
            machine
                .post(&path, Some(&json!(argument)))
                .map(drop)
                .map_err(advised("the machine has no keyboard; run it with --display none,input=on"))
        })
    });
    if json {
        machines.print_json(done.into_iter().map(|(name, ())| json!({ "name": name })).collect())?;
    }
    Ok(code)
}
