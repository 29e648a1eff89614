//! Measures the cost of a start on this host by the number of VPs, disks, adapters and machines.
//!
//! Each sample is a process of its own: its guests print a line and wait. The costs are the time until the last guest has
//! printed, the CPU time until then, the resident memory beside the guests' own, and the threads. The slope between two
//! counts is the cost of one unit more; where it is well above the slope before, the cost bends.
//!
//! Run it through `scripts/bench-scale`.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const SAMPLES: usize = 5;
/// A slope that is this many times the first one is a bend.
const BEND: f64 = 1.5;
/// With a memfd, the guests' pages can be distinguished from the process's own.
const MEMORY: &str = "16M,shared=on";

/// The costs of one process.
#[derive(Clone, Copy, Default)]
struct Cost {
    milliseconds: f64,
    cpu_milliseconds: f64,
    kibibytes: f64,
    threads: f64,
}

impl Cost {
    const NAMES: [&str; 4] = ["ms", "CPU ms", "KiB", "threads"];

    fn values(self) -> [f64; 4] {
        [self.milliseconds, self.cpu_milliseconds, self.kibibytes, self.threads]
    }
}

fn image() -> String {
    format!("{}/exits", env!("VIRIDIAN_GUEST_IMAGES"))
}

/// Returns the command that runs one machine with these options.
fn machine(options: Vec<String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viridian"));
    command.args(["run", "--kernel", &image(), "--cmdline", "echo=interrupt", "--memory", MEMORY]).args(options);
    command
}

fn vps(count: usize) -> Command {
    machine(vec![format!("--cpus={count}")])
}

fn disks(count: usize) -> Command {
    machine(vec!["--disk=memory:1M".to_owned(); count])
}

fn adapters(count: usize) -> Command {
    machine(vec!["--net=none".to_owned(); count])
}

fn machines(count: usize) -> Command {
    let partition = |index: usize| {
        let kernel = image();
        format!(
            "[[partition]]\nname = \"m{index}\"\nkernel = \"{kernel}\"\ncmdline = \"echo=interrupt\"\nmemory = \"{MEMORY}\"\n"
        )
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("scale-{count}.toml"));
    fs::write(&file, (0..count).map(partition).collect::<String>()).expect("the directory is there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_viridian"));
    command.arg("up").arg(file);
    command
}

/// Starts `command`, waits until `guests` guests have printed, and returns what that cost.
fn sample(mut command: Command, guests: usize) -> Cost {
    let start = Instant::now();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = piped.spawn().expect("viridian starts");
    // It stays open until the end: a closed output would change the run.
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    // A guest that waits in the middle of a line has the rest of it on the next one.
    let (mut texts, mut ready) = (HashMap::<String, String>::new(), 0);
    for line in output.by_ref().lines().map_while(Result::ok) {
        let (name, text) = line.split_once(": ").unwrap_or(("", &line));
        let printed = texts.entry(name.to_owned()).or_default();
        let was_ready = printed.contains("echoing");
        printed.push_str(text);
        ready += usize::from(!was_ready && printed.contains("echoing"));
        if ready == guests {
            break;
        }
    }
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(ready, guests, "{command:?} ended early");
    let mut cost = Cost { milliseconds, ..costs(&child) };
    // Memory that only start-up used is released soon after it.
    std::thread::sleep(Duration::from_millis(300));
    cost.kibibytes = costs(&child).kibibytes;
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it is ours");
    child.wait().expect("it is ours");
    cost
}

/// Returns CPU time, memory and threads of a process that runs.
fn costs(child: &Child) -> Cost {
    let process = format!("/proc/{}", child.id());
    let tasks = fs::read_dir(format!("{process}/task")).expect("the process is there").map_while(Result::ok);
    // The first number is the time on a processor, in nanoseconds. A thread may end meanwhile.
    let time = |task: &Path| fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse::<f64>().ok();
    let times: Vec<_> = tasks.map(|task| time(&task.path()).unwrap_or(0.0)).collect();
    let (mut kibibytes, mut is_guests) = (0.0, false);
    for line in fs::read_to_string(format!("{process}/smaps")).expect("the process is there").lines() {
        if line.split(' ').next().is_some_and(|first| first.contains('-')) {
            is_guests = line.contains("memfd:guest-memory");
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| !is_guests) {
            kibibytes += size.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of KiB");
        }
    }
    Cost {
        milliseconds: 0.0,
        cpu_milliseconds: times.iter().sum::<f64>() / 1e6,
        kibibytes,
        threads: times.len() as f64,
    }
}

/// Returns the medians of the samples.
fn median(samples: &[Cost]) -> Cost {
    let middle = |value: fn(&Cost) -> f64| {
        let mut values: Vec<_> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Cost {
        milliseconds: middle(|cost| cost.milliseconds),
        cpu_milliseconds: middle(|cost| cost.cpu_milliseconds),
        kibibytes: middle(|cost| cost.kibibytes),
        threads: middle(|cost| cost.threads),
    }
}

/// Prints the costs of one kind of unit for each count, and where they bend.
fn report(kind: &str, counts: &[usize], command: fn(usize) -> Command, guests: fn(usize) -> usize) {
    // The counts alternate, so that what else the host does counts for all alike.
    let mut samples = vec![Vec::new(); counts.len()];
    for _ in 0..SAMPLES {
        for (samples, count) in samples.iter_mut().zip(counts) {
            samples.push(sample(command(*count), guests(*count)));
        }
    }
    let costs: Vec<_> = samples.iter().map(|samples| median(samples).values()).collect();
    println!("{kind:10} {}", Cost::NAMES.map(|name| format!("{name:>10} {:>10}", "one more")).join(" "));
    let slope = |index: usize, value: usize| {
        (costs[index][value] - costs[index - 1][value]) / (counts[index] - counts[index - 1]) as f64
    };
    let mut bends = Vec::new();
    for (index, count) in counts.iter().enumerate() {
        let columns = (0..Cost::NAMES.len()).map(|value| {
            let slope = if index == 0 { String::new() } else { format!("{:.3}", slope(index, value)) };
            format!("{:10.2} {slope:>10}", costs[index][value])
        });
        println!("{count:10} {}", columns.collect::<Vec<_>>().join(" "));
        // CPU time and memory: the time depends on what else the host does.
        for value in [1, 2] {
            if index > 1 && slope(index, value) > BEND * slope(1, value).max(0.0) {
                let (last, name) = (counts[index - 1], Cost::NAMES[value]);
                bends.push(format!(
                    "{name} from {last} to {count}: {:.3} for one more, {:.3} at first",
                    slope(index, value),
                    slope(1, value)
                ));
            }
        }
    }
    println!("{}\n", if bends.is_empty() { "  no bend".to_owned() } else { format!("  bends: {}", bends.join("; ")) });
}

fn main() {
    println!("medians of {SAMPLES} samples; \"one more\" is the cost of one more unit than in the line above\n");
    report("VPs", &[1, 4, 16, 64], vps, |_| 1);
    report("disks", &[1, 4, 16, 64], disks, |_| 1);
    report("adapters", &[1, 2, 4, 8], adapters, |_| 1);
    report("machines", &[1, 10, 50, 200], machines, |count| count);
}
