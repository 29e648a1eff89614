//! Integration services with stock Linux and its daemons, on the nested host and on both engines.
//!
//! This uses the library, so the test binary runs itself on the nested host.

#[path = "../common/mod.rs"]
mod common;
mod guest;
mod hibernation;
mod steps;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::OnceLock;

use common::nested::{Batch, OnBoth, Plan, is_full};
use common::stock::{self, done, number};
use guest::Linux;

static SERVICES: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// Returns the suite of Debian whose kernel and daemons run, if it is not this host's: docs/testing.md.
fn suite() -> Option<String> {
    std::env::var("VIRIDIAN_SUITE").ok()
}

/// Writes the agent to a file, and returns its path.
fn agent() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_viridian")).arg("agent").output().expect("the program starts");
    let path = format!("{}/viridian-agent", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, output.stdout).expect("it is written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// The guest: Debian's kernel with its drivers, and the daemons.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let serve = "tests/services/serve:/usr/bin/serve";
        let configure = "tests/services/hv_set_ifconfig:/usr/bin/hv_set_ifconfig";
        let event = "tests/services/on-event:/usr/bin/on-event";
        let agent = format!("{}:/usr/sbin/viridian-agent", agent());
        let files = ["--file", serve, "--file", configure, "--file", event, "--file", &agent];
        let packages = ["--disk", "64M", "--package", "hyperv-daemons", "--package", "chrony"];
        let arguments = [packages.as_slice(), &files].concat();
        let Some(suite) = suite() else { return stock::image("services", &arguments) };
        // Debian has no package with this daemon.
        let daemon =
            std::env::var("VIRIDIAN_FCOPY").expect("VIRIDIAN_FCOPY names hv_fcopy_uio_daemon of a kernel's tools/hv");
        let daemon = format!("{daemon}:/usr/sbin/hv_fcopy_uio_daemon");
        let arguments = [&arguments[..], &["--suite", &suite, "--file", &daemon]].concat();
        stock::image(&format!("services-{suite}"), &arguments)
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    let image = image();
    let copy = format!("{image}/root-{engine}.img");
    done("cp", &["--reflink=auto", "--sparse=always", &format!("{image}/root.img"), &copy]);
    plan.option("--disk", &copy);
    plan.file(env!("CARGO_BIN_EXE_viridian"));
    // As many as Microsoft's suites do.
    let (rounds, items) = if is_full() { (20, 250) } else { (1, 40) };
    let (pause, copy, clocks) = if is_full() { (60, 100_000_001, 3) } else { (8, 500_001, 1) };
    // QEMU's emulation has no consistent XSAVE for the nested host's guests, which kernels since 6.12 do not bear.
    let words = if suite().is_some() { "noxsave" } else { "" };
    let variables = format!("ROUNDS={rounds} ITEMS={items} PAUSE={pause} COPY={copy} CLOCKS={clocks} WORDS={words}");
    let seconds = 180 + 10 * rounds + pause + copy / 100_000;
    stock::plan(plan, image, engine, &[("services", seconds, &variables), ("hibernation", 240, &variables)]);
}

#[test]
fn stock_linux_uses_all_services() {
    stock::passes(&SERVICES, "services");
}

#[test]
fn stock_linux_hibernates_and_resumes_in_a_new_machine() {
    stock::passes(&SERVICES, "hibernation");
}

#[test]
#[ignore = "a part of stock_linux_hibernates_and_resumes_in_a_new_machine, for the nested host"]
fn nested_hibernation() {
    hibernation::refused_without_the_setting();
    hibernation::resumed_in_a_new_machine();
}

#[test]
#[ignore = "a part of stock_linux_uses_all_services, for the nested host"]
fn nested_services() {
    let linux = Linux::boot();
    steps::all_services_negotiate(&linux);
    steps::the_guest_is_alive(&linux);
    steps::the_clock_is_the_hosts(&linux, number("PAUSE"));
    steps::chrony_uses_the_hosts_clock(&linux, number("CLOCKS"));
    steps::items_and_addresses_travel(&linux, number("ITEMS"));
    steps::adapters_are_configured(&linux);
    steps::files_are_copied(&linux, number("COPY"));
    steps::the_agent_runs_commands_and_copies_files(&linux);
    steps::file_systems_are_frozen(&linux);
    steps::killed_daemons_harm_nobody(&linux);
    steps::services_come_and_go(&linux, number("ROUNDS"));
    steps::the_driver_is_unloaded_while_frozen(&linux);
    steps::the_guest_shuts_down(linux);
}
