//! `viridian up`.

use std::path::PathBuf;

use viridian::fleet::{Fleet, Outcome, exit_code};
use viridian::machine::code;

use super::fleet::{Run, run};
use super::{control, report, say};

/// The options of `viridian up`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A TOML file with a [[partition]] for each machine: its settings as for `run --config`, a name, and optionally
    /// after = ["NAME"], the machines that must start first
    #[arg(value_name = "FILE")]
    lab: PathBuf,

    #[command(flatten)]
    report: report::Target,

    #[command(flatten)]
    control: control::Sockets,
}

/// Runs all machines of a file to their ends.
pub fn up(arguments: Arguments, quiet: bool) -> anyhow::Result<u8> {
    let fleet = match Fleet::load(&arguments.lab) {
        Ok(fleet) => fleet,
        Err(error) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
    };
    let Some(Run { outcomes, prepared, report }) = run(&fleet, &arguments.report, &arguments.control)? else {
        return Ok(code::USAGE);
    };
    let code = exit_code(&outcomes);
    if !prepared {
        for Outcome { partition, end, .. } in &outcomes {
            say!("{}: {partition}: {end}; nothing was started", arguments.lab.display());
        }
    } else if !quiet || code != 0 {
        print_table(&outcomes);
    }
    report.done(code);
    Ok(code)
}

/// Prints on standard error how each machine ended, in the order of their ends.
fn print_table(outcomes: &[Outcome]) {
    const HEADING: &str = "partition";
    let width = outcomes.iter().map(|outcome| outcome.partition.chars().count()).fold(HEADING.len(), usize::max);
    say!("{HEADING:width$}        time  end");
    for Outcome { partition, end, time, .. } in outcomes {
        say!("{partition:width$}  {:>8.2} s  {end}", time.as_secs_f64());
    }
}
