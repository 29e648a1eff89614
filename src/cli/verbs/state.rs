//! Verbs that change the state of machines by one request: `viridian pause` and others.

use serde_json::json;

use std::time::Duration;

use super::supervised::Supervised;
use super::{Done, Targets};

/// The request that ends a machine.
const KILL: &str = "/kill";
/// Time for the service to end a machine: its disks are flushed.
const FORCE: Duration = Duration::from_secs(60);

/// The options of each.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

fn run(Arguments { targets, json }: &Arguments, path: &str) -> Done {
    let machines = targets.machines()?;
    let (code, done) = machines.each(|machine| {
        let service = if path == KILL { Supervised::of(machine) } else { None };
        match service {
            // Ask the service, which would otherwise start the machine again.
            Some(service) => service.ask("kill", None, FORCE),
            None => machine.post(path, None),
        }
    });
    if *json {
        machines.print_json(done.into_iter().map(|(name, _)| json!({ "name": name })).collect())?;
    }
    Ok(code)
}

/// Makes a module for each: what the table of verbs expects.
macro_rules! verbs {
    ($($name:ident = $path:literal;)*) => {$(
        pub mod $name {
            pub use super::Arguments;

            pub fn run(arguments: Arguments) -> super::Done {
                super::run(&arguments, $path)
            }
        }
    )*};
}

verbs! {
    pause = "/pause";
    resume = "/resume";
    kill = "/kill";
    reset = "/reset";
    nmi = "/nmi";
}
