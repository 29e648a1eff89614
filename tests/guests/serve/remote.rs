//! Commands for the machines of another host: the same as for those of this one.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::service::{Host, SOON, definition, signal};
use super::tls::Authority;
use crate::command::{Run, viridian};
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within, patience};

/// A client on a host of its own.
struct Elsewhere {
    folder: tempfile::TempDir,
    options: Vec<String>,
    token: String,
}

impl Elsewhere {
    fn new(url: &str, more: &[&str], token: &str) -> Self {
        let options = ["--host", url].iter().chain(more).map(|option| (*option).to_owned()).collect();
        Self { folder: tempfile::tempdir().unwrap(), options, token: token.into() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = viridian();
        command.env("VIRIDIAN_RUNTIME_DIR", self.folder.path()).env("VIRIDIAN_TOKEN", &self.token);
        command.args(arguments).args(&self.options);
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().unwrap().into()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
        run.output
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Writes a definition, and returns its path.
    fn file(&self, guest: &str, cmdline: &str) -> String {
        let path = self.folder.path().join("machine.toml");
        std::fs::write(&path, definition(guest, cmdline, "")).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn token(host: &Host) -> String {
    std::fs::read_to_string(host.state().join("token")).unwrap().trim().to_owned()
}

#[test]
fn machines_of_another_host_are_used_as_those_of_this_one() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    authority.sign("server", 30);
    let (host, port) = authority.serve("server", "");
    let ca = authority.path("ca.pem");
    let there = Elsewhere::new(&format!("https://localhost:{port}"), &["--ca", ca.to_str().unwrap()], &token(&host));
    assert_eq!(there.json(&["list"]), json!([]));
    there.done(&["define", "talker", &there.file("exits", "echo"), "--restart", "always"]);
    there.done(&["define", "guest", &there.file("services", &format!("driver=good {}", patience()))]);
    let stopped = there.json(&["inspect", "talker"]);
    assert_eq!((&stopped["state"], &stopped["end"]), (&"stopped".into(), &Value::Null));
    let stopped = there.run(&["pause", "talker"]);
    assert!(stopped.code == Some(2) && stopped.errors.contains("it is stopped at https://localhost"), "{stopped:?}");
    assert_eq!(there.run(&["inspect", "nobody"]).code, Some(2));
    there.done(&["start", "talker", "guest"]);
    let list = there.done(&["list"]);
    assert!(list.contains("talker  running") && list.contains("guest   running"), "{list}");
    // The same output as on the host itself.
    let shape = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let here: Value = serde_json::from_str(&host.run(&["inspect", "talker", "--json"]).output).unwrap();
    assert_eq!(shape(&there.json(&["inspect", "talker"])), shape(&here));
    assert_eq!(there.done(&["wait", "talker", "--for", "text=echoing by polling"]), "echoing by polling\n");
    assert_eq!(there.run(&["wait", "talker", "--for", "text=never", "--timeout", "0.2"]).code, Some(124));
    there.done(&["pause", "talker"]);
    assert!(there.done(&["list"]).contains("talker  paused"));
    there.done(&["resume", "talker"]);
    assert_eq!(there.done(&["wait", "guest", "--for", "address"]), "10.0.2.15\n");
    assert_eq!(there.json(&["disk", "guest", "list"]), json!({}));
    assert!(there.done(&["services", "guest"]).contains("heartbeat"));
    // A console: what one types, all see.
    let mut typist = there.start(&["console", "talker"]);
    let mut input = typist.stdin.take().unwrap();
    input.write_all(b"typed from elsewhere\n").unwrap();
    there.done(&["wait", "talker", "--for", "text=typed from elsewhere"]);
    // The service ends it, and does not start it again.
    let events = there.start(&["events", "guest"]);
    let stop = there.json(&["stop", "guest"]);
    assert_eq!(stop["end"]["kind"], "powered-off", "{stop}");
    let events = Run::from(events.wait_with_output().unwrap());
    assert!(events.code == Some(0) && events.output.ends_with("the guest powered off\n"), "{events:?}");
    there.done(&["kill", "talker"]);
    drop(input);
    let typist = Run::from(typist.wait_with_output().unwrap());
    assert!(typist.code == Some(0) && typist.output.contains("typed from elsewhere"), "{typist:?}");
    host.until_state("talker", "stopped");
    assert!(there.done(&["metrics"]).contains("viridian_machines{state=\"stopped\"} 2"));
    let removed = || there.run(&["undefine", "talker", "guest"]).code == Some(0) || host.names().is_empty();
    assert!(holds_within(grown(SOON), removed), "{:?}", host.names());
}

#[test]
fn what_is_wrong_between_hosts_is_said_with_a_remedy() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    authority.sign("server", 30);
    let (host, port) = authority.serve("server", "");
    let url = format!("https://localhost:{port}");
    let ca = authority.path("ca.pem").display().to_string();
    let fails = |more: &[&str], token: &str, code: i32, words: &str| {
        let run = Elsewhere::new(&url, more, token).run(&["list"]);
        assert!(run.code == Some(code) && run.errors.contains(words), "{more:?}: {run:?}");
    };
    fails(&["--ca", &ca], "wrong", 1, "the request has no valid token");
    fails(&["--ca", &ca], "", 1, "the request has no valid token");
    fails(&["--fingerprint", &"0".repeat(64)], &token(&host), 125, "its certificate has another fingerprint");
    let other = Authority::new();
    fails(
        &["--ca", &other.path("ca.pem").display().to_string()],
        &token(&host),
        125,
        "this host does not trust its certificate",
    );
    fails(&["--ca", "/nonexistent"], &token(&host), 2, "/nonexistent: No such file");
    // The fingerprint that the service prints needs no authority.
    let fingerprint = host.said("the fingerprint of the certificate is ");
    let there = Elsewhere::new(&url, &["--fingerprint", &fingerprint], &token(&host));
    assert_eq!(there.json(&["list"]), json!([]));
    // What is of this host only says so.
    host.define("web", "");
    there.done(&["start", "web"]);
    for (arguments, words) in [
        (&["copy", "/etc/hostname", "web:/x", "--make-path"][..], "leave --make-path out"),
        (&["screenshot", "web", "/nowhere/x.png"], "run it with --display on"),
        (&["list", "--service", "/x"], "leave one of them out"),
        (&["start", "web", "--service", "/x"], "leave one of them out"),
        (&["check"], "this command is for this host only"),
    ] {
        let run = there.run(arguments);
        assert!(run.code == Some(2) && run.errors.contains(words), "{arguments:?}: {run:?}");
    }
    // Nobody listens, or it is no service.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = Elsewhere::new(&format!("https://127.0.0.1:{free}"), &["--ca", &ca], "x").run(&["list"]);
    assert!(run.code == Some(125) && run.errors.contains("Connection refused"), "{run:?}");
    // An expired certificate.
    authority.sign("server", 0);
    let (old, port) = authority.serve("server", "");
    let there = Elsewhere::new(&format!("https://localhost:{port}"), &["--ca", &ca], &token(&old));
    let expired = || there.run(&["list"]);
    let is_refused = || expired().errors.contains("its certificate has expired");
    assert!(holds_within(grown(SOON), is_refused), "{:?}", expired());
}

#[test]
fn a_role_limits_what_is_passed_on_to_a_machine() {
    let host = Host::serve_with(&["--listen", "unix:", "--listen", "tcp:127.0.0.1:0"]);
    let url = host.said("serving at ").replace("unix:", "");
    let port = host.said("serving at http://127.0.0.1:").trim_end_matches('/').to_owned();
    assert!(!url.is_empty());
    host.define_with("talker", "exits", "echo", "");
    host.post("/machines/talker/start");
    let client = |role: &str| {
        let token = host.run(&["access", "add", role, "--role", role]).output.trim().to_owned();
        Elsewhere::new(&format!("http://127.0.0.1:{port}"), &[], &token)
    };
    let (read, operate) = (client("read"), client("operate"));
    read.done(&["inspect", "talker"]);
    for arguments in [&["pause", "talker"][..], &["kill", "talker"], &["console", "talker"], &["undefine", "talker"]] {
        let run = read.run(arguments);
        assert!(run.code == Some(1) && run.errors.contains("this needs the role"), "{arguments:?}: {run:?}");
    }
    operate.done(&["pause", "talker"]);
    operate.done(&["resume", "talker"]);
    let run = operate.run(&["disk", "talker", "attach", "/etc/hostname"]);
    assert!(run.code == Some(1) && run.errors.contains("this needs the role administer"), "{run:?}");
    let text = std::fs::read_to_string(host.state().join("audit.log")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_there = |who: &str, what: &str, status: u16| {
        lines.iter().any(|line| line["who"] == who && line["what"] == what && line["status"] == status)
    };
    assert!(is_there("operate", "machine-pause", 200) && is_there("operate", "attach-disk", 403), "{text}");
    // A wait for a picture reads a file of the host.
    let wait = |who: &Elsewhere, what: &str| who.run(&["wait", "talker", "--for", what, "--timeout", "1"]);
    let (picture, text) = (wait(&operate, "picture=/etc/hostname"), wait(&operate, "screen-text=a"));
    assert!(picture.errors.contains("needs the role administer"), "{picture:?}");
    assert!(text.errors.contains("run it with --display on"), "{text:?}");
    // By the Unix socket, without a token.
    let own = Elsewhere::new(&format!("unix:{}", host.socket().display()), &[], "");
    assert_eq!(own.json(&["inspect", "talker"])["name"], "talker");
}

#[test]
fn a_machine_of_another_host_that_hangs_is_listed_as_not_answering() {
    let host = Host::serve();
    host.define("web", "");
    host.post("/machines/web/start");
    host.until_state("web", "running");
    let own = format!("unix:{}", host.socket().display());
    let list = || {
        let run: Run = host.command(&["--host", &own, "list", "--json"]).output().unwrap().into();
        let list: Value = serde_json::from_str(&run.output).unwrap_or_else(|error| panic!("{error}: {run:?}"));
        (run.code, list[0]["state"].clone())
    };
    assert_eq!(list(), (Some(0), json!("running")));
    let process = host.process("web").unwrap();
    signal(process, Signal::STOP);
    assert!(holds_within(grown(SOON), || list() == (Some(124), json!("not-answering"))), "{:?}", list());
    assert_eq!(host.machine("web")["answers"], false);
    signal(process, Signal::CONT);
    assert!(holds_within(grown(SOON), || list() == (Some(0), json!("running"))), "{:?}", list());
}
