//! The command line: parse, call the library, print, exit code.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgAction, Parser, Subcommand};
use viridian::machine::end::{EXIT_CODES, code};
use viridian::printable::Marked;

mod check;
mod closed;
mod hv;
mod run;
mod up;

/// Launches guests that speak Hyper-V, on Linux KVM.
#[derive(Parser)]
#[command(name = "viridian", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Arguments {
    /// Say more on standard error; twice for debugging, three times for everything
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a machine and connect its console to the terminal
    Run(Box<run::Arguments>),
    /// Start several machines from one file, and wait for all of them
    Up(up::Arguments),
    /// Say what this host's KVM offers, which engine will run and why
    Check(check::Arguments),
    /// Print what each engine offers a guest: every CPUID leaf and bit, MSR and hypercall, and why
    Hv(hv::Arguments),
}

/// Runs the program: its exit code is documented in [`EXIT_CODES`].
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let printed = if error.use_stderr() { Ok(()) } else { closed::expect_open() };
            if let Err(error) = printed.and_then(|()| error.print().context("standard output")) {
                return failed(&error);
            }
            return if error.use_stderr() { code::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    start_log(arguments.verbose);
    raise_open_files();
    match std::panic::catch_unwind(|| dispatch(arguments.command)) {
        Ok(Ok(code)) => code.into(),
        Ok(Err(error)) => failed(&error),
        // The panic's own words are on standard error already.
        Err(_) => code::FAILED.into(),
    }
}

/// Raises the soft limit on open files to the hard one. Shells keep the soft one low for old programs that use `select`; each connection of a
/// guest's and each eventfd of a device's wants a descriptor.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("the limit on open files stays as it is: {error}");
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("viridian: {}", Marked(&format!("{error:#}")));
    code::FAILED.into()
}

/// Prints what a command has to say.
fn print(text: &str) -> anyhow::Result<()> {
    closed::expect_open()?;
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}

fn dispatch(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Up(arguments) => up::up(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Hv(arguments) => hv::hv(arguments),
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        2 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .parse_default_env()
        .format(|out, record| {
            let level = record.level().as_str().to_ascii_lowercase();
            // A line may quote a guest or an image; a terminal may be raw.
            let line = Marked(&record.args().to_string()).to_string().replace('\n', "\r\n");
            writeln!(out, "viridian: {level}: {line}\r")
        })
        .init();
}
