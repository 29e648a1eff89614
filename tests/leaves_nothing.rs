//! A machine that has ended leaves no thread, file descriptor, mapping or memory behind; an idle one sleeps.
//!
//! Each test counts the resources of a whole process, so each runs this binary again as a process of its own.

#[path = "common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use common::patience::holds_within;
use viridian::Builder;
use viridian::config::ConsoleConfig;
use viridian::internals::console::Console;
use viridian::machine::{End, Machine};

/// An allocator that counts allocated bytes. Unlike resident memory, that is exact.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code, reason = "an allocator that counts is `unsafe` by its trait")]
// SAFETY: every call is the system allocator's, with its own arguments; `realloc` and `alloc_zeroed` come down to these.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Runs the body of the test `name` in a process that does nothing else.
fn alone(name: &str, body: fn()) {
    const ALONE: &str = "VIRIDIAN_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", name, "--nocapture"];
    let output = Command::new(program).args(arguments).env(ALONE, "1").stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// Resources of this process that could leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holdings {
    threads: usize,
    descriptors: usize,
    /// Bytes allocated and not freed.
    heap: isize,
    /// Mappings of guest memory, of a VP's run page, and of other objects of KVM.
    mappings: usize,
}

impl Holdings {
    fn now() -> Self {
        let count = |directory| fs::read_dir(directory).unwrap().count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let kvm = |line: &&str| line.contains("memfd:") || line.contains("kvm");
        Self {
            threads: count("/proc/self/task"),
            descriptors: count("/proc/self/fd"),
            mappings: maps.lines().filter(kvm).count(),
            heap: ALLOCATED.load(Ordering::Relaxed),
        }
    }

    /// Expects the same resources as before. A thread that was joined may stay in the process's list for a moment.
    #[track_caller]
    fn expect_unchanged(self) {
        until(|| Self::now() == self, || format!("{:?} where it was {self:?}", Self::now()));
    }
}

/// Waits up to ten seconds for a condition.
#[track_caller]
fn until(condition: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    assert!(holds_within(Duration::from_secs(10), condition), "{}", otherwise());
}

/// Returns the threads of this process whose names begin with `start`. KVM's own threads have other names.
fn threads_named(start: &str) -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(start))).collect()
}

/// A field of `/proc/self/status` in KiB.
fn status(field: &str) -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

fn image(name: &str) -> PathBuf {
    PathBuf::from(env!("VIRIDIAN_GUEST_IMAGES")).join(name)
}

/// Time limit of a guest. Fifty at once take a minute if they share one emulated processor.
const TOO_LONG: Duration = Duration::from_secs(600);

/// A machine in the middle of its life: it prints and waits for input.
fn echo() -> Machine {
    let builder = Builder::new().kernel(image("exits")).cmdline("echo").cpus(2).capture_console();
    let machine = builder.timeout(TOO_LONG).start().unwrap();
    machine.console().unwrap().wait_for("echoing", TOO_LONG).unwrap();
    machine
}

/// Runs one machine to its end, in turns: ended by the guest, from outside while it works, and at its start.
fn start_and_stop(round: usize) {
    let exits = |how: &str| Builder::new().kernel(image("exits")).cmdline(how).capture_console();
    let end = match round % 5 {
        0 => exits("exit=7").start().unwrap().wait(),
        1 => exits("reset=acpi").timeout(TOO_LONG).start().unwrap().wait(),
        2 => {
            let machine = echo();
            machine.stop(End::Terminated);
            machine.wait()
        }
        3 => return drop(exits("loop").cpus(2).prepare().unwrap()),
        _ => {
            let machine = exits("loop").cpus(2).start().unwrap();
            machine.pause().unwrap();
            machine.stop(End::Interrupted);
            machine.wait()
        }
    };
    assert!(matches!(
        (round % 5, &end),
        (0, End::Exited(7)) | (1, End::Reset) | (2, End::Terminated) | (4, End::Interrupted)
    ));
}

#[test]
fn a_thousand_machines_in_a_row_leave_nothing_behind() {
    alone("a_thousand_machines_in_a_row_leave_nothing_behind", || {
        // The first machine also sets up process-wide state: signal actions, the allocator's arenas, cached stacks.
        (0..100).for_each(start_and_stop);
        let (before, resident, address_space) = (Holdings::now(), status("RssAnon"), status("VmSize"));
        (0..1000).for_each(start_and_stop);
        before.expect_unchanged();
        // The heap's fragmentation may change. A leaked page per machine would be 4000 KiB.
        let grown = status("RssAnon").saturating_sub(resident);
        assert!(grown < 1000, "{grown} KiB more resident");
        let grown = status("VmSize").saturating_sub(address_space);
        assert!(grown < 4000, "{grown} KiB more mapped");
    });
}

#[test]
fn fifty_machines_at_once_leave_nothing_behind() {
    alone("fifty_machines_at_once_leave_nothing_behind", || {
        let fifty = || (0..50).map(|_| echo()).collect::<Vec<_>>();
        drop(fifty());
        let (before, resident) = (Holdings::now(), status("RssAnon"));
        let machines = fifty();
        let threads = || threads_named("guest/vp").len() + threads_named("watchdog").len();
        until(|| threads() == 50 * 3, || format!("two VPs and a watchdog each: {}", threads()));
        for machine in &machines {
            machine.console().unwrap().type_text("quit\n").unwrap();
        }
        for machine in machines {
            let end = machine.wait();
            assert!(matches!(end, End::PoweredOff), "{end}");
        }
        before.expect_unchanged();
        // The heap's own books are exact and stand in the holdings. What its arenas keep differs with how the threads met: two
        // megabytes were seen. Thirty pages forgotten by each machine would be 6000 KiB.
        let grown = status("RssAnon").saturating_sub(resident);
        assert!(grown < 5000, "{grown} KiB more resident");
    });
}

#[test]
fn machines_that_cannot_start_leave_nothing_behind() {
    alone("machines_that_cannot_start_leave_nothing_behind", || {
        let flat = |memory| Builder::new().kernel(image("hello-bzimage")).memory(memory).capture_console().cpus(2);
        let fail = || {
            assert!(Builder::new().kernel("/nowhere").start().is_err());
            assert!(flat(1 << 20).start().is_err());
            assert!(Builder::new().memory(1).start().is_err());
            assert!(Builder::new().console(ConsoleConfig::File("/nowhere/log".into())).start().is_err());
        };
        (0..10).for_each(|_| fail());
        let before = Holdings::now();
        (0..200).for_each(|_| fail());
        before.expect_unchanged();
    });
}

fn configs(directory: &Path, number: usize) -> [ConsoleConfig; 5] {
    [
        ConsoleConfig::Stdio,
        ConsoleConfig::None,
        ConsoleConfig::Pty,
        ConsoleConfig::File(directory.join("log")),
        ConsoleConfig::Unix(directory.join(format!("socket{number}"))),
    ]
}

fn open(config: &ConsoleConfig) -> Console {
    Console::open(config, |event| panic!("{event:?}")).unwrap()
}

/// Returns the number of times that the consoles' threads have gone to sleep.
fn sleeps() -> u64 {
    // A thread that was joined may disappear from the process's list between two reads.
    let status = threads_named("console").into_iter().filter_map(|task| fs::read_to_string(task.join("status")).ok());
    let line =
        |status: String| status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t")?.parse().ok());
    status.map(|status| line(status).unwrap_or(0u64)).sum()
}

#[test]
fn a_console_leaves_nothing_behind_and_sleeps_while_nothing_happens() {
    alone("a_console_leaves_nothing_behind_and_sleeps_while_nothing_happens", consoles);
}

fn consoles() {
    let directory = tempfile::tempdir().unwrap();
    let round = || {
        open_and_drop(directory.path());
        fifty_of_each(directory.path());
    };
    // The first round also sets up process-wide state.
    round();
    let before = Holdings::now();
    round();
    round();
    before.expect_unchanged();
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["log"]);
}

fn open_and_drop(directory: &Path) {
    for round in 0..40 {
        for config in configs(directory, 0) {
            let console = open(&config);
            if round % 2 == 0 && config != ConsoleConfig::Stdio {
                console.output().write_all(b"hello").unwrap();
                assert!(console.finish(None));
            }
        }
        drop(Console::capture());
    }
}

fn fifty_of_each(directory: &Path) {
    let consoles: Vec<_> = (0..50).flat_map(|number| configs(directory, number)).map(|config| open(&config)).collect();
    // A thread sets its name itself, after its start.
    let threads = || threads_named("console").len();
    until(|| threads() == 50 * 4, || format!("one thread each, and none for `none`: {}", threads()));
    let pty = consoles.iter().find_map(Console::pty_path).unwrap();
    drop(fs::File::options().read(true).write(true).open(pty).unwrap());
    drop(UnixStream::connect(directory.join("socket7")).unwrap());
    let mut client = UnixStream::connect(directory.join("socket7")).unwrap();
    consoles[7 * 5 + 4].output().write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let steady = || {
        let asleep = sleeps();
        std::thread::sleep(Duration::from_millis(200));
        sleeps() == asleep
    };
    until(steady, || "consoles wake up again and again for nothing".into());
}
