//! Sockets of guests, and commands in them, through the service.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::service::{Host, SOON};
use crate::command::{Run, viridian};
use crate::common::patience::{grown, holds_within};
use crate::control_sockets::{echo, expect_echo, options, request};

#[test]
fn clients_of_the_service_connect_to_listeners_in_a_guest() {
    let host = Host::serve_with(&["--listen", "unix:", "--listen", "tcp:127.0.0.1:0"]);
    let url = host.said("serving at http://127.0.0.1:");
    let url = format!("http://127.0.0.1:{}", url.trim_end_matches('/'));
    let path = host.folder.path().join("vsock");
    let server = echo(&path);
    let [_, path, _, cmdline] = options(&path);
    host.define_with("web", "sockets", &cmdline, &format!("vsock = \"{path}\""));
    host.post("/machines/web/start");
    assert_eq!(host.run(&["wait", "web", "--for", "text=listening"]).code, Some(0));
    server.join().unwrap();
    let by_token = |role: &str, port: &str| -> Run {
        let token = host.run(&["access", "add", role, "--role", role]).output;
        let mut command = viridian();
        command.env("VIRIDIAN_TOKEN", token.trim()).args(["--host", &url, "exec", "web", "--port", port, "--", "true"]);
        command.output().unwrap().into()
    };
    let refused = by_token("read", "1024");
    assert!(refused.code == Some(125) && refused.errors.contains("this needs the role operate"), "{refused:?}");
    let none = by_token("operate", "9");
    assert!(none.code == Some(125) && none.errors.contains("no agent answers on port 9"), "{none:?}");
    // What comes back is no agent's answer.
    let echoed = by_token("operate", "1024");
    assert!(echoed.code == Some(125) && !echoed.errors.contains("no agent answers"), "{echoed:?}");
    let by_path = viridian().args(["--host", &url, "exec", "/run/x", "--", "true"]).output().unwrap();
    assert!(Run::from(by_path).errors.contains("a path is one of this host"));
    let (stream, status) =
        request(UnixStream::connect(host.socket()).unwrap(), "POST /machines/web/control/sockets/1024 HTTP/1.1");
    assert_eq!(status, "200");
    expect_echo(stream);
    // The audit log has its begin and its end.
    let noted = || {
        let text = std::fs::read_to_string(host.state().join("audit.log")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_sockets = lines.filter(|line| line["what"] == "socket" && line["from"] == "unix");
        of_sockets.map(|line| (line["path"].clone(), line["status"].clone())).collect::<Vec<_>>()
    };
    let expected = [(json!("sockets/1024"), Value::Null), (json!("sockets/1024"), json!(200))];
    assert!(holds_within(grown(SOON), || noted() == expected), "{:?}", noted());
    let own = format!("unix:{}", host.socket().display());
    let run = host.run(&["--host", &own, "agent-copy", "web:/etc/hostname", "/nonexistent/", "--port", "1024"]);
    assert!(run.code == Some(1) && !run.errors.contains("no agent answers"), "{run:?}");
    host.until_state("web", "stopped");
    assert_eq!(host.machine("web")["end"]["kind"], "powered-off");
}
