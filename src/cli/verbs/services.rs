//! `viridian services`.

use serde_json::{Value, json};
use viridian::machine::code;

use super::{Done, print, print_json};
use crate::cli::client::{Failure, PROMPT, Remote, encoded};

/// The options of `viridian services`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine
    name: String,

    /// Services to turn on or off: shutdown, time, heartbeat, kvp, vss or file-copy
    #[arg(value_name = "SERVICE=on|off")]
    switches: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { name, switches, json }: Arguments) -> Done {
    let switches = switches.iter().map(|switch| parse(switch)).collect::<Result<Vec<_>, _>>()?;
    let machine = Remote::named(&name)?;
    for (service, enabled) in &switches {
        machine.request(
            "PUT",
            &format!("/services/{}", encoded(service)),
            Some(&json!({ "enabled": enabled })),
            PROMPT,
        )?;
    }
    if json {
        print_json(&machine.get("/services")?)?;
    } else if switches.is_empty() {
        let services = machine.get("/services")?;
        for service in services.as_array().into_iter().flatten() {
            print(&row(service))?;
        }
    }
    Ok(0)
}

fn parse(switch: &str) -> Result<(&str, bool), Failure> {
    match switch.split_once('=') {
        Some((service, "on")) => Ok((service, true)),
        Some((service, "off")) => Ok((service, false)),
        _ => Err(Failure::Other(code::USAGE, format!("{switch}: write SERVICE=on or SERVICE=off"))),
    }
}

fn row(service: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &service["status"];
    let state = if status.is_null() { "off".into() } else { text(&status["state"]) };
    let version = text(&status["version"]);
    format!("{:9}  {state:11}  {version:4}  {}\n", text(&service["name"]), text(&service["title"]))
}
