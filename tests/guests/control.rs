//! Control sockets and the verbs that use them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::command::{Run, image, limit, viridian};
use crate::common::patience::{grown, holds_within, patience};

/// A directory for control sockets, and the machines with sockets in it.
pub struct Host {
    pub directory: tempfile::TempDir,
    machines: Vec<Child>,
}

impl Host {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), machines: Vec::new() }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("viridian")
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.sock"))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = viridian();
        command.env("VIRIDIAN_RUNTIME_DIR", self.path()).args(arguments);
        command
    }

    /// Runs a verb.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs a verb that must succeed, and returns its JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
        serde_json::from_str(&run.output).unwrap_or_else(|error| panic!("{error}: {run:?}"))
    }

    /// Starts a machine with a guest image.
    pub fn start(&mut self, guest: &str, options: &[&str]) -> &mut Child {
        let (kernel, time) = (image(guest), limit(120));
        let fixed = ["run", "--console", "none", "--timeout", &time, "--kernel", kernel.to_str().unwrap()];
        let child = self.command(&[&fixed, options].concat()).stderr(Stdio::piped()).spawn().unwrap();
        self.machines.push(child);
        self.machines.last_mut().unwrap()
    }

    /// Starts the guest that uses all services, and waits until it does.
    pub fn start_with_services(&mut self, name: &str) {
        let cmdline = format!("driver=good {}", patience());
        self.start("services", &["--name", name, "--cmdline", &cmdline]);
        let in_use = |tree: &Value| {
            let services = ["shutdown", "time", "heartbeat", "kvp", "vss", "file-copy"];
            services.iter().all(|service| tree["devices"][service]["status"]["state"] == "ready")
        };
        self.until(name, |tree| in_use(tree) && tree["devices"]["kvp"]["status"]["addresses"][0] == "10.0.2.15");
    }

    /// Starts a guest that halts.
    pub fn start_halted(&mut self, name: &str) {
        self.start("exits", &["--name", name, "--cmdline", "halt"]);
        self.until(name, |tree| tree["state"] == "running");
    }

    /// Waits until a machine has this state.
    #[track_caller]
    pub fn until(&self, name: &str, is_so: impl Fn(&Value) -> bool) {
        let tree = || serde_json::from_str(&self.run(&["inspect", name, "--json"]).output).unwrap_or(Value::Null);
        assert!(holds_within(grown(Duration::from_secs(60)), || is_so(&tree())), "{name}: {}", tree());
    }

    pub fn names(&self) -> Vec<String> {
        let list = self.json(&["list"]);
        list.as_array().unwrap().iter().map(|machine| machine["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits for the end of a machine. Returns its exit code and its messages.
    pub fn end(&mut self, index: usize) -> (Option<i32>, String) {
        let child = &mut self.machines[index];
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in &mut self.machines {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends bytes to a socket, and returns the reply.
fn exchange(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    // A server that refuses stops reading.
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn running_machines_are_listed_and_inspected_and_two_of_one_name_have_numbers() {
    let mut host = Host::new();
    assert_eq!(host.names(), [""; 0]);
    host.start_halted("web");
    host.start("exits", &["--name", "web", "--cmdline", "halt"]);
    host.until("web-2", |tree| tree["state"] == "running");
    assert_eq!(host.names(), ["web", "web-2"]);
    let both = host.json(&["inspect", "web", "web-2"]);
    assert_eq!((&both[0]["name"], &both[1]["name"]), (&"web".into(), &"web".into()));
    assert_ne!(both[0]["process"], both[1]["process"]);
    let list = host.run(&["list"]);
    assert!(list.output.starts_with("name   state    process"), "{list:?}");
    let missing = host.run(&["inspect", "shop"]);
    assert!(missing.code == Some(2) && missing.errors.contains("these run: web, web-2"), "{missing:?}");
    let path = host.socket("web-2");
    assert_eq!(host.json(&["inspect", path.to_str().unwrap()])["name"], "web");
}

#[test]
fn a_guest_is_shut_down_by_its_service() {
    let mut host = Host::new();
    host.start_with_services("guest");
    let run = host.run(&["stop", "guest", "--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let stopped: Value = serde_json::from_str(&run.output).unwrap();
    assert_eq!((&stopped["stopped-by"], &stopped["end"]["kind"]), (&"shutdown-service".into(), &"powered-off".into()));
    assert!(run.errors.contains("guest: asking the guest to shut down"), "{run:?}");
    assert_eq!(host.end(0).0, Some(0));
    assert!(!host.socket("guest").exists());
    host.start_with_services("other");
    let begun = host.json(&["stop", "other", "--no-wait"]);
    assert_eq!(begun, serde_json::json!({ "name": "other", "stopped-by": "shutdown-service", "end": null }));
    assert_eq!(host.end(1).0, Some(0));
}

#[test]
fn a_guest_that_does_not_shut_down_is_stopped_by_force_and_each_step_is_reported() {
    let mut host = Host::new();
    host.start_halted("deaf");
    let run = host.run(&["stop", "deaf", "--power-button", "0.2", "--no-force"]);
    assert!(run.code == Some(124) && run.errors.contains("the machine still runs"), "{run:?}");
    assert!(run.errors.contains("the guest does not use the service shutdown"), "{run:?}");
    let run = host.run(&["stop", "--all", "--power-button", "0.2"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    for words in ["pressing the power button", "has not ended within 0.2 seconds", "ending the machine by force"] {
        assert!(run.errors.contains(words), "{words}: {run:?}");
    }
    assert_eq!(host.end(0).0, Some(143));
}

#[test]
fn machines_are_paused_and_resumed_and_killed() {
    let mut host = Host::new();
    host.start_halted("one");
    host.start_halted("other");
    assert_eq!(host.run(&["pause", "--all"]).code, Some(0));
    let states = |host: &Host| [0, 1].map(|number| host.json(&["list"])[number]["state"].clone());
    assert_eq!(states(&host), ["paused", "paused"]);
    assert_eq!(host.json(&["resume", "other"])["name"], "other");
    assert_eq!(states(&host), ["paused", "running"]);
    assert_eq!(host.run(&["kill", "one"]).code, Some(0));
    assert_eq!(host.end(0).0, Some(143));
    assert_eq!(host.names(), ["other"]);
    let unknown = host.run(&["command", "other", "console", "sing"]);
    assert!(unknown.code == Some(2) && unknown.errors.contains("the device takes no commands"), "{unknown:?}");
}

#[test]
fn a_killed_process_is_not_listed_and_its_socket_is_used_again() {
    let mut host = Host::new();
    host.start_halted("victim");
    host.machines[0].kill().unwrap();
    host.machines[0].wait().unwrap();
    assert!(host.socket("victim").exists(), "nobody could remove it");
    let run = host.run(&["inspect", host.socket("victim").to_str().unwrap()]);
    assert_eq!(run.code, Some(2), "{run:?}");
    host.start_halted("victim");
    assert_eq!(host.names(), ["victim"]);
    host.machines[1].kill().unwrap();
    host.machines[1].wait().unwrap();
    assert_eq!(host.names(), [""; 0]);
    assert!(!host.socket("victim").exists(), "a list removes what nobody listens on");
}

#[test]
fn a_machine_runs_without_a_control_socket_if_that_is_off_or_impossible() {
    let host = Host::new();
    let kernel = image("exits");
    let machine = ["run", "--console", "none", "--kernel", kernel.to_str().unwrap(), "--cmdline", "exit=3"];
    let run = host.run(&[&machine[..], &["--control", "off"]].concat());
    assert_eq!((run.code, &*run.errors), (Some(3), "viridian: the guest wrote 3 to the exit port\n"));
    assert!(!host.path().exists());
    std::fs::write(host.path(), "a file").unwrap();
    let run = host.run(&machine);
    assert_eq!((run.code, &*run.errors), (Some(3), "viridian: the guest wrote 3 to the exit port\n"));
    let run = host.run(&[&["-v"], &machine[..]].concat());
    assert!(run.errors.contains("there is no control socket: "), "{run:?}");
    // A path that the user has chosen must work.
    let run = host.run(&[&machine[..], &["--control", "/nonexistent/a.sock"]].concat());
    assert!(run.code == Some(2) && run.errors.contains("--control: /nonexistent/a.sock"), "{run:?}");
}

#[test]
fn hostile_clients_do_not_affect_others() {
    let mut host = Host::new();
    host.start_halted("target");
    let path = host.socket("target");
    // Some clients send nothing, and one sends a request and does not read.
    let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut deaf = UnixStream::connect(&path).unwrap();
    deaf.write_all(b"GET /events HTTP/1.1\r\n\r\n").unwrap();
    assert!(exchange(&path, b"\0\x01\x02 garbage\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(exchange(&path, &vec![b'x'; 64 << 20]).starts_with("HTTP/1.1 413 "));
    let long = format!("POST /shutdown HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 1_u64 << 30);
    assert!(exchange(&path, long.as_bytes()).starts_with("HTTP/1.1 413 "));
    let deep = "[".repeat(100_000);
    let deep = format!("POST /devices/console/x HTTP/1.1\r\nContent-Length: {}\r\n\r\n{deep}", deep.len());
    assert!(exchange(&path, deep.as_bytes()).contains("recursion limit"));
    let begun = Instant::now();
    assert_eq!(host.names(), ["target"]);
    assert!(begun.elapsed() < grown(Duration::from_secs(5)), "others are not waited for");
    // More connections than the maximum: the surplus is refused at once.
    let flood: Vec<_> = (0..200).filter_map(|_| UnixStream::connect(&path).ok()).collect();
    let refused = |stream: &UnixStream| {
        let _ = stream.set_nonblocking(true);
        let mut start = [0; 12];
        matches!((&mut &*stream).read(&mut start), Ok(12) if &start == b"HTTP/1.1 503")
    };
    let some_are_refused = || flood.iter().filter(|stream| refused(stream)).count() > 0;
    assert!(holds_within(grown(Duration::from_secs(20)), some_are_refused));
    drop((silent, deaf, flood));
    let kill = || host.run(&["kill", "target"]).code == Some(0);
    assert!(holds_within(grown(Duration::from_secs(20)), kill));
    assert_eq!(host.end(0).0, Some(143));
}

#[test]
fn services_are_listed_and_turned_off_and_on() {
    let mut host = Host::new();
    host.start_with_services("guest");
    let services = host.json(&["services", "guest"]);
    let states: Vec<_> = services.as_array().unwrap().iter().map(|service| &service["status"]["state"]).collect();
    assert_eq!(states, ["ready"; 6]);
    assert!(host.run(&["services", "guest"]).output.contains("time       ready        4.0   Time Synchronization"));
    assert_eq!(host.run(&["services", "guest", "heartbeat=off", "vss=off"]).code, Some(0));
    let off = host.json(&["services", "guest"]);
    assert_eq!((&off[2]["enabled"], &off[2]["status"]), (&false.into(), &Value::Null));
    let frozen = host.run(&["freeze", "guest", "--", "true"]);
    assert!(frozen.code == Some(1) && frozen.errors.contains("the service vss is off"), "{frozen:?}");
    assert_eq!(host.run(&["services", "guest", "heartbeat=on"]).code, Some(0));
    assert_eq!(host.json(&["services", "guest"])[2]["enabled"], true);
    for (switch, words) in [("sleep=on", "there is no service \"sleep\""), ("time=3.0", "write SERVICE=on")] {
        let run = host.run(&["services", "guest", switch]);
        assert!(run.code == Some(2) && run.errors.contains(words), "{run:?}");
    }
    host.run(&["kill", "guest"]);
    host.end(0);
    let stream = host.run(&["events", "guest"]);
    assert_eq!(stream.code, Some(2), "it has ended: {stream:?}");
}

#[test]
fn items_are_sent_and_read() {
    let mut host = Host::new();
    host.start_with_services("guest");
    for arguments in [&["kvp", "guest", "set", "a b/ü", "7"][..], &["kvp", "guest", "set", "n", "7", "--number"]] {
        let run = host.run(arguments);
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    let intrinsic = host.json(&["kvp", "guest", "list", "intrinsic"]);
    let items = intrinsic["intrinsic"].as_array().unwrap();
    assert!(items.iter().any(|item| item["key"] == "NetworkAddressIPv4" && item["value"] == "10.0.2.15"), "{items:?}");
    let run = host.run(&["kvp", "guest", "get", "NetworkAddressIPv4", "--pool", "intrinsic"]);
    assert_eq!((run.code, &*run.output), (Some(0), "10.0.2.15\n"));
    let run = host.run(&["kvp", "guest", "get", "missing", "--pool", "intrinsic"]);
    assert!(run.code == Some(2) && run.errors.contains("no item \"missing\""), "{run:?}");
    let run = host.run(&["kvp", "guest", "set", "a", "b", "--pool", "intrinsic"]);
    assert!(run.code == Some(2) && run.errors.contains("the host cannot change them"), "{run:?}");
    let run = host.run(&["kvp", "guest", "set", "a", &"x".repeat(2000)]);
    assert_eq!(run.code, Some(2), "{run:?}");
}

#[test]
fn a_file_is_copied_and_what_is_no_file_is_refused() {
    let mut host = Host::new();
    host.start_with_services("guest");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![3; 20_000]).unwrap();
    let file = file.to_str().unwrap();
    let copied = host.json(&["copy", file, "guest:/a/", "--make-path"]);
    assert_eq!((&copied["bytes"], &copied["target"]), (&20_000.into(), &"/a/file".into()));
    let run = host.run(&["copy", folder.path().to_str().unwrap(), "guest:/a/b"]);
    assert!(run.code == Some(2) && run.errors.contains("not a regular file"), "{run:?}");
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let run = host.run(&["copy", pipe.to_str().unwrap(), "guest:/a/b"]);
    assert!(run.code == Some(2) && run.errors.contains("not a regular file"), "{run:?}");
    let run = host.run(&["copy", file, "guest"]);
    assert!(run.code == Some(2) && run.errors.contains("NAME:/folder/file"), "{run:?}");
}

#[test]
fn file_systems_are_frozen_while_a_command_runs_and_are_always_thawed() {
    let mut host = Host::new();
    host.start_with_services("guest");
    let state = |host: &Host| host.json(&["inspect", "guest"])["devices"]["vss"]["status"]["file-systems"].clone();
    let program = env!("CARGO_BIN_EXE_viridian");
    let script = format!("{program} inspect guest --json | grep -q '\"file-systems\": \"frozen\"' && exit 7");
    let run = host.run(&["freeze", "guest", "--", "sh", "-c", &script]);
    assert_eq!(run.code, Some(7), "{run:?}");
    assert_eq!(state(&host), "thawed");
    let run = host.run(&["freeze", "guest", "--", "/nonexistent"]);
    assert!(run.code == Some(127) && state(&host) == "thawed", "{run:?}");
    // Kill the process that made the request. Its command reads its input, so it ends as well.
    let mut client = host.command(&["freeze", "guest", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    host.until("guest", |tree| tree["devices"]["vss"]["status"]["file-systems"] == "frozen");
    client.kill().unwrap();
    client.wait().unwrap();
    host.until("guest", |tree| tree["devices"]["vss"]["status"]["file-systems"] == "thawed");
    // The time limit passes.
    let run = host.run(&["freeze", "guest", "--limit", "1", "--", "sleep", "3"]);
    assert!(run.code == Some(1) && run.errors.contains("were thawed before"), "{run:?}");
}

#[test]
fn a_machine_is_waited_for_and_its_events_are_followed() {
    let mut host = Host::new();
    host.start_with_services("guest");
    let events = host.command(&["events", "guest"]).stdout(Stdio::piped()).spawn().unwrap();
    let run = host.run(&["wait", "guest", "--for", "address"]);
    assert_eq!((run.code, &*run.output), (Some(0), "10.0.2.15\n"));
    assert_eq!(host.json(&["wait", "guest", "--for", "heartbeat"])["heartbeat"], "OkApplicationsUnknown");
    let run = host.run(&["wait", "guest", "--for", "end", "--timeout", "0.2"]);
    assert_eq!(run.code, Some(124), "{run:?}");
    assert!(run.errors.contains("the machine has not ended within 0.2 s"), "{run:?}");
    let waits = host.command(&["wait", "guest", "--for", "end", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(host.run(&["stop", "guest"]).code, Some(0));
    let run = Run::from(waits.wait_with_output().unwrap());
    let end: Value = serde_json::from_str(&run.output).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    assert_eq!(end["end"]["kind"], "powered-off");
    let run = Run::from(events.wait_with_output().unwrap());
    for words in ["heartbeat: OK, applications unknown\n", "kvp: the guest's addresses are 10.0.2.15\n"] {
        assert!(run.output.contains(words), "{words}: {run:?}");
    }
    assert!(run.output.ends_with("the guest powered off\n"), "{run:?}");
}

#[test]
fn several_clients_can_watch_a_console_and_one_can_type() {
    let mut host = Host::new();
    host.start("exits", &["--name", "talker", "--cmdline", "echo"]);
    host.until("talker", |tree| tree["state"] == "running");
    let run = host.run(&["wait", "talker", "--for", "text=echoing by polling"]);
    assert_eq!((run.code, &*run.output), (Some(0), "echoing by polling\n"), "{run:?}");
    let run = host.run(&["wait", "talker", "--for", "text=never", "--timeout", "0.2"]);
    assert_eq!(run.code, Some(124), "{run:?}");
    assert!(run.errors.contains("the guest has not printed the text within 0.2 s"), "{run:?}");
    let attach = |options: &[&str]| {
        let mut command = host.command(&[&["console", "talker"], options].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let watcher = attach(&["--read-only"]);
    // A client that never reads does not affect others.
    let mut stuck = UnixStream::connect(host.socket("talker")).unwrap();
    stuck.write_all(b"GET /console HTTP/1.1\r\n\r\n").unwrap();
    let mut first = attach(&[]);
    let mut input = first.stdin.take().unwrap();
    input.write_all(b"typed by the first\n").unwrap();
    let run = host.run(&["wait", "talker", "--for", "text=typed by the first"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let refused = host.run(&["console", "talker"]);
    assert!(refused.code == Some(1) && refused.errors.contains("another client types"), "{refused:?}");
    let refused = exchange(&host.socket("talker"), b"POST /console HTTP/1.1\r\nContent-Length: 8\r\n\r\n{\"x\": 1}");
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    let mut second = attach(&["--take"]);
    // The replaced client is notified and cannot type any more. Only then is it certain which client quits.
    let (mut seen, mut output) = (Vec::new(), first.stdout.take().unwrap());
    while !String::from_utf8_lossy(&seen).contains("taken the keyboard over") {
        let mut piece = [0; 512];
        let count = output.read(&mut piece).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend(&piece[..count]);
    }
    input.write_all(b"dropped\n").unwrap();
    second.stdin.take().unwrap().write_all(b"quit\n").unwrap();
    for client in [watcher, second] {
        let run = Run::from(client.wait_with_output().unwrap());
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.errors.ends_with("talker has ended\n"), "{run:?}");
        for words in ["typed by the first", "quitting"] {
            assert!(run.output.contains(words), "{words}: {run:?}");
        }
        assert!(!run.output.contains("dropped"), "{run:?}");
    }
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(host.end(0).0, Some(0));
}

#[test]
fn a_guest_starts_again_after_a_reset_by_the_host_even_if_its_own_end_the_machine() {
    let mut host = Host::new();
    host.start_with_services("guest");
    assert_eq!(host.run(&["reset", "guest"]).code, Some(0));
    host.until("guest", |tree| tree["restarts"] == 1 && tree["devices"]["shutdown"]["status"]["state"] == "ready");
    assert_eq!(host.run(&["pause", "guest"]).code, Some(0));
    assert_eq!(host.run(&["reset", "guest"]).code, Some(0));
    assert_eq!(host.run(&["resume", "guest"]).code, Some(0));
    host.until("guest", |tree| tree["restarts"] == 2 && tree["devices"]["shutdown"]["status"]["state"] == "ready");
    assert_eq!(host.run(&["stop", "guest"]).code, Some(0));
    assert_eq!(host.end(0).0, Some(0));
}

#[test]
fn disks_and_adapters_come_and_go() {
    let mut host = Host::new();
    host.start_halted("guest");
    assert_eq!(host.json(&["disk", "guest", "list"]), serde_json::json!({}));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.img"), vec![0; 1 << 20]).unwrap();
    let attached = host.command(&["disk", "guest", "attach", "a.img,lun=3"]).current_dir(&folder).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&attached.stdout), "disk0.3\n");
    assert_eq!(host.json(&["disk", "guest", "list"])["disk0.3"]["medium"]["size-bytes"], 1 << 20);
    for (size, code, words) in [("3M", 0, ""), ("2M", 1, "cannot become smaller"), ("3145729", 1, "not a multiple")] {
        let run = host.run(&["disk", "guest", "resize", "disk0.3", size]);
        assert!(run.code == Some(code) && run.errors.contains(words), "{size}: {run:?}");
        assert_eq!(host.json(&["disk", "guest", "list"])["disk0.3"]["medium"]["size-bytes"], 3 << 20);
    }
    assert_eq!(std::fs::metadata(folder.path().join("a.img")).unwrap().len(), 3 << 20);
    assert_eq!(host.run(&["disk", "guest", "resize", "disk0.4", "3M"]).code, Some(2));
    for (disk, words, code) in [
        ("memory:1M,lun=3", "lun=3 is taken", 1),
        ("memory:1M,lum=3", "unknown key `lum`", 2),
        ("/nonexistent/a.img", "/nonexistent/a.img", 1),
    ] {
        let run = host.run(&["disk", "guest", "attach", disk]);
        assert!(run.code == Some(code) && run.errors.contains(words), "{run:?}");
    }
    assert_eq!(host.run(&["disk", "guest", "detach", "disk0.3"]).code, Some(0));
    let run = host.run(&["disk", "guest", "detach", "disk0.3"]);
    assert!(run.code == Some(2) && run.errors.contains("there is no disk \"disk0.3\"; there is none"), "{run:?}");
    assert_eq!(host.json(&["adapter", "guest", "attach", "none"])["device"], "net0");
    assert_eq!(host.run(&["adapter", "guest", "link", "net0", "up"]).code, Some(0));
    assert!(host.run(&["adapter", "guest", "list"]).output.contains("link up"));
    assert_eq!(host.run(&["adapter", "guest", "detach", "net0"]).code, Some(0));
    assert_eq!(host.run(&["adapter", "guest", "detach", "net0"]).code, Some(2));
}

#[test]
fn the_threads_of_a_machine_share_a_heap() {
    let mut host = Host::new();
    host.start_halted("web");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", host.machines[0].id())).unwrap();
    // The allocator reserves 64 MiB for a heap, apart from that of the first thread.
    let reserved = maps.lines().filter(|line| line.split(' ').nth(1) == Some("---p")).filter(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let parse = |address| u64::from_str_radix(address, 16).unwrap();
        parse(end) - parse(start) >= 32 << 20
    });
    assert!(reserved.count() <= 1, "{maps}");
}
