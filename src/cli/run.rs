//! `viridian run`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, FromArgMatches, value_parser};
use viridian::config::Config;
use viridian::config::FileError;
use viridian::fleet::{Fleet, Outcome, exit_code};
use viridian::machine::Builder;
use viridian::machine::End;
use viridian::machine::code;

use super::fleet::Run;
use super::{control, report, say};

/// The option that names a settings file.
const CONFIG: &str = "config";

/// The options of `viridian run`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the settings as a TOML file instead of running
    #[arg(long)]
    dump_config: bool,

    #[command(flatten)]
    report: report::Target,

    #[command(flatten)]
    control: control::Sockets,

    #[command(flatten)]
    settings: Settings,
}

/// The settings: those of the file, overridden by the options. An invalid file is not an error of the command line.
struct Settings(Result<Config, FileError>);

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut config = match matches.get_one::<PathBuf>(CONFIG).map(|path| Config::load(path)).transpose() {
            Ok(config) => config.unwrap_or_default(),
            Err(error) => return Ok(Self(Err(error))),
        };
        config.update_from_arg_matches(matches)?;
        Ok(Self(Ok(config)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.as_mut().map_or(Ok(()), |config| config.update_from_arg_matches(matches))
    }
}

impl clap::Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Take the settings from this TOML file first; options override it");
        // Nothing is required: missing options are taken from the file or the defaults.
        Config::augment_args_for_update(command.arg(file))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Runs one machine to its end.
pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<u8> {
    let config = match arguments.settings.0 {
        Ok(config) => config,
        // An error in the content begins with the line.
        Err(error @ FileError::Content { .. }) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
        Err(error) => {
            say!("--config {error}");
            return Ok(code::USAGE);
        }
    };
    if arguments.dump_config {
        let text = config.to_toml().context("these settings do not fit into a TOML file")?;
        super::print(&text)?;
        return Ok(0);
    }
    let fleet = Fleet::from(Builder::from(config));
    let Some(Run { outcomes, report, .. }) = super::fleet::run(&fleet, &arguments.report, &arguments.control)? else {
        return Ok(code::USAGE);
    };
    let code = exit_code(&outcomes);
    report.done(code);
    for Outcome { end, .. } in outcomes.iter().filter(|outcome| !quiet || matches!(*outcome.end, End::Failed(_))) {
        say!("{end}");
    }
    Ok(code)
}
