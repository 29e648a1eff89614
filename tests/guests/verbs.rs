//! Verbs for machines of `viridian run`, without a service.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::command::{Run, limit};
use super::control::Host;

#[test]
fn a_machine_that_does_not_run_yet_is_waited_for() {
    let mut host = Host::new();
    let mut command = host.command(&["wait", "web", "--for", "text=echoing by polling", "--timeout", &limit(60)]);
    let mut waits = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Another command, which takes as long, has ended.
    assert_eq!(host.names(), [""; 0]);
    assert!(waits.try_wait().unwrap().is_none());
    host.start("exits", &["--name", "web", "--cmdline", "echo"]);
    let run = Run::from(waits.wait_with_output().unwrap());
    assert_eq!((run.code, &*run.output), (Some(0), "echoing by polling\n"), "{run:?}");
    let begun = Instant::now();
    let run = host.run(&["wait", "shop", "--for", "address", "--timeout", "0.3"]);
    assert!(run.code == Some(2) && run.errors.contains("no running machine \"shop\"; these run: web"), "{run:?}");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    // It may have ended before.
    let run = host.run(&["wait", "shop", "--for", "end"]);
    assert_eq!(run.code, Some(2), "{run:?}");
}

#[test]
fn a_machine_has_metrics_whoever_has_started_it() {
    let mut host = Host::new();
    host.start_halted("web");
    host.start_halted("a \"b\", c");
    let run = host.run(&["metrics", "web"]);
    assert!(run.code == Some(0) && run.output.contains("viridian_machine_exits_total{machine=\"web\""), "{run:?}");
    let samples = host.json(&["metrics", "--all"]);
    for name in ["web", "a \"b\", c"] {
        let is_its = |sample: &&Value| sample["labels"]["machine"] == name;
        assert!(samples.as_array().unwrap().iter().filter(is_its).count() > 3, "{name}: {samples}");
    }
    // A summary of all machines is the service's.
    let run = host.run(&["metrics"]);
    assert!(run.code == Some(2) && run.errors.contains("start viridian serve"), "{run:?}");
}

#[test]
fn a_machine_is_listed_with_the_fields_of_one_of_a_service() {
    let mut host = Host::new();
    host.start_halted("web");
    host.start_halted("db");
    assert_eq!(host.run(&["reset", "web"]).code, Some(0));
    host.until("web", |tree| tree["restarts"] == 1);
    let list = host.json(&["list", "web"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    let web = &list[0];
    assert_eq!((&web["guest-restarts"], &web["service"]), (&1.into(), &false.into()), "{web}");
    assert!(web["resident-bytes"].as_u64() > Some(0), "{web}");
    // What only a service knows.
    for field in ["policy-restarts", "restart", "end", "problem"] {
        assert_eq!(web.get(field), Some(&Value::Null), "{field}");
    }
    assert_eq!(host.run(&["list", "d*"]).output.lines().count(), 2);
    assert_eq!(host.run(&["list", "shop"]).code, Some(2));
}
