//! Consoles that were opened and dropped leave no thread, file descriptor or file behind, and idle ones sleep.
//!
//! One test in a binary of its own: it counts what the whole process has.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use viridian::platform::console::{Console, ConsoleConfig};

fn count(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

fn descriptors_and_threads() -> (usize, usize) {
    (count("/proc/self/fd"), count("/proc/self/task"))
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

/// How often the consoles' threads have gone to sleep.
fn sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let consoles = tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap() == "console\n");
    let status = consoles.map(|task| fs::read_to_string(task.join("status")).unwrap());
    let line =
        |status: String| status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t")?.parse().ok());
    status.map(|status| line(status).unwrap_or(0u64)).sum()
}

#[test]
fn a_console_leaves_nothing_behind_and_sleeps_while_nothing_happens() {
    let directory = tempfile::tempdir().unwrap();
    configs(directory.path(), 0).iter().for_each(|config| drop(open(config)));
    let before = descriptors_and_threads();

    for round in 0..100 {
        for config in configs(directory.path(), 0) {
            let console = open(&config);
            if round % 2 == 0 && config != ConsoleConfig::Stdio {
                console.output().write_all(b"hello").unwrap();
                assert!(console.finish(None));
            }
        }
        drop(Console::capture());
    }
    assert_eq!(descriptors_and_threads(), before);

    let consoles: Vec<_> =
        (0..50).flat_map(|number| configs(directory.path(), number)).map(|config| open(&config)).collect();
    let (_, threads) = descriptors_and_threads();
    assert_eq!(threads - before.1, 50 * 4, "one thread each, and none for `none`");
    let pty = consoles.iter().find_map(Console::pty_path).unwrap();
    drop(fs::File::options().read(true).write(true).open(pty).unwrap());
    drop(UnixStream::connect(directory.path().join("socket7")).unwrap());
    let mut client = UnixStream::connect(directory.path().join("socket7")).unwrap();
    consoles[7 * 5 + 4].output().write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let asleep = sleeps();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(sleeps(), asleep, "a console woke up for nothing");

    drop(consoles);
    drop(client);
    assert_eq!(descriptors_and_threads(), before);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["log"]);
}
