//! `viridian access`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use viridian::machine::code;

use super::table::table;
use super::{Done, ServiceSocket, print, print_json};
use crate::cli::client::{Failure, PROMPT, encoded};
use crate::cli::serve::Role;
use crate::cli::tls::{certificates, digest};

const DAY: u64 = 86_400;
/// Units of a time.
const UNITS: [(char, u64); 4] = [('d', DAY), ('h', 3600), ('m', 60), ('s', 1)];

/// The options of `viridian access`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  viridian access add ci --role operate --expires 30d >ci.token
  viridian access add alice --role read --certificate alice.pem
  viridian access add bob --role administer --common-name bob@example.com

A token is sent as the header Authorization: Bearer TOKEN. The certificate of a client must be signed by an authority in FILE of
serve --tls client-ca=FILE. At the service's Unix socket, its own user needs neither.")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List who has which role
    List,
    /// Give a name a role, and print its new token, which is shown only once. What the name had before is withdrawn
    Add {
        /// Name of a person or a program
        name: String,

        /// The role
        #[arg(long)]
        role: Role,

        /// Time after which the role expires, such as 30d, 12h or 90m
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,

        /// PEM file with the client's certificate, instead of a token
        #[arg(long, value_name = "FILE", conflicts_with = "common_name")]
        certificate: Option<PathBuf>,

        /// Common name of the client's certificate, instead of a token
        #[arg(long, value_name = "NAME")]
        common_name: Option<String>,
    },
    /// Take the roles of names away, at once
    Remove {
        /// The names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "it is not a time; write a number with d, h, m or s, such as 30d".to_owned();
    let unit = text.chars().last().and_then(|last| UNITS.iter().find(|(unit, _)| *unit == last)).ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(unit.1).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

pub fn run(Arguments { action, service, json }: Arguments) -> Done {
    match action {
        Action::List => {
            let all = service.service()?.get("/access")?;
            if json {
                print_json(&all["access"])?;
            } else {
                print(&table(["name", "role", "ends", "by"], all["access"].as_array().into_iter().flatten().map(row)))?;
            }
        }
        Action::Add { name, role, expires, certificate, common_name } => {
            let failed = |error: std::io::Error| Failure::Other(code::USAGE, error.to_string());
            let certificate = certificate.map(|path| certificates(&path).map(|chain| digest(&chain[0])));
            let certificate = certificate.transpose().map_err(failed)?;
            let body = json!({
                "role": role,
                "expires-seconds": expires,
                "certificate": certificate,
                "common-name": common_name,
            });
            let path = format!("/access/{}", encoded(&name));
            let made = service.service()?.request("PUT", &path, Some(&body), PROMPT)?;
            if json {
                print_json(&made)?;
            } else if let Some(token) = made["token"].as_str() {
                print(&format!("{token}\n"))?;
            }
        }
        Action::Remove { names } => {
            let service = service.service()?;
            let mut code = 0;
            for name in &names {
                let path = format!("/access/{}", encoded(name));
                if let Err(failure) = service.request("DELETE", &path, None, PROMPT) {
                    code = code.max(super::failed(Some(name), &failure));
                }
            }
            return Ok(code);
        }
    }
    Ok(0)
}

fn row(entry: &Value) -> [String; 4] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let word = |key: &str| entry[key].as_str().unwrap_or_default();
    let ends = match entry["expires"].as_u64() {
        None => "never".into(),
        Some(end) if end <= now => "has ended".into(),
        Some(end) if end - now >= 2 * DAY => format!("in {} days", (end - now).div_ceil(DAY)),
        Some(end) => format!("in {} hours", (end - now).div_ceil(3600)),
    };
    let by = match word("kind") {
        "certificate" => word("certificate").to_owned(),
        "common-name" => format!("certificate of {}", word("common-name")),
        kind => kind.to_owned(),
    };
    [word("name").to_owned(), word("role").to_owned(), ends, by]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let times = ["30d", "12h", "90m", "5s"].map(|text| seconds(text).unwrap());
        assert_eq!(times, [30 * DAY, 12 * 3600, 90 * 60, 5]);
        for wrong in ["", "d", "30", "-1d", "0d", "1w", "99999999999999999999d", "1000000000000000000d", "30ä"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
