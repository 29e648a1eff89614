//! Two machines that share a budget of memory, with the guest image `balloon`: what is typed there is its demand.

use std::fmt::Write;
use std::time::Duration;

use viridian::fleet::{Fleet, RunningFleet};

use super::command::image;
use crate::common::patience::{grown, holds_within, patience};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 256;
/// The machines, and the weights by which they share what is scarce.
const MACHINES: [(&str, u32); 2] = [("light", 100), ("heavy", 200)];

fn start() -> RunningFleet {
    let mut text = format!("memory-budget = '{BUDGET}M'\n");
    for (name, weight) in MACHINES {
        let (kernel, patience) = (image("balloon"), patience());
        write!(
            text,
            "[[partition]]\nname = '{name}'\nweight = {weight}\nmemory = 'startup=128M,min=96M,max=160M'\nkernel = {kernel:?}\n\
             cmdline = 'requests=1000 listens=yes {patience}'\n"
        )
        .unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut fleet = Fleet::load(file.path()).unwrap();
    for (name, _) in MACHINES {
        fleet = fleet.customize(name, |machine| machine.capture_console().timeout(grown(Duration::from_secs(180))));
    }
    fleet.prepare().unwrap().start().unwrap()
}

/// Returns the size of each machine, in MiB.
fn sizes(fleet: &RunningFleet) -> [u64; 2] {
    let size = |(name, _)| {
        let state = fleet.with(name, |machine| machine.inspect()["devices"]["memory"].clone()).expect("it runs");
        state["assigned-bytes"].as_u64().unwrap() / MIB
    };
    let [light, heavy] = MACHINES.map(size);
    // Memory may have moved from the first to the second machine between the two.
    let light = light.min(size(MACHINES[0]));
    assert!(light + heavy <= BUDGET, "{light} and {heavy} MiB are more than the budget");
    [light, heavy]
}

#[test]
fn machines_under_pressure_share_a_budget_by_weight() {
    let fleet = start();
    for (name, _) in MACHINES {
        let console = fleet.with(name, |machine| machine.console().unwrap().clone()).unwrap();
        console.wait_for("serving", grown(Duration::from_secs(60))).unwrap();
    }
    // Demands in units of 20 MiB, and the sizes that follow: a machine wants a fifth more than its demand, between 96 and 160 MiB.
    for (demands, expected) in [
        (["3", "3"], [96, 96]),
        (["5", "3"], [120, 96]),
        (["8", "8"], [117, 138]),
        (["3", "8"], [96, 160]),
        (["8", "3"], [160, 96]),
    ] {
        for ((name, _), demand) in MACHINES.into_iter().zip(demands) {
            fleet.with(name, |machine| machine.console().unwrap().type_text(demand)).unwrap().unwrap();
        }
        let so = holds_within(grown(Duration::from_secs(60)), || sizes(&fleet) == expected);
        assert!(so, "{demands:?} leads to {:?}, not to {expected:?}", sizes(&fleet));
    }
    for (name, _) in MACHINES {
        fleet.with(name, |machine| machine.console().unwrap().type_text("q")).unwrap().unwrap();
    }
    for outcome in fleet.wait() {
        assert_eq!(outcome.end.exit_code(), 0, "{outcome:?}");
    }
}
