//! `viridian kvp`.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use viridian::machine::code;

use super::{Done, done, print, print_json};
use crate::cli::client::{Failure, Remote, encoded};

/// Time limit: a pool may have many items, and the guest's daemon may be slow.
const LIMIT: Duration = Duration::from_secs(300);

/// A list of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pool {
    /// Items that you have sent
    External,
    /// Items of the guest for the host
    Guest,
    /// The items of the guest itself, from its daemon
    Intrinsic,
    /// Items about the host
    Host,
}

impl Pool {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The options of `viridian kvp`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine
    name: String,

    #[command(subcommand)]
    action: Action,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the items of a pool, or of all
    List {
        #[arg(value_enum)]
        pool: Option<Pool>,
    },
    /// Print the value of an item
    Get {
        key: String,
        #[arg(long, value_enum, default_value = "external")]
        pool: Pool,
    },
    /// Add or replace an item of the pool external or host
    Set {
        key: String,
        value: String,
        #[arg(long, value_enum, default_value = "external")]
        pool: Pool,
        /// The value is a number
        #[arg(long)]
        number: bool,
    },
    /// Delete an item of the pool external or host
    Delete {
        key: String,
        #[arg(long, value_enum, default_value = "external")]
        pool: Pool,
    },
}

pub fn run(Arguments { name, action, json }: Arguments) -> Done {
    let machine = Remote::named(&name)?;
    let item = |pool: Pool, key: &str| format!("/kvp/{}/{}", pool.name(), encoded(key));
    match action {
        Action::List { pool } => {
            let pools = pool.map_or_else(|| Pool::value_variants().to_vec(), |pool| vec![pool]);
            let mut all = Map::new();
            for pool in pools {
                let items = machine.request("GET", &format!("/kvp/{}", pool.name()), None, LIMIT)?;
                all.insert(pool.name(), items);
            }
            if json {
                print_json(&Value::Object(all))?;
            } else {
                all.iter().try_for_each(|(pool, items)| print(&in_words(pool, items)))?;
            }
        }
        Action::Get { key, pool } => {
            let found = machine.request("GET", &item(pool, &key), None, LIMIT)?;
            if json {
                print_json(&found)?;
            } else {
                print(&format!("{}\n", plain(&found["value"])))?;
            }
        }
        Action::Set { key, value, pool, number } => {
            let value = match (number, value.parse::<u64>()) {
                (false, _) => Value::String(value),
                (true, Ok(number)) => Value::from(number),
                (true, Err(_)) => {
                    let words = format!("`{value}` is not a number from 0 to 2^64-1");
                    return Err(Failure::Other(code::USAGE, words));
                }
            };
            machine.request("PUT", &item(pool, &key), Some(&json!({ "value": value })), LIMIT)?;
            return done(json, &json!({ "name": machine.name, "pool": pool.name(), "key": key, "value": value }));
        }
        Action::Delete { key, pool } => {
            machine.request("DELETE", &item(pool, &key), None, LIMIT)?;
            return done(json, &json!({ "name": machine.name, "pool": pool.name(), "key": key }));
        }
    }
    Ok(0)
}

fn in_words(pool: &str, items: &Value) -> String {
    let items = items.as_array().into_iter().flatten();
    items.map(|item| format!("{pool}  {}={}\n", plain(&item["key"]), plain(&item["value"]))).collect()
}

fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    viridian::process::Marked(&text).to_string()
}
