//! The service as its users have it.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use super::service::{Host, SOON, definition, over_tcp, runs};
use crate::command::{Run, image, limit};
use crate::common::patience::{grown, holds_within};

#[test]
fn a_file_with_relative_paths_and_a_table_for_the_service_is_defined() {
    let host = Host::serve();
    let folder = host.folder.path();
    std::fs::copy(image("exits"), folder.join("kernel")).unwrap();
    let file = folder.join("web.toml");
    let text =
        "# Web\nkernel = \"kernel\"\ncmdline = \"halt\"\n[service]\ncpu = { weight = 7 }\nautostart = \"if-running\"\n";
    std::fs::write(&file, text).unwrap();
    let define = |more: &[&str]| {
        let run = host.run(&[&["define", "web", file.to_str().unwrap()], more].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        host.machine("web")
    };
    let machine = define(&[]);
    assert_eq!((&machine["cpu"]["weight"], &machine["autostart"]), (&7.into(), &"if-running".into()));
    // An option counts more than the file.
    let machine = define(&["--autostart", "--restart", "always"]);
    assert_eq!((&machine["cpu"]["weight"], &machine["autostart"]), (&7.into(), &"always".into()));
    assert_eq!(machine["restart"], "always");
    // The shares need a control group, which this service has not.
    let run = host.run(&["start", "web"]);
    assert!(run.code == Some(1) && run.errors.contains("start the service with --cgroup"), "{run:?}");
    std::fs::write(&file, text.replace("cpu = { weight = 7 }", "")).unwrap();
    define(&[]);
    let run = host.run(&["start", "web"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    host.until_state("web", "running");
    // With whole paths, the text of the user is kept.
    let whole = text.replace("\"kernel\"", &format!("{:?}", folder.join("kernel")));
    std::fs::write(&file, &whole).unwrap();
    define(&[]);
    assert_eq!(host.request("GET", "/machines/web/definition", "").body, whole);
    for (text, words) in [("kernel = ", "web.toml: line 1, column 10"), ("\nmemroy = 1\n", "web.toml:2:1: unknown key")]
    {
        std::fs::write(&file, text).unwrap();
        let run = host.run(&["define", "web", file.to_str().unwrap()]);
        assert!(run.code == Some(2) && run.errors.contains(words), "{run:?}");
    }
}

#[test]
fn machines_are_defined_started_listed_inspected_stopped_and_removed() {
    let host = Host::serve();
    host.define("one", "");
    host.define("two", "");
    let file = host.folder.path().join("three.toml");
    std::fs::write(&file, definition("services", &format!("driver=good {}", crate::common::patience::patience()), ""))
        .unwrap();
    let run = host.run(&["define", "three", file.to_str().unwrap(), "--autostart", "--restart", "on-failure"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(host.names(), ["one", "three", "two"]);
    let run = host.run(&["start", "one", "two", "three"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for name in ["one", "two", "three"] {
        host.until_state(name, "running");
    }
    let three = host.machine("three");
    assert_eq!(
        (&three["autostart"], &three["restart"], &three["vps"]),
        (&"always".into(), &"on-failure".into(), &1.into())
    );
    // The commands for running machines find them, too.
    let list = host.run(&["list"]);
    assert!(["one", "two", "three"].iter().all(|name| list.output.contains(name)), "{list:?}");
    assert_eq!(host.get("/machines/one/inspect")["name"], "one");
    assert_eq!(host.post("/machines/one/pause")["state"], "paused");
    assert_eq!(host.post("/machines/one/resume")["state"], "running");
    assert_eq!(host.post("/machines/one/reset")["state"], "running");
    // Each in its own way.
    host.until("three", |machine| machine["addresses"][0] == "10.0.2.15");
    assert_eq!(host.post("/machines/three/stop")["state"], "stopping");
    host.until("three", |machine| machine["state"] == "stopped" && machine["end"]["kind"] == "powered-off");
    assert_eq!(host.post("/machines/one/kill")["end"]["kind"], "terminated");
    let reply = host.request("DELETE", "/machines/two", "");
    assert!(reply.status == 409 && reply.body.contains("stop it first"), "{reply:?}");
    let body = r#"{"shutdown-seconds": 0, "power-button-seconds": 0}"#;
    assert_eq!(host.request("POST", "/machines/two/stop", body).status, 200);
    host.until_state("two", "stopped");
    let removed = || host.run(&["undefine", "one", "two", "three"]).code == Some(0);
    assert!(holds_within(grown(SOON), removed) || host.names().is_empty(), "{:?}", host.names());
    assert_eq!(host.names(), [""; 0]);
    assert_eq!(std::fs::read_dir(host.state().join("machines")).unwrap().count(), 0);
}

#[test]
fn a_machine_that_cannot_run_says_why() {
    let host = Host::serve();
    let put = host.request("PUT", "/machines/web", "kernel = \"/nonexistent/vmlinuz\"\n");
    assert_eq!(put.status, 201, "{put:?}");
    let run = host.run(&["start", "web"]);
    assert!(run.code == Some(1) && run.errors.contains("/nonexistent/vmlinuz"), "{run:?}");
    assert_eq!(host.machine("web")["state"], "stopped");
    // The commands say so without its process.
    let run = host.run(&["inspect", "web"]);
    assert!(run.code == Some(0) && run.output.contains("/nonexistent/vmlinuz"), "{run:?}");
    let list = host.run(&["list", "--all"]);
    assert!(list.output.contains("problem or last end") && list.output.contains("/nonexistent/vmlinuz"), "{list:?}");
    assert_eq!(host.run(&["list"]).output.lines().count(), 1, "it does not run");
    assert_eq!(host.run(&["list", "web"]).output.lines().count(), 2);
    let run = host.run(&["list", "shop"]);
    assert!(run.code == Some(2) && run.errors.contains("there is no machine \"shop\"; there is web"), "{run:?}");
    assert!(host.machine("web")["messages"].as_str().unwrap().contains("/nonexistent/vmlinuz"));
    let reply = host.request("POST", "/machines/web/pause", "");
    assert!(reply.status == 409 && reply.body.contains("start it first"), "{reply:?}");
    // A machine that the user has started by hand has the name's socket.
    host.define("mine", "");
    let kernel = image("exits");
    let mut own = host.command(&["run", "--name", "mine", "--console", "none", "--cmdline", "halt", "--kernel"]);
    let mut own = own.arg(kernel).spawn().unwrap();
    assert!(holds_within(grown(SOON), || host.run(&["resume", "mine"]).code == Some(0)));
    let run = host.run(&["start", "mine"]);
    assert!(run.code == Some(1) && run.errors.contains("another process listens there"), "{run:?}");
    own.kill().unwrap();
    own.wait().unwrap();
}

#[test]
fn relative_paths_are_relative_to_the_folder_of_the_settings_file() {
    let host = Host::serve();
    let file = host.folder.path().join("a.toml");
    std::fs::write(&file, "# The shop\nkernel = \"vmlinuz\"\n").unwrap();
    assert_eq!(host.run(&["define", "web", file.to_str().unwrap()]).code, Some(0));
    let text = host.request("GET", "/machines/web/definition", "").body;
    assert!(text.contains(&format!("kernel = \"{}/vmlinuz\"", host.folder.path().display())), "{text}");
    assert!(text.contains("on-reset = \"restart\""), "the default of the service: {text}");
    std::fs::write(&file, "# The shop\nkernel = \"/vmlinuz\"\n").unwrap();
    assert_eq!(host.run(&["define", "web", file.to_str().unwrap()]).code, Some(0));
    assert_eq!(host.request("GET", "/machines/web/definition", "").body, "# The shop\nkernel = \"/vmlinuz\"\n");
    std::fs::write(&file, "kernel = 3\n").unwrap();
    let run = host.run(&["define", "web", file.to_str().unwrap()]);
    assert!(run.code == Some(2) && run.errors.contains("a.toml:1:10"), "{run:?}");
}

#[test]
fn a_definition_comes_from_standard_input_and_all_that_are_stopped_are_removed() {
    let host = Host::serve();
    let folder = host.folder.path().canonicalize().unwrap();
    std::fs::copy(image("exits"), folder.join("kernel")).unwrap();
    let define = |name: &str, text: &str| -> Run {
        let mut command = host.command(&["define", name, "-"]);
        command.current_dir(&folder).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    };
    let run = define("web", "kernel = \"kernel\"\ncmdline = \"halt\"\n");
    assert_eq!(run.code, Some(0), "{run:?}");
    let text = host.request("GET", "/machines/web/definition", "").body;
    assert!(text.contains(&format!("kernel = \"{}\"", folder.join("kernel").display())), "{text}");
    assert_eq!(host.run(&["start", "web"]).code, Some(0));
    let run = define("db", "memroy = 1\n");
    assert!(run.code == Some(2) && run.errors.contains("standard input:1:1: unknown key"), "{run:?}");
    assert_eq!(define("db", "# The default guest.\n").code, Some(0));
    host.define("shop", "");
    assert_eq!(host.run(&["undefine", "--all"]).code, Some(0));
    assert_eq!(host.names(), ["web"], "it runs");
}

#[test]
fn events_are_followed_and_continued() {
    let host = Host::serve();
    let start = host.get("/machines")["last-event"].as_u64().unwrap();
    let mut events = host.events(start);
    host.define("web", "");
    let (number, _) = events.wait(|event| event["event"] == "defined" && event["machine"] == "web");
    host.post("/machines/web/start");
    let running = events.wait_for_state("web", "running");
    assert_eq!(running["process"].as_u64().map(|id| id as u32), host.process("web"));
    drop(events);
    let mut events = host.events(number);
    assert_eq!(events.wait(|_| true).1["state"], "starting", "the next one");
    host.post("/machines/web/kill");
    assert_eq!(events.wait_for_state("web", "stopped")["end"]["kind"], "terminated");
    let mut events = host.events(1);
    assert_eq!(events.wait(|_| true).1["event"], "lost", "that was long ago");
    events.wait(|event| event["event"] == "defined");
}

#[test]
fn a_console_that_goes_to_a_file_is_shown() {
    let host = Host::serve();
    let path = host.folder.path().join("console");
    host.define_with("web", "exits", "halt", &format!("console = \"file:{}\"\n", path.display()));
    host.define("mute", "");
    assert_eq!(host.request("GET", "/machines/web/console", "").body, "", "it has not run yet");
    std::fs::write(&path, "a\nb\n").unwrap();
    assert_eq!(host.request("GET", "/machines/web/console", "").body, "a\nb\n");
    let reply = host.request("GET", "/machines/mute/console", "");
    assert!(reply.status == 409 && reply.body.contains("file:PATH"), "{reply:?}");
}

#[test]
fn the_last_output_of_a_console_is_there_after_the_end_of_a_machine() {
    let host = Host::serve();
    host.define_with("web", "exits", "echo", "");
    let text = || host.request("GET", "/machines/web/console", "");
    assert_eq!(text().status, 409, "it has not run yet");
    let run = host.run(&["console", "web"]);
    assert!(run.code == Some(2) && run.errors.contains("it is stopped"), "{run:?}");
    host.post("/machines/web/start");
    host.until_state("web", "running");
    let printed = "echoing by polling";
    let wait = ["wait", "web", "--for", &format!("text={printed}"), "--timeout", &limit(60)];
    assert_eq!(host.run(&wait).code, Some(0));
    assert!(text().status == 409 && text().body.contains("attach to it"), "{:?}", text());
    host.post("/machines/web/kill");
    host.until_state("web", "stopped");
    assert!(text().status == 200 && text().body.contains(printed), "{:?}", text());
    let run = host.run(&["console", "web"]);
    assert!(run.code == Some(0) && run.output == text().body && run.errors.contains("web does not run"), "{run:?}");
    let json: serde_json::Value = serde_json::from_str(&host.run(&["console", "web", "--json"]).output).unwrap();
    assert_eq!((&json["name"], &json["output"]), (&json!("web"), &json!(text().body)));
    // The output of a run is no longer there in the next one, and goes with the machine.
    let file = host.sockets().join("serve/web.console");
    assert!(file.exists());
    assert_eq!(host.run(&["start", "web"]).code, Some(0));
    host.until_state("web", "running");
    assert_eq!(std::fs::read(&file).unwrap(), b"");
    host.post("/machines/web/kill");
    host.until_state("web", "stopped");
    assert!(holds_within(grown(SOON), || host.request("DELETE", "/machines/web", "").status == 200));
    assert!(!file.exists());
}

#[test]
fn a_port_needs_the_token_and_one_for_other_hosts_needs_tls() {
    for address in ["tcp:0.0.0.0:0", "tcp:[::]:0", "tcp:192.0.2.1:8080"] {
        let wrong = crate::command::run(&format!("serve --listen {address}"));
        assert!(wrong.code == Some(2) && wrong.errors.contains("it needs --tls cert=FILE,key=FILE"), "{wrong:?}");
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = Host::serve_with(&["--listen", &format!("tcp:127.0.0.1:{port}")]);
    let token = std::fs::read_to_string(host.state().join("token")).unwrap();
    let token = token.trim();
    // The commands of this host find the service nevertheless.
    host.define("web", "");
    assert_eq!(host.run(&["start", "web"]).code, Some(0));
    assert_eq!(host.run(&["kill", "web"]).code, Some(0));
    assert_eq!(host.run(&["undefine", "web"]).code, Some(0));
    let get = |path: &str, header: &str| over_tcp(port, &format!("GET {path} HTTP/1.1\r\n{header}\r\n"));
    assert_eq!(get("/machines", &format!("Authorization: Bearer {token}\r\n")).json()["machines"], json!([]));
    let short = format!("Authorization: Bearer {}\r\n", &token[1..]);
    let other = format!("Authorization: Bearer {}\r\n", token.chars().rev().collect::<String>());
    for header in
        ["", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n", &short, &other, "Authorization: Basic eA==\r\n"]
    {
        for path in ["/machines", "/metrics", "/events", "/openapi.json", "/nowhere"] {
            let reply = get(path, header);
            assert!(reply.status == 401 && reply.head.contains("WWW-Authenticate: Bearer"), "{header}: {reply:?}");
        }
    }
    let page = get("/", "");
    assert!(page.status == 200 && page.head.contains("Content-Security-Policy: default-src 'none'"), "{page:?}");
    assert!(!page.body.contains(token), "the page has no secrets");
}

#[test]
fn a_service_with_another_socket_is_found_at_the_usual_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let other = format!("unix:{}", folder.path().join("other").display());
    let host = Host::serve_with(&["--listen", &other]);
    host.said(&format!("serving at {other}"));
    host.said(&format!("serving at unix:{}", host.socket().display()));
    for more in [&[][..], &["--host", &other]] {
        assert_eq!(host.run(&[&["list", "--all"], more].concat()).code, Some(0));
    }
}

#[test]
fn the_service_ends_at_a_signal_and_removes_its_socket() {
    let mut host = Host::serve();
    host.define("web", "");
    let process = host.post("/machines/web/start")["process"].as_u64().unwrap() as u32;
    let mut events = host.events(host.get("/machines")["last-event"].as_u64().unwrap());
    assert_eq!(host.terminate(), Some(0));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| events.wait(|_| true))).is_err(), "it ends");
    assert!(!host.socket().exists());
    assert!(runs(process), "the machine goes on");
    let run = host.run(&["start", "web"]);
    assert!(run.code == Some(2) && run.errors.contains("start viridian serve"), "{run:?}");
}

#[test]
fn systemd_is_told_when_the_service_is_ready_and_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(grown(SOON))).unwrap();
    let mut host = Host::serve_with_variable("NOTIFY_SOCKET", &path);
    let told = || {
        let mut text = [0; 100];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    assert_eq!(host.names(), [""; 0], "it is reached by then");
    assert_eq!(host.terminate(), Some(0));
    assert_eq!(told(), "STOPPING=1");
}

#[test]
fn a_second_service_of_a_user_is_refused() {
    let mut host = Host::serve();
    let other = host.folder.path().join("other");
    let run = host.run(&["serve", "--state", other.to_str().unwrap()]);
    assert!(run.code == Some(125) && run.errors.contains("another viridian serve uses this directory"), "{run:?}");
    host.kill();
    host.start();
    assert_eq!(host.names(), [""; 0], "a killed service leaves nothing that hinders the next one");
}

#[test]
fn a_non_maskable_interrupt_reaches_the_guest() {
    let host = Host::serve();
    for (name, is_by_command) in [("web", false), ("db", true)] {
        // The runtime of the guest images ends with 3 on an interrupt that it does not expect.
        host.define(name, "");
        host.post(&format!("/machines/{name}/start"));
        host.until_state(name, "running");
        if is_by_command {
            assert_eq!(host.run(&["nmi", name]).code, Some(0));
        } else {
            host.request("POST", "/machines/web/nmi", "");
        }
        host.until_state(name, "stopped");
        assert_eq!(host.machine(name)["end"]["exit-code"], 3, "{}", host.machine(name)["end"]);
    }
    assert_eq!(host.request("POST", "/machines/web/nmi", "").status, 409, "it has ended");
}
