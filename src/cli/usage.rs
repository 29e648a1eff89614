//! Messages about an invalid command line: clap's messages, and for options of other programs, the corresponding
//! options here.

use std::ffi::OsString;
use std::io::ErrorKind as Io;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap::error::{ContextKind, ErrorKind};
use viridian::machine::code;

use super::{closed, say};

/// The counterpart of another program's option.
enum Here {
    /// An option whose value has the same meaning.
    Option(&'static str),
    /// An option whose value without a unit is in MiB there, and in bytes here.
    Memory,
    /// A disk: there, the file is one of several fields.
    Disk,
    /// Processors: there, their number can have a key, and the topology other fields.
    Cpus,
    /// A network: there, forwarded ports are written otherwise.
    Net,
    /// Another explanation.
    Words(&'static str),
}

/// Options of QEMU, Firecracker, Cloud Hypervisor and crosvm.
const FOREIGN: &[(&[&str], Here)] = &[
    (&["-m", "--mem", "--ram"], Here::Memory),
    (&["-smp", "--smp", "--vcpus", "-c"], Here::Cpus),
    (&["-kernel"], Here::Option("--kernel")),
    (&["-initrd", "--initramfs", "-i"], Here::Option("--initrd")),
    (&["-append", "--append", "--params", "-p"], Here::Option("--cmdline")),
    (&["-drive", "-hda", "-hdb", "-blockdev", "--drive", "--rwdisk", "--block", "--rwroot", "--root"], Here::Disk),
    (&["-cdrom", "--cdrom"], Here::Words("--disk FILE,media=dvd is a DVD in a drive")),
    (&["-net", "-nic", "-netdev", "--netdev", "--tap"], Here::Net),
    (&["-virtfs", "-fsdev"], Here::Words("viridian linux --share DIR shares a directory with the guest of a command")),
    (&["-boot"], Here::Words("there is no order of boot devices: --kernel FILE is booted directly")),
    (&["-rtc"], Here::Words("leave it out: the guest's clock is the host's, in UTC")),
    (&["-usb", "-usbdevice"], Here::Words("leave it out: --display on gives the guest a keyboard and a mouse")),
    (&["-mem-path", "-mem-prealloc"], Here::Words("write --memory SIZE,hugepages=on for huge pages")),
    (&["-object", "-smbios", "-uuid"], Here::Words("leave it out: there is no counterpart here")),
    (&["-device", "--device"], Here::Words("a guest has Hyper-V's devices: --disk and --net add some")),
    (
        &["-serial", "-monitor", "-chardev", "--serial"],
        Here::Words("--console stdio, none, file:PATH, pty or unix:PATH sets the destination of the serial console"),
    ),
    (
        &["-nographic", "-curses"],
        Here::Words("leave it out: the serial console is on this terminal unless --console says otherwise"),
    ),
    (
        &["-display", "-vga", "-vnc", "--vnc", "-spice", "-k", "--gpu"],
        Here::Words(
            "--display vnc=:0 is a screen for VNC viewers at 127.0.0.1:5900, --display on one for viridian screenshot; ,layout=de \
             names the layout of the guest's keyboard",
        ),
    ),
    (&["--balloon"], Here::Words("--memory startup=1G,min=512M,max=4G is memory that changes while the machine runs")),
    (&["-cpu", "--cpu"], Here::Words("the guest has the host's processor; --hv changes the offered Hyper-V features")),
    (
        &["-enable-kvm", "-accel", "-machine", "-M", "--accel", "--machine"],
        Here::Words("leave it out: every machine runs on KVM, and there is one kind of them"),
    ),
    (
        &["-no-reboot", "-no-shutdown", "--no-reboot"],
        Here::Words("leave it out: a reset ends the run unless --on-reset restart is given"),
    ),
    (&["-name", "--id"], Here::Option("--name")),
    (
        &["-bios", "--firmware", "--bios", "-pflash"],
        Here::Words("there is no firmware: --kernel FILE is booted directly"),
    ),
    (&["-d", "-D"], Here::Words("--trace KIND,...[=FILE] prints what the guest does; -vv prints what Viridian does")),
    (&["-s", "-S", "-gdb", "--gdb"], Here::Words("there is no gdb server yet; --trace all prints what the guest does")),
    (
        &["--api-socket", "--api-sock", "--api-path", "-qmp", "-mon", "--no-api"],
        Here::Words(
            "every machine has a control socket, which --control PATH names; viridian serve has an HTTP API for machines",
        ),
    ),
    (&["--config-file"], Here::Option("--config")),
    (&["--log-file", "--log-path"], Here::Words("messages go to standard error: 2>FILE writes them to a file")),
    (&["--level", "--log-level"], Here::Words("-v, -vv or -vvv print more, -q prints less")),
    (&["--seccomp", "--rng", "--no-seccomp", "-sandbox"], Here::Words("leave it out: there is no counterpart here")),
    (&["-daemonize", "-pidfile"], Here::Words("run it in the background with --console none or file:PATH, and &")),
];

/// A part of the error for an unknown command of a command.
const OF_ANOTHER: &str = " is no command of viridian ";

/// Prints the error, or the requested help, and returns the exit code.
///
/// # Errors
/// Returns an error if standard output is not writable.
pub fn explain(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> anyhow::Result<u8> {
    let arguments: Vec<_> = arguments.skip(1).collect();
    // QEMU's -hda starts like -h.
    let asks_help = !arguments.iter().any(|argument| argument == "-hda" || argument == "-hdb");
    if !error.use_stderr() && asks_help {
        closed::expect_open()?;
        return match error.print() {
            Err(error) if error.kind() == Io::BrokenPipe => Ok(0),
            other => other.map(|()| 0).context("standard output"),
        };
    }
    if error.kind() == ErrorKind::InvalidUtf8 {
        for (argument, number) in arguments.iter().zip(1..).filter(|(argument, _)| argument.to_str().is_none()) {
            say!(
                "argument {number}, {argument:?}, is not UTF-8; write it in UTF-8, and a file's name as a link that is"
            );
        }
        return Ok(code::USAGE);
    }
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let hints = hints(error, &arguments);
    if hints.is_empty() {
        // Standard error may be closed; then the message is lost.
        let _ = error.print();
        if let Some(example) = example(error) {
            say!("{example}");
        }
    } else {
        hints.iter().for_each(|hint| say!("{hint}"));
        if !hints.iter().any(|hint| hint.contains(OF_ANOTHER)) {
            say!("viridian run --help lists all options");
        }
    }
    Ok(code::USAGE)
}

/// Returns what to write instead, where that is known.
fn hints(error: &clap::Error, arguments: &[String]) -> Vec<String> {
    use ErrorKind::{DisplayHelp, InvalidSubcommand, TooManyValues, UnknownArgument};
    if !matches!(error.kind(), UnknownArgument | InvalidSubcommand | TooManyValues | DisplayHelp) {
        return Vec::new();
    }
    let kind = if error.kind() == InvalidSubcommand { ContextKind::InvalidSubcommand } else { ContextKind::InvalidArg };
    let wrong = error.get(kind).map(ToString::to_string).unwrap_or_default();
    let runs = arguments.iter().any(|argument| argument == "run");
    if !wrong.starts_with('-') && error.kind() != DisplayHelp {
        let hint = stray(&wrong, runs, error.kind() == InvalidSubcommand);
        // A command that is nearly right has clap's suggestion.
        let is_unknown = match error.kind() {
            InvalidSubcommand => error.get(ContextKind::SuggestedSubcommand).is_none(),
            // Those of some commands follow the name of a machine.
            UnknownArgument => parent(&wrong, arguments).is_subcommand_required_set(),
            _ => false,
        };
        return hint.or_else(|| is_unknown.then(|| no_command(&wrong, arguments))).into_iter().collect();
    }
    let mut hints: Vec<_> = (0..arguments.len()).filter_map(|index| translated(&arguments[index..])).collect();
    hints.dedup();
    hints
}

/// Returns the command that a word should be a command of.
fn parent(word: &str, arguments: &[String]) -> clap::Command {
    let before = arguments.iter().take_while(|argument| *argument != word);
    before.fold(<super::Arguments>::command(), |parent, argument| {
        parent.find_subcommand(argument).cloned().unwrap_or(parent)
    })
}

/// Returns an error for a word in the place of a command, or of a command's own command, with those that there are.
fn no_command(word: &str, arguments: &[String]) -> String {
    let parent = parent(word, arguments);
    let known: Vec<_> =
        parent.get_subcommands().filter(|known| !known.is_hide_set()).map(clap::Command::get_name).collect();
    let known = known.join(", ");
    match parent.get_name() == <super::Arguments>::command().get_name() {
        true => format!("{word} is no command; known are: {known}. To start a machine: viridian run --kernel FILE"),
        false => format!("{word}{OF_ANOTHER}{0}; known are: {known}", parent.get_name()),
    }
}

/// Returns an example of an option whose value is wrong, where its syntax is not obvious.
fn example(error: &clap::Error) -> Option<&'static str> {
    let is_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
    let option = error.get(ContextKind::InvalidArg).filter(|_| is_value)?.to_string();
    option
        .starts_with("--cpus ")
        .then_some("for example: --cpus 4, or --cpus 4,cores=2,threads=2; all of them run from the start")
}

/// Returns a hint for a word without an option, which may be a kernel or a settings file.
fn stray(word: &str, runs: bool, is_command: bool) -> Option<String> {
    let is_file = Path::new(word).is_file() || word.contains(['/', '.']);
    if !(runs || (is_command && is_file)) {
        return None;
    }
    Some(if word.ends_with(".toml") {
        format!("{word}: write viridian run --config {word}, or viridian up {word} if it describes several machines")
    } else {
        format!("{word}: run takes no file without an option; write viridian run --kernel {word} to boot it")
    })
}

/// Returns the counterpart of the first argument, if it is another program's option. The second argument may be its
/// value.
fn translated(arguments: &[String]) -> Option<String> {
    let (option, inline) = match arguments[0].split_once('=') {
        Some((option, value)) => (option, Some(value)),
        None => (&*arguments[0], None),
    };
    let (_, here) = FOREIGN.iter().find(|(names, _)| names.contains(&option))?;
    let next = arguments.get(1).map(String::as_str).filter(|next| !next.starts_with('-'));
    let value = inline.or(next);
    let ours = match here {
        Here::Option(ours) => format!("write {ours} {}", value.map_or("...".into(), quoted)),
        Here::Memory => {
            let size = value.unwrap_or("512M").trim_start_matches("size=").split(',').next().unwrap_or_default();
            let unit = if size.bytes().all(|byte| byte.is_ascii_digit()) { "M" } else { "" };
            format!("write --memory {size}{unit}")
        }
        Here::Disk => {
            let fields = value.unwrap_or_default().split(',');
            let file = fields.clone().find_map(|field| field.strip_prefix("file=").or(field.strip_prefix("path=")));
            let plain = fields.clone().find(|field| !field.is_empty() && !field.contains('='));
            format!("write --disk {}", quoted(file.or(plain).unwrap_or("FILE")))
        }
        Here::Cpus => format!("write --cpus {}", value.map_or("...".into(), |value| quoted(&cpus(value)))),
        Here::Net => net(value.unwrap_or_default()),
        Here::Words(words) => (*words).to_owned(),
    };
    Some(format!("{option} is not an option of this program: {ours}"))
}

/// Returns the value of `--cpus` for one of QEMU's `-smp` or Cloud Hypervisor's `--cpus`: `[cpus=]N`, with a topology.
fn cpus(value: &str) -> String {
    let field = |wanted: &str| value.split(',').find_map(|field| field.strip_prefix(wanted)?.strip_prefix('='));
    let plain = value.split(',').next().filter(|first| !first.contains('='));
    let topology: Vec<_> =
        ["sockets", "cores", "threads"].into_iter().filter_map(|key| Some((key, field(key)?))).collect();
    let product = || topology.iter().filter_map(|(_, number)| number.parse::<u32>().ok()).fold(1, u32::saturating_mul);
    let count = plain.or(field("cpus")).or(field("boot")).map_or_else(|| product().to_string(), str::to_owned);
    topology.iter().fold(count, |all, (key, number)| format!("{all},{key}={number}"))
}

/// Returns what to write for one of QEMU's networks. A forwarded port is `hostfwd=tcp:[ADDRESS]:PORT-[ADDRESS]:PORT` there.
fn net(value: &str) -> String {
    let (kind, fields) = value.split_once(',').unwrap_or((value, ""));
    let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
    match kind {
        "user" => {
            let forward = |value: &str| {
                let (host, guest) = value.split_once('-')?;
                let (protocol, address) = host.split_once(':')?;
                let port = guest.rsplit(':').next()?;
                Some(format!(",fwd={protocol}:{}:{port}", address.trim_start_matches(':')))
            };
            let forwards: String =
                fields.filter(|(key, _)| *key == "hostfwd").filter_map(|(_, value)| forward(value)).collect();
            format!("write --net {}", quoted(&format!("user{forwards}")))
        }
        "tap" => {
            let name = fields.find(|(key, _)| *key == "ifname").map_or("NAME", |(_, name)| name);
            format!("write --net {}", quoted(&format!("tap={name}")))
        }
        "none" => "write --net none".into(),
        _ => "--net user, --net tap=NAME or --net switch=NAME is a network adapter".into(),
    }
}

/// Quotes a value for a shell.
fn quoted(value: &str) -> String {
    let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:,=@+%".contains(&byte));
    if plain && !value.is_empty() { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(line: &str, ours: &str) {
        let arguments: Vec<_> = line.split('|').map(str::to_owned).collect();
        let translated = translated(&arguments).unwrap();
        assert!(translated.ends_with(ours), "{translated}");
    }

    #[test]
    fn the_error_for_an_option_of_another_program_names_ours() {
        expect("-m|512", "write --memory 512M");
        expect("-m|2G", "write --memory 2G");
        expect("-smp|4", "write --cpus 4");
        expect("-smp|cpus=4,cores=2", "write --cpus 4,cores=2");
        expect("-smp|4,maxcpus=8,sockets=1,cores=4,threads=1", "write --cpus 4,sockets=1,cores=4,threads=1");
        expect("-smp|cores=2,threads=2", "write --cpus 4,cores=2,threads=2");
        expect("-nic|user,hostfwd=tcp::8080-:80,model=virtio", "write --net user,fwd=tcp:8080:80");
        expect(
            "-netdev|user,id=a,hostfwd=udp:127.0.0.1:53-10.0.2.15:53,hostfwd=tcp::2222-:22",
            "write --net user,fwd=udp:127.0.0.1:53:53,fwd=tcp:2222:22",
        );
        expect("-netdev|tap,id=a,ifname=tap0", "write --net tap=tap0");
        expect("-nic|none", "write --net none");
        expect("--tap", "is a network adapter");
        expect("-virtfs|local,path=/a", "with the guest of a command");
        expect("-append|console=ttyS0 quiet", "write --cmdline 'console=ttyS0 quiet'");
        expect("-append|it's", r"write --cmdline 'it'\''s'");
        expect("-drive|file=a.img,format=raw,if=virtio", "write --disk a.img");
        expect("-hda|a.img", "write --disk a.img");
        expect("-drive", "write --disk FILE");
        expect("--config-file=vm.json", "write --config vm.json");
        expect("-kernel|-initrd", "write --kernel ...");
        for option in ["-display|gtk", "-vga|std", "-vnc|:0", "-k|de"] {
            assert!(
                translated(&option.split('|').map(str::to_owned).collect::<Vec<_>>())
                    .unwrap()
                    .contains("--display vnc=:0")
            );
        }
        expect("--balloon|size=1G", "memory that changes while the machine runs");
    }

    #[test]
    fn counterparts_of_processors_and_networks_can_be_given() {
        for line in ["-smp|cpus=4,cores=2", "-smp|cores=2,threads=2", "-nic|user,hostfwd=tcp:127.0.0.1:8080-:80"] {
            let arguments: Vec<_> = line.split('|').map(str::to_owned).collect();
            let translated = translated(&arguments).unwrap();
            let (_, options) = translated.split_once(": write ").unwrap();
            use clap::Parser;
            let parsed = <super::super::Arguments>::try_parse_from(format!("viridian run {options}").split(' '));
            assert!(parsed.is_ok(), "{options}");
        }
    }

    #[track_caller]
    fn refusal(line: &str) -> clap::Error {
        use clap::Parser;
        <super::super::Arguments>::try_parse_from(line.split(' ')).err().unwrap()
    }

    #[test]
    fn a_word_that_is_no_command_is_answered_with_the_commands() {
        let error = refusal("viridian xyzzy");
        let hints = hints(&error, &["xyzzy".into()]);
        assert_eq!(hints.len(), 1);
        assert!(hints[0].starts_with("xyzzy is no command; known are: run, up, check, hv"), "{hints:?}");
        for (line, known) in [
            ("viridian jobs print 7", "print is no command of viridian jobs; known are: list, show, wait, cancel"),
            ("viridian -v access grant x", "grant is no command of viridian access; known are: list, add, remove"),
            ("viridian disk web sell", "sell is no command of viridian disk; known are: list, attach,"),
        ] {
            let arguments: Vec<_> = line.split(' ').skip(1).map(str::to_owned).collect();
            let hints = super::hints(&refusal(line), &arguments);
            assert!(hints.len() == 1 && hints[0].starts_with(known), "{line}: {hints:?}");
        }
        let error = refusal("viridian chekc");
        assert!(super::hints(&error, &["chekc".into()]).is_empty(), "clap suggests the right one");
    }

    #[test]
    fn wrong_processors_are_answered_with_an_example() {
        let wrong = refusal("viridian run --kernel x --cpus boot=4");
        assert!(wrong.to_string().contains("unknown key `boot`; known are: count"), "{wrong}");
        assert!(example(&wrong).unwrap().contains("--cpus 4"));
        assert_eq!(example(&refusal("viridian run --kernel x --timeout soon")), None);
    }

    #[test]
    fn our_own_options_are_not_taken_for_those_of_other_programs() {
        let command = <super::super::Arguments>::command();
        for option in command.get_subcommands().flat_map(clap::Command::get_arguments) {
            let names = [
                option.get_long().map(|long| format!("--{long}")),
                option.get_short().map(|short| format!("-{short}")),
            ];
            for name in names.iter().flatten() {
                assert!(!FOREIGN.iter().any(|(foreign, _)| foreign.contains(&name.as_str())), "{name}");
            }
        }
    }
}
