//! Disks are attached and detached under load. This test uses the library, so the test binary itself runs on the nested host.

use std::path::PathBuf;
use std::time::Duration;

use viridian::Builder;
use viridian::machine::End;
use viridian::vsp::storage::DiskConfig;

use super::guest::{self, WITH_DATA, text};
use crate::common::nested::{Plan, times};
use crate::common::patience::grown;
use crate::common::stock::{engine, number, passes, variable};

const SOON: Duration = Duration::from_secs(60);

pub fn plan(plan: &mut Plan, engine: &str) {
    let this = std::env::current_exe().expect("a test binary");
    plan.file(text(&this));
    let (guest, this) = (guest::in_memory().display(), this.display());
    let count = times(4);
    let script = format!(
        "GUEST={guest} ENGINE={engine} TIMES={count} {this} --ignored --exact --nocapture disks::plug::on_the_nested_host"
    );
    plan.check("plug", 120 + 10 * count, script);
}

#[test]
fn disks_come_and_go_under_load() {
    passes(&WITH_DATA, "plug");
}

#[test]
#[ignore = "a part of disks_come_and_go_under_load, for the nested host"]
fn on_the_nested_host() {
    let guest = PathBuf::from(variable("GUEST"));
    let machine = Builder::new()
        .engine(engine())
        .memory(384 << 20)
        .cpus(2)
        .kernel(guest.join("vmlinux"))
        .initrd(guest.join("initrd.img"))
        .cmdline("console=ttyS0 quiet panic=-1 run=watch-disks")
        .disk(DiskConfig::of("memory:16M"))
        .capture_console()
        .start()
        .unwrap();
    let console = machine.console().unwrap();
    let wait = |words: &str| drop(console.wait_for(words, grown(SOON)).unwrap_or_else(|missing| panic!("{missing}")));
    wait("disks: 32768.");
    for _ in 0..number("TIMES") {
        let first = machine.disks().attach(&DiskConfig::of("memory:8M")).unwrap();
        wait("disks: 16384 32768.");
        let second = machine.disks().attach(&DiskConfig { controller: 1, ..DiskConfig::of("memory:4M") }).unwrap();
        wait("disks: 8192 16384 32768.");
        assert!(machine.disks().detach(first) && machine.disks().detach(second));
        wait("disks: 32768.");
    }
    console.type_text("\n").unwrap();
    wait("watched");
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}
