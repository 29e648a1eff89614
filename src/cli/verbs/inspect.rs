//! `viridian inspect`.

use serde_json::Value;

use super::{Done, Targets, print};
use crate::cli::client::{Failure, Remote, encoded};

/// The options of `viridian inspect`.
#[derive(clap::Args)]
#[command(after_help = "\
For a machine of the service that does not run, this prints what the service knows of it: its last end, its problem, its last messages.")]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { targets, json }: Arguments) -> Done {
    let machines = targets.with_known()?;
    let (code, trees) = machines.each(tree);
    if json {
        machines.print_json(trees.into_iter().map(|(_, tree)| tree).collect())?;
    } else {
        for (name, tree) in &trees {
            let mut text = String::new();
            write(&mut text, 0, name, tree);
            print(&text)?;
        }
    }
    Ok(code)
}

/// Returns the tree of a machine, or what the service knows of one that does not run.
fn tree(machine: &Remote) -> Result<Value, Failure> {
    let failure = match machine.get("/inspect") {
        Err(failure) if failure.is_end() || matches!(&failure, Failure::Refused { kind, .. } if kind == "state") => {
            failure
        }
        other => return other,
    };
    let known = Remote::usual_service()?.get(&format!("/machines/{}", encoded(&machine.name)));
    known.ok().filter(|known| known["process"].is_null()).ok_or(failure)
}

/// Appends a value with its name, and what it contains indented below.
fn write(text: &mut String, depth: usize, name: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    let name = viridian::process::Marked(name);
    let is_plain = |value: &Value| !value.is_array() && !value.is_object();
    match value {
        Value::Object(map) => {
            *text += &format!("{indent}{name}\n");
            map.iter().for_each(|(name, value)| write(text, depth + 1, name, value));
        }
        Value::Array(list) if list.iter().any(|value| !is_plain(value)) => {
            for value in list {
                match (value.get("key").and_then(Value::as_str), value.get("value")) {
                    (Some(key), Some(value)) => write(text, depth, &format!("{name} {key}"), value),
                    _ => write(text, depth, &name.to_string(), value),
                }
            }
        }
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(plain).collect();
            *text += &format!("{indent}{name}: {}\n", list.join(", "));
        }
        value => *text += &format!("{indent}{name}: {}\n", plain(value)),
    }
}

fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    viridian::process::Marked(&text).to_string()
}
