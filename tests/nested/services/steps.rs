//! The steps of the test, in order.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use viridian::internals::services::{
    Answer, Copy, FREEZE_PATIENCE, Failure, Forced, Freeze, Item, KeyValue, Kind, Pool, Request, State, Status, Value,
};
use viridian::machine::End;

use super::guest::{Linux, NAME};
use crate::common::patience::{grown, holds_within};
use crate::common::stock::SOON;

fn json(linux: &Linux, kind: Kind) -> Json {
    serde_json::to_value(linux.service(kind).status()).expect("a status is JSON")
}

fn is_ready(linux: &Linux, kind: Kind) {
    linux.until(kind, "it is ready", |status| status.state == State::Ready);
}

pub fn all_services_negotiate(linux: &Linux) {
    let versions = ["3.2", "4.0", "3.0", "4.0", "5.0", "1.1"];
    for (kind, version) in Kind::ALL.into_iter().zip(versions) {
        is_ready(linux, kind);
        let status = json(linux, kind);
        assert_eq!((&status["framework"], &status["version"]), (&Json::from("3.0"), &Json::from(version)), "{kind}");
    }
    linux.run("await_devices");
}

pub fn the_guest_is_alive(linux: &Linux) {
    linux.until(Kind::Heartbeat, "it beats", |status| {
        serde_json::to_value(status).is_ok_and(|status| status["beats"].as_u64() > Some(2))
    });
    assert_eq!(json(linux, Kind::Heartbeat)["health"], "OkApplicationsUnknown");
}

/// Set at start, on demand, and after a pause.
pub fn the_clock_is_the_hosts(linux: &Linux, pause: u32) {
    let is_right = |when: &str| {
        let ahead = linux.ahead();
        assert!(ahead.abs() <= 5, "{when}, the guest's clock is {ahead} seconds ahead");
    };
    is_right("at start");
    for _ in 0..3 {
        linux.run("date -s @1000000000 >/dev/null");
        assert!(linux.ahead() < -1_000_000, "the clock was set back");
        assert_eq!(linux.ask(Kind::Time, Request::SyncTime), Ok(Answer::Done));
        is_right("after a SYNC");
    }
    linux.with(|machine| machine.pause()).expect("it runs");
    let paused = Instant::now();
    thread::sleep(Duration::from_secs(pause.into()));
    linux.with(|machine| machine.resume());
    let syncs = |status: &Json| status["syncs"].as_u64();
    let before = syncs(&json(linux, Kind::Time));
    linux.until(Kind::Time, "a SYNC follows the pause", |status| {
        serde_json::to_value(status).is_ok_and(|status| syncs(&status) >= before && syncs(&status) >= Some(5))
    });
    is_right("after the pause");
    println!("measured: a pause of {:.1} s, then the guest's clock is right", paused.elapsed().as_secs_f64());
    linux.until(Kind::Time, "samples follow", |status| {
        serde_json::to_value(status).is_ok_and(|status| status["samples"].as_u64() > Some(0))
    });
    assert!(linux.run("cat /sys/class/ptp/*/clock_name").contains("hyperv"));
}

/// chrony reads the device of the time service, and corrects a clock that is two days slow without a request of the host.
pub fn chrony_uses_the_hosts_clock(linux: &Linux, rounds: u32) {
    linux
        .run("device=$(grep -l hyperv /sys/class/ptp/*/clock_name) && ln -sf $(basename ${device%/*}) /dev/ptp_hyperv");
    linux.run("printf 'refclock PHC /dev/ptp_hyperv poll 0 dpoll -2\\nmakestep 1 -1\\n' >/run/chrony.conf");
    linux.run("chronyd -u root -f /run/chrony.conf && until chronyc -n sources | grep '#\\* PHC0'; do sleep 0.2; done");
    for _ in 0..rounds {
        linux.run("date -s @$(($(date +%s) - 172800)) >/dev/null");
        let set = Instant::now();
        let is_right = holds_within(grown(Duration::from_secs(120)), || linux.ahead().abs() <= 5);
        assert!(is_right, "the guest's clock is {} seconds ahead: {}", linux.ahead(), linux.run("chronyc -n sources"));
        println!("measured: chrony corrects two days in {:.1} s", set.elapsed().as_secs_f64());
    }
    linux.run("killall chronyd");
}

pub fn items_and_addresses_travel(linux: &Linux, count: u32) {
    let ask = |request| linux.ask(Kind::KeyValue, Request::KeyValue(request));
    let item = |number: u32| Item { key: format!("key {number}"), value: Value::Text(format!("wört {number}")) };
    let items: Vec<_> = (0..count).map(item).collect();
    let begun = Instant::now();
    assert_eq!(ask(KeyValue::Set(Pool::External, items.clone())), Ok(Answer::Done));
    let pushed = begun.elapsed();
    assert_eq!(ask(KeyValue::List(Pool::External)), Ok(Answer::Items(items)));
    println!(
        "measured: {count} items pushed in {:.1} s, read in {:.1} s",
        pushed.as_secs_f64(),
        (begun.elapsed() - pushed).as_secs_f64()
    );
    // Records of 512 and 2,048 bytes.
    assert_eq!(linux.run("stat -c %s /var/lib/hyperv/.kvp_pool_0"), (count * 2560).to_string());
    assert_eq!(linux.run("stat -c %a /var/lib/hyperv/.kvp_pool_* | tr '\\n' ' '"), "644 644 644 644 644");
    assert_eq!(ask(KeyValue::Delete(Pool::External, "key 7".into())), Ok(Answer::Done));
    assert_eq!(ask(KeyValue::Get(Pool::External, "key 7".into())), Ok(Answer::Value(None)));
    let eighth = Answer::Value(Some(Value::Text("wört 8".into())));
    assert_eq!(ask(KeyValue::Get(Pool::External, "key 8".into())), Ok(eighth));
    let number = Item { key: "number".into(), value: Value::Number64(1 << 40) };
    assert_eq!(ask(KeyValue::Set(Pool::Host, vec![number])), Ok(Answer::Done));
    let stored = Answer::Value(Some(Value::Text((1_u64 << 40).to_string())));
    assert_eq!(ask(KeyValue::Get(Pool::Host, "number".into())), Ok(stored), "Linux stores numbers as text");

    linux.until(Kind::KeyValue, "the address is known", |status| {
        serde_json::to_value(status).is_ok_and(|status| {
            status["addresses"].as_array().is_some_and(|list| list.contains(&Json::from("10.0.2.15")))
        })
    });
    assert!(linux.run("ip -o addr show dev eth0").contains("inet 10.0.2.15"));
    let waited = linux.verb(&["wait", NAME, "--for", "address", "--timeout", "60"]);
    assert_eq!((waited.0, &*waited.1), (Some(0), "10.0.2.15\n"), "{waited:?}");
    let inspected = linux.verb(&["inspect", NAME, "--json"]);
    assert_eq!(inspected.0, Some(0), "{inspected:?}");
    let tree: Json = serde_json::from_str(&inspected.1).expect("JSON");
    let status = |service: &str| &tree["devices"][service]["status"];
    let versions =
        ["shutdown", "time", "heartbeat", "kvp", "vss", "file-copy"].map(|service| &status(service)["version"]);
    assert_eq!(versions, ["3.2", "4.0", "3.0", "4.0", "5.0", "1.1"]);
    let read = linux.verb(&["kvp", NAME, "get", "number", "--pool", "host"]);
    assert_eq!((read.0, &*read.1), (Some(0), "1099511627776\n"), "{read:?}");
    let intrinsic = status("kvp")["intrinsic"].clone();
    let keys: Vec<_> = intrinsic.as_array().into_iter().flatten().filter_map(|item| item["key"].as_str()).collect();
    assert_eq!(keys.len(), 10, "{keys:?}");
    for key in ["OSName", "OSVersion", "FullyQualifiedDomainName", "ProcessorArchitecture"] {
        assert!(keys.contains(&key), "{key}: {keys:?}");
    }
    let mac = linux.run("cat /sys/class/net/eth0/address");
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    let adapter = ask(KeyValue::Adapter(mac.try_into().expect("six bytes"))).expect("the adapter is there");
    let Answer::Adapter(adapter) = adapter else { panic!("{adapter:?}") };
    assert!(adapter.addresses.contains(&"10.0.2.15".into()), "{adapter:?}");
    let missing = ask(KeyValue::Adapter([2, 0, 0, 0, 0, 99]));
    assert!(matches!(missing, Err(Failure::Guest(_))), "{missing:?}");
}

/// The host's own facts come by themselves, soon after the daemon has connected.
pub fn the_host_tells_about_itself(linux: &Linux) {
    let mut items = Vec::new();
    linux.until_answered("the host's facts are there", || {
        let listed = linux.ask(Kind::KeyValue, Request::KeyValue(KeyValue::List(Pool::Host)));
        let Ok(Answer::Items(listed)) = listed else { return false };
        items = listed;
        items.iter().any(|item| item.key == "VirtualMachineName")
    });
    let value = |key: &str| items.iter().find(|item| item.key == key).map(|item| item.value.to_string());
    assert_eq!(value("VirtualMachineName").as_deref(), Some(NAME));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(value("PhysicalHostNameFullyQualified"), Some(host));
    assert_eq!(value("VirtualMachineId").map(|id| id.len()), Some(36), "{items:?}");
    // Microsoft's tests expect eleven records or more.
    let size: usize = linux.run("stat -c %s /var/lib/hyperv/.kvp_pool_3").parse().expect("a number");
    assert!(size >= 11 * 2560, "{size} bytes");
    assert_eq!(linux.run("tr '\\0' '\\n' </var/lib/hyperv/.kvp_pool_3 | grep -cx VirtualMachineName"), "1");
}

/// What the host shows is what the guest's `ip addr` shows, for IPv4 and IPv6.
pub fn addresses_are_those_of_the_guest(linux: &Linux) {
    linux.run("ip addr add fd00:77::5/64 dev eth0");
    let of_guest = || -> BTreeSet<String> {
        let listed = linux.run("ip -o addr");
        let lines = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let addresses = lines.filter_map(|words| match words[..] {
            [_, device, "inet" | "inet6", address, ..] if device != "lo" => Some(address.split('/').next()?.to_owned()),
            _ => None,
        });
        addresses.collect()
    };
    let same = |status: &Status| {
        let known = json_addresses(status);
        known == of_guest()
    };
    let status = linux.until(Kind::KeyValue, "the addresses are those of the guest", same);
    let known = json_addresses(&status);
    assert!(["10.0.2.15", "fd00:77::5"].iter().all(|address| known.contains(*address)), "{known:?}");
    assert!(known.iter().any(|address| address.starts_with("fe80::")), "{known:?}");
    linux.run("ip addr del fd00:77::5/64 dev eth0");
    linux.until(Kind::KeyValue, "the removed address is gone", same);
}

fn json_addresses(status: &Status) -> BTreeSet<String> {
    let status = serde_json::to_value(status).expect("a status is JSON");
    let list = status["addresses"].as_array().into_iter().flatten();
    list.filter_map(|address| address.as_str().map(str::to_owned)).collect()
}

/// The daemon writes a file, and runs a script that Debian does not have.
pub fn adapters_are_configured(linux: &Linux) {
    let configure = |arguments: &[&str]| linux.verb(&[&["adapter", NAME, "configure"], arguments].concat());
    let fixed = ["net0", "--address", "10.0.2.77/20", "--gateway", "10.0.2.2", "--name-server", "10.0.2.3"];
    let failed = configure(&fixed);
    assert!(failed.0 == Some(1) && failed.2.contains("docs/services.md"), "without the script: {failed:?}");
    linux.run("folder=/usr/libexec/hypervkvpd; mkdir -p $folder; cp /usr/bin/hv_set_ifconfig $folder");
    let configured = configure(&fixed);
    assert_eq!(configured.0, Some(0), "{configured:?}");
    let addresses = linux.run("ip -o -4 addr show dev eth0");
    assert!(addresses.contains("inet 10.0.2.77/20") && !addresses.contains("10.0.2.15"), "{addresses}");
    let file = linux.run("cat /run/ifcfg");
    for line in ["DEVICE=eth0", "BOOTPROTO=none", "GATEWAY=10.0.2.2", "DNS1=10.0.2.3"] {
        assert!(file.lines().any(|known| known == line), "{line}: {file}");
    }
    linux.until(Kind::KeyValue, "the host sees the address", |status| {
        serde_json::to_value(status).is_ok_and(|status| status["addresses"].to_string().contains("10.0.2.77"))
    });
    let dynamic = configure(&["net0", "--dhcp"]);
    assert_eq!(dynamic.0, Some(0), "{dynamic:?}");
    assert!(linux.run("ip -o -4 addr show dev eth0").contains("inet 10.0.2.15"));
    let unknown = configure(&["net7", "--dhcp"]);
    assert!(unknown.0 == Some(2) && unknown.2.contains("there is net0"), "{unknown:?}");
    let wrong = configure(&["net0", "--address", "10.0.2.77"]);
    assert!(wrong.0 == Some(2) && wrong.2.contains("prefix length"), "{wrong:?}");
}

fn copy(target: &str, content: &[u8], overwrite: bool) -> Request {
    let source = Box::new(std::io::Cursor::new(content.to_vec()));
    Request::Copy(Copy { target: target.into(), overwrite, make_path: true, size: content.len() as u64, source })
}

pub fn files_are_copied(linux: &Linux, size: u32) {
    let content: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let source = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(source.path(), &content).expect("it is written");
    let source = source.path().to_str().expect("a plain path");
    let target = format!("{NAME}:/run/deep/er/file");
    let begun = Instant::now();
    let copied = linux.verb(&["copy", source, &target, "--make-path"]);
    assert_eq!(copied.0, Some(0), "{copied:?}");
    let rate = content.len() as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64();
    println!("measured: a file of {size} bytes copied at {rate:.2} MiB/s");
    let sum = Command::new("sha256sum").arg(source).output().expect("the nested host has it").stdout;
    let sum = String::from_utf8_lossy(&sum[..64]).into_owned();
    assert_eq!(linux.run("sha256sum </run/deep/er/file"), format!("{sum}  -"));
    let again = linux.verb(&["copy", source, &target]);
    assert!(again.0 == Some(1) && again.2.contains("the file exists"), "{again:?}");
    assert_eq!(linux.ask(Kind::FileCopy, copy("/run/deep/er/file", b"short", true)), Ok(Answer::Copied(5)));
    assert_eq!(linux.run("cat /run/deep/er/file; echo"), "short");
    // The size of eight fragments: for a short write, the daemon does not report the reason.
    linux.run("mount -t tmpfs -o size=48k small /mnt");
    let full = linux.ask(Kind::FileCopy, copy("/mnt/file", &content, false)).unwrap_err();
    assert_eq!(full.to_string(), "the guest's disk is full");
    // The kernel's daemon for uio does not know CANCEL: it keeps the file, and keeps it open.
    let left = if std::env::var_os("KERNELS_FCOPY").is_some() { "file" } else { "" };
    assert_eq!(linux.run("ls /mnt; umount -l /mnt"), left, "what was copied of it is removed");
}

/// By the control socket: the machine has no `--vsock`.
pub fn the_agent_runs_commands_and_copies_files(linux: &Linux) {
    let absent = linux.verb(&["exec", NAME, "--", "true"]);
    assert!(absent.0 == Some(125) && absent.2.contains("no agent answers"), "{absent:?}");
    linux.run("modprobe hv_sock; setsid viridian-agent </dev/null >/dev/null 2>&1 &");
    let exec = |script| linux.verb(&["exec", NAME, "--", "sh", "-c", script]);
    linux.until_answered("the agent answers", || exec("true").0 == Some(0));
    let run = exec("echo out; echo err >&2; exit 7");
    assert_eq!((run.0, &*run.1, &*run.2), (Some(7), "out\n", "err\n"));
    let folder = tempfile::tempdir().expect("a directory");
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|place| (place % 251) as u8).collect();
    std::fs::write(&there, &bytes).expect("it is written");
    let [there, back] = [&there, &back].map(|path| path.to_str().expect("a plain path"));
    for arguments in [["agent-copy", there, "linux:/run/"], ["agent-copy", "linux:/run/there", back]] {
        let copied = linux.verb(&arguments);
        assert_eq!(copied.0, Some(0), "{copied:?}");
    }
    assert!(std::fs::read(back).expect("it is there") == bytes, "the file has come back");
    let copied = linux.verb(&["copy", "linux:/run/there", folder.path().to_str().expect("a plain path"), "--json"]);
    assert!(copied.0 == Some(1) && copied.2.contains("there is there already; --overwrite"), "{copied:?}");
    let copied = linux.verb(&["copy", "linux:/etc/passwd", &format!("{}/", folder.path().display())]);
    assert_eq!(copied.0, Some(0), "{copied:?}");
    assert!(folder.path().join("passwd").exists());
    let none = linux.verb(&["copy", "linux:/nonexistent", back, "--overwrite"]);
    assert!(none.0 == Some(1) && none.2.contains("No such file"), "{none:?}");
    linux.run("kill $(pidof viridian-agent)");
}

fn freeze(seconds: u64) -> Request {
    Request::Freeze(Freeze { patience: FREEZE_PATIENCE, limit: Duration::from_secs(seconds) })
}

fn file_systems(linux: &Linux) -> Json {
    json(linux, Kind::Vss)["file-systems"].clone()
}

/// Writes to the disk continuously, and counts.
const WRITER: &str = "(while :; do echo x >>/log && sync /log && echo >>/run/count; done) & writer=$!";

pub fn file_systems_are_frozen(linux: &Linux) {
    let count = || linux.run("wc -l </run/count").parse::<u64>().expect("a number");
    linux.run("echo >/run/count");
    linux.run(WRITER);
    linux.run("while [ $(wc -l </run/count) -lt 5 ]; do sleep 0.1; done");
    let begun = Instant::now();
    assert_eq!(linux.ask(Kind::Vss, freeze(600)), Ok(Answer::Frozen));
    println!("measured: a freeze under load takes {:.2} s", begun.elapsed().as_secs_f64());
    assert_eq!(file_systems(linux), "frozen");
    let frozen = count();
    linux.run("sleep 2");
    assert!(count() <= frozen + 1, "nothing is written while the file system is frozen");
    assert_eq!(linux.ask(Kind::Vss, Request::Thaw), Ok(Answer::Done));
    assert_eq!(file_systems(linux), "thawed");
    linux.run(&format!("while [ $(wc -l </run/count) -lt {} ]; do sleep 0.1; done", frozen + 5));
    // A command runs while it is frozen: the exit code is the command's.
    let frozen = linux.verb(&["freeze", NAME, "--", env!("CARGO_BIN_EXE_viridian"), "check", "--nonsense"]);
    assert_eq!((frozen.0, file_systems(linux)), (Some(2), Json::from("thawed")), "{frozen:?}");
    // This thaw is not requested.
    assert_eq!(linux.ask(Kind::Vss, freeze(2)), Ok(Answer::Frozen));
    linux.until(Kind::Vss, "a freeze ends by itself", |status| {
        serde_json::to_value(status).is_ok_and(|status| status["file-systems"] == "thawed")
    });
    linux.run("echo >/run/count; while [ $(wc -l </run/count) -lt 5 ]; do sleep 0.1; done; kill $writer");
}

/// On disks in the guest's memory, beside the root. Loop devices would be left out by the daemon.
pub fn btrfs_and_xfs_are_frozen_too(linux: &Linux) {
    linux.run("modprobe brd rd_nr=2 rd_size=131072 && modprobe btrfs && modprobe xfs && mkdir /run/btrfs /run/xfs");
    linux.run("mkfs.btrfs -q /dev/ram0 && mount -t btrfs /dev/ram0 /run/btrfs");
    linux.run("zcat /xfs.img.gz >/dev/ram1 && mount -t xfs /dev/ram1 /run/xfs");
    assert_eq!(linux.ask(Kind::Vss, freeze(600)), Ok(Answer::Frozen));
    for name in ["btrfs", "xfs"] {
        linux.run(&format!("(echo x >/run/{name}/file; echo >/run/{name}.written) &"));
    }
    linux.run("sleep 1; [ ! -e /run/btrfs.written ] && [ ! -e /run/xfs.written ]");
    assert_eq!(linux.ask(Kind::Vss, Request::Thaw), Ok(Answer::Done));
    linux.run("until [ -e /run/btrfs.written ] && [ -e /run/xfs.written ]; do sleep 0.1; done; sync");
    linux.run("rm /run/*.written; umount /run/btrfs /run/xfs");
}

pub fn killed_daemons_harm_nobody(linux: &Linux) {
    // The driver answers instead of the ended daemon.
    linux.run("killall -KILL hv_vss_daemon $fcopy; while pidof hv_vss_daemon $fcopy; do sleep 0.1; done");
    let failed = linux.ask(Kind::Vss, freeze(60)).unwrap_err();
    assert!(failed.to_string().contains("its daemon for this service must run"), "{failed}");
    assert!(linux.ask(Kind::FileCopy, copy("/run/a", b"x", true)).is_err());
    linux.run("daemon vss; daemon fcopy");
    linux.until_answered("files are copied", || {
        linux.ask(Kind::FileCopy, copy("/run/a", b"x", true)) == Ok(Answer::Copied(1))
    });
    linux.until_answered("the guest is frozen", || linux.ask(Kind::Vss, freeze(60)) == Ok(Answer::Frozen));
    assert_eq!(linux.ask(Kind::Vss, Request::Thaw), Ok(Answer::Done));
    // The driver keeps a KVP request until the next daemon starts.
    linux.run("killall -KILL hv_kvp_daemon; while pidof hv_kvp_daemon; do sleep 0.1; done; daemon kvp");
    let value = linux.ask(Kind::KeyValue, Request::KeyValue(KeyValue::Get(Pool::External, "key 8".into())));
    assert_eq!(value, Ok(Answer::Value(Some(Value::Text("wört 8".into())))));
}

/// Each service has a channel of its own.
pub fn a_stopped_daemon_delays_only_its_service(linux: &Linux) {
    linux.run("kill -STOP $(pidof hv_kvp_daemon)");
    let waiting = linux.service(Kind::KeyValue).ask(Request::KeyValue(KeyValue::List(Pool::Guest)));
    let waiting = waiting.expect("it is accepted");
    let beats = json(linux, Kind::Heartbeat)["beats"].as_u64().expect("a number");
    linux.until(Kind::Heartbeat, "it beats", |status| {
        serde_json::to_value(status).is_ok_and(|status| status["beats"].as_u64() > Some(beats + 1))
    });
    assert_eq!(linux.ask(Kind::Time, Request::SyncTime), Ok(Answer::Done));
    linux.run("kill -CONT $(pidof hv_kvp_daemon)");
    // Linux gives its daemon 30 s.
    let listed = waiting.wait(grown(2 * SOON));
    assert!(matches!(listed, Some(Ok(Answer::Items(_)) | Err(Failure::Guest(_)))), "{listed:?}");
}

pub fn services_come_and_go(linux: &Linux, rounds: u32) {
    for round in 0..rounds {
        for kind in Kind::ALL {
            let devices = linux.run("ls /sys/bus/vmbus/devices | wc -l");
            assert!(linux.with(|machine| machine.services().disable(kind)), "{kind}, round {round}");
            // Linux does not support an offer that comes before it has removed the device.
            linux.run(&format!("until [ $(ls /sys/bus/vmbus/devices | wc -l) -lt {devices} ]; do sleep 0.1; done"));
            let offered = linux.with(|machine| machine.services().enable(kind, Forced::default()).map(drop));
            offered.expect("it is offered again");
            linux.run(
                "await_devices; for name in kvp vss fcopy; do pidof $(program $name) >/dev/null || daemon $name; done",
            );
        }
        Kind::ALL.into_iter().for_each(|kind| is_ready(linux, kind));
        the_guest_is_alive(linux);
    }
    // The watchdog for soft lockups measures time, of which a busy host may give none.
    assert_eq!(
        linux.run(
            "dmesg | grep -E 'BUG:|Oops|WARNING:|hung task' | grep -vE 'fpu__init_system_xstate|soft lockup' || true"
        ),
        ""
    );
}

pub fn the_driver_is_unloaded_while_frozen(linux: &Linux) {
    assert_eq!(linux.ask(Kind::Vss, freeze(600)), Ok(Answer::Frozen));
    // A daemon keeps the module in use.
    linux.run("killall -KILL hv_kvp_daemon hv_vss_daemon $fcopy; until rmmod hv_utils; do sleep 0.1; done");
    linux.until(Kind::Vss, "the channel is closed", |status| status.state == State::Closed);
    assert_eq!(file_systems(linux), "thawing", "a thaw is owed");
    linux.run("modprobe hv_utils; await_devices; for name in kvp vss fcopy; do daemon $name; done");
    linux.until(Kind::Vss, "the guest is thawed", |status| {
        serde_json::to_value(status).is_ok_and(|status| status["file-systems"] == "thawed")
    });
    linux.run("echo x >>/log; sync");
    Kind::ALL.into_iter().for_each(|kind| is_ready(linux, kind));
}

/// Linux restarts by itself when the shutdown service asks for it, and uses all services again.
pub fn the_guest_restarts(linux: &Linux) {
    let id = linux.run("cat /proc/sys/kernel/random/boot_id");
    let (code, output, errors) = linux.verb(&["restart", NAME, "--json", "--shutdown", "300"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    let restarted: Json = serde_json::from_str(&output).expect("JSON");
    assert_eq!(restarted["restarted-by"], "shutdown-service", "{output}{errors}");
    linux.wait_until_ready();
    assert_ne!(linux.run("cat /proc/sys/kernel/random/boot_id"), id);
    Kind::ALL.into_iter().for_each(|kind| is_ready(linux, kind));
    the_guest_is_alive(linux);
}

pub fn the_guest_shuts_down(linux: Linux) {
    let (code, output, errors) = linux.verb(&["stop", NAME, "--json", "--shutdown", "300"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    let stopped: Json = serde_json::from_str(&output).expect("JSON");
    assert_eq!(stopped["stopped-by"], "shutdown-service", "{output}");
    let end = linux.end();
    assert!(matches!(*end, End::PoweredOff), "{end}");
}
