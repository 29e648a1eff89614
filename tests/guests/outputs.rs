//! Outputs other than the console: traces, captures, the report, and standard error. None of them blocks a guest or its end.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{Run, image, viridian};

/// A guest that sends and traces some megabytes, and powers off.
const BUSY: [&str; 6] =
    ["run", "--kernel", "embedded:peer", "--net", "user", "--cmdline=address=10.0.2.15 to=10.0.2.2 pings=300"];

struct Fifo {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fifo {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self { _folder: folder, path }
    }

    /// A reader that never reads.
    fn stalled_reader(&self) -> File {
        rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap().into()
    }
}

fn run(arguments: &[&str], more: &[String]) -> Run {
    viridian().args(arguments).args(more).output().unwrap().into()
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_and_not_a_wait() {
    let fifo = Fifo::new();
    let path = fifo.path.display();
    for option in [
        format!("--trace=vmbus={path}"),
        format!("--net=user,pcap={path}"),
        format!("--report={path}"),
        format!("--console=file:{path}"),
    ] {
        let run = run(&["run"], std::slice::from_ref(&option));
        assert_eq!(run.code, Some(2), "{option}: {run:?}");
        assert!(run.errors.contains("start its reader first"), "{option}: {run:?}");
    }
}

#[test]
fn a_stalled_reader_of_a_trace_neither_stops_the_guest_nor_blocks_the_end() {
    let fifo = Fifo::new();
    let path = fifo.path.display();
    for option in [format!("--trace=all={path}"), format!("--net=user,pcap={path}")] {
        let _reader = fifo.stalled_reader();
        let run = run(&BUSY, std::slice::from_ref(&option));
        assert_eq!(run.code, Some(0), "{option}: {run:?}");
        assert!(run.output.contains("300 answered"), "{option}: {run:?}");
        assert!(run.errors.ends_with("viridian: the guest powered off\n"), "{option}: {run:?}");
    }
}

#[test]
fn an_unread_standard_error_neither_stops_the_guest_nor_blocks_the_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child =
        viridian().args(BUSY).args(["--trace", "all"]).stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{output}");
    drop(reader);
}

#[test]
fn a_signal_ends_a_run_whichever_of_its_outputs_is_blocked() {
    for signal in [Signal::INT, Signal::TERM] {
        let (trace, capture, report, console) = (Fifo::new(), Fifo::new(), Fifo::new(), Fifo::new());
        let _readers = [&trace, &capture, &report, &console].map(Fifo::stalled_reader);
        let mut command = viridian();
        command.args(["run", "--cmdline", "spew=100000000", "--kernel"]).arg(image("exits"));
        command.arg(format!("--trace=all={}", trace.path.display()));
        command.arg(format!("--net=none,pcap={}", capture.path.display()));
        command.arg(format!("--report={}", report.path.display()));
        command.arg(format!("--console=file:{}", console.path.display()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // The guest prints, so it runs.
        while unread(&console.path) == 0 {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(128 + signal.as_raw()), "{run:?}");
    }
}

/// Returns the number of unread bytes in a pipe.
fn unread(path: &Path) -> u64 {
    let file: File = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap().into();
    rustix::io::ioctl_fionread(&file).unwrap()
}

#[test]
fn a_trace_of_all_kinds_can_be_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let run = run(&["run", "--trace-format", "json"], &[format!("--trace=all={}", path.display())]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["hypercall", "msr", "synic", "vmbus", "storage", "network"] {
        assert!(lines.iter().any(|line| line["kind"] == kind), "no {kind} in {} lines", lines.len());
    }
    assert!(
        lines.iter().all(|line| line["partition"] == "guest" && line["time"].is_f64() && line["event"].is_string())
    );
}

#[test]
fn a_report_has_the_start_and_the_end_of_each_machine_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report");
    let report = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let option = [format!("--report={}", path.display())];
    let exits = image("exits");
    let arguments = ["run", "-q", "--name", "one", "--cmdline", "exit=7", "--kernel", exits.to_str().unwrap()];
    let ended = run(&arguments, &option);
    assert_eq!((ended.code, ended.errors.as_str()), (Some(7), ""), "{ended:?}");
    let lines = report();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["started", "ended", "done"]);
    let end = &lines[1];
    assert_eq!(
        (&end["end"]["kind"], &end["end"]["value"], &end["partition"]),
        (&"exited".into(), &7.into(), &"one".into())
    );
    assert!(end["exits"]["port-writes"].as_u64().unwrap() > 0, "{end}");
    assert_eq!(lines[2]["code"], 7);

    let lab = format!("{}/examples/peers.toml", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(run(&["up", &lab], &option).code, Some(0));
    let lines = report();
    for event in ["started", "ended"] {
        let of_event = lines.iter().filter(|line| line["event"] == event);
        let mut names: Vec<_> = of_event.map(|line| line["partition"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["client", "server"]);
    }
    let missing = run(&["run", "--kernel", "/nowhere/vmlinuz"], &option);
    assert_eq!(missing.code, Some(2));
    let lines = report();
    assert_eq!((&lines[0]["event"], &lines[0]["end"]["kind"]), (&"ended".into(), &"failed".into()));
}

#[test]
fn each_v_prints_more_and_q_prints_nothing() {
    let told = |option: &str| run(&["run", option], &[]).errors;
    assert_eq!(told("-q"), "");
    let info = told("-v");
    assert!(info.contains("viridian: info: guest: embedded:vsc on the "), "{info}");
    assert!(info.contains("exits to this process: "), "{info}");
    let debug = told("-vv");
    assert!(debug.contains("viridian: debug: guest: ") && debug.len() > info.len(), "{debug}");
    assert!(told("-vvv").len() > debug.len());
}

#[test]
fn a_comma_in_a_path_is_doubled_where_commas_separate() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    File::create(at("a,b.img")).unwrap().set_len(1 << 20).unwrap();
    let options = [
        format!("--disk={},readonly=on", at("a,,b.img")),
        format!("--disk=path={},readonly=on,lun=3", at("a,,b.img")),
        format!("--net=user,pcap={}", at("c,,d.pcap")),
        // An option that is only a path: a comma does not separate.
        format!("--console=file:{}", at("e,f")),
        format!("--trace=vmbus,hypercall={}", at("g,h")),
        format!("--report={}", at("i,j")),
    ];
    let run = run(&BUSY[..3], &[&options[..], &[BUSY[5].to_owned()]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    for name in ["c,d.pcap", "e,f", "g,h", "i,j"] {
        assert!(std::fs::metadata(at(name)).is_ok_and(|file| file.len() > 0), "{name}: {run:?}");
    }
    let mistaken = super::command::run_with(["run", &format!("--disk={}", at("a,b.img"))]);
    assert_eq!(mistaken.code, Some(2), "{mistaken:?}");
    assert!(mistaken.errors.contains("`b.img` is not of the form key=value; a comma"), "{mistaken:?}");
    assert!(mistaken.errors.contains("is written twice"), "{mistaken:?}");
}
