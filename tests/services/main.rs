//! Integration services with stock Linux and its daemons, on the nested host and on both engines.
//!
//! This uses the library, so the test binary runs itself on the nested host.

#[path = "../common/mod.rs"]
mod common;
mod guest;
mod steps;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use common::nested::{Batch, OnBoth, Plan, is_full, times};
use guest::Linux;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

static SERVICES: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// Runs a program of this host, which must do its work.
fn done(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(ROOT).output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The guest: Debian's kernel with its drivers, and the daemons.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = format!("{ROOT}/target/services-test");
        let script = format!("{ROOT}/tests/services/serve:/usr/bin/serve");
        let arguments = ["--output", &directory, "--disk", "64M", "--package", "hyperv-daemons", "--file", &script];
        done("scripts/linux-guest", &arguments);
        directory
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    let (this, image) = (std::env::current_exe().expect("a test binary"), image());
    let this = this.to_str().expect("a plain path");
    let copy = format!("{image}/root-{engine}.img");
    done("cp", &["--reflink=auto", "--sparse=always", &format!("{image}/root.img"), &copy]);
    plan.option("--disk", &copy);
    for file in [this, &format!("{image}/vmlinux"), &format!("{image}/initrd.img")] {
        plan.file(file);
    }
    // Fifty rounds are more than Microsoft's suites do, as are 250 items.
    let (rounds, items) = (times(1), if is_full() { 250 } else { 40 });
    let script = format!(
        "IMAGE={image} ENGINE={engine} ROUNDS={rounds} ITEMS={items} {this} --ignored --exact --nocapture on_the_nested_host"
    );
    plan.check("services", 150 + 10 * rounds, script);
}

#[test]
fn stock_linux_uses_all_services() {
    SERVICES.outcomes("services", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        assert!(outcome.text().contains("1 passed"), "{outcome}");
        outcome.text().lines().filter(|line| line.starts_with("measured: ")).for_each(|line| println!("{line}"));
    });
}

#[test]
#[ignore = "a part of stock_linux_uses_all_services, for the nested host"]
fn on_the_nested_host() {
    let variable = |name: &str| std::env::var(name).expect("it is set");
    let number = |name: &str| variable(name).parse().expect("a number");
    let linux = Linux::boot(&PathBuf::from(variable("IMAGE")), &variable("ENGINE"));
    steps::all_services_negotiate(&linux);
    steps::the_guest_is_alive(&linux);
    steps::the_clock_is_the_hosts(&linux);
    steps::items_and_addresses_travel(&linux, number("ITEMS"));
    steps::files_are_copied(&linux);
    steps::file_systems_are_frozen(&linux);
    steps::killed_daemons_harm_nobody(&linux);
    steps::services_come_and_go(&linux, number("ROUNDS"));
    steps::the_driver_is_unloaded_while_frozen(&linux);
    steps::the_guest_shuts_down(linux);
}
