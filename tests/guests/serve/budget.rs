//! Machines of the service that share a budget of memory, with the guest image `balloon`: what is typed there is its demand.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::Value;

use super::service::{Host, SOON, signal};
use crate::common::patience::{grown, holds_within, patience};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 256;

/// A console with the keyboard.
pub struct Console(UnixStream);

impl Console {
    /// Opens the console of a machine, and waits until the guest listens.
    pub fn open(host: &Host, name: &str) -> Self {
        let mut stream = UnixStream::connect(host.socket()).unwrap();
        stream.set_read_timeout(Some(grown(SOON))).unwrap();
        write!(stream, "POST /machines/{name}/control/console HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("serving") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend(&piece[..count]);
        }
        Self(stream)
    }

    pub fn type_text(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }
}

fn size(host: &Host, name: &str) -> u64 {
    let tree = host.get(&format!("/machines/{name}/inspect"));
    tree["devices"]["memory"]["assigned-bytes"].as_u64().unwrap() / MIB
}

/// Returns the sizes of two machines, in MiB.
fn sizes(host: &Host) -> [u64; 2] {
    let [light, heavy] = ["light", "heavy"].map(|name| size(host, name));
    // Memory may have moved from the first to the second machine between the two.
    let light = light.min(size(host, "light"));
    assert!(light + heavy <= BUDGET, "{light} and {heavy} MiB are more than the budget");
    [light, heavy]
}

#[test]
fn processes_share_a_budget_by_weight_and_a_start_waits_for_room_or_is_refused() {
    let host = Host::serve_with(&["--memory-budget", &format!("{BUDGET}M")]);
    let cmdline = format!("requests=1000 listens=yes {}", patience());
    for (name, weight) in [("light", 100), ("heavy", 200)] {
        let memory = "memory = \"startup=128M,min=96M,max=160M\"\n";
        host.define_with(name, "balloon", &cmdline, &format!("{memory}[service.memory]\nweight = {weight}\n"));
        host.post(&format!("/machines/{name}/start"));
    }
    let [mut light, mut heavy] = ["light", "heavy"].map(|name| Console::open(&host, name));
    // Demands in units of 20 MiB, and the sizes that follow: a machine wants a fifth more than its demand.
    for (demands, expected) in [(["3", "3"], [96, 96]), (["3", "8"], [96, 160]), (["8", "8"], [117, 138])] {
        light.type_text(demands[0]);
        heavy.type_text(demands[1]);
        let so = holds_within(grown(SOON), || sizes(&host) == expected);
        assert!(so, "{demands:?} leads to {:?}, not to {expected:?}", sizes(&host));
    }
    // The minimums of the others and this are more than there is.
    host.define("large", "memory = \"65M\"\n");
    let refused = host.request("POST", "/machines/large/start", "");
    let reason =
        "large needs 65M of memory at its start, and of the memory budget of 256M, other machines keep at least 192M";
    assert!(refused.status == 409 && refused.body.contains(reason), "{refused:?}");
    // For this one, the others make room.
    host.define("small", "memory = \"64M\"\n");
    host.request("POST", "/machines/small/start", "");
    host.until_state("small", "running");
    assert_eq!(sizes(&host), [96, 96]);
    let facts = host.get("/service");
    let used = |key: &str| facts[key].as_u64().map(|bytes| bytes / MIB);
    assert_eq!((used("memory-budget-bytes"), used("memory-in-use-bytes")), (Some(256), Some(256)), "{facts}");
    let shown = host.run(&["service"]);
    assert!(shown.output.contains("memory     256 MiB, of 256 MiB"), "{shown:?}");
    // When it is gone, they have the memory again.
    host.post("/machines/small/kill");
    assert!(holds_within(grown(SOON), || sizes(&host) == [117, 138]), "{:?}", sizes(&host));
    assert_eq!(host.machine("heavy")["memory"]["weight"], Value::from(200));
}

#[test]
fn a_machine_that_is_adopted_counts_with_all_that_it_can_have_until_it_answers() {
    let mut host = Host::serve_with(&["--memory-budget", &format!("{BUDGET}M")]);
    let cmdline = format!("requests=1000 listens=yes {}", patience());
    host.define_with("web", "balloon", &cmdline, "memory = \"startup=128M,min=96M,max=160M\"\n");
    host.post("/machines/web/start");
    drop(Console::open(&host, "web"));
    host.define("large", "memory = \"161M\"\n");
    host.define("small", "memory = \"64M\"\n");
    // The machine hangs while another service begins, which knows only its settings.
    let process = host.process("web").unwrap();
    host.kill();
    signal(process, Signal::STOP);
    host.start();
    let used = || host.get("/service")["memory-in-use-bytes"].as_u64().unwrap() / MIB;
    assert_eq!((host.machine("web")["memory-bytes"].clone(), used()), (Value::Null, 160));
    let refused = host.request("POST", "/machines/large/start", "");
    assert!(refused.status == 409 && refused.body.contains("other machines keep at least 96M"), "{refused:?}");
    assert_eq!(host.request("POST", "/machines/small/start", "").status, 200);
    host.until_state("small", "running");
    signal(process, Signal::CONT);
    host.until("web", |machine| !machine["memory-bytes"].is_null());
    assert!(holds_within(grown(SOON), || used() < 160 + 64), "{}", used());
}
