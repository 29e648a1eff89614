//! Verbs that change the state of machines by one request: `viridian pause` and others.

use serde_json::json;

use super::{Done, Targets};

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
    let (code, done) = machines.each(|machine| machine.post(path, None));
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
    reset = "/reset";
    nmi = "/nmi";
}
