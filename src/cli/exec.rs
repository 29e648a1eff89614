//! `viridian exec`, `viridian agent-copy` and `viridian agent`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::Context;
use viridian::machine::code;
use viridian::process::{EndSignals, Marked};

use super::agent::attach::{Outcome, attach, is_on_terminal, terminal_size};
use super::agent::frame::Command;
use super::agent::many::{Ended, Input, LOST, Output, run};
use super::agent::target::connect;
use super::agent::{PORT, PROGRAM, files};
use super::client::{Failure, Remote};
use super::say;
use super::targets::{Found, NONE_RUNS, at_once, failed, find, print_results};

/// The options of `viridian exec`.
#[derive(clap::Args)]
#[command(after_help = "\
The exit code is that of the command, or 128 plus the number of the signal that ended it. In several guests, the command runs at
the same time and without input. Each line of its output begins with the name of the machine, and the exit code is the highest.
With --json, the output is in the fields stdout and stderr, or stdout-base64 and stderr-base64 if it is not UTF-8, up to 4 MiB of
each. If there was more, the field stdout-truncated or stderr-truncated is true.")]
pub struct ExecArguments {
    /// Running machines: names, several with commas, patterns such as 'web*'; the path of a --vsock or control socket (with a /), or
    /// unix:PATH for an agent that listens on a Unix socket
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<OsString>,

    /// All running machines of this user
    #[arg(long, conflicts_with = "names")]
    all: bool,

    #[command(flatten)]
    setting: Setting,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,

    /// AF_VSOCK port of the agent
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u32,

    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

/// The environment of a command in a guest.
#[derive(clap::Args)]
pub struct Setting {
    /// Set a variable of the command's environment, or pass on the one of that name; repeat for more
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,

    /// Working directory of the command
    #[arg(short = 'C', long, value_name = "DIR")]
    pub directory: Option<OsString>,

    /// Give the command a terminal, or none [default: a terminal if standard input and output are one]
    #[arg(long, value_name = "WHETHER")]
    pub terminal: Option<OnOff>,
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOff {
    On,
    Off,
}

impl Setting {
    /// Returns the command with its setting.
    pub fn command(&self, arguments: Vec<OsString>) -> Command {
        let has_terminal = self.terminal.map_or_else(is_on_terminal, |choice| choice == OnOff::On);
        let mut environment: Vec<_> = self.env.iter().filter_map(variable).collect();
        if has_terminal {
            environment.extend(variable(&"TERM".into()));
        }
        Command {
            arguments: arguments.into_iter().map(OsString::into_vec).collect(),
            environment,
            directory: self.directory.clone().unwrap_or_default().into_vec(),
            terminal: has_terminal.then(terminal_size),
        }
    }
}

/// Returns a variable as `NAME=VALUE`.
pub fn variable(text: &OsString) -> Option<Vec<u8>> {
    if text.as_bytes().contains(&b'=') {
        return Some(text.clone().into_vec());
    }
    let value = std::env::var_os(text)?;
    Some([text.as_bytes(), b"=", value.as_bytes()].concat())
}

/// Runs a command in the guests of running machines.
pub fn exec(mut arguments: ExecArguments) -> anyhow::Result<u8> {
    let Some(Guests { guests, mut code, is_one }) = Guests::find(&arguments.names, arguments.all) else {
        return Ok(code::FAILED);
    };
    let setting = &mut arguments.setting;
    if arguments.json || !is_one {
        if setting.terminal == Some(OnOff::On) {
            say!("--terminal on is for the command in one guest, and without --json");
            return Ok(code::USAGE);
        }
        setting.terminal = Some(OnOff::Off);
    }
    let command = setting.command(arguments.command);
    if let ([(_, guest)], true, false) = (&guests[..], is_one, arguments.json) {
        return exec_here(guest, arguments.port, &command);
    }
    let input = if is_one { Input::Own } else { Input::None };
    let port = arguments.port;
    let execute = |(name, guest): &(String, OsString)| -> Result<Ended, Failure> {
        let failed = |words: String| Failure::Other(code::FAILED, words);
        let signals = EndSignals::catch().map_err(|error| failed(error.to_string()))?;
        let connection = connect(guest, port).map_err(|error| failed(error.to_string()))?;
        let output = if arguments.json { Output::Captured } else { Output::Labelled(name) };
        run(&connection, &command, input, output, &signals).map_err(|error| failed(error.to_string()))
    };
    let mut values = Vec::new();
    for ((name, _), result) in guests.iter().zip(at_once(&guests, execute)) {
        let ended = match result {
            Ok(ended) => ended,
            Err(failure) => {
                code = code.max(failed(Some(name), &failure));
                continue;
            }
        };
        code = code.max(ended.code);
        if let Some(error) = &ended.error {
            say!("{}", Marked(&format!("{name}: {error}")));
        }
        values.push(ended.into_json(name));
    }
    if arguments.json
        && let Err(failure) = print_results(is_one, values)
    {
        return Ok(failed(None, &failure));
    }
    Ok(code)
}

/// Runs a command on the standard streams of this process.
fn exec_here(guest: &OsStr, port: u32, command: &Command) -> anyhow::Result<u8> {
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let connection = match connect(guest, port) {
        Ok(connection) => connection,
        Err(error) => {
            say!("{error}");
            return Ok(code::FAILED);
        }
    };
    Ok(match attach(&connection, command, &signals)? {
        Outcome::Code(code) => code,
        Outcome::Lost => {
            say!("{LOST}");
            code::FAILED
        }
    })
}

/// The guests of a command.
struct Guests {
    /// Their names, and how to reach them.
    guests: Vec<(String, OsString)>,
    /// The exit code for the names that do not exist.
    code: u8,
    is_one: bool,
}

impl Guests {
    /// Finds the guests that words name, and reports names that do not exist. Returns `None` if that is the only name.
    fn find(words: &[OsString], all: bool) -> Option<Self> {
        let known = || {
            let all = Remote::all()?.into_iter().map(|machine| machine.name);
            Ok(all.map(|name| (name.clone(), OsString::from(name))).collect::<Vec<_>>())
        };
        // The connection to it fails if there is no such machine.
        let named = |word: &str| Ok(OsString::from(word));
        let mut found = Self { guests: Vec::new(), code: 0, is_one: words.len() == 1 };
        if all {
            found.guests = known().map_err(|failure| failed(None, &failure)).ok()?;
            if found.guests.is_empty() {
                say!("{NONE_RUNS}");
            }
        }
        for word in words {
            let Some(text) = word.to_str().filter(|text| !text.starts_with("unix:")) else {
                found.guests.push((word.to_string_lossy().into_owned(), word.clone()));
                continue;
            };
            match find(&[text.to_owned()], known, named) {
                Ok(Found { found: guests, missing, is_one }) => {
                    found.guests.extend(guests);
                    found.is_one &= is_one;
                    for failure in &missing {
                        failed(None, failure);
                        found.code = code::FAILED;
                    }
                }
                Err(failure) => {
                    failed(None, &failure);
                    return None;
                }
            }
        }
        Some(found)
    }
}

/// The options of `viridian agent-copy`.
#[derive(clap::Args)]
pub struct CopyArguments {
    /// The file to copy: PATH of this host, or MACHINE:/PATH, where MACHINE is as for viridian exec
    #[arg(value_name = "FROM")]
    from: OsString,

    /// The destination: a file, or a directory, which in a guest ends with /
    #[arg(value_name = "TO")]
    to: OsString,

    /// Replace a file that is there
    #[arg(short, long)]
    force: bool,

    /// AF_VSOCK port of the agent
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u32,
}

/// Splits `MACHINE:/PATH`.
fn in_guest(text: &OsStr) -> Option<(&OsStr, &[u8])> {
    let bytes = text.as_bytes();
    let place = bytes.windows(2).position(|pair| pair == b":/").filter(|place| *place > 0)?;
    // The path of unix:/PATH:/FILE has one before.
    let place = match bytes.strip_prefix(b"unix:/") {
        Some(rest) => rest.windows(2).position(|pair| pair == b":/")? + b"unix:/".len(),
        None => place,
    };
    Some((OsStr::from_bytes(&bytes[..place]), &bytes[place + 1..]))
}

/// Copies a file to the guest of a running machine, or from it.
pub fn copy(arguments: &CopyArguments) -> anyhow::Result<u8> {
    let CopyArguments { from, to, force, port } = arguments;
    let result = match (in_guest(from), in_guest(to)) {
        (None, Some((machine, path))) => connect(machine, *port)
            .map_err(anyhow::Error::from)
            .and_then(|connection| files::put(&connection, Path::new(from), path, *force).map(drop)),
        (Some((machine, path)), None) => connect(machine, *port)
            .map_err(anyhow::Error::from)
            .and_then(|connection| files::get(&connection, path, Path::new(to), *force).map(drop)),
        _ => {
            say!("one of FROM and TO has to be MACHINE:/PATH, and the other a path of this host");
            return Ok(code::USAGE);
        }
    };
    match result {
        Ok(()) => Ok(0),
        Err(error) => {
            say!("{}", Marked(&format!("cannot copy {} to {}: {error:#}", from.display(), to.display())));
            Ok(1)
        }
    }
}

/// Prints the agent.
pub fn agent() -> anyhow::Result<u8> {
    let mut output = io::stdout();
    if output.is_terminal() {
        say!("this is a program; write it to a file: viridian agent > viridian-agent");
        return Ok(code::USAGE);
    }
    output.write_all(PROGRAM).and_then(|()| output.flush()).context("standard output")?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_guest_are_distinguished_from_paths_on_the_host() {
        let split = |text| in_guest(OsStr::new(text)).map(|(machine, path)| (machine.to_str().unwrap(), path));
        assert_eq!(split("/run/vm.sock:/etc/passwd"), Some(("/run/vm.sock", &b"/etc/passwd"[..])));
        assert_eq!(split("unix:/run/agent:/tmp/"), Some(("unix:/run/agent", &b"/tmp/"[..])));
        assert_eq!((split("/etc/passwd"), split(":/x"), split("unix:/run/agent")), (None, None, None));
    }
}
