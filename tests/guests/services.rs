//! The integration services with the guest image `services`: drivers in C that follow the protocol, and others that violate it.

use std::time::Duration;

use viridian::Builder;
use viridian::internals::services::{
    Answer, Copy, Freeze, Item, KeyValue, Kind, Pool, Request, Shutdown, ShutdownKind, State, Value,
};
use viridian::machine::{End, Event, Machine};

use super::command::image;
use crate::common::patience::{grown, holds_within, patience};

fn start(cmdline: &str) -> Machine {
    let builder = Builder::new().kernel(image("services")).cmdline(format!("{cmdline} {}", patience()));
    builder.capture_console().timeout(grown(Duration::from_secs(120))).start().unwrap()
}

#[test]
fn a_guest_in_c_uses_all_services() {
    let machine = start("driver=good");
    let services = machine.services();
    let ask = |kind: Kind, request: Request| {
        let asked = services.get(kind).unwrap().ask(request).unwrap();
        asked.wait(grown(Duration::from_secs(60))).expect("it is answered")
    };
    let until = |kind: Kind, is_so: &dyn Fn(&serde_json::Value) -> bool| {
        let status = || serde_json::to_value(services.get(kind).unwrap().status()).unwrap();
        assert!(holds_within(grown(Duration::from_secs(60)), || is_so(&status())), "{}", status());
    };
    for kind in Kind::ALL {
        until(kind, &|status| status["state"] == "ready");
    }
    until(Kind::Heartbeat, &|status| status["health"] == "OkApplicationsUnknown" && status["beats"].as_u64() > Some(1));
    until(Kind::Time, &|status| {
        status["version"] == "4.0" && status["syncs"] == 1 && status["samples"].as_u64() > Some(0)
    });
    until(Kind::KeyValue, &|status| status["addresses"] == serde_json::json!(["10.0.2.15"]));
    let items = (0..20).map(|number| Item { key: number.to_string(), value: Value::Number32(number) }).collect();
    assert_eq!(ask(Kind::KeyValue, Request::KeyValue(KeyValue::Set(Pool::External, items))), Ok(Answer::Done));
    let freeze = Freeze { patience: Duration::from_secs(60), limit: Duration::from_secs(60) };
    assert_eq!(ask(Kind::Vss, Request::Freeze(freeze)), Ok(Answer::Frozen));
    assert_eq!(ask(Kind::Vss, Request::Thaw), Ok(Answer::Done));
    let source = Box::new(std::io::repeat(3));
    let copy = Copy { target: "/a/b".into(), overwrite: false, make_path: true, size: 20_000, source };
    assert_eq!(ask(Kind::FileCopy, Request::Copy(copy)), Ok(Answer::Copied(20_000)));
    assert_eq!(ask(Kind::Shutdown, Request::Shutdown(Shutdown::new(ShutdownKind::PowerOff))), Ok(Answer::Done));
    let seen = "copied 20000 of 20000 bytes with the sum 60000, 20 items, frozen 1 times, thawed 1 times";
    machine.console().unwrap().wait_for(seen, grown(Duration::from_secs(60))).unwrap();
    let words: Vec<_> = machine
        .events()
        .filter_map(|event| if let Event::Device(event) = event { Some(event.what) } else { None })
        .collect();
    for what in
        ["OK, applications unknown", "the guest's addresses are 10.0.2.15", "version 3.2, framework 3.0", "No Contact"]
    {
        assert!(words.iter().any(|word| word == what), "{what}: {words:?}");
    }
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

#[test]
fn guests_that_violate_the_protocol_do_not_affect_others_and_may_reconnect() {
    let machine = start("checks=quiet");
    let failures = machine.events().filter(|event| matches!(event, Event::Failed(_))).count();
    let output = machine.console().unwrap().take();
    let states = Kind::ALL.map(|kind| machine.services().get(kind).unwrap().status().state);
    let end = machine.wait();
    assert!(matches!(end, End::Exited(0)), "{end}\n{}", String::from_utf8_lossy(&output));
    assert_eq!(states, [State::Closed; 6]);
    // Nine packets for each of six services.
    assert_eq!(failures, 54, "a packet that violates the framing ends the service of its channel");
}
