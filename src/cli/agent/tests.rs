//! The agent itself, as a process on this host.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;

use viridian::process::EndSignals;

use super::copy::{CopyError, get, put};
use super::drive::{Streams, drive};
use super::frame::{Command, Status, Stream, ToAgent, What, WindowSize};
use super::session::{End, Session};

/// The agent, written to a file.
static FILE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("viridian-agent");
    fs::write(&path, super::PROGRAM).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, path)
});

/// Serializes the start of agents. A process that another thread forks while the file is written would keep it open for
/// writing, and then it could not be executed.
static START: Mutex<()> = Mutex::new(());

/// An agent that serves one connection.
struct Agent {
    connection: UnixStream,
    process: Child,
}

impl Agent {
    fn start() -> Self {
        let (connection, other) = UnixStream::pair().unwrap();
        let turn = START.lock().unwrap();
        // nohup and services start programs in this way.
        let mut agent = Process::new("env");
        agent.arg("--ignore-signal=HUP,USR1").arg(&FILE.1).args(["--fd", "0"]);
        let process = agent.stdin(Stdio::from(OwnedFd::from(other))).spawn().unwrap();
        drop(turn);
        Self { connection, process }
    }

    /// Closes this side, and waits until the agent has ended.
    fn ends(mut self) {
        drop(self.connection);
        self.process.wait().unwrap();
    }
}

fn command(arguments: &[&str]) -> Command {
    Command { arguments: arguments.iter().map(|word| word.as_bytes().to_vec()).collect(), ..Command::default() }
}

fn shell(script: &str) -> Command {
    command(&["/bin/sh", "-c", script])
}

/// Runs a command to its end, with `input` as its standard input.
fn run(command: &Command, input: &[u8]) -> (End, Vec<u8>, Vec<u8>) {
    let agent = Agent::start();
    let files = [(); 3].map(|()| tempfile::tempfile().unwrap());
    let [mut source, mut output, mut error] = files;
    source.write_all(input).unwrap();
    source.rewind().unwrap();
    let mut session = Session::new(command).unwrap();
    let streams = Streams {
        input: Some(source.as_fd()),
        terminal: None,
        output: Some(output.as_fd()),
        error: Some(error.as_fd()),
    };
    let end = drive(&mut session, &agent.connection, streams, &EndSignals::catch().unwrap(), None).unwrap();
    agent.ends();
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    (end, read(&mut output), read(&mut error))
}

/// Transfers the bytes of a session without input, until `until` returns `true`.
fn carry(session: &mut Session, mut connection: &UnixStream, mut until: impl FnMut(&mut Session) -> bool) {
    let mut buffer = [0; 4096];
    while !until(session) {
        connection.write_all(session.outgoing()).unwrap();
        session.sent(usize::MAX);
        match connection.read(&mut buffer).unwrap() {
            0 => session.hung_up(),
            length => session.received(&buffer[..length]).unwrap(),
        }
    }
    connection.write_all(session.outgoing()).unwrap();
    session.sent(usize::MAX);
}

fn has_printed(session: &Session, text: &str) -> bool {
    String::from_utf8_lossy(session.output(Stream::Output)).contains(text)
}

fn code(code: u8) -> End {
    End::Exited(Status::Code(code))
}

#[test]
fn a_commands_streams_and_exit_code_come_back() {
    let (end, output, error) = run(&shell("cat; echo err >&2; exit 7"), b"in");
    assert_eq!((end, &output[..], &error[..]), (code(7), &b"in"[..], &b"err\n"[..]));
}

#[test]
fn the_signal_that_kills_a_command_is_reported() {
    assert_eq!(run(&shell("kill -9 $$"), b"").0, End::Exited(Status::Signal(9)));
}

#[test]
fn a_command_starts_with_no_signal_ignored() {
    let (end, output, _) = run(&command(&["grep", "SigIgn", "/proc/self/status"]), b"");
    assert_eq!((end, &output[..]), (code(0), &b"SigIgn:\t0000000000000000\n"[..]));
}

#[test]
fn a_command_gets_its_arguments_environment_and_directory() {
    let mut command = shell("echo \"$1,$2,$V\"; pwd");
    command.arguments.extend([b"x".to_vec(), b"a b".to_vec(), b"".to_vec()]);
    command.environment = vec![b"V=value".to_vec()];
    command.directory = b"/usr".to_vec();
    assert_eq!(run(&command, b"").1, b"a b,,value\n/usr\n");
}

#[test]
fn a_command_that_cannot_run_says_why() {
    assert_eq!(run(&command(&["no-such-command"]), b"").0, End::Failed(What::Command, libc::ENOENT));
    assert_eq!(run(&command(&["/etc/passwd"]), b"").0, End::Failed(What::Command, libc::EACCES));
    let nowhere = Command { directory: b"/no/such".to_vec(), ..command(&["true"]) };
    assert_eq!(run(&nowhere, b"").0, End::Failed(What::Directory, libc::ENOENT));
}

#[test]
fn a_hundred_megabytes_go_out_and_come_back() {
    let (end, output, _) = run(&shell("head -c 100000000 /dev/zero"), b"");
    assert_eq!((end, output.len()), (code(0), 100_000_000));
    assert!(output.iter().all(|byte| *byte == 0));
    let input: Vec<u8> = (0..10_000_000u32).map(|number| (number / 7) as u8).collect();
    let (end, output, _) = run(&command(&["cat"]), &input);
    assert_eq!(end, code(0));
    assert!(output == input);
}

#[test]
fn the_end_of_the_input_reaches_the_command_and_does_not_end_its_output() {
    let (end, output, _) = run(&shell("cat >/dev/null; echo still writes"), b"");
    assert_eq!((end, &output[..]), (code(0), &b"still writes\n"[..]));
}

#[test]
fn a_command_that_does_not_read_its_input_can_end() {
    assert_eq!(run(&command(&["true"]), &vec![0; 5_000_000]).0, code(0));
}

#[test]
fn a_process_that_a_command_leaves_running_is_not_waited_for() {
    let (end, output, _) = run(&shell("sleep 1000 & echo $!"), b"");
    assert_eq!(end, code(0));
    let left = String::from_utf8(output).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(left).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
}

#[test]
fn a_signal_reaches_the_commands_process_group() {
    let agent = Agent::start();
    let mut session = Session::new(&shell("trap 'echo got it; exit 3' INT; echo ready; sleep 1000 & wait")).unwrap();
    carry(&mut session, &agent.connection, |session| has_printed(session, "ready"));
    session.signal(libc::SIGINT);
    carry(&mut session, &agent.connection, |session| session.end().is_some());
    assert!(has_printed(&session, "got it"));
    assert_eq!(session.end(), Some(&code(3)));
    agent.ends();
}

#[test]
fn a_command_on_a_terminal_sees_its_size_and_a_change_of_it() {
    let agent = Agent::start();
    let mut command = shell("stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done");
    command.terminal = Some(WindowSize { rows: 11, columns: 22 });
    let mut session = Session::new(&command).unwrap();
    carry(&mut session, &agent.connection, |session| has_printed(session, "ready"));
    assert!(has_printed(&session, "11 22"));
    session.resize(WindowSize { rows: 33, columns: 44 });
    carry(&mut session, &agent.connection, |session| session.end().is_some());
    assert!(has_printed(&session, "33 44"));
    assert_eq!(session.end(), Some(&code(0)));
    agent.ends();
}

#[test]
fn the_end_of_the_input_is_a_control_d_on_a_terminal() {
    let command = Command { terminal: Some(WindowSize::default()), ..shell("stty -echo; cat; echo over") };
    let (end, output, _) = run(&command, b"line\n");
    assert_eq!(end, code(0));
    assert!(String::from_utf8_lossy(&output).ends_with("over\r\n"));
}

#[test]
fn control_c_on_a_terminal_interrupts_the_command() {
    let agent = Agent::start();
    let command = Command { terminal: Some(WindowSize::default()), ..shell("echo ready; exec sleep 1000") };
    let mut session = Session::new(&command).unwrap();
    carry(&mut session, &agent.connection, |session| has_printed(session, "ready"));
    session.input(&[3]);
    carry(&mut session, &agent.connection, |session| session.end().is_some());
    assert_eq!(session.end(), Some(&End::Exited(Status::Signal(2))));
    agent.ends();
}

#[test]
fn the_processes_of_a_command_end_when_the_host_disconnects() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let agent = Agent::start();
    let mut command = shell("exec 3>\"$0\"; echo ready; sleep 1000");
    command.arguments.push(pipe.as_os_str().as_encoded_bytes().to_vec());
    let mut session = Session::new(&command).unwrap();
    let opened = thread::spawn(move || File::open(pipe).unwrap());
    carry(&mut session, &agent.connection, |session| has_printed(session, "ready"));
    agent.ends();
    // The pipe ends when all processes that had it open have ended.
    assert_eq!(opened.join().unwrap().read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_host_that_breaks_the_protocol_is_refused() {
    let long = [&[0xff, 0xff, 0xff, 0x7f, 4, 0, 0, 0][..]].concat();
    let mut hello = Vec::new();
    ToAgent::Hello.encode(&mut hello).unwrap();
    let mut early = hello.clone();
    ToAgent::Data(b"early").encode(&mut early).unwrap();
    let mut no_argument = hello.clone();
    ToAgent::Run(&Command::default()).encode(&mut no_argument).unwrap();
    // The number of arguments is two, but there is one.
    let mut lies = hello.clone();
    ToAgent::Run(&command(&["true"])).encode(&mut lies).unwrap();
    let place = hello.len() + 8 + 8;
    lies[place] = 2;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &long, &early, &no_argument, &lies] {
        let mut agent = Agent::start();
        agent.connection.write_all(bytes).unwrap();
        // The agent closes the connection, and may send something before.
        let _ = agent.connection.read_to_end(&mut Vec::new());
        assert!(!agent.process.wait().unwrap().success(), "{bytes:?}");
    }
}

#[test]
fn files_are_copied_both_ways_with_their_modes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let content: Vec<u8> = (0..3_000_000u32).map(|number| (number / 11) as u8).collect();
    let agent = Agent::start();
    assert_eq!(put(&agent.connection, &content[..], name(&path), 0o750, false).unwrap(), 3_000_000);
    agent.ends();
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o750);
    let agent = Agent::start();
    let mut found = (0, 0);
    let (copy, size) = get(&agent.connection, name(&path), |mode, size| {
        found = (mode, size);
        Ok(Vec::new())
    })
    .unwrap();
    agent.ends();
    assert!(copy == content);
    assert_eq!((found, size), ((0o750, 3_000_000), 3_000_000));
}

fn name(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

#[test]
fn an_existing_file_is_replaced_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "old").unwrap();
    let refused = put(&Agent::start().connection, &b"new"[..], name(&path), 0o644, false);
    assert!(matches!(refused, Err(CopyError::Guest(libc::EEXIST))), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    put(&Agent::start().connection, &b"new"[..], name(&path), 0o644, true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn only_regular_files_are_copied() {
    let folder = tempfile::tempdir().unwrap();
    let read = |path: &Path| get(&Agent::start().connection, name(path), |_, _| Ok(Vec::new()));
    assert!(matches!(read(folder.path()), Err(CopyError::Guest(libc::EISDIR))));
    assert!(matches!(read(Path::new("/dev/zero")), Err(CopyError::Guest(libc::EINVAL))));
    assert!(matches!(read(&folder.path().join("no")), Err(CopyError::Guest(libc::ENOENT))));
    let written = put(&Agent::start().connection, &b""[..], name(folder.path()), 0o644, true);
    assert!(matches!(written, Err(CopyError::Guest(libc::EISDIR))), "{written:?}");
}

#[test]
fn an_interrupted_copy_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start();
    let mut bytes = Vec::new();
    ToAgent::Hello.encode(&mut bytes).unwrap();
    let path = folder.path().join("file");
    ToAgent::Put { path: name(&path), mode: 0o644, replace: false }.encode(&mut bytes).unwrap();
    ToAgent::Data(b"half").encode(&mut bytes).unwrap();
    agent.connection.write_all(&bytes).unwrap();
    // After hello and started, the file is being written.
    agent.connection.read_exact(&mut [0; 16 + 12]).unwrap();
    agent.ends();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
