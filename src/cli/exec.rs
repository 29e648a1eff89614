//! `viridian exec`, `viridian agent-copy` and `viridian agent`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use viridian::machine::code;
use viridian::process::{EndSignals, Marked};

use super::agent::attach::{Outcome, attach, is_on_terminal, terminal_size};
use super::agent::frame::Command;
use super::agent::target::connect;
use super::agent::{PORT, PROGRAM, copy};
use super::say;

/// The options of `viridian exec`.
#[derive(clap::Args)]
pub struct ExecArguments {
    /// Name of a running machine that has a --vsock socket, the path of that socket (with a /), or unix:PATH for an
    /// agent that listens on a Unix socket
    #[arg(value_name = "MACHINE")]
    machine: OsString,

    #[command(flatten)]
    setting: Setting,

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

/// Runs a command in the guest of a running machine.
pub fn exec(arguments: ExecArguments) -> anyhow::Result<u8> {
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let command = arguments.setting.command(arguments.command);
    let connection = match connect(&arguments.machine, arguments.port) {
        Ok(connection) => connection,
        Err(error) => {
            say!("{error}");
            return Ok(code::FAILED);
        }
    };
    Ok(match attach(&connection, &command, &signals)? {
        Outcome::Code(code) => code,
        Outcome::Lost => {
            say!("the agent in the guest has gone before the command ended");
            code::FAILED
        }
    })
}

/// The options of `viridian agent-copy`.
#[derive(clap::Args)]
pub struct CopyArguments {
    /// The file to copy: PATH of this host, or MACHINE:/PATH, where MACHINE is as for viridian exec
    #[arg(value_name = "FROM")]
    from: OsString,

    /// The destination: a file, or a directory that ends with /
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
        (None, Some((machine, path))) => put(machine, *port, Path::new(from), path, *force),
        (Some((machine, path)), None) => get(machine, *port, path, Path::new(to), *force),
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

/// Completes a target that is a directory with the name of the file.
fn complete(target: &[u8], source: &[u8]) -> Vec<u8> {
    let name = source.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if target.ends_with(b"/") { [target, name].concat() } else { target.to_vec() }
}

fn put(machine: &OsStr, port: u32, from: &Path, path: &[u8], replace: bool) -> anyhow::Result<()> {
    let file = File::open(from)?;
    let metadata = file.metadata()?;
    anyhow::ensure!(metadata.is_file(), "it is not a file; to copy a directory, pass an archive through viridian exec");
    let path = complete(path, from.as_os_str().as_bytes());
    let connection = connect(machine, port)?;
    copy::put(&connection, file, &path, metadata.permissions().mode() & 0o7777, replace)?;
    Ok(())
}

fn get(machine: &OsStr, port: u32, path: &[u8], to: &Path, replace: bool) -> anyhow::Result<()> {
    let to = PathBuf::from(OsString::from_vec(complete(to.as_os_str().as_bytes(), path)));
    let mut partial = to.clone().into_os_string();
    partial.push(".viridian-copy");
    anyhow::ensure!(replace || !to.exists(), "the file is there already; --force replaces it");
    let connection = connect(machine, port)?;
    let open = |mode: u32, _| {
        // The guest does not choose who may run a file as somebody else.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
        Ok(file)
    };
    let result = copy::get(&connection, path, open).map_err(anyhow::Error::from).and_then(|_| {
        // Without --force, hard_link fails for a file that was created meanwhile.
        let moved = if replace { fs::rename(&partial, &to) } else { fs::hard_link(&partial, &to) };
        moved.context("cannot give the file its name")
    });
    if !replace || result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    result
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
        assert_eq!(complete(b"/tmp/", b"a/b"), b"/tmp/b");
    }
}
