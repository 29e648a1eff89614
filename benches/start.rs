//! The cost of a start on this host: time to the guest, the whole process, and memory beside the guest's own.
//!
//! The floor is `scripts/lib/vm-floor.c`, a bare C program that makes the same machine, runs one OUT in it and ends. The
//! samples alternate, so that what else the host does counts for all alike.
//!
//! Run it through `scripts/bench-start`.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

fn image(name: &str) -> String {
    format!("{}/{name}", env!("VIRIDIAN_GUEST_IMAGES"))
}

fn viridian(arguments: &[&str]) -> Command {
    run(env!("CARGO_BIN_EXE_viridian"), arguments)
}

fn run(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("run").args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Returns the time from the creation of the process to the first byte of the guest's output. The guest prints with its first
/// instructions, so its start is slightly earlier.
fn until_the_guest_speaks(program: &str, more: &[&str]) -> Duration {
    let kernel = format!("flat:{}@0x100000,mode=64", image("flat64"));
    let start = Instant::now();
    let mut child =
        run(program, &["--kernel", &kernel]).args(more).stdout(Stdio::piped()).spawn().expect("viridian starts");
    let mut output = child.stdout.take().expect("it is piped");
    output.read_exact(&mut [0]).expect("the guest prints");
    let time = start.elapsed();
    output.read_to_end(&mut Vec::new()).expect("the guest ends");
    assert_eq!(child.wait().expect("it is ours").code(), Some(64));
    time
}

/// A whole process of this program, for a guest that writes 0 to the exit port with its second instruction.
fn whole_process(program: &str, more: &[&str]) -> Duration {
    let kernel = format!("flat:{}@0x100000,mode=64", image("instant64"));
    let mut command = run(program, &["--kernel", &kernel]);
    command.args(more).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().expect("viridian starts");
    let time = start.elapsed();
    assert!(status.success(), "{status}");
    time
}

/// Returns the same time for the minimal C program.
fn floor(program: &Path) -> Duration {
    let start = Instant::now();
    let status = Command::new(program).status().expect("the floor starts");
    assert!(status.success(), "{status}");
    start.elapsed()
}

/// Returns the time of `true`, the minimum for any process on this host.
fn process_that_does_nothing() -> Duration {
    let start = Instant::now();
    assert!(Command::new("/bin/true").status().expect("it starts").success());
    start.elapsed()
}

/// Builds the floor.
fn build_floor() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-floor");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lib/vm-floor.c");
    let status = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).status().expect("there is a cc");
    assert!(status.success(), "the floor does not compile");
    program
}

/// CPU time of the ended children of this process, in seconds.
fn children_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("it is there");
    // The name, in parentheses, may contain blanks. Ticks are hundredths of a second.
    let fields = stat.rsplit_once(") ").expect("the name ends").1.split(' ');
    fields.skip(13).take(2).map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0).sum()
}

/// Resident KiB of a machine whose guest waits for input: beside the guest's own pages, and those.
fn resident(cpus: &str) -> (u64, u64) {
    // With a memfd, the guest's pages can be distinguished from the process's own.
    let memory = "--memory=256M,shared=on";
    let arguments = ["--kernel", &image("exits"), "--cmdline", "echo=interrupt", "--cpus", cpus, memory];
    let mut child = viridian(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("viridian starts");
    let mut output = child.stdout.take().expect("it is piped");
    output.read_exact(&mut [0]).expect("the guest prints");
    std::thread::sleep(Duration::from_millis(1500));
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

/// Resident KiB of the floor while it waits at the OUT, without the guest's pages.
fn resident_floor(program: &Path) -> u64 {
    let mut child = Command::new(program).arg("wait").stdout(Stdio::piped()).spawn().expect("the floor starts");
    let mut output = child.stdout.take().expect("it is piped");
    output.read_exact(&mut [0]).expect("the floor is ready");
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", child.id())).expect("the process is there");
    child.kill().and_then(|()| child.wait()).expect("it is ours");
    let mut sizes = Vec::new();
    for line in smaps.lines() {
        let value = |name| line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse::<u64>().ok();
        if let Some(size) = value("Size:") {
            sizes.push((size, 0));
        } else if let (Some(resident), Some(last)) = (value("Rss:"), sizes.last_mut()) {
            last.1 = resident;
        }
    }
    // The guest's memory is the only mapping of that size.
    sizes.iter().filter(|(size, _)| *size < 128 << 10).map(|(_, resident)| resident).sum()
}

/// The name of a measurement, and its samples.
struct Subject<'a> {
    name: &'a str,
    measure: Box<dyn Fn() -> Duration + 'a>,
    times: Vec<f64>,
    processor_time: f64,
}

impl<'a> Subject<'a> {
    fn new(name: &'a str, measure: impl Fn() -> Duration + 'a) -> Self {
        Self { name, measure: Box::new(measure), times: Vec::new(), processor_time: 0.0 }
    }

    fn sample(&mut self) {
        let before = children_time();
        self.times.push((self.measure)().as_secs_f64() * 1e3);
        self.processor_time += children_time() - before;
    }

    /// Returns the median of the times and the mean of the CPU times, in milliseconds.
    fn typical(&mut self) -> (f64, f64) {
        self.times.sort_by(f64::total_cmp);
        (self.times[ROUNDS / 2], self.processor_time * 1e3 / ROUNDS as f64)
    }

    /// Prints the measurements, also as multiples of those of `floor`.
    fn report(&mut self, floor: (f64, f64)) {
        let ((median, cpu), name) = (self.typical(), self.name);
        let (best, late) = (self.times[0], self.times[ROUNDS * 95 / 100]);
        let (times, cpu_times) = (median / floor.0, cpu / floor.1);
        println!(
            "{name:45} median {median:6.2} ms ({times:5.2})   best {best:6.2}   95 % within {late:6.2}   \
             CPU {cpu:5.2} ms ({cpu_times:5.2})"
        );
    }
}

/// Returns the median of the quotients of two subjects' samples, which were taken one after the other.
fn ratio(one: &[f64], other: &[f64]) -> f64 {
    let mut ratios: Vec<_> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn main() {
    let program = build_floor();
    let viridian = env!("CARGO_BIN_EXE_viridian");
    // Another program to compare with. Cargo adds --bench.
    let other = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut subjects = [
        Subject::new("floor: a C program with the same machine", || floor(&program)),
        Subject::new("whole process, guest that exits at once", || whole_process(viridian, &[])),
        Subject::new("the same, without a control socket", || whole_process(viridian, &["--control", "off"])),
        Subject::new("process start to the guest's first byte", || until_the_guest_speaks(viridian, &[])),
        Subject::new("the same, without a control socket", || until_the_guest_speaks(viridian, &["--control", "off"])),
        Subject::new("(a process that does nothing)", process_that_does_nothing),
    ]
    .into_iter()
    .chain(other.iter().flat_map(|other| {
        [
            Subject::new("whole process of the other program", || whole_process(other, &[])),
            Subject::new("first byte of the other program's guest", || until_the_guest_speaks(other, &[])),
        ]
    }))
    .collect::<Vec<_>>();
    for _ in 0..10 {
        for subject in &subjects {
            (subject.measure)();
        }
    }
    // The kernel still takes down the last subject's machine while the next one starts, so each follows each as often.
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    let mut random = 1_u32;
    for _ in 0..ROUNDS {
        for last in (1..order.len()).rev() {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            order.swap(last, (random >> 16) as usize % (last + 1));
        }
        order.iter().for_each(|subject| subjects[*subject].sample());
    }
    let with_socket = ratio(&subjects[1].times, &subjects[2].times);
    let speaks_with_socket = ratio(&subjects[3].times, &subjects[4].times);
    let to_other = subjects.get(6).map(|other| ratio(&subjects[1].times, &other.times));
    let speaks_to_other = subjects.get(7).map(|other| ratio(&subjects[3].times, &other.times));
    println!("{ROUNDS} samples of each; in parentheses, multiples of the floor's");
    let floor = subjects[0].typical();
    subjects.iter_mut().for_each(|subject| subject.report(floor));
    println!("whole process: {with_socket:.3} times that without a control socket (median of the pairs)");
    println!("to the first byte: {speaks_with_socket:.3} times that without a control socket (median of the pairs)");
    if let Some(to_other) = to_other {
        println!("whole process: {to_other:.3} times that of the other program (median of the pairs)");
    }
    if let Some(to_other) = speaks_to_other {
        println!("to the first byte: {to_other:.3} times that of the other program (median of the pairs)");
    }
    println!("resident, floor {:38} {:6} KiB", "", resident_floor(&program));
    for cpus in ["1", "8"] {
        let (ours, guests) = resident(cpus);
        println!("resident beside the guest's pages, {cpus} VP{:18} {ours:6} KiB   (guest {guests} KiB)", "");
    }
}
