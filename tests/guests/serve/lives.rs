//! Processes that are killed: of the service, and of machines.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::budget::Console;
use super::service::{Host, SOON, runs, signal};
use crate::common::patience::{grown, holds_within, patience};

const NAMES: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

#[test]
fn machines_outlive_a_killed_service_and_the_next_one_adopts_them() {
    let mut host = Host::serve();
    for name in NAMES {
        host.define(name, "[service]\nrestart = \"always\"\n");
        host.post(&format!("/machines/{name}/start"));
    }
    NAMES.iter().for_each(|name| host.until_state(name, "running"));
    let before = NAMES.map(|name| host.process(name).unwrap());
    host.kill();
    assert!(before.iter().all(|id| runs(*id)));
    host.start();
    NAMES.iter().for_each(|name| host.until_state(name, "running"));
    assert_eq!(NAMES.map(|name| host.process(name).unwrap()), before);
    // They are watched as before.
    let mut events = host.events(host.get("/machines")["last-event"].as_u64().unwrap());
    signal(before[0], Signal::KILL);
    events.wait_for_state("one", "waiting");
    events.wait_for_state("one", "running");
    host.post("/machines/two/kill");
    assert_eq!(host.machine("two")["state"], "stopped");
    // One ends while there is no service, and one was stopped by the user before.
    host.kill();
    signal(before[2], Signal::KILL);
    assert!(holds_within(grown(SOON), || !runs(before[2])));
    host.start();
    host.until_state("three", "running");
    assert_eq!(host.machine("two")["state"], "stopped");
    assert!(!before.contains(&host.process("three").unwrap()));
    assert!(
        NAMES[3..].iter().zip(&before[3..]).all(|(name, id)| host.process(name) == Some(*id)),
        "the rest is untouched"
    );
}

#[test]
fn a_killed_machine_is_started_again_if_the_policy_says_so_and_the_rest_is_untouched() {
    let host = Host::serve();
    host.define("never", "");
    host.define("on-failure", "[service]\nrestart = \"on-failure\"\n");
    host.define("other", "");
    let names = ["never", "on-failure", "other"];
    names.iter().for_each(|name| _ = host.post(&format!("/machines/{name}/start")));
    names.iter().for_each(|name| host.until_state(name, "running"));
    let before = names.map(|name| host.process(name).unwrap());
    let mut events = host.events(host.get("/machines")["last-event"].as_u64().unwrap());
    signal(before[0], Signal::KILL);
    assert_eq!(events.wait_for_state("never", "stopped")["end"]["kind"], "lost");
    signal(before[1], Signal::KILL);
    events.wait_for_state("on-failure", "waiting");
    events.wait_for_state("on-failure", "running");
    assert_eq!(host.machine("on-failure")["policy-restarts"], 1);
    assert_ne!(host.process("on-failure").unwrap(), before[1]);
    assert_eq!(host.process("other").unwrap(), before[2]);
    // A user who ends it does not want it again, whichever command it is.
    assert_eq!(host.run(&["kill", "on-failure"]).code, Some(0));
    events.wait_for_state("on-failure", "stopped");
}

#[test]
fn a_machine_that_is_always_started_again_stays_stopped_if_a_user_stops_it() {
    let host = Host::serve();
    let always = "[service]\nrestart = \"always\"\n";
    host.define("deaf", always);
    host.define("other", always);
    for name in ["polite", "sleepy"] {
        host.define_with(name, "services", &format!("driver=good {}", patience()), always);
    }
    for name in ["deaf", "other", "polite", "sleepy"] {
        host.post(&format!("/machines/{name}/start"));
        host.until_state(name, "running");
    }
    for (name, how, step) in [
        ("polite", &[][..], "asking the guest to shut down"),
        ("sleepy", &["--hibernate"], "asking the guest to hibernate"),
    ] {
        host.until(name, |machine| machine["addresses"][0] == "10.0.2.15");
        let run = host.run(&[&["stop", name, "--json"][..], how].concat());
        assert!(run.code == Some(0) && run.output.contains("\"stopped-by\": \"service\""), "{run:?}");
        let jobs = host.get("/jobs")["jobs"].clone();
        let job = jobs.as_array().unwrap().iter().find(|job| job["machine"] == name).unwrap();
        assert_eq!(job["step"], step);
    }
    // A guest that does not hibernate is neither shut down nor ended by force.
    let run = host.run(&["stop", "deaf", "--hibernate"]);
    assert!(run.code == Some(124) && run.errors.contains("the machine still runs: "), "{run:?}");
    host.until_state("deaf", "running");
    let run = host.run(&["stop", "deaf", "--power-button", "0.2", "--no-force"]);
    assert_eq!(run.code, Some(124), "{run:?}");
    host.until_state("deaf", "running");
    let run = host.run(&["stop", "deaf", "--power-button", "0.2"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    assert_eq!(host.run(&["kill", "other"]).code, Some(0));
    for name in ["deaf", "other", "polite", "sleepy"] {
        host.until_state(name, "stopped");
        assert_eq!(host.machine(name)["policy-restarts"], 0);
    }
}

#[test]
fn a_guest_that_shuts_down_later_than_it_was_waited_for_stays_off_and_one_that_nobody_has_asked_does_not() {
    let host = Host::serve();
    let cmdline = format!("requests=1000 listens=yes {}", patience());
    for name in ["asked", "other"] {
        let settings = "memory = \"startup=128M,min=96M,max=160M\"\n[service]\nrestart = \"always\"\n";
        host.define_with(name, "balloon", &cmdline, settings);
        host.post(&format!("/machines/{name}/start"));
    }
    let [mut asked, mut other] = ["asked", "other"].map(|name| Console::open(&host, name));
    // The guest ignores the power button.
    let run = host.run(&["stop", "asked", "--shutdown", "0", "--power-button", "0.2", "--no-force"]);
    assert_eq!(run.code, Some(124), "{run:?}");
    host.until_state("asked", "running");
    let mut events = host.events(host.get("/machines")["last-event"].as_u64().unwrap());
    asked.type_text("q");
    assert_eq!(events.wait_for_state("asked", "stopped")["end"]["exit-code"], 0);
    other.type_text("q");
    assert_eq!(events.wait_for_state("other", "waiting")["end"]["exit-code"], 0);
    assert_eq!(host.machine("asked")["policy-restarts"], 0);
}

#[test]
fn a_machine_that_fails_at_once_is_tried_again_later_until_it_is_stopped() {
    let host = Host::serve();
    host.define_with("web", "exits", "exit=3", "[service]\nrestart = \"on-failure\"\n");
    let mut events = host.events(host.get("/machines")["last-event"].as_u64().unwrap());
    host.post("/machines/web/start");
    assert_eq!(events.wait_for_state("web", "waiting")["end"]["exit-code"], 3);
    events.wait_for_state("web", "waiting");
    let waits = host.machine("web");
    assert!(waits["state"] != "waiting" || waits["starts-in-seconds"].as_f64().unwrap() <= 4.0, "{waits}");
    // Whatever it does just now.
    let stopped = || host.request("POST", "/machines/web/kill", "").status == 200;
    assert!(holds_within(grown(SOON), || stopped() && host.machine("web")["state"] == "stopped"));
    assert_eq!(host.request("POST", "/machines/web/kill", "").status, 409);
}

#[test]
fn a_machine_that_waits_for_its_next_start_is_ended_by_commands() {
    let host = Host::serve();
    for name in ["web", "db", "shop"] {
        host.define_with(name, "exits", "exit=3", "[service]\nrestart = \"always\"\n");
        // Its guest has soon ended, perhaps before the reply.
        host.request("POST", &format!("/machines/{name}/start"), "");
        host.until_state(name, "waiting");
    }
    let run = host.run(&["kill", "web"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let run = host.run(&["stop", "db", "--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let stopped: serde_json::Value = serde_json::from_str(&run.output).unwrap();
    assert_eq!((&stopped["stopped-by"], &stopped["end"]["exit-code"]), (&"service".into(), &3.into()));
    let run = host.run(&["stop", "--all"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for name in ["web", "db", "shop"] {
        assert_eq!(host.machine(name)["state"], "stopped");
    }
    let run = host.run(&["kill", "web"]);
    assert!(run.code == Some(2) && run.errors.contains("it is stopped; start it: viridian start web"), "{run:?}");
    // By name from another place, too.
    let service = format!("unix:{}", host.socket().display());
    host.request("POST", "/machines/web/start", "");
    host.until_state("web", "waiting");
    let run = host.run(&["--host", &service, "kill", "web"]);
    assert_eq!((run.code, &host.machine("web")["state"]), (Some(0), &"stopped".into()), "{run:?}");
}

#[test]
fn a_guest_that_restarts_itself_goes_on_unless_the_definition_says_otherwise() {
    let host = Host::serve();
    host.define_with("web", "exits", "reset=acpi", "");
    host.define_with("once", "exits", "reset=acpi", "on-reset = \"exit\"\n");
    for name in ["web", "once"] {
        // One has soon ended, perhaps before the reply.
        host.request("POST", &format!("/machines/{name}/start"), "");
    }
    host.until("web", |machine| machine["guest-restarts"].as_u64() > Some(0));
    assert_eq!(
        (&host.machine("web")["state"], &host.machine("web")["policy-restarts"]),
        (&"running".into(), &0.into())
    );
    host.until("once", |machine| machine["state"] == "stopped" && machine["end"]["exit-code"] == 100);
}

#[test]
fn machines_with_autostart_start_with_the_service() {
    let mut host = Host::serve();
    host.define("auto", "[service]\nautostart = true\n");
    host.define("manual", "");
    assert_eq!(host.machine("auto")["state"], "stopped");
    assert_eq!(host.terminate(), Some(0));
    host.start();
    host.until_state("auto", "running");
    assert_eq!(host.machine("manual")["state"], "stopped");
    // A user has stopped it, and the next service knows.
    host.post("/machines/auto/kill");
    host.kill();
    host.start();
    assert_eq!(host.machine("auto")["state"], "stopped");
}

#[test]
fn a_machine_that_ran_when_the_host_ended_starts_again_if_it_is_to() {
    let mut host = Host::serve();
    for name in ["runs", "stopped", "ended"] {
        let guest = if name == "ended" { "poweroff" } else { "halt" };
        host.define_with(name, "exits", guest, "[service]\nautostart = \"if-running\"\nhost-stop = \"turn-off\"\n");
    }
    host.define("other", "");
    for name in ["runs", "stopped", "other"] {
        host.post(&format!("/machines/{name}/start"));
    }
    // Its guest is soon off, perhaps before the reply.
    host.request("POST", "/machines/ended/start", "");
    host.until_state("ended", "stopped");
    host.post("/machines/stopped/kill");
    host.end_host();
    host.start();
    host.until_state("runs", "running");
    assert_eq!(host.machine("runs")["policy-restarts"], 0, "the first start is no restart");
    for name in ["stopped", "ended", "other"] {
        assert_eq!(host.machine(name)["state"], "stopped", "{name}");
    }
    // What is stopped for the host starts again with it, whatever the guest does.
    let run = host.run(&["host-stop", "--json"]);
    assert_eq!((run.code, &*run.output.split_whitespace().collect::<String>()), (Some(0), "[\"runs\"]"), "{run:?}");
    host.end_host();
    host.start();
    host.until_state("runs", "running");
}

#[test]
fn machines_start_in_their_order_and_after_their_delay() {
    let mut host = Host::serve();
    let autostart = |rest: &str| format!("[service]\nautostart = true\nhost-stop = \"turn-off\"\n{rest}");
    host.define("last", &autostart("start-order = 3\n"));
    host.define("first", &autostart("start-order = 1\nstart-delay = 2\n"));
    host.define("second", &autostart("start-order = 2\n"));
    host.end_host();
    host.start();
    host.until_state("last", "running");
    let seconds = |name: &str| host.machine(name)["seconds"].as_f64().unwrap();
    let (last, second, first) = (seconds("last"), seconds("second"), seconds("first"));
    assert!(first > second && second > last, "{first}, {second}, {last}");
    let run = host.run(&["host-stop"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(["first", "second", "last"].iter().all(|name| host.machine(name)["state"] == "stopped"));
}

#[test]
fn definitions_survive_a_service_that_is_killed_while_it_writes() {
    let mut host = Host::serve();
    let mut acknowledged = 0;
    for round in 0..8_u32 {
        let socket = host.socket();
        let id = host.service_id();
        let writer = std::thread::spawn(move || {
            let mut done = 0;
            for number in 0.. {
                let text = format!("cmdline = \"{round} {number} {}\"\n", "x".repeat(20_000));
                let head = format!("PUT /machines/m{} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", number % 5, text.len());
                let Ok(mut stream) = UnixStream::connect(&socket) else { break };
                let mut reply = String::new();
                if stream.write_all((head + &text).as_bytes()).is_err() || stream.read_to_string(&mut reply).is_err() {
                    break;
                }
                if !reply.starts_with("HTTP/1.1 20") {
                    break;
                }
                done += 1;
                // At another moment in each round.
                if done == 3 + round {
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_micros(u64::from(round) * 700));
                        signal(id, Signal::KILL);
                    });
                }
            }
            done
        });
        acknowledged += writer.join().unwrap();
        host.kill();
        host.start();
        for name in host.names() {
            let text = host.request("GET", &format!("/machines/{name}/definition"), "");
            assert!(
                text.status == 200 && text.body.ends_with("xxx\"\n") && text.body.len() > 20_000,
                "{round} {text:?}"
            );
        }
        assert_eq!(std::fs::read_dir(host.state().join("new")).unwrap().count(), 0);
    }
    assert!(acknowledged >= 8 * 3, "{acknowledged}");
    assert_eq!(host.names(), ["m0", "m1", "m2", "m3", "m4"]);
}

#[test]
fn a_machine_that_hangs_delays_nobody_and_can_be_killed() {
    let host = Host::serve();
    host.define("hung", "");
    host.define("other", "");
    host.post("/machines/hung/start");
    host.post("/machines/other/start");
    host.until_state("hung", "running");
    host.until_state("other", "running");
    let process = host.process("hung").unwrap();
    signal(process, Signal::STOP);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| host.request("GET", "/machines/hung/inspect", ""));
        let passed_on = scope.spawn(|| host.request("GET", "/machines/hung/control/events", ""));
        for _ in 0..3 {
            assert_eq!(host.names(), ["hung", "other"]);
            assert_eq!(host.get("/machines/other/inspect")["name"], "other");
            assert_eq!(host.post("/machines/other/pause")["state"], "paused");
            assert_eq!(host.post("/machines/other/resume")["state"], "running");
        }
        assert!(!held.is_finished(), "the others answer while it is still waited for");
        for held in [held, passed_on] {
            let reply = held.join().unwrap();
            assert!(reply.status == 504 && reply.body.contains("timeout"), "{reply:?}");
        }
    });
    let killed = host.post("/machines/hung/kill");
    assert_eq!((&killed["state"], &killed["end"]["kind"]), (&"stopped".into(), &"lost".into()));
    assert!(!runs(process));
    // By the commands, which ask the service: it starts the machine again otherwise.
    for (arguments, code) in [(["kill", "hung"], 0), (["stop", "hung"], 4)] {
        host.define_again("hung", "[service]\nrestart = \"always\"\n");
        host.post("/machines/hung/start");
        host.until_state("hung", "running");
        signal(host.process("hung").unwrap(), Signal::STOP);
        let begun = Instant::now();
        let run = host.run(&arguments);
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(begun.elapsed() < grown(Duration::from_secs(30)), "its guest is not waited for: {:?}", begun.elapsed());
        assert_eq!(host.machine("hung")["state"], "stopped");
    }
}
