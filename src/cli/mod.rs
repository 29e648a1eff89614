//! The command line: parse, call the library, print, exit code.

use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgAction, Parser, Subcommand};
use viridian::machine::{EXIT_CODES, code};
use viridian::process::{self, Marked, Records, limit_is_reached, limit_remedy};

mod agent;
mod base64;
mod capture;
mod check;
mod client;
mod closed;
mod control;
mod dial;
mod exec;
mod fleet;
mod host;
mod hv;
mod known;
mod linux;
mod logging;
mod manual;
mod notify;
mod preparing;
mod progress;
mod reach;
mod report;
mod run;
mod serve;
mod share;
mod targets;
mod tls;
mod up;
mod usage;
mod verbs;

/// Prints a line on standard error, prefixed with the program's name. Never waits for the reader.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::say_line(format_args!($($words)*))
    };
}
use say;

/// Launches guests that speak Hyper-V, on Linux KVM.
#[derive(Parser)]
#[command(name = "viridian", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Arguments<C: Subcommand = Command> {
    /// Print more on standard error; twice for debugging, three times for everything
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,

    /// Print only failures on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    #[command(flatten)]
    host: host::Options,

    #[command(subcommand)]
    command: C,
}

impl Arguments {
    /// Parses the command line.
    ///
    /// # Errors
    /// Returns an error for a wrong command line, and for a request for help.
    fn parse_command_line() -> Result<Self, clap::Error> {
        // Defining all commands takes longer than parsing one. Errors and help need the definitions of all commands.
        let command = std::env::args_os().skip(1).find(|argument| !argument.as_encoded_bytes().starts_with(b"-"));
        if command.is_some_and(|command| command == "run")
            && let Ok(Arguments { verbose, quiet, host, command: Frequent::Run(run) }) = Arguments::try_parse()
        {
            return Ok(Self { verbose, quiet, host, command: Command::Run(run) });
        }
        Self::try_parse()
    }
}

/// The command that is started most often, as in [`Command`].
#[derive(Subcommand)]
enum Frequent {
    Run(Box<run::Arguments>),
}

#[derive(Subcommand)]
enum Command {
    /// Start a machine and connect its console to the terminal
    Run(Box<run::Arguments>),
    /// Start several machines from one file, and wait for all of them
    Up(up::Arguments),
    /// Report what this host's KVM offers, which engine will run, and why
    Check(check::Arguments),
    /// Print every CPUID bit, MSR and hypercall that each engine offers a guest, and why
    Hv(hv::Arguments),
    /// Keep definitions of machines, run them, and offer an HTTP API
    Serve(serve::Arguments),
    /// Run a command in a stock Linux kernel with Hyper-V's drivers, and end with its exit code
    Linux(Box<linux::Arguments>),
    /// Run a command in the guest of a running machine, by the agent in it
    Exec(exec::ExecArguments),
    /// Copy a file to the guest of a running machine or from it, by the agent in it
    AgentCopy(exec::CopyArguments),
    /// Print the agent for Linux guests, a static program
    Agent,
    /// Connect standard input and output to the service of this host, for viridian --host ssh://
    #[command(hide = true)]
    Dial,
    /// Print the script by which a shell completes commands and options
    Completion(manual::CompletionArguments),
    /// Write the manual, a page for each command
    Man(manual::ManArguments),

    #[command(flatten)]
    Verb(verbs::Verb),
}

/// Runs the program. Its exit codes are documented in [`EXIT_CODES`].
pub fn main() -> ExitCode {
    let code = run_program();
    host::hang_up();
    Records::standard_error().finish();
    code.into()
}

fn run_program() -> u8 {
    process::prepare();
    let arguments = match Arguments::parse_command_line() {
        Ok(arguments) => arguments,
        Err(error) => return usage::explain(&error, std::env::args_os()).unwrap_or_else(|error| failed(&error)),
    };
    logging::start(arguments.verbose, arguments.quiet);
    raise_open_files();
    match catch_unwind(AssertUnwindSafe(|| dispatch(arguments))) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => failed(&error),
        // The panic's message is already on standard error.
        Err(_) => code::FAILED,
    }
}

/// Raises the soft limit on open files to the hard limit. Shells keep the soft limit low for old programs that use
/// `select`, but each connection of a guest and each eventfd of a device needs a descriptor.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("the limit on open files stays as it is: {error}");
    }
}

/// The context of an error in what an option names, such as a path.
#[derive(Debug)]
struct Wrong(&'static str);

impl std::fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

/// Prints an error, and returns its exit code.
fn failed(error: &anyhow::Error) -> u8 {
    let text = format!("{error:#}");
    say!("{}", Marked(&text));
    let is_wrong = error.is::<Wrong>() && !limit_is_reached(&text);
    if is_wrong { code::USAGE } else { code::FAILED }
}

/// See [`say!`]. Adds the remedy if the words have the error of a limit of the host.
fn say_line(words: std::fmt::Arguments<'_>) {
    let words = words.to_string();
    let remedy = limit_remedy(&words);
    Records::standard_error().put(format!("viridian: {words}{remedy}\n").as_bytes(), 1);
}

/// Prints the output of a command. It is not an error if the reader stops reading early.
fn print(text: &str) -> anyhow::Result<()> {
    print_part(text.as_bytes()).map(drop)
}

/// Prints a part of the output of a command. Returns `false` if nobody reads it.
fn print_part(text: &[u8]) -> anyhow::Result<bool> {
    closed::expect_open()?;
    let mut output = std::io::stdout();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("standard output"),
    }
}

/// Ends the program when nobody reads output that has no end. Other threads may wait for more of it.
fn end_unread() -> ! {
    host::hang_up();
    Records::standard_error().finish();
    std::process::exit(0)
}

/// Chooses the host whose machines a command is about. Returns `false`, after printing why, if the command cannot be about those of
/// another one.
fn choose_host(command: &Command, host: host::Options) -> bool {
    let chosen = match command {
        Command::Verb(_) | Command::Exec(_) | Command::AgentCopy(_) => host.choose(),
        _ if host.name_a_service() => {
            Err(std::io::Error::other("this command is for this host only; --host is for commands that name machines"))
        }
        _ => Ok(()),
    };
    chosen.inspect_err(|error| say!("{}", Marked(&error.to_string()))).is_ok()
}

fn dispatch(Arguments { verbose, quiet, host, command }: Arguments) -> anyhow::Result<u8> {
    if !choose_host(&command, host) {
        return Ok(code::USAGE);
    }
    match command {
        Command::Run(arguments) => run::run(*arguments, quiet),
        Command::Up(arguments) => up::up(arguments, quiet),
        Command::Check(arguments) => check::check(arguments),
        Command::Hv(arguments) => hv::hv(arguments),
        Command::Serve(arguments) => serve::serve(arguments, quiet),
        Command::Linux(arguments) => linux::linux(*arguments, verbose),
        Command::Exec(arguments) => exec::exec(arguments),
        Command::AgentCopy(arguments) => exec::copy(&arguments),
        Command::Agent => exec::agent(),
        Command::Dial => dial::dial(),
        Command::Completion(arguments) => manual::completion(&arguments),
        Command::Man(arguments) => manual::man(&arguments),
        Command::Verb(verb) => Ok(verbs::run(verb)),
    }
}
