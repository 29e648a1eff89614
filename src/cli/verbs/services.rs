//! `viridian services`.

use serde_json::{Value, json};
use viridian::machine::code;

use super::{Done, Place};
use crate::cli::client::{Failure, PROMPT, encoded};

/// The options of `viridian services`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

    /// Services to turn on or off: shutdown, time, heartbeat, kvp, vss or file-copy
    #[arg(value_name = "SERVICE=on|off")]
    switches: Vec<String>,

    /// Print JSON: for one NAME, or a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { place, switches, json }: Arguments) -> Done {
    let switches = switches.iter().map(|switch| parse(switch)).collect::<Result<Vec<_>, _>>()?;
    let machines = place.machines()?;
    let (code, services) = machines.each(|machine| {
        for (service, enabled) in &switches {
            let path = format!("/services/{}", encoded(service));
            machine.request("PUT", &path, Some(&json!({ "enabled": enabled })), PROMPT)?;
        }
        machine.get("/services")
    });
    if json {
        let value = |(name, services)| match machines.is_one() {
            true => services,
            false => json!({ "name": name, "services": services }),
        };
        machines.print_json(services.into_iter().map(value).collect())?;
    } else if switches.is_empty() {
        for (name, services) in &services {
            machines.print(name, &services.as_array().into_iter().flatten().map(row).collect::<String>())?;
        }
    }
    Ok(code)
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
