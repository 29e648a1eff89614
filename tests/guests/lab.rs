//! Several machines from one file: `viridian up`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::bad_input::with_mounts;
use super::command::{Run, image, run_with, viridian};
use crate::common::need::{Need, path_of, ready};
use crate::common::patience::{grown, holds_within};

/// Writes a lab into a folder. `IMAGES/` in it stands for the folder of the guest images.
fn write(lab: &str, folder: &Path) -> String {
    let path = folder.join("lab.toml");
    let images = image("hello-pvh").parent().unwrap().to_str().unwrap().to_owned();
    fs::write(&path, lab.replace("IMAGES", &images)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs a lab in a folder of its own.
fn up(lab: &str) -> (Run, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (run_with(["up", &write(lab, folder.path())]), folder)
}

/// Returns the table at the end: name and end of each partition.
fn table(run: &Run) -> Vec<(String, String)> {
    let mut lines = run.errors.lines().skip_while(|line| !line.starts_with("viridian: partition "));
    assert!(lines.next().is_some_and(|line| line.ends_with("time  end")), "{run:?}");
    let row = |line: &str| {
        let (left, end) = line.strip_prefix("viridian: ").unwrap().split_once(" s  ").unwrap();
        let (name, time) = left.split_once(' ').unwrap();
        assert!(time.trim().parse::<f64>().is_ok(), "{line}");
        (name.to_owned(), end.to_owned())
    };
    lines.map(row).collect()
}

#[track_caller]
fn refused(lab: &str, words: &[&str]) {
    let (run, _folder) = up(lab);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(words.iter().all(|word| run.errors.contains(word)) && run.output.is_empty(), "{run:?}");
}

/// Runs a lab whose last partition, `bad`, has these settings, with this program. Expects that it is refused, and that the
/// first partition has not run, although loading the second one takes long enough for that.
#[track_caller]
fn refused_before_any_runs(settings: &str, code: i32, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with_a_wait(settings, folder.path(), |path| run_with(["up", path]));
    expect_nothing_ran(&run, folder.path(), code, words);
}

fn run_with_a_wait(settings: &str, folder: &Path, run: impl FnOnce(&str) -> Run) -> Run {
    // Loading it takes many times what the eager guest takes to print its first line.
    const LARGE: u64 = 256 << 20;
    fs::File::create(folder.join("large")).unwrap().set_len(LARGE).unwrap();
    let lab = "[[partition]]\nname = 'eager'\nkernel = 'IMAGES/hello-pvh'\nconsole = 'file:eager.log'\n\
         [[partition]]\nname = 'waits'\nkernel = 'IMAGES/hello-pvh'\nmemory = '512M'\ninitrd = 'large'\n";
    run(&write(&format!("{lab}[[partition]]\nname = 'bad'\n{settings}"), folder))
}

#[track_caller]
fn expect_nothing_ran(run: &Run, folder: &Path, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    for word in words.iter().chain(&["lab.toml: bad: ", "; nothing was started\n"]) {
        assert!(run.errors.contains(word), "{word:?} is not in {run:?}");
    }
    assert!(run.errors.lines().count() == 1 && run.output.is_empty(), "{run:?}");
    assert_eq!(fs::read_to_string(folder.join("eager.log")).unwrap(), "", "{run:?}");
}

#[test]
fn console_lines_have_partition_names_and_a_table_shows_how_each_ended() {
    let (run, folder) = up("[[partition]]\nname = 'second'\nafter = ['first']\nnet = 'switch=lab-test'\n\
         [[partition]]\nname = 'first'\nnet = 'switch=lab-test'\n\
         [[partition]]\nname = 'quiet'\nkernel = 'IMAGES/hello-pvh'\nconsole = 'file:quiet.log'");
    assert_eq!(run.code, Some(0), "{run:?}");
    for name in ["first", "second"] {
        assert!(run.output.contains(&format!("{name}: All is well; turning the machine off.\n")), "{run:?}");
        assert!(run.output.contains(&format!("{name}:   network        channel 2")), "{run:?}");
    }
    assert!(run.output.lines().all(|line| line.starts_with("first: ") || line.starts_with("second: ")), "{run:?}");
    assert!(fs::read_to_string(folder.path().join("quiet.log")).unwrap().contains("Hello"), "{run:?}");
    let mut table = table(&run);
    table.sort_unstable();
    let ended = |name: &str| (name.to_owned(), "the guest powered off".to_owned());
    assert_eq!(table, ["first", "quiet", "second"].map(ended), "{run:?}");
}

#[test]
fn trace_lines_and_the_path_of_a_pty_have_partition_names() {
    let (run, _folder) = up("[[partition]]\nname = 'one'\ntrace = 'vmbus'\nconsole = 'pty'\n\
         [[partition]]\nname = 'other'\ntrace = 'vmbus'\nconsole = 'none'");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.errors.contains("viridian: warn: one: the console is at /dev/pts/"), "{run:?}");
    for line in run.errors.lines().filter(|line| !line.starts_with("viridian: ")) {
        assert!(line.starts_with("one: [ ") || line.starts_with("other: [ "), "{line:?}");
    }
    assert!(run.errors.contains("one: [ ") && run.errors.contains("other: [ "), "{run:?}");
}

#[test]
fn the_example_of_two_peers_runs_here() {
    let run = run_with(["up", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/peers.toml")]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for line in [
        "client:     pings        4 answered, after ",
        "client:     exchanged    100 came back, 0 did not, 0 out of turn, 0 refused, ",
        "client:     end          10.3.0.1 was told to\n",
        "server:     answered     1 ARP requests, 4 pings, 100 datagrams; discarded 0\n",
        "server: All is well; turning the machine off.\n",
    ] {
        assert!(run.output.contains(line), "{line:?} is not in {run:?}");
    }
    assert!(table(&run).iter().all(|(_, end)| end == "the guest powered off"), "{run:?}");
}

#[test]
fn peers_end_with_a_failure_where_there_is_no_answer() {
    let peer = |name: &str, cmdline: &str| {
        format!(
            "[[partition]]\nname = '{name}'\nkernel = 'embedded:peer'\nnet = 'switch=lab-alone-{name}'\ncmdline = '{cmdline}'\n"
        )
    };
    let (run, _folder) = up(&(peer("wrong", "address=10.3.0.256") + &peer("without", "")));
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(run.output.contains("wrong: address=10.3.0.256: wanted an address such as 10.3.0.1\n"), "{run:?}");
    assert!(run.output.contains("without: FAILED: there is no address; give one by address=\n"), "{run:?}");
    assert_eq!(table(&run).len(), 2, "{run:?}");
}

#[test]
fn the_exit_code_is_that_of_the_first_failure_and_the_others_finish() {
    let limit = grown(Duration::from_secs(2)).as_secs();
    let (run, _folder) = up(&format!(
        "[[partition]]\nname = 'late'\nkernel = 'IMAGES/exits'\ncmdline = 'loop'\ntimeout = {limit}\n\
         [[partition]]\nname = 'good'\n\
         [[partition]]\nname = 'bad'\nkernel = 'flat:IMAGES/flat32@0x100000,mode=32'"
    ));
    assert_eq!(run.code, Some(32), "{run:?}");
    assert!(run.output.contains("good: All is well"), "{run:?}");
    let table = table(&run);
    // The table has the order of the ends. `good` does much more than `bad`, and on a busy host even more than `late`.
    let end = |name: &str| table.iter().position(|(partition, _)| partition == name).unwrap();
    assert_eq!(table[end("bad")].1, "the guest wrote 32 to the exit port", "{run:?}");
    assert_eq!(table[end("late")].1, format!("the time ran out: {limit} s"), "{run:?}");
    assert!(end("bad") < end("late") && table.len() == 3, "{run:?}");
}

#[test]
fn signals_end_all_that_still_run() {
    for (signal, code, words) in [
        (rustix::process::Signal::INT, 130, "ended by the user"),
        (rustix::process::Signal::TERM, 143, "ended by a signal to terminate"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let lab = "[[partition]]\nname = 'short'\nkernel = 'IMAGES/hello-pvh'\nconsole = 'none'\n\
             [[partition]]\nname = 'one'\nkernel = 'IMAGES/exits'\ncmdline = 'spew=100000000'\nafter = ['short']\n\
             [[partition]]\nname = 'other'\nkernel = 'IMAGES/exits'\ncmdline = 'halt'";
        let path = write(lab, folder.path());
        let report = folder.path().join("report");
        let mut command = viridian();
        command.args(["up", &path, "--report"]).arg(&report).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // The output is not read any further. A guest that waits for its console must end, too.
        while !line.starts_with("one: ") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0);
        }
        // Three have started, and one has ended.
        let events = || fs::read_to_string(&report).unwrap().lines().count();
        assert!(holds_within(Duration::from_secs(60), || events() == 4), "{} events", events());
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(code), "{run:?}");
        let table = table(&run);
        assert_eq!(table[0], ("short".into(), "the guest powered off".into()), "{run:?}");
        assert!(table[1..].iter().all(|(_, end)| end == words) && table.len() == 3, "{run:?}");
    }
}

#[test]
fn a_closed_output_ends_only_the_partition_that_prints_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let lab = "[[partition]]\nname = 'loud'\nkernel = 'IMAGES/exits'\ncmdline = 'spew=100000000'\n\
         [[partition]]\nname = 'quiet'\nkernel = 'IMAGES/hello-pvh'\nconsole = 'none'";
    let path = write(lab, folder.path());
    let script = format!("{{ {} up {path}; echo $? >&2; }} | head -n 1", env!("CARGO_BIN_EXE_viridian"));
    let run = Run::from(Command::new("sh").args(["-c", &script]).output().unwrap());
    assert!(run.output.starts_with("loud: ") && run.errors.ends_with("\n125\n"), "{run:?}");
    assert!(run.errors.contains("its reader has gone") && run.errors.contains("the guest powered off"), "{run:?}");
}

#[test]
fn invalid_lab_files_are_refused_before_anything_starts() {
    refused(
        "[[partition]]\nname = 'a'\nafter = ['b']\n[[partition]]\nname = 'b'\nafter = ['a']",
        &["none would start: a, b"],
    );
    refused("[[partition]]\nname = 'a'\nafter = ['c']", &["lab.toml", "a is to start after c"]);
    refused("[[partition]]\nname = 'a'\nkernal = 'x'", &["did you mean `kernel`?"]);
    refused("[[partition]]\nname = 'a'\nkernel = 'embedded:per'", &["no embedded image", "vsc and peer"]);
    refused("this is no TOML", &["lab.toml"]);
    let two = |one: &str, other: &str| format!("[[partition]]\nname = 'a'\n{one}\n[[partition]]\nname = 'b'\n{other}");
    let same = "net = 'switch=lab,mac=02:00:00:00:00:01'";
    refused(&two(same, same), &["adapter 0 of a and adapter 0 of b both have the address", "mac="]);
    let twice = "net = ['switch=lab,mac=02:00:00:00:00:01', 'none,mac=02:00:00:00:00:01']";
    refused(&two(twice, ""), &["adapter 0 of a and adapter 1 of a both have the address"]);
    let same = "net = 'user,fwd=tcp:18080:80'";
    refused(&two(same, same), &["both forward tcp:18080:80", "another port"]);
    refused(&two("net = 'tap=tap0'", "net = 'tap=tap0'"), &["both have tap=tap0", "another tap"]);
    refused(&two("console = 'file:log'", "console = 'file:log'"), &["a and b both write", "another file"]);
    let run = run_with(["up", "/nowhere/lab.toml"]);
    assert_eq!(run.code, Some(2), "{run:?}");
}

#[test]
fn missing_resources_of_a_partition_are_reported_before_any_starts() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = port.local_addr().unwrap().port();
    let taken = format!("net = 'user,fwd=tcp:{number}:80'");
    let late = "net = ['switch=lab-up,uplink=user', 'switch=lab-up,uplink=user,fwd=tcp:18081:80']";
    let cases = [
        (taken.as_str(), 2, &["--net", "cannot listen", "another port"][..]),
        (late, 2, &["switch=lab-up already has an uplink"]),
        ("net = 'tap=lo'", 2, &["'lo' exists, but not as a tap"]),
        ("net = 'none,pcap=nowhere/capture'", 2, &["nowhere/capture", "No such file"]),
        ("kernel = 'nowhere'", 2, &["nowhere", "No such file"]),
        ("kernel = 'IMAGES/hello-bzimage'\ninitrd = 'none'", 2, &["none", "No such file"]),
        ("disk = 'nowhere.img'", 2, &["--disk", "nowhere.img"]),
        ("console = 'file:nowhere/log'", 2, &["nowhere/log", "create the directory"]),
        ("memory = '200T'", 125, &["--memory"]),
        ("cpus = '1,affinity=4000'", 2, &["affinity", "4000"]),
    ];
    std::thread::scope(|scope| {
        for (settings, code, words) in cases {
            scope.spawn(move || refused_before_any_runs(settings, code, words));
        }
    });
}

#[test]
fn a_tap_without_permission_is_reported_before_any_partition_starts() {
    if !ready(&[Need::Namespaces, Need::Tun, Need::Tool("ip")]) {
        return;
    }
    let devices = "mount -t tmpfs none /dev && chmod 755 /dev && mkdir /dev/net && mknod -m 666 /dev/kvm c 10 232 && \
                   mknod -m 666 /dev/net/tun c 10 200 && mknod -m 666 /dev/null c 1 3";
    let as_nobody = "/usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups";
    for (tap, words) in [
        ("unknown", ["there is no tap 'unknown'", "ip tuntap add dev unknown mode tap user 65534"]),
        ("others", ["tap 'others' belongs to another user", "ip tuntap del dev others"]),
    ] {
        // All files are accessible to another user, and a /dev of its own defines the permissions of devices.
        let folder = tempfile::tempdir().unwrap();
        let copy = |from: &Path, name: &str| fs::copy(from, folder.path().join(name)).map(drop).unwrap();
        copy(Path::new(env!("CARGO_BIN_EXE_viridian")), "viridian");
        copy(&image("hello-pvh"), "hello-pvh");
        fs::write(folder.path().join("eager.log"), "").unwrap();
        let run = run_with_a_wait(&format!("net = 'tap={tap}'"), folder.path(), |path| {
            let lab = fs::read_to_string(path).unwrap();
            fs::write(path, lab.replace(image("hello-pvh").to_str().unwrap(), "hello-pvh")).unwrap();
            assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(folder.path()).status().unwrap().success());
            let up = format!("{as_nobody} {}/viridian up {path}", folder.path().display());
            let ip = path_of("ip").unwrap();
            let command =
                format!("unshare --net sh -c '{} tuntap add dev others mode tap user 1 && exec {up}'", ip.display());
            with_mounts(devices, &command)
        });
        expect_nothing_ran(&run, folder.path(), 2, &words);
    }
}
