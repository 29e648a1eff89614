//! `viridian linux`: runs a command in a stock Linux kernel.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgMatches, FromArgMatches};
use viridian::config::{Config, KernelSource, Size};
use viridian::machine::{Machine, code};
use viridian::process::{EndSignals, Marked};
use viridian::{Builder, End};

use super::agent::attach::{Outcome, attach};
use super::agent::{PORT, PROGRAM};
use super::exec::Setting;
use super::say;
use super::share::{self, Share};

mod archive;
mod kernel;
mod modules;
mod tree;

use archive::Archive;
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

/// Runs the command.
pub fn linux(arguments: Arguments, verbose: u8) -> anyhow::Result<u8> {
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let Settings(mut config) = arguments.settings;
    let shares = match share::open(&arguments.shares) {
        Ok(shares) => shares,
        Err(error) => {
            say!("{}", Marked(&format!("{error:#}")));
            return Ok(code::USAGE);
        }
    };
    let kernel = match &config.kernel {
        None => kernel::debian(|words| say!("{words}")),
        Some(KernelSource::File(path)) => kernel::named(path, arguments.modules),
        Some(_) => {
            say!("viridian linux boots a Linux kernel: --kernel has to be a bzImage or a vmlinux");
            return Ok(code::USAGE);
        }
    };
    let made = kernel.map_err(anyhow::Error::from).and_then(|kernel| {
        let mut wanted = wanted(&config, &arguments.load);
        if !shares.is_empty() {
            wanted.push("fuse");
        }
        let initramfs = initramfs(kernel.modules.as_deref(), &wanted, &arguments.files, &shares)?;
        Ok((kernel.path, initramfs))
    });
    let (path, initramfs) = match made {
        Ok(made) => made,
        Err(error) => {
            say!("{}", Marked(&format!("{error:#}")));
            return Ok(code::USAGE);
        }
    };
    // A file in memory: nothing is left behind, however this ends.
    let file = rustix::fs::memfd_create("initramfs", rustix::fs::MemfdFlags::CLOEXEC)
        .context("no memory for the initramfs")?;
    let mut file = std::fs::File::from(file);
    file.write_all(&initramfs).context("no memory for the initramfs")?;
    config.initrd = Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into());
    config.kernel = Some(KernelSource::File(path));
    let quiet = if verbose > 0 { "" } else { "quiet " };
    config.cmdline = format!("console=ttyS0 {quiet}panic=-1 rdinit=/init {}", config.cmdline).trim_end().into();

    let prepared = match Builder::from(config).capture_console().prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            let end = End::Failed(error);
            say!("{end}");
            return Ok(end.exit_code());
        }
    };
    let listener = prepared.sockets().listen(PORT).context("cannot listen for the guest")?;
    let mut command = arguments.setting.command(arguments.command);
    if let Some(first) = shares.first().filter(|_| arguments.setting.directory.is_none()) {
        command.directory = first.place.clone().into_bytes();
    }
    let (serving, served) = mpsc::channel::<()>();
    for (share, port) in shares.into_iter().zip(SHARE_PORTS..) {
        // Whatever ends it, the guest's programs get errors, and the machine goes on.
        prepared.sockets().answer(port, share.serve(serving.clone())).context("cannot listen for the guest")?;
    }
    drop(serving);
    let machine = prepared.start().context("cannot start the machine")?;
    let accepted = loop {
        match listener.accept_timeout(LOOK) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                show_console(&machine, verbose);
                if let Some(signal) = signalled(&signals)? {
                    machine.stop(End::by_signal(signal));
                }
            }
            other => break other,
        }
    };
    let Ok(connection) = accepted else {
        return Ok(never_came(machine));
    };
    let outcome = attach(&connection, &command, &signals)?;
    // The agent powers the machine off when its connection ends.
    drop(connection);
    match outcome {
        Outcome::Code(code) => {
            match machine.wait_timeout(POWER_OFF) {
                Ok(_) => {}
                Err(machine) => {
                    log::info!("the guest has not powered off within {POWER_OFF:?}");
                    machine.stop(End::Terminated);
                    machine.wait();
                }
            }
            // What they log comes before the end. One whose host hangs logs nothing.
            if log::log_enabled!(log::Level::Info) {
                let _ = served.recv_timeout(LAST_WORDS);
            }
            Ok(code)
        }
        Outcome::Lost => Ok(lost(machine)),
    }
}

/// Returns the signal that has come, if any.
fn signalled(signals: &EndSignals) -> anyhow::Result<Option<i32>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(signals, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(0);
    if ready == 0 { Ok(None) } else { signals.wait().map(Some).context("cannot listen for signals") }
}

/// With `--verbose`, prints what the kernel has printed since.
fn show_console(machine: &Machine, verbose: u8) {
    if let Some(console) = machine.console().filter(|_| verbose > 0) {
        let _ = io::stderr().write_all(Marked(&String::from_utf8_lossy(&console.take())).to_string().as_bytes());
    }
}

/// The machine has ended, and the agent in it has not called. Returns the exit code.
fn never_came(machine: Machine) -> u8 {
    let console = machine.console().cloned();
    let end = machine.wait();
    print_tail(console.as_ref());
    match end {
        End::Interrupted | End::Terminated | End::HungUp | End::Quit | End::TimedOut(_) => say!("{end}"),
        ref other => say!(
            "the kernel never reached the command: {other}; it needs VMBus, Hyper-V sockets (hv_sock) and an initramfs. \
             --verbose shows all that it prints"
        ),
    }
    failure_code(&end)
}

/// The guest has gone before its command ended. Returns the exit code.
fn lost(machine: Machine) -> u8 {
    let console = machine.console().cloned();
    match machine.wait_timeout(POWER_OFF) {
        Ok(end) => {
            print_tail(console.as_ref());
            say!("the guest has gone before the command ended: {end}");
            failure_code(&end)
        }
        Err(machine) => {
            machine.stop(End::Terminated);
            machine.wait();
            print_tail(console.as_ref());
            say!("the agent in the guest has gone before the command ended");
            code::FAILED
        }
    }
}

/// A guest that powers off without a status has failed.
fn failure_code(end: &End) -> u8 {
    match end.exit_code() {
        0 => code::FAILED,
        code => code,
    }
}

/// Prints the end of the kernel's messages.
fn print_tail(console: Option<&viridian::machine::Capture>) {
    let text = console.map(viridian::machine::Capture::take).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    let lines: Vec<_> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        say!("kernel: {}", Marked(line));
    }
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
