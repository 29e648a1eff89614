//! `viridian kvp`.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use viridian::machine::code;

use super::{Done, Place};
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
    #[command(flatten)]
    place: Place,

    #[command(subcommand)]
    action: Action,

    /// Print JSON: for one NAME, or a list
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

pub fn run(Arguments { place, action, json }: Arguments) -> Done {
    let machines = place.machines()?;
    let item = |pool: Pool, key: &str| format!("/kvp/{}/{}", pool.name(), encoded(key));
    match action {
        Action::List { pool } => {
            let pools = pool.map_or_else(|| Pool::value_variants().to_vec(), |pool| vec![pool]);
            let (code, all) = machines.each(|machine| items(machine, &pools));
            if json {
                let value = |(name, pools)| match machines.is_one() {
                    true => Value::Object(pools),
                    false => json!({ "name": name, "pools": pools }),
                };
                machines.print_json(all.into_iter().map(value).collect())?;
            } else {
                for (name, pools) in &all {
                    let text: String = pools.iter().map(|(pool, items)| in_words(pool, items)).collect();
                    machines.print(name, &text)?;
                }
            }
            Ok(code)
        }
        Action::Get { key, pool } => {
            let path = item(pool, &key);
            let (code, found) = machines.each(|machine| {
                let mut found = machine.request("GET", &path, None, LIMIT)?;
                found["name"] = json!(machine.name);
                Ok(found)
            });
            if json {
                machines.print_json(found.into_iter().map(|(_, item)| item).collect())?;
            } else {
                for (name, item) in &found {
                    machines.print(name, &format!("{}\n", plain(&item["value"])))?;
                }
            }
            Ok(code)
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
            let (path, body) = (item(pool, &key), json!({ "value": value }));
            let (code, done) = machines.each(|machine| machine.request("PUT", &path, Some(&body), LIMIT));
            if json {
                let what = |(name, _)| json!({ "name": name, "pool": pool.name(), "key": key, "value": value });
                machines.print_json(done.into_iter().map(what).collect())?;
            }
            Ok(code)
        }
        Action::Delete { key, pool } => {
            let path = item(pool, &key);
            let (code, done) = machines.each(|machine| machine.request("DELETE", &path, None, LIMIT));
            if json {
                let what = |(name, _)| json!({ "name": name, "pool": pool.name(), "key": key });
                machines.print_json(done.into_iter().map(what).collect())?;
            }
            Ok(code)
        }
    }
}

/// Returns the items of some pools, by the pool's name.
fn items(machine: &Remote, pools: &[Pool]) -> Result<Map<String, Value>, Failure> {
    let items = |pool: &Pool| {
        let items = machine.request("GET", &format!("/kvp/{}", pool.name()), None, LIMIT)?;
        Ok((pool.name(), items))
    };
    pools.iter().map(items).collect()
}

fn in_words(pool: &str, items: &Value) -> String {
    let items = items.as_array().into_iter().flatten();
    items.map(|item| format!("{pool}  {}={}\n", plain(&item["key"]), plain(&item["value"]))).collect()
}

fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    viridian::process::Marked(&text).to_string()
}
