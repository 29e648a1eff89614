//! `viridian linux`: runs a command in a stock Linux kernel.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{ArgMatches, FromArgMatches};
use viridian::config::{Config, KernelSource, Size};
use viridian::machine::{Machine, MachineError, Prepared, code};
use viridian::process::{EndSignals, Marked};
use viridian::{Builder, End};

use super::agent::attach::{Outcome, attach};
use super::agent::{PORT, PROGRAM};
use super::exec::Setting;
use super::preparing::unless_signalled;
use super::say;
use super::share::{self, Share};

mod archive;
mod children;
mod kernel;
mod modules;
mod tree;

use archive::Archive;
use children::Children;
use modules::Modules;

/// Memory of the guest where none is set.
const MEMORY: Size = Size(1 << 30);
/// The guest powers off within this time once its command has ended.
const POWER_OFF: Duration = Duration::from_secs(10);
/// The servers of shared directories end within this time after the machine.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The AF_VSOCK port where the agent reaches the first share; the others follow.
const SHARE_PORTS: u32 = PORT + 1;
/// The interval at which the wait for the guest checks for a signal of the user.
const LOOK: Duration = Duration::from_millis(200);
/// The end of the kernel's messages that is printed after a failure, in lines.
const TAIL: usize = 40;
/// Longest start of a line that waits for its end, in bytes.
const MAX_LINE: usize = 4096;
/// Options of `viridian run` that have no meaning here.
const HIDDEN: [&str; 5] = ["initrd", "console", "on_reset", "test_device", "symbols"];

/// The options of `viridian linux`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the kernel's modules [default: /lib/modules/RELEASE, or those of Debian's kernel]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,

    /// Load a module of the kernel before the command runs, with those that it needs; repeat for more
    #[arg(long = "module", value_name = "NAME")]
    load: Vec<String>,

    /// Put a copy of a file or folder into the guest, HOST[:GUEST]; without GUEST, under its own name in the root folder
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<OsString>,

    /// Share a directory of the host with the guest, DIR[:GUEST][,rw]: read-only without ",rw", at /host without GUEST.
    /// The command runs in the first one. Repeat for more
    #[arg(long = "share", value_name = "DIR[:GUEST][,rw]")]
    shares: Vec<OsString>,

    #[command(flatten)]
    setting: Setting,

    #[command(flatten)]
    settings: Settings,

    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

/// The settings of the machine.
struct Settings(Config);

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut config = Config::default();
        config.memory.size = MEMORY;
        config.update_from_arg_matches(matches)?;
        Ok(Self(config))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl clap::Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        let command = Config::augment_args_for_update(command);
        let command = command.mut_arg("kernel", |arg| {
            arg.help("Kernel to boot, a Linux bzImage or vmlinux [default: Debian's, fetched once with apt]")
        });
        let command = command.mut_arg("memory", |arg| arg.help("Guest memory [default: 1G]"));
        HIDDEN.into_iter().fold(command, |command, name| command.mut_arg(name, |arg| arg.hide(true)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// The reason why there is no machine.
enum Refusal {
    /// The command line is wrong, or a file that it names.
    Usage(anyhow::Error),
    Machine(MachineError),
    Other(anyhow::Error),
}

/// A machine that is ready to run, and what its guest is told.
struct Ready {
    prepared: Prepared,
    shares: Vec<Share>,
    /// The kernel reads it when the machine starts, and at a reset.
    _initramfs: File,
}

/// The inputs of a machine.
struct Wanted {
    config: Config,
    shares: Vec<OsString>,
    modules: Option<PathBuf>,
    load: Vec<String>,
    files: Vec<OsString>,
    verbose: u8,
}

impl Wanted {
    /// Opens, fetches and loads everything. That can take long: see [`unless_signalled`].
    fn prepare(self, children: &Children) -> Result<Ready, Refusal> {
        let Self { mut config, shares, modules, load, files, verbose } = self;
        let shares = share::open(&shares).map_err(Refusal::Usage)?;
        let kernel = match &config.kernel {
            None => kernel::debian(|words| say!("{words}"), children),
            Some(KernelSource::File(path)) => kernel::named(path, modules),
            Some(_) => {
                let words = "viridian linux boots a Linux kernel: --kernel has to be a bzImage or a vmlinux";
                return Err(Refusal::Usage(anyhow::Error::msg(words)));
            }
        };
        let kernel = kernel.map_err(|error| Refusal::Usage(error.into()))?;
        let mut wanted = wanted(&config, &load);
        if !shares.is_empty() {
            wanted.push("fuse");
        }
        let initramfs = initramfs(kernel.modules.as_deref(), &wanted, &files, &shares).map_err(Refusal::Usage)?;
        let file = in_memory(&initramfs).context("no memory for the initramfs").map_err(Refusal::Other)?;
        config.initrd = Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into());
        config.kernel = Some(KernelSource::File(kernel.path));
        let quiet = if verbose > 0 { "" } else { "quiet " };
        config.cmdline = format!("console=ttyS0 {quiet}panic=-1 rdinit=/init {}", config.cmdline).trim_end().into();
        let prepared = Builder::from(config).capture_console().prepare().map_err(Refusal::Machine)?;
        Ok(Ready { prepared, shares, _initramfs: file })
    }
}

/// Returns a file in memory: nothing is left behind, however this ends.
fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("initramfs", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file)
}

/// Runs the command.
pub fn linux(arguments: Arguments, verbose: u8) -> anyhow::Result<u8> {
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let Arguments { modules, load, files, shares, setting, settings: Settings(config), command } = arguments;
    let wanted = Wanted { config, shares, modules, load, files, verbose };
    let children = Children::default();
    let its_children = children.clone();
    let made = unless_signalled(&signals, move || wanted.prepare(&its_children), || children.end_all())?;
    let ended = |end: End| {
        say!("{end}");
        Ok(end.exit_code())
    };
    let Ready { prepared, shares, _initramfs } = match made {
        Ok(Ok(ready)) => ready,
        Ok(Err(Refusal::Usage(error))) => {
            say!("{}", Marked(&format!("{error:#}")));
            return Ok(code::USAGE);
        }
        Ok(Err(Refusal::Machine(error))) => return ended(End::Failed(error)),
        Ok(Err(Refusal::Other(error))) => return Err(error),
        Err(signal) => return ended(End::by_signal(signal)),
    };
    let listener = prepared.sockets().listen(PORT).context("cannot listen for the guest")?;
    let mut command = setting.command(command);
    if let Some(first) = shares.first().filter(|_| setting.directory.is_none()) {
        command.directory = first.place.clone().into_bytes();
    }
    let (serving, served) = mpsc::channel::<()>();
    for (share, port) in shares.into_iter().zip(SHARE_PORTS..) {
        // Whatever ends it, the guest's programs get errors, and the machine goes on.
        prepared.sockets().answer(port, share.serve(serving.clone())).context("cannot listen for the guest")?;
    }
    drop(serving);
    let machine = prepared.start().context("cannot start the machine")?;
    let mut shown = Shown::new(verbose);
    let accepted = loop {
        match listener.accept_timeout(LOOK) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                shown.show(&machine);
                if let Some(signal) = signalled(&signals)? {
                    machine.stop(End::by_signal(signal));
                }
            }
            other => break other,
        }
    };
    let Ok(connection) = accepted else {
        return never_came(machine, &signals, shown);
    };
    let outcome = attach(&connection, &command, &signals)?;
    // The agent powers the machine off when its connection ends.
    drop(connection);
    match outcome {
        Outcome::Code(code) => {
            let end = wait(machine, &signals)?;
            if end.is_none() {
                log::info!("the guest has not powered off within {POWER_OFF:?}");
            }
            // What they log comes before the end. One whose host hangs logs nothing.
            if log::log_enabled!(log::Level::Info) {
                let _ = served.recv_timeout(LAST_WORDS);
            }
            Ok(end.filter(is_by_signal).map_or(code, |end| end.exit_code()))
        }
        Outcome::Lost => lost(machine, &signals, shown),
    }
}

/// Waits until the machine has powered off, and ends it if that takes longer than [`POWER_OFF`], or at a signal. Returns `None` if
/// its time was over.
fn wait(mut machine: Machine, signals: &EndSignals) -> anyhow::Result<Option<End>> {
    let until = Instant::now() + POWER_OFF;
    loop {
        machine = match machine.wait_timeout(LOOK.min(until.saturating_duration_since(Instant::now()))) {
            Ok(end) => return Ok(Some(end)),
            Err(machine) => machine,
        };
        if let Some(signal) = signalled(signals)? {
            machine.stop(End::by_signal(signal));
            return Ok(Some(machine.wait()));
        }
        if Instant::now() >= until {
            machine.stop(End::Terminated);
            machine.wait();
            return Ok(None);
        }
    }
}

/// Returns the signal that has come, if any.
fn signalled(signals: &EndSignals) -> anyhow::Result<Option<i32>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(signals, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(0);
    if ready == 0 { Ok(None) } else { signals.wait().map(Some).context("cannot listen for signals") }
}

/// Printer of the kernel's lines, on standard error with `--verbose`.
struct Shown {
    verbose: bool,
    /// The start of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Shown {
    fn new(verbose: u8) -> Self {
        Self { verbose: verbose > 0, rest: Vec::new() }
    }

    /// Prints the lines that the kernel has completed since.
    fn show(&mut self, machine: &Machine) {
        if let Some(console) = machine.console().filter(|_| self.verbose) {
            self.lines(&console.take()).iter().for_each(|line| say!("{line}"));
        }
    }

    /// Adds output of the kernel, and returns the lines that are complete now. A line of more than [`MAX_LINE`] bytes is
    /// printed in parts.
    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend(bytes);
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let whole = if self.rest.len() - whole > MAX_LINE { self.rest.len() } else { whole };
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        lines.split_inclusive(|byte| *byte == b'\n').map(in_words).collect()
    }
}

/// Returns a line of the kernel as it is printed.
fn in_words(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line).replace('\r', "");
    format!("kernel: {}", Marked(text.trim_end_matches('\n')))
}

/// The machine has ended, and the agent in it has not called. Returns the exit code.
fn never_came(machine: Machine, signals: &EndSignals, shown: Shown) -> anyhow::Result<u8> {
    let console = machine.console().cloned();
    let end = wait(machine, signals)?.unwrap_or(End::Terminated);
    print_tail(console.as_ref(), shown);
    match end {
        End::TimedOut(_) => say!("{end}"),
        ref end if is_by_signal(end) => say!("{end}"),
        ref other => say!(
            "the kernel never reached the command: {other}; it needs VMBus, Hyper-V sockets (hv_sock) and an initramfs. \
             --verbose shows all that it prints"
        ),
    }
    Ok(failure_code(&end))
}

/// The guest has gone before its command ended. Returns the exit code.
fn lost(machine: Machine, signals: &EndSignals, shown: Shown) -> anyhow::Result<u8> {
    let console = machine.console().cloned();
    let end = wait(machine, signals)?;
    print_tail(console.as_ref(), shown);
    Ok(match end {
        Some(end) => {
            say!("the guest has gone before the command ended: {end}");
            failure_code(&end)
        }
        None => {
            say!("the agent in the guest has gone before the command ended");
            code::FAILED
        }
    })
}

/// Returns `true` if a signal to this program was the reason.
fn is_by_signal(end: &End) -> bool {
    matches!(end, End::Interrupted | End::Terminated | End::HungUp | End::Quit)
}

/// A guest that powers off without a status has failed.
fn failure_code(end: &End) -> u8 {
    match end.exit_code() {
        0 => code::FAILED,
        code => code,
    }
}

/// Prints the end of the kernel's messages.
fn print_tail(console: Option<&viridian::machine::Capture>, shown: Shown) {
    let mut text = shown.rest;
    text.extend(console.map(viridian::machine::Capture::take).unwrap_or_default());
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| say!("{}", in_words(line)));
}

/// Returns the modules to load: the drivers of the connection to the host, and those of the machine's devices.
fn wanted<'a>(config: &Config, more: &'a [String]) -> Vec<&'a str> {
    let mut wanted = vec!["hv_vmbus", "hv_sock"];
    if !config.disks.is_empty() {
        wanted.extend(["hv_storvsc", "sd_mod"]);
    }
    if !config.networks.is_empty() {
        wanted.push("hv_netvsc");
    }
    wanted.extend(more.iter().map(String::as_str));
    wanted
}

/// Returns the initramfs: the agent, the modules, and busybox of this host.
fn initramfs(folder: Option<&Path>, wanted: &[&str], files: &[OsString], shares: &[Share]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for path in ["bin", "dev", "etc", "modules", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"] {
        archive.directory(path);
    }
    archive.character_device("dev/console", [5, 1]);
    archive.file("init", 0o755, PROGRAM);
    archive.file("etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\n");
    let loaded = match folder {
        Some(folder) => Modules::find(folder)?.load(wanted)?,
        None => {
            log::info!("the kernel's modules are not known: it has to have VMBus and Hyper-V sockets built in");
            Vec::new()
        }
    };
    let mut list = String::new();
    for module in &loaded {
        let path = format!("modules/{}.ko", module.name);
        archive.file(&path, 0o600, &module.content);
        list += &format!("/{path}\n");
    }
    archive.file("modules.list", 0o600, list.as_bytes());
    add_busybox(&mut archive)?;
    files.iter().try_for_each(|file| tree::add(&mut archive, file))?;
    for share in shares {
        for (end, _) in share.place.match_indices('/').skip(1) {
            archive.directory(&share.place[1..end]);
        }
        archive.directory(&share.place[1..]);
    }
    let list: String = shares.iter().zip(SHARE_PORTS..).map(|(share, port)| share.line(port)).collect();
    archive.file("shares.list", 0o600, list.as_bytes());
    Ok(archive.finish())
}

/// Adds busybox under the names of its commands. It must be a static program.
fn add_busybox(archive: &mut Archive) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("busybox")).find(|path| path.is_file());
    let path = found.context("there is no busybox here for the guest; install busybox-static")?;
    let content = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let listed =
        std::process::Command::new(&path).arg("--list").output().with_context(|| path.display().to_string())?;
    archive.file("bin/busybox", 0o755, &content);
    for name in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox" && !name.contains('/'))
    {
        archive.symlink(&format!("bin/{name}"), "busybox");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_the_kernels_messages_are_printed_as_whole_lines() {
        let mut shown = Shown::new(1);
        assert_eq!(shown.lines(b"[    0.1] one\r\n[    0.2] tw"), ["kernel: [    0.1] one"]);
        assert!(shown.lines(b"").is_empty());
        assert_eq!(
            shown.lines(b"o\n\nviridian: no\x1b[2J\nfour"),
            ["kernel: [    0.2] two", "kernel: ", "kernel: viridian: no\\x1b[2J"]
        );
        assert_eq!(shown.rest, b"four");
        assert_eq!(shown.lines(&[b'x'; MAX_LINE])[0].len(), "kernel: four".len() + MAX_LINE);
        assert!(shown.rest.is_empty());
    }
}
