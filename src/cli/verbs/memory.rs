//! `viridian memory`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use viridian::config::Size;

use super::{Done, Place, REFUSED, TIMEOUT, advised, seconds};
use crate::cli::client::{Failure, Remote};
use crate::cli::progress::Bar;

/// Interval at which the guest's memory is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The options of `viridian memory`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

    /// The guest's new size, within the min and max of --memory; without it, the sizes are printed
    size: Option<Size>,

    /// Wait until the guest has this size, and show the progress
    #[arg(long, requires = "size")]
    wait: bool,

    /// Maximum time to wait; after that, the guest continues towards the size
    #[arg(long, value_name = "SECONDS", requires = "wait", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Print JSON: for one NAME, or a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { place, size, wait, timeout, json }: Arguments) -> Done {
    let machines = place.machines()?;
    let (code, trees) = machines.each(|machine| {
        if let Some(size) = size {
            let set = machine.post("/devices/memory/set", Some(&Value::from(size.0))).map_err(advised(
                "the machine's memory is fixed; run it with --memory startup=SIZE,min=SIZE,max=SIZE",
            ))?;
            if wait {
                // One bar has room on a terminal.
                follow(machine, &set["result"], timeout, !json && machines.is_one())?;
            }
        }
        machine.get("/inspect")
    });
    if json {
        let value = |(name, tree): (String, Value)| json!({ "name": name, "memory-bytes": tree["memory-bytes"], "dynamic": tree["devices"]["memory"] });
        machines.print_json(trees.into_iter().map(value).collect())?;
    } else {
        trees.iter().try_for_each(|(name, tree)| machines.print(name, &in_words(tree)))?;
    }
    Ok(code)
}

fn in_words(tree: &Value) -> String {
    let memory = &tree["devices"]["memory"];
    let size = |value: &Value| value.as_u64().map_or_else(|| "unknown".to_owned(), |bytes| Size(bytes).to_string());
    if memory.is_null() {
        return format!("{}, fixed\n", size(&tree["memory-bytes"]));
    }
    let field = |name: &str| size(&memory[name]);
    format!(
        "assigned {}, target {}, minimum {}, maximum {}, demand {}\n",
        field("assigned-bytes"),
        field("target-bytes"),
        field("minimum-bytes"),
        field("maximum-bytes"),
        field("demand-bytes"),
    )
}

/// Waits until the guest has the size that it was given as its target.
fn follow(machine: &Remote, set: &Value, limit: Option<Duration>, show: bool) -> Result<(), Failure> {
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
    let (target, first) = (number(set, "target-bytes"), number(set, "assigned-bytes"));
    let begun = Instant::now();
    let mut bar = Bar::new(&machine.name, show);
    loop {
        let memory = machine.get("/inspect")?["devices"]["memory"].take();
        let assigned = number(&memory, "assigned-bytes");
        if assigned == target {
            return Ok(());
        }
        if number(&memory, "target-bytes") != target {
            return Err(Failure::Other(REFUSED, "another request has given the memory another target".into()));
        }
        bar.show(assigned.abs_diff(first).min(target.abs_diff(first)), target.abs_diff(first));
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            let text = format!("the guest has {} of {}", Size(assigned), Size(target));
            return Err(Failure::Other(TIMEOUT, text));
        }
        thread::sleep(LOOK);
    }
}
