//! The console on the command line, with any kind of standard input and output.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::command::{Run, image, limit, run_with, viridian};
use crate::common::patience::{grown, holds_within};

/// Returns the output of `spew=SIZE`: lines of 64 bytes that begin with their own offset.
fn pattern(size: usize) -> String {
    let line = |at: usize| format!("{at:016x} abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST\n");
    (0..size / 64).map(|index| line(index * 64)).collect()
}

fn exits(command_line: &str, options: &[&str]) -> std::process::Command {
    let mut command = viridian();
    command.args(["run", "--kernel", image("exits").to_str().unwrap(), "--cmdline", command_line]).args(options);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(child: Child) -> Run {
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_slow_reader_slows_the_guest_and_loses_nothing() {
    const SIZE: usize = 256 << 10;
    let mut child = exits(&format!("spew={SIZE}"), &[]).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (mut seen, mut chunk) = (Vec::new(), [0; 5000]);
    loop {
        let count = output.read(&mut chunk).unwrap();
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&chunk[..count]);
        std::thread::yield_now();
        if seen.len() < 50_000 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(finish(child).code, Some(0));
    assert!(seen == pattern(SIZE).as_bytes(), "{} of {SIZE} bytes", seen.len());
}

#[test]
fn ctrl_c_ends_a_run_whose_output_is_not_read() {
    let mut child = exits("spew=100000000", &[]).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0]).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let start = Instant::now();
    let run = finish(child);
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(start.elapsed() < grown(Duration::from_secs(2)));
}

#[test]
fn a_guest_receives_piped_input_by_polling_and_by_interrupt() {
    for how in ["echo", "echo=interrupt"] {
        let mut child = exits(how, &["--timeout", &limit(30)]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let text = "all work and no play\n".repeat(500) + "quit\n";
        input.write_all(text.as_bytes()).unwrap();
        let run = finish(child);
        assert_eq!(run.code, Some(0), "{how}: {}", run.errors);
        assert!(run.output.replace('\r', "").contains(&text), "{how}: {}", run.output);
    }
}

#[test]
fn the_end_of_standard_input_does_not_end_the_run() {
    let run = run_with(["run", "--kernel", image("exits").to_str().unwrap(), "--cmdline", "halt", "--timeout", "0.3"]);
    assert_eq!(run.code, Some(124), "{run:?}");
}

#[test]
fn standard_input_may_be_closed() {
    let program = env!("CARGO_BIN_EXE_viridian");
    let output = std::process::Command::new("sh").args(["-c", &format!("{program} run <&-")]).output().unwrap();
    let run = Run::from(output);
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn a_console_in_a_file_prints_nothing_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let run = finish(exits("spew=65536", &["--console", &format!("file:{}", path.display())]).spawn().unwrap());
    assert_eq!((run.code, run.output.as_str()), (Some(0), ""), "{run:?}");
    assert!(std::fs::read_to_string(path).unwrap() == pattern(65536));
}

#[test]
fn a_console_at_a_unix_socket_serves_clients_and_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console");
    let child =
        exits("echo", &["--timeout", &limit(30), "--console", &format!("unix:{}", path.display())]).spawn().unwrap();
    let mut client = Err(std::io::ErrorKind::NotFound.into());
    holds_within(Duration::from_secs(10), || {
        client = std::os::unix::net::UnixStream::connect(&path);
        client.is_ok()
    });
    let mut client = client.unwrap();
    client.write_all(b"hello\nquit\n").unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert!(heard.contains("hello") && heard.contains("quitting"), "{heard}");
    assert_eq!(finish(child).code, Some(0));
    assert!(!path.exists());
}

#[test]
fn the_console_none_prints_nothing() {
    let run = finish(exits("spew=6400", &["--console", "none"]).spawn().unwrap());
    assert_eq!((run.code, run.output.as_str()), (Some(0), ""), "{run:?}");
}
