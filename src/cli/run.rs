//! `viridian run`.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, FromArgMatches, value_parser};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use viridian::config::Config;
use viridian::config::file::FileError;
use viridian::console::ConsoleConfig;
use viridian::console::signals::EndSignals;
use viridian::host::footprint::forget_start_up;
use viridian::machine::end::code;
use viridian::machine::{End, Machine};

use super::report::{self, exits_in_words};
use super::say;

/// The option that names a settings file.
const CONFIG: &str = "config";

/// What `viridian run` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the settings as a TOML file instead of running
    #[arg(long)]
    dump_config: bool,

    #[command(flatten)]
    report: report::Target,

    #[command(flatten)]
    settings: Settings,
}

/// The settings: what the file says, overridden by the options. A file that cannot be used is no fault of the command line.
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
        // Nothing is required: what the options leave out, the file or the defaults say.
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
        Err(error) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
    };
    if arguments.dump_config {
        let text = config.to_toml().context("these settings do not fit into a TOML file")?;
        super::print(&text)?;
        return Ok(0);
    }
    if config.console == ConsoleConfig::Stdio {
        super::closed::expect_open()?;
    }
    let report = match arguments.report.open([&config.console]) {
        Ok(report) => report,
        Err(error) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
    };
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let since = Instant::now();
    let mut exits = None;
    let end = match Machine::start(&config) {
        Ok(machine) => {
            forget_start_up();
            report.started(&config.name, &machine);
            while let Some(signal) = next_signal(&signals, &machine)? {
                machine.stop(End::by_signal(signal));
            }
            exits = Some(machine.exits());
            machine.wait()
        }
        Err(error) => End::Failed(error),
    };
    exits.inspect(|exits| log::info!("{}: {}", config.name, exits_in_words(exits)));
    report.ended(&config.name, &end, since.elapsed(), exits);
    report.done(end.exit_code());
    if !quiet || matches!(end, End::Failed(_)) {
        say!("{end}");
    }
    Ok(end.exit_code())
}

/// How often disks are looked at: somebody may have changed the size of an image.
pub(super) const DISK_SIZES: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Waits for a signal; none when the machine is gone. Meanwhile has the guest notice disks that are made larger.
fn next_signal(signals: &EndSignals, machine: &Machine) -> io::Result<Option<i32>> {
    let interval = (!machine.disks().is_empty()).then_some(&DISK_SIZES);
    loop {
        let mut fds = [PollFd::from_borrowed_fd(machine.ended(), PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, interval) {
            Ok(0) => machine.disks().check_sizes_aside(),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [ended, signalled] = fds.map(|fd| !fd.revents().is_empty());
        if ended {
            return Ok(None);
        }
        if signalled {
            return signals.wait().map(Some);
        }
    }
}
