//! Several machines in a Rust program: `viridian::fleet`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use viridian::Builder;
use viridian::fleet::{Event, Fleet, exit_code};
use viridian::machine::End;
use viridian::vsp::storage::DiskConfig;

use super::command::image;
use crate::common::patience::grown;

fn exits(name: &str, command_line: &str) -> Builder {
    let limit = grown(Duration::from_secs(60));
    Builder::new().name(name).kernel(image("exits")).cmdline(command_line).timeout(limit)
}

fn is_readable(fd: impl AsFd) -> bool {
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

#[test]
fn events_report_each_start_and_each_end_and_then_finish() {
    let fleet = Fleet::new([exits("first", "exit=3"), exits("second", "poweroff")]).unwrap();
    let fleet = fleet.prepare().unwrap().start().unwrap();
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for event in fleet.events().unwrap() {
        match event {
            Event::Started { partition, process, .. } if process == std::process::id() => started.push(partition),
            Event::Ended { outcome, .. } => {
                assert!(started.contains(&outcome.partition), "{outcome:?}");
                assert!(outcome.exits.unwrap().total() > 0 && !outcome.time.is_zero(), "{outcome:?}");
                ended.push((outcome.partition, outcome.end.exit_code()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(started, ["first", "second"]);
    assert!(is_readable(fleet.ended()));
    let outcomes = fleet.wait();
    let same = outcomes.iter().map(|outcome| (outcome.partition.clone(), outcome.end.exit_code()));
    assert!(same.eq(ended.iter().cloned()), "{outcomes:?}");
    ended.sort_unstable();
    assert_eq!(ended, [("first".into(), 3), ("second".into(), 0)]);
    assert_eq!(exit_code(&outcomes), 3);
}

#[test]
fn events_can_be_polled_and_a_late_listener_gets_them_all() {
    let fleet = Fleet::from(exits("guest", "halt")).prepare().unwrap().start().unwrap();
    let mut events = fleet.events().unwrap();
    assert!(is_readable(&events));
    assert!(matches!(events.wait(Duration::ZERO), Some(Event::Started { .. })));
    assert!(!is_readable(&events) && !events.is_over() && events.wait(Duration::ZERO).is_none());
    fleet.stop(|| End::Interrupted);
    assert!(matches!(events.wait(Duration::MAX), Some(Event::Ended { .. })));
    assert!(events.wait(Duration::MAX).is_none() && events.is_over() && is_readable(&events));
    assert_eq!(fleet.events().unwrap().count(), 2);
}

#[test]
fn the_status_lists_running_and_ended_machines_and_is_serializable_as_json() {
    let fleet = Fleet::new([exits("runs", "halt"), exits("ends", "exit=7")]).unwrap();
    let fleet = fleet.prepare().unwrap().start().unwrap();
    let is_end = |event: &Event| matches!(event, Event::Ended { .. });
    let end = fleet.events().unwrap().find(is_end).unwrap();
    let status = serde_json::to_value(fleet.status()).unwrap();
    assert_eq!((&status[0]["partition"], &status[0]["outcome"]), (&"runs".into(), &serde_json::Value::Null));
    let end = serde_json::to_value(&end).unwrap();
    assert_eq!((&end["event"], &end["partition"]), (&"ended".into(), &"ends".into()));
    assert_eq!((&end["end"]["kind"], &end["end"]["exit-code"]), (&"exited".into(), &7.into()));
    assert!(end["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{end}");
    assert_eq!(status[1]["outcome"]["end"], end["end"]);
    assert_eq!(status[1]["exits"], end["exits"]);
    fleet.stop(|| End::Terminated);
    assert_eq!(exit_code(&fleet.wait()), 7, "the first in the order of the ends");
}

#[test]
fn a_machine_of_a_fleet_is_accessible_only_while_it_runs() {
    let fleet = Fleet::new([exits("one", "halt"), exits("other", "halt")]).unwrap();
    let fleet = fleet.customize("one", Builder::capture_console).prepare().unwrap().start().unwrap();
    assert_eq!(fleet.with("one", |machine| machine.console().is_some()), Some(true));
    assert_eq!(fleet.with("other", |machine| machine.console().is_some()), Some(false));
    assert_eq!(fleet.with("nobody", |_| ()), None);
    fleet.with("one", |machine| machine.stop(End::Exited(9)));
    let mut ends = fleet.events().unwrap().filter(|event| matches!(event, Event::Ended { .. }));
    assert!(matches!(ends.next(), Some(Event::Ended { outcome, .. }) if outcome.partition == "one"));
    assert_eq!(fleet.with("one", |_| ()), None);
    assert_eq!(fleet.with("other", |_| ()), Some(()));
    fleet.stop(|| End::Interrupted);
    let ends: Vec<_> = fleet.wait().into_iter().map(|outcome| outcome.end.exit_code()).collect();
    assert_eq!(ends, [9, 130]);
}

#[test]
fn nothing_runs_if_one_machine_cannot_be_prepared_and_the_error_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab.toml");
    let good = image("hello-pvh");
    let text = format!(
        "[[partition]]\nname = 'bad'\nafter = ['good']\nkernel = 'none'\n\
         [[partition]]\nname = 'good'\nkernel = '{}'\nconsole = 'file:log'",
        good.display()
    );
    fs::write(&lab, text).unwrap();
    let fleet = Fleet::load(&lab).unwrap();
    assert!(fleet.configs().map(|config| &*config.name).eq(["good", "bad"]));
    let error = fleet.prepare().err().unwrap();
    assert!(error.partition == "bad" && error.to_string().starts_with("bad: "), "{error}");
    assert_eq!(error.error.exit_code(), 2);
    assert_eq!(fs::read_to_string(folder.path().join("log")).unwrap(), "");
}

#[test]
fn conflicting_machines_are_refused() {
    let refused = |machines: &[Builder], words: &str| {
        let error = Fleet::new(machines.iter().cloned()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(&[], "there is no");
    refused(&[exits("a", ""), exits("a", "")], "called a");
    let folder = tempfile::tempdir().unwrap();
    let log = |name| exits(name, "").console(format!("file:{}/log", folder.path().display()).parse().unwrap());
    refused(&[log("a"), log("b")], "a and b both write");
}

#[test]
fn a_fleet_that_is_dropped_leaves_no_machine_behind() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let fleet = Fleet::from(exits("guest", "halt").disk(DiskConfig::of(&disk)));
    for _ in 0..3 {
        // The image is locked while a machine has it.
        let running = fleet.prepare().unwrap().start().unwrap();
        assert!(fleet.prepare().is_err());
        drop(running);
    }
}
