//! `viridian run`.

use std::io;
use std::path::PathBuf;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, FromArgMatches, value_parser};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;
use viridian::machine::config::Config;
use viridian::machine::{End, Machine};
use viridian::partition::footprint::forget_start_up;
use viridian::platform::console::ConsoleConfig;
use viridian::platform::console::signals::EndSignals;

/// The option that names a settings file.
const CONFIG: &str = "config";

/// What `viridian run` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the settings as a TOML file instead of running
    #[arg(long)]
    dump_config: bool,

    #[command(flatten)]
    settings: Settings,
}

/// The settings: what the file says, overridden by the options.
struct Settings(Config);

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let wrong = |error: &dyn std::fmt::Display| clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n"));
        let mut config = match matches.get_one::<PathBuf>(CONFIG) {
            Some(path) => Config::load(path).map_err(|error| wrong(&error))?,
            None => Config::default(),
        };
        config.update_from_arg_matches(matches)?;
        Ok(Self(config))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
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
pub fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let config = arguments.settings.0;
    if arguments.dump_config {
        let text = config.to_toml().context("these settings do not fit into a TOML file")?;
        super::print(&text)?;
        return Ok(0);
    }
    if config.console == ConsoleConfig::Stdio {
        super::closed::expect_open()?;
    }
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let end = match Machine::start(&config) {
        Ok(machine) => {
            forget_start_up();
            while let Some(signal) = next_signal(&signals, &machine)? {
                machine.stop(if signal == SIGINT { End::Interrupted } else { End::Terminated });
            }
            machine.wait()
        }
        Err(error) => End::Failed(error),
    };
    eprintln!("viridian: {end}");
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
