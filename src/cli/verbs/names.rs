//! `viridian names`, for the completion of shells.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Done, print};
use crate::cli::client::Remote;
use crate::cli::host::{ask_nothing, chosen};

/// Time for an answer. A user waits for it with a finger on the key.
const LIMIT: Duration = Duration::from_secs(2);

/// The options of `viridian names`.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_: Arguments) -> Done {
    ask_nothing();
    let mut names = BTreeSet::new();
    match chosen() {
        Some(host) => names.extend(defined(&Remote::service(host))),
        None => {
            names.extend(Remote::all().into_iter().flatten().map(|machine| machine.name));
            names.extend(Remote::usual_service().iter().flat_map(defined));
        }
    }
    // A shell must not find anything else in them than a word.
    let is_word = |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    names.iter().filter(is_word).try_for_each(|name| print(&format!("{name}\n")))?;
    Ok(0)
}

/// Returns the names of all machines of a service. A completion has no place for errors.
fn defined(service: &Remote) -> Vec<String> {
    let list = service.request("GET", "/machines", None, LIMIT).unwrap_or_default();
    let machines = list["machines"].as_array().map(Vec::as_slice).unwrap_or_default();
    machines.iter().filter_map(|machine| machine["name"].as_str().map(str::to_owned)).collect()
}
