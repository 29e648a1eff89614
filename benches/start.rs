//! The cost of a start on this host: time to the guest, the whole process, and memory beside the guest's own.
//!
//! Run it through `scripts/bench-start`.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

fn image(name: &str) -> String {
    format!("{}/{name}", env!("VIRIDIAN_GUEST_IMAGES"))
}

fn viridian(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viridian"));
    command.arg("run").args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// From before the process is made until the guest's first byte is in this process's hands. The guest prints with its
/// first instructions: it is upon the first of them that the clock should stop, so the truth is a little better.
fn until_the_guest_speaks() -> Duration {
    let kernel = format!("flat:{}@0x100000,mode=64", image("flat64"));
    let start = Instant::now();
    let mut child = viridian(&["--kernel", &kernel]).stdout(Stdio::piped()).spawn().expect("viridian starts");
    let mut output = child.stdout.take().expect("it is piped");
    output.read_exact(&mut [0]).expect("the guest prints");
    let time = start.elapsed();
    output.read_to_end(&mut Vec::new()).expect("the guest ends");
    assert_eq!(child.wait().expect("it is ours").code(), Some(64));
    time
}

/// A whole process, for a guest that writes 0 to the exit port with its second instruction.
fn whole_process() -> Duration {
    let kernel = format!("flat:{}@0x100000,mode=64", image("instant64"));
    let start = Instant::now();
    let status = viridian(&["--kernel", &kernel]).stdout(Stdio::null()).status().expect("viridian starts");
    let time = start.elapsed();
    assert!(status.success(), "{status}");
    time
}

/// The same for `true`: what any process costs here.
fn process_that_does_nothing() -> Duration {
    let start = Instant::now();
    assert!(Command::new("/bin/true").status().expect("it starts").success());
    start.elapsed()
}

/// Resident KiB of a machine whose guest waits for input: beside the guest's own pages, and those.
fn resident(cpus: &str) -> (u64, u64) {
    // As a memfd the guest's pages can be told from ours.
    let memory = "--memory=256M,shared=on";
    let arguments = ["--kernel", &image("exits"), "--cmdline", "echo=interrupt", "--cpus", cpus, memory];
    let mut child = viridian(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("viridian starts");
    let mut output = child.stdout.take().expect("it is piped");
    output.read_exact(&mut [0]).expect("the guest prints");
    std::thread::sleep(Duration::from_millis(200));
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", child.id())).expect("the process is there");
    child.stdin.take().expect("it is piped").write_all(b"quit\n").expect("the guest listens");
    output.read_to_end(&mut Vec::new()).expect("the guest ends");
    assert!(child.wait().expect("it is ours").success());

    let (mut ours, mut guests, mut is_guests) = (0, 0, false);
    for line in smaps.lines() {
        if line.split(' ').next().is_some_and(|first| first.contains('-')) {
            is_guests = line.contains("memfd:guest-memory");
        } else if let Some(size) = line.strip_prefix("Rss:") {
            let size: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
            *(if is_guests { &mut guests } else { &mut ours }) += size;
        }
    }
    (ours, guests)
}

fn report(what: &str, mut measure: impl FnMut() -> Duration) {
    for _ in 0..10 {
        measure();
    }
    let mut times: Vec<_> = (0..ROUNDS).map(|_| measure().as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let (median, late) = (times[ROUNDS / 2], times[ROUNDS * 95 / 100]);
    println!("{what:55} median {median:6.2} ms   95 % within {late:6.2} ms   best {:6.2} ms", times[0]);
}

fn main() {
    report("process start to the guest's first byte", until_the_guest_speaks);
    report("whole process, guest that exits at once", whole_process);
    report("(a process that does nothing, for comparison)", process_that_does_nothing);
    for cpus in ["1", "8"] {
        let (ours, guests) = resident(cpus);
        println!("resident beside the guest's pages, {cpus} VP{:18} {ours:6} KiB   (guest {guests} KiB)", "");
    }
}
