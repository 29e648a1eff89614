//! TERM ends a machine within a second, whatever its guest and its devices do.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{Killed, image, viridian, with_full_signal_queue};
use super::control::Host;
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within};

/// Time limit for the end of a machine, on a quiet host.
const PROMPTLY: Duration = Duration::from_secs(1);
/// Time limit for the guest to start flooding, on a quiet host.
const BEGIN: Duration = Duration::from_secs(60);
const EXIT_TERMINATED: i32 = 143;

/// A run of the program.
struct Running(Killed);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(Killed(command.spawn().unwrap()))
    }

    #[track_caller]
    fn expect_term_ends_it(mut self, what: &str) {
        let begin = Instant::now();
        kill_process(Pid::from_child(&self.0.0), Signal::TERM).unwrap();
        let ended = holds_within(PROMPTLY, || self.0.0.try_wait().unwrap().is_some());
        assert!(ended, "{what}: still there {:?} after TERM", begin.elapsed());
        assert_eq!(self.0.0.wait().unwrap().code(), Some(EXIT_TERMINATED), "{what}");
    }
}

/// Returns the command for the guest `flood`, without a console option.
fn flood(kind: &str, options: &str) -> Command {
    let mut command = viridian();
    command
        .arg("run")
        .arg("--kernel")
        .arg(image("flood"))
        .args(["--cmdline", &format!("flood={kind} blocks=0x7fffff00")]);
    command.args(["--memory", "64M"]).args(options.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits until the guest has written to the console file that it floods.
#[track_caller]
fn expect_begun(log: &Path, what: &str) {
    let begun = || fs::read_to_string(log).is_ok_and(|text| text.contains("flooding"));
    assert!(holds_within(BEGIN, begun), "{what}: {:?}", fs::read_to_string(log));
}

/// Expects that TERM ends a flood of this kind, with these options.
#[track_caller]
fn expect_flood_ends(kind: &str, options: &str) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let what = format!("flood={kind} {options}");
    let running = Running::start(flood(kind, options).args(["--console", &format!("file:{}", log.display())]));
    expect_begun(&log, &what);
    running.expect_term_ends_it(&what);
}

fn sparse(folder: &Path, size: u64) -> PathBuf {
    let path = folder.join("disk.raw");
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    path
}

#[test]
fn term_ends_a_guest_that_halts_or_spins_on_all_its_processors() {
    expect_flood_ends("nothing", "");
    expect_flood_ends("spin", "--cpus 4");
}

#[test]
fn term_ends_a_guest_that_spins_while_the_users_queue_of_signals_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command =
        with_full_signal_queue(flood("spin", "--cpus 4 --console").arg(format!("file:{}", log.display())));
    let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    expect_begun(&log, "a full queue of signals");
    running.expect_term_ends_it("a full queue of signals");
}

#[test]
fn term_ends_a_guest_that_floods_hypercalls_or_doorbells() {
    expect_flood_ends("calls", "--cpus 4");
    expect_flood_ends("doorbells", "--cpus 4 --disk memory:1M");
}

#[test]
fn term_ends_a_machine_during_a_flood_of_datagrams() {
    expect_flood_ends("network", "--net user");
}

#[test]
fn term_ends_a_guest_whose_ring_is_never_empty() {
    expect_flood_ends("ring", "--cpus 2 --disk memory:1M");
}

#[test]
fn term_ends_a_machine_during_commands_over_a_whole_disk_in_memory() {
    for kind in ["verify", "compare", "unmap", "map", "prefetch", "flush"] {
        expect_flood_ends(kind, "--disk memory:1T");
    }
    expect_flood_ends("pattern", "--disk memory:64M");
}

#[test]
fn term_ends_a_machine_during_commands_over_a_whole_disk_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let disk = sparse(folder.path(), 1 << 40);
    for kind in ["verify", "compare", "unmap", "fill", "map", "prefetch", "flush", "durable", "pattern"] {
        expect_flood_ends(kind, &format!("--disk {},format=raw", disk.display()));
    }
}

#[test]
fn term_ends_a_guest_whose_drivers_violate_the_protocols_of_services() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = viridian();
    command.arg("run").arg("--kernel").arg(image("services"));
    command.args(["--console", &format!("file:{}", log.display())]).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running::start(&mut command);
    let begun = || fs::read_to_string(&log).is_ok_and(|text| text.contains("the service works again"));
    assert!(holds_within(BEGIN, begun), "{:?}", fs::read_to_string(&log));
    running.expect_term_ends_it("services");
}

/// Expects that TERM ends a guest that fills its disk `small/disk`, which `make` creates on a file system of one megabyte.
#[track_caller]
fn expect_full_host_ends(make: &str, format: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mount, log) = (folder.path().join("small"), folder.path().join("log"));
    fs::create_dir(&mount).unwrap();
    let mut inner = flood("fill", "");
    inner.args(["--disk", &format!("{},format={format}", mount.join("disk").display())]);
    inner.args(["--console", &format!("file:{}", log.display())]);
    let script = format!("mount -t tmpfs -o size=1M none {0} && {make} {0}/disk 1G && exec \"$@\"", mount.display());
    let running = Running::start(&mut in_own_mounts(&script, &inner));
    expect_begun(&log, make);
    running.expect_term_ends_it(make);
}

/// Returns the command after a script, in a mount namespace of its own: see [`Need::Namespaces`].
fn in_own_mounts(script: &str, inner: &Command) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("mount --make-rprivate / && {script}");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn term_ends_a_machine_during_writes_to_a_full_host_disk() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    expect_full_host_ends("f() { truncate -s $2 $1; }; f", "raw");
    if ready(&[Need::Tool("qemu-img")]) {
        expect_full_host_ends("qemu-img create -q -f qcow2", "qcow2");
    }
}

/// Creates a named pipe.
fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Opens a reader, which reads only on request.
fn reader(fifo: &Path) -> fs::File {
    rustix::fs::open(fifo, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap().into()
}

/// Reads this number of bytes from a pipe, and leaves the rest unread.
#[track_caller]
fn expect_bytes(reader: &mut fs::File, count: usize, what: &str) {
    let mut seen = 0;
    let come = || {
        let mut some = vec![0; count - seen];
        seen += reader.read(&mut some).unwrap_or(0);
        seen == count
    };
    assert!(holds_within(BEGIN, come), "{what}: too little comes");
}

#[test]
fn term_ends_a_machine_whose_trace_capture_or_report_is_not_read() {
    for (kind, option) in [
        ("ring", "--cpus 2 --disk memory:1M --trace all="),
        ("network", "--net user --trace all="),
        ("network", "--net user,pcap="),
        ("nothing", "--report "),
    ] {
        for stays in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (path, log) = (fifo(folder.path()), folder.path().join("log"));
            let what = format!("flood={kind} {option}FIFO, whose reader {}", if stays { "stalls" } else { "goes" });
            let mut reader = reader(&path);
            let options = format!("{option}{} --console file:{}", path.display(), log.display());
            let running = Running::start(&mut flood(kind, &options));
            expect_begun(&log, &what);
            expect_bytes(&mut reader, 64, &what);
            let reader = stays.then_some(reader);
            running.expect_term_ends_it(&what);
            drop(reader);
        }
    }
}

#[test]
fn term_ends_a_machine_whose_console_in_a_pipe_is_not_read() {
    for stays in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let what = if stays { "a console whose reader stalls" } else { "a console whose reader goes" };
        let mut reader = reader(&path);
        let running = Running::start(&mut flood("console", &format!("--console file:{}", path.display())));
        expect_bytes(&mut reader, 64, what);
        let reader = stays.then_some(reader);
        running.expect_term_ends_it(what);
        drop(reader);
    }
}

#[test]
fn term_ends_a_machine_during_look_ups_that_are_not_answered() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (servers, log) = (folder.path().join("servers"), folder.path().join("log"));
    // A loopback address that nobody else uses.
    let server = UdpSocket::bind(("127.83.41.7", 53)).expect("port 53 of an address of the loopback");
    fs::write(&servers, "nameserver 127.83.41.7\n").unwrap();
    let inner = flood("lookups", &format!("--net user --console file:{}", log.display()));
    let script = format!("mount --bind {} \"$(readlink -f /etc/resolv.conf)\" && exec \"$@\"", servers.display());
    let running = Running::start(&mut in_own_mounts(&script, &inner));
    expect_begun(&log, "look-ups");
    server.set_read_timeout(Some(grown(BEGIN))).unwrap();
    server.recv_from(&mut [0; 512]).expect("a look-up");
    running.expect_term_ends_it("look-ups");
}

#[test]
fn term_ends_a_machine_with_streams_to_a_host_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The host buffers little of the guest's data.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let options = format!("--net user --console file:{}", log.display());
    let running = Running::start(&mut flood(&format!("streams port={port}"), &options));
    expect_begun(&log, "streams");
    let (peer, _) = listener.accept().unwrap();
    running.expect_term_ends_it("streams");
    drop(peer);
}

#[test]
fn term_ends_a_machine_whose_standard_output_is_not_read() {
    let mut running = Running::start(flood("console", "").stdout(Stdio::piped()));
    let mut output = running.0.0.stdout.take().unwrap();
    let mut first = [0; 64];
    output.read_exact(&mut first).unwrap();
    running.expect_term_ends_it("standard output that nobody reads");
}

#[test]
fn term_ends_a_machine_whose_console_client_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let running = Running::start(flood("console", "").args(["--console", &format!("unix:{}", path.display())]));
    let mut client = None;
    assert!(holds_within(BEGIN, || {
        client = UnixStream::connect(&path).ok();
        client.is_some()
    }));
    let mut first = [0; 64];
    client.as_mut().unwrap().read_exact(&mut first).unwrap();
    running.expect_term_ends_it("a client that does not read");
}

#[test]
fn term_ends_a_console_command_whose_output_is_not_read() {
    let mut host = Host::new();
    host.start("exits", &["--name", "web", "--cmdline", "spew=1000000000"]);
    host.until("web", |tree| tree["state"] == "running");
    let mut command = host.command(&["console", "web"]);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let output = running.0.0.stdout.take().unwrap();
    // A pipe takes 64 KiB, in whole pages.
    let is_full = || rustix::io::ioctl_fionread(&output).is_ok_and(|waiting| waiting > 60_000);
    assert!(holds_within(BEGIN, is_full), "the pipe does not fill");
    running.expect_term_ends_it("a console whose output nobody reads");
}

#[test]
fn term_ends_a_machine_with_a_forward_whose_guest_does_not_answer() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let console = format!("file:{}", log.display());
    let options = format!("--net user,fwd=tcp:{port}:80 --console {console}");
    let running = Running::start(&mut flood("nothing", &options));
    expect_begun(&log, "a forward");
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_nonblocking(true).unwrap();
    while client.write(&[0; 65536]).is_ok() {}
    running.expect_term_ends_it("a forward whose guest does not answer");
}

#[test]
fn term_ends_a_machine_that_restarts_repeatedly() {
    let mut command = viridian();
    command.arg("run").arg("--kernel").arg(image("exits")).args(["--cmdline", "reset=acpi", "--on-reset", "restart"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).arg("-v");
    let mut running = Running::start(&mut command);
    let mut errors = running.0.0.stderr.take().unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains("starts again") {
        errors.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    running.expect_term_ends_it("a machine that starts again and again");
}

#[test]
fn term_ends_a_machine_that_is_still_starting() {
    for delay in [0, 1, 2, 5, 10, 20, 50, 100] {
        let mut running = Running::start(&mut flood("spin", "--cpus 4 --disk memory:1T --net user"));
        std::thread::sleep(Duration::from_millis(delay));
        kill_process(Pid::from_child(&running.0.0), Signal::TERM).unwrap();
        let ended = holds_within(PROMPTLY, || running.0.0.try_wait().unwrap().is_some());
        assert!(ended, "still there, {delay} ms old, a while after TERM");
        let status = running.0.0.wait().unwrap();
        // Before the program handles signals, TERM has its default effect.
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::TERM.as_raw());
        assert!(by_signal || status.code() == Some(EXIT_TERMINATED), "{delay} ms: {status}");
    }
}
