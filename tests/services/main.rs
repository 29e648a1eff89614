//! Integration services with stock Linux and its daemons, on the nested host and on both engines.
//!
//! This uses the library, so the test binary runs itself on the nested host.

#[path = "../common/mod.rs"]
mod common;
mod guest;
mod steps;

use std::sync::OnceLock;

use common::nested::{Batch, OnBoth, Plan, is_full, times};
use common::stock::{self, done, number};
use guest::Linux;

static SERVICES: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// The guest: Debian's kernel with its drivers, and the daemons.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let script = "tests/services/serve:/usr/bin/serve";
        stock::image("services", &["--disk", "64M", "--package", "hyperv-daemons", "--file", script])
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    let image = image();
    let copy = format!("{image}/root-{engine}.img");
    done("cp", &["--reflink=auto", "--sparse=always", &format!("{image}/root.img"), &copy]);
    plan.option("--disk", &copy);
    plan.file(env!("CARGO_BIN_EXE_viridian"));
    // Fifty rounds are more than Microsoft's suites do, as are 250 items.
    let (rounds, items) = (times(1), if is_full() { 250 } else { 40 });
    let (pause, copy) = if is_full() { (60, 100_000_001) } else { (8, 500_001) };
    let variables = format!("ROUNDS={rounds} ITEMS={items} PAUSE={pause} COPY={copy}");
    let seconds = 140 + 10 * rounds + pause + copy / 100_000;
    stock::plan(plan, image, engine, &[("services", seconds, &variables)]);
}

#[test]
fn stock_linux_uses_all_services() {
    stock::passes(&SERVICES, "services");
}

#[test]
#[ignore = "a part of stock_linux_uses_all_services, for the nested host"]
fn nested_services() {
    let linux = Linux::boot();
    steps::all_services_negotiate(&linux);
    steps::the_guest_is_alive(&linux);
    steps::the_clock_is_the_hosts(&linux, number("PAUSE"));
    steps::items_and_addresses_travel(&linux, number("ITEMS"));
    steps::files_are_copied(&linux, number("COPY"));
    steps::file_systems_are_frozen(&linux);
    steps::killed_daemons_harm_nobody(&linux);
    steps::services_come_and_go(&linux, number("ROUNDS"));
    steps::the_driver_is_unloaded_while_frozen(&linux);
    steps::the_guest_shuts_down(linux);
}
