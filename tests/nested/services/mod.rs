//! Integration services with stock Linux and its daemons, on the nested host and on both engines.

mod guest;
mod hibernation;
mod steps;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::OnceLock;

use crate::common::nested::{Batch, OnBoth, Plan, is_full};
use crate::common::stock::{self, done, number};
use guest::Linux;

static SERVICES: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// A kernel since 6.10, in which the file copy has no driver. One engine is enough: what differs is the guest's.
static NEWER: Batch = Batch::new(newer);

/// The words for QEMU's emulation, which has no consistent XSAVE for the nested host's guests. By its source, QEMU 7.2 can also compute wrong flags
/// for CMPXCHG16B.
const FOR_QEMU: &str = "noxsave clearcpuid=cx16";

/// Writes the agent to a file, and returns its path.
fn agent() -> &'static str {
    static AGENT: OnceLock<String> = OnceLock::new();
    AGENT.get_or_init(|| {
        let output = Command::new(env!("CARGO_BIN_EXE_viridian")).arg("agent").output().expect("the program starts");
        let path = format!("{}/viridian-agent", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, output.stdout).expect("it is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    })
}

/// Makes the guest: a kernel of Debian with its drivers, and the daemons.
fn make_image(name: &str, further: &[&str]) -> String {
    let serve = "tests/nested/services/serve:/usr/bin/serve";
    let configure = "tests/nested/services/hv_set_ifconfig:/usr/bin/hv_set_ifconfig";
    let event = "tests/nested/services/on-event:/usr/bin/on-event";
    let agent = format!("{}:/usr/sbin/viridian-agent", agent());
    let files = ["--file", serve, "--file", configure, "--file", event, "--file", &agent];
    let packages = ["hyperv-daemons", "chrony", "btrfs-progs"].map(|name| ["--package", name]);
    let modules = ["--add-module", "brd", "--add-module", "btrfs"];
    stock::image(name, &[["--disk", "96M"].as_slice(), packages.as_flattened(), &modules, &files, further].concat())
}

/// Makes a small XFS file system, and returns its compressed image. Its tools stay on this host: Debian's package of them needs
/// Python and ICU, of which mkfs.xfs uses nothing.
fn xfs() -> String {
    let script = r#"
        packages=$(scripts/lib/debian-package xfsprogs libinih1 liburcu8)
        set -- $packages
        libraries=/usr/lib/x86_64-linux-gnu
        rm -f "$IMAGE" "$IMAGE.gz"
        LD_LIBRARY_PATH=$2$libraries:$3$libraries "$1/sbin/mkfs.xfs" --unsupported -q -d "file,name=$IMAGE,size=16m"
        gzip "$IMAGE"
    "#;
    let image = format!("{}/xfs.img", env!("CARGO_TARGET_TMPDIR"));
    done("env", &[&format!("IMAGE={image}"), "sh", "-euc", script]);
    image + ".gz"
}

fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let xfs = format!("{}:/xfs.img.gz", xfs());
        make_image("services", &["--add-module", "xfs", "--file", &xfs])
    })
}

/// The guest with a newer kernel, and a daemon for its file copy: docs/testing.md.
fn newer_image() -> String {
    let suite = std::env::var("VIRIDIAN_SUITE").ok();
    let flavour = if suite.is_some() { "cloud-amd64" } else { "6.12-cloud-amd64" };
    let daemon = std::env::var("VIRIDIAN_FCOPY").unwrap_or_else(|_| {
        let daemon = format!("{}/fcopy", env!("CARGO_TARGET_TMPDIR"));
        done("cc", &["-O1", "-Wall", "-static", "-o", &daemon, "tests/nested/services/fcopy.c"]);
        daemon
    });
    let daemon = format!("{daemon}:/usr/sbin/hv_fcopy_uio_daemon");
    let suite: Vec<&str> = suite.iter().flat_map(|suite| ["--suite", suite]).collect();
    make_image("services-newer", &[["--flavour", flavour, "--file", &daemon].as_slice(), &suite].concat())
}

/// Plans with a disk of its own that contains the guest's root.
fn plan_for(plan: &mut Plan, image: &str, engine: &str) {
    let copy = format!("{image}/root-{engine}.img");
    done("cp", &["--reflink=auto", "--sparse=always", &format!("{image}/root.img"), &copy]);
    plan.option("--disk", &copy);
    plan.file(env!("CARGO_BIN_EXE_viridian"));
}

fn newer(plan: &mut Plan) {
    let image = newer_image();
    plan_for(plan, &image, "user");
    let daemon = if std::env::var_os("VIRIDIAN_FCOPY").is_some() { "KERNELS_FCOPY=1" } else { "" };
    let variables = format!("ROUNDS=1 ITEMS=12 PAUSE=2 COPY=300001 CLOCKS=0 WORDS='{FOR_QEMU}' {daemon}");
    stock::plan(plan, module_path!(), &image, "user", &[("newer", 180, &variables)]);
}

fn plan(plan: &mut Plan, engine: &str) {
    let image = image();
    plan_for(plan, image, engine);
    // As many as Microsoft's suites do.
    let (rounds, items) = if is_full() { (20, 250) } else { (1, 40) };
    let (pause, copy, clocks) = if is_full() { (60, 100_000_001, 3) } else { (8, 500_001, 1) };
    let variables = format!("ROUNDS={rounds} ITEMS={items} PAUSE={pause} COPY={copy} CLOCKS={clocks} WORDS=''");
    let seconds = 200 + 10 * rounds + pause + copy / 100_000;
    stock::plan(
        plan,
        module_path!(),
        image,
        engine,
        &[("services", seconds, &variables), ("hibernation", 240, &variables)],
    );
}

#[test]
fn stock_linux_uses_all_services() {
    stock::passes(&SERVICES, "services");
}

#[test]
fn stock_linux_with_a_newer_kernel_uses_all_services() {
    NEWER.outcome("newer", stock::has_passed);
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
    steps::the_host_tells_about_itself(&linux);
    steps::addresses_are_those_of_the_guest(&linux);
    steps::adapters_are_configured(&linux);
    steps::files_are_copied(&linux, number("COPY"));
    steps::the_agent_runs_commands_and_copies_files(&linux);
    steps::file_systems_are_frozen(&linux);
    steps::btrfs_and_xfs_are_frozen_too(&linux);
    steps::killed_daemons_harm_nobody(&linux);
    steps::a_stopped_daemon_delays_only_its_service(&linux);
    steps::services_come_and_go(&linux, number("ROUNDS"));
    steps::the_driver_is_unloaded_while_frozen(&linux);
    steps::the_guest_restarts(&linux);
    steps::the_guest_shuts_down(linux);
}

#[test]
#[ignore = "a part of stock_linux_with_a_newer_kernel_uses_all_services, for the nested host"]
fn nested_newer() {
    let linux = Linux::boot();
    linux.run("[ -e /sys/bus/vmbus/drivers/uio_hv_generic ] && [ ! -e /dev/vmbus/hv_fcopy ]");
    steps::all_services_negotiate(&linux);
    steps::the_guest_is_alive(&linux);
    steps::the_clock_is_the_hosts(&linux, number("PAUSE"));
    steps::items_and_addresses_travel(&linux, number("ITEMS"));
    steps::the_host_tells_about_itself(&linux);
    steps::files_are_copied(&linux, number("COPY"));
    steps::file_systems_are_frozen(&linux);
    steps::killed_daemons_harm_nobody(&linux);
    steps::services_come_and_go(&linux, number("ROUNDS"));
    steps::the_guest_restarts(&linux);
    steps::the_guest_shuts_down(linux);
}
