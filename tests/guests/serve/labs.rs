//! Labs: several machines of one definition, in one process.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::service::{Host, SOON, definition, runs, signal};
use crate::command::{image, limit};
use crate::common::patience::{grown, holds_within, patience};

/// Returns a machine of a lab.
fn partition(name: &str, guest: &str, cmdline: &str, more: &str) -> String {
    format!("[[partition]]\nname = \"{name}\"\n{}{more}", definition(guest, cmdline, ""))
}

/// Defines a lab of two machines, of which the second one prints.
fn define(host: &Host, service: &str) {
    let lab =
        partition("server", "exits", "halt", "") + &partition("client", "exits", "echo", "after = [\"server\"]\n");
    let reply = host.request("PUT", "/machines/shop", &(lab + service));
    assert_eq!(reply.status, 201, "{reply:?}");
}

const ALL: [&str; 3] = ["shop", "shop.client", "shop.server"];

fn until(host: &Host, state: &str) {
    ALL.iter().for_each(|name| host.until_state(name, state));
}

#[test]
fn a_lab_is_defined_started_paused_and_removed_as_a_whole_and_its_machines_are_used_by_name() {
    let host = Host::serve();
    let folder = host.folder.path();
    std::fs::copy(image("exits"), folder.join("kernel")).unwrap();
    let file = folder.join("lab.toml");
    // Relative paths, and a comment that gets lost with them.
    let partition = |name: &str, cmdline: &str, more: &str| {
        format!(
            "[[partition]]\nname = \"{name}\"\nkernel = \"kernel\"\ncmdline = \"{cmdline}\"\ntimeout = {}\n{more}",
            limit(300)
        )
    };
    let client = partition("client", "echo", "after = [\"server\"]\nweight = 300\n");
    std::fs::write(&file, client + &partition("server", "halt", "memory = \"64M\"\n")).unwrap();
    let run = host.run(&["define", "shop", file.to_str().unwrap(), "--restart", "always"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(host.names(), ALL);
    let shop = host.machine("shop");
    assert_eq!((&shop["machines"], &shop["lab"], &shop["restart"]), (&json!(ALL[1..]), &Value::Null, &json!("always")));
    let client = host.machine("shop.client");
    assert_eq!((&client["lab"], &client["state"]), (&json!("shop"), &json!("stopped")));
    assert_eq!(client["memory"]["weight"], 300);
    let run = host.run(&["start", "sho*"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    until(&host, "running");
    // The names are those of the sockets, too.
    let list = host.run(&["list"]);
    assert!(list.code == Some(0) && ALL.iter().all(|name| list.output.contains(name)), "{list:?}");
    let run = host.run(&["wait", "shop.client", "--for", "text=echoing by polling", "--timeout", &limit(60)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let tree: Value = serde_json::from_str(&host.run(&["inspect", "shop.server", "--json"]).output).unwrap();
    assert_eq!((&tree["name"], &tree["memory-bytes"]), (&json!("shop.server"), &json!(64 << 20)));
    let trees = host.get("/machines/shop/inspect");
    assert_eq!(trees["machines"]["shop.client"]["name"], "shop.client");
    assert_eq!(host.run(&["inspect", "shop"]).code, Some(0));
    let refused = host.request("GET", "/machines/shop/control/inspect", "");
    assert!(
        refused.status == 409 && refused.body.contains("name one of them: shop.client, shop.server"),
        "{refused:?}"
    );
    // What is done with a lab is done with each of its machines.
    assert_eq!(host.run(&["pause", "shop"]).code, Some(0));
    ALL[1..].iter().for_each(|name| host.until_state(name, "paused"));
    host.post("/machines/shop/resume");
    ALL[1..].iter().for_each(|name| host.until_state(name, "running"));
    // A machine of a lab has no definition of its own, and does not start by itself.
    for (method, path) in [
        ("POST", "/machines/shop.client/start"),
        ("DELETE", "/machines/shop.client"),
        ("GET", "/machines/shop.client/definition"),
        ("PUT", "/machines/shop.client"),
    ] {
        let reply = host.request(method, path, if method == "PUT" { "#" } else { "" });
        assert!(reply.status == 409 && reply.body.contains("a machine of the lab shop"), "{method} {path}: {reply:?}");
    }
    // One machine ends, and the others go on.
    assert_eq!(host.run(&["kill", "shop.client"]).code, Some(0));
    host.until_state("shop.client", "stopped");
    assert_eq!(host.machine("shop.client")["end"]["kind"], "terminated");
    assert_eq!(
        (&host.machine("shop")["state"], &host.machine("shop.server")["state"]),
        (&json!("running"), &json!("running"))
    );
    assert!(host.request("GET", "/machines/shop.client/console", "").body.contains("echoing by polling"));
    // A user who stops it does not want it again. No guest obeys.
    let run = host.run(&["stop", "shop", "--shutdown", "0", "--power-button", "0.2", "--json"]);
    assert!(run.code == Some(4) && run.output.contains("\"stopped-by\": \"kill\""), "{run:?}");
    until(&host, "stopped");
    assert_eq!(host.machine("shop")["policy-restarts"], 0);
    let run = host.run(&["undefine", "--all"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn the_guests_of_a_lab_are_asked_to_shut_down_at_the_same_time() {
    let host = Host::serve();
    let cmdline = format!("driver=good {}", patience());
    let lab = ["a", "b"].map(|name| partition(name, "services", &cmdline, "")).concat();
    assert_eq!(host.request("PUT", "/machines/shop", &lab).status, 201);
    host.post("/machines/shop/start");
    for name in ["shop.a", "shop.b"] {
        host.until(name, |machine| machine["addresses"][0] == "10.0.2.15");
    }
    let run = host.run(&["stop", "shop", "--json"]);
    assert!(run.code == Some(0) && run.output.contains("\"stopped-by\": \"service\""), "{run:?}");
    for name in ["shop", "shop.a", "shop.b"] {
        host.until_state(name, "stopped");
        assert_eq!(host.machine(name)["end"]["kind"], "powered-off", "{name}");
    }
}

#[test]
fn a_lab_outlives_the_service_and_is_started_again_as_a_whole() {
    let mut host = Host::serve();
    define(&host, "\n[service]\nrestart = \"always\"\n");
    host.post("/machines/shop/start");
    until(&host, "running");
    let process = host.process("shop").unwrap();
    assert_eq!(host.process("shop.client"), Some(process));
    // Another definition counts from the next start on.
    let other = partition("server", "exits", "halt", "") + "[service]\nrestart = \"always\"\n";
    assert_eq!(host.request("PUT", "/machines/shop", &other).status, 200);
    assert_eq!(host.names(), ALL);
    host.kill();
    host.start();
    until(&host, "running");
    assert!(host.process("shop") == Some(process) && host.names() == ALL && runs(process), "{:?}", host.names());
    let used = || host.get("/machines/shop/meter")["process-memory"]["peak-bytes"].as_u64();
    assert!(holds_within(grown(SOON), || used() > Some(1 << 20)), "{:?}", used());
    let of_machine = host.get("/machines/shop.server/meter");
    assert_eq!(of_machine["process-memory"]["peak-bytes"], Value::Null, "the process is that of all");
    assert_eq!(of_machine["guest-memory"]["peak-bytes"], 256 << 20);
    let mut events = host.events(host.get("/machines")["last-event"].as_u64().unwrap());
    signal(process, Signal::KILL);
    assert_eq!(events.wait_for_state("shop", "waiting")["end"]["kind"], "lost");
    events.wait_for_state("shop", "running");
    host.until_state("shop.server", "running");
    assert_ne!(host.process("shop.server"), Some(process));
    assert_eq!(host.names(), ["shop", "shop.server"]);
    host.post("/machines/shop/kill");
    assert_eq!(host.machine("shop")["state"], "stopped");
}

#[test]
fn a_lab_that_cannot_start_says_which_machine_and_names_are_taken_once() {
    let host = Host::serve();
    let lab =
        partition("good", "exits", "halt", "") + "[[partition]]\nname = \"bad\"\nkernel = \"/nonexistent/vmlinuz\"\n";
    assert_eq!(host.request("PUT", "/machines/shop", &lab).status, 201);
    let refused = host.request("POST", "/machines/shop/start", "");
    assert!(refused.status == 409 && refused.body.contains("shop.bad: "), "{refused:?}");
    assert!(refused.body.contains("/nonexistent/vmlinuz"), "{refused:?}");
    host.until_state("shop.good", "stopped");
    // A machine may have a dot in its name, and then no lab has a machine of that name.
    host.define("db.a", "");
    let lab = partition("a", "exits", "halt", "");
    let refused = host.request("PUT", "/machines/db", &lab);
    assert!(refused.status == 409 && refused.body.contains("there is another machine db.a"), "{refused:?}");
    assert_eq!(host.request("DELETE", "/machines/db.a", "").status, 200);
    assert_eq!(host.request("PUT", "/machines/db", &lab).status, 201);
    // A lab becomes a machine, and its machines are gone.
    host.define_again("db", "");
    assert_eq!(host.names(), ["db", "shop", "shop.bad", "shop.good"]);
    assert_eq!(host.machine("db")["machines"], Value::Null);
    let refused = host.request("PUT", "/machines/web", "[[partition]]\nname = \"a\"\nmemroy = 1\n");
    assert!(refused.status == 400 && refused.body.contains("line 3, column 1"), "{refused:?}");
    // Of a lab with a budget of its own, and a service with one, none could tell who decides.
    let host = Host::serve_with(&["--memory-budget", "1G"]);
    let budget = format!("memory-budget = \"512M\"\n{lab}");
    assert_eq!(host.request("PUT", "/machines/shop", &budget).status, 201);
    let refused = host.request("POST", "/machines/shop/start", "");
    assert!(refused.status == 409 && refused.body.contains("memory-budget of its own"), "{refused:?}");
    assert_eq!(host.request("PUT", "/machines/shop", &lab).status, 200);
    host.post("/machines/shop/start");
    host.until_state("shop", "running");
    assert_eq!(host.get("/service")["memory-in-use-bytes"], 256 << 20);
}
