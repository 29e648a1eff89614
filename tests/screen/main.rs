//! Screen, keyboard and mouse with stock Linux (`hyperv_drm`, `hyperv-keyboard`, `hid-hyperv`), on the nested host and on both
//! engines.
//!
//! This uses the library, so the test binary runs itself on the nested host.

#[path = "../common/mod.rs"]
mod common;
mod input;
mod picture;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use common::nested::{Batch, OnBoth, Plan};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

static SCREEN: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// Runs a program of this host, which must do its work.
fn done(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(ROOT).output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a guest of Debian's kernel with these modules and the program of a C file here, which is run in it.
fn linux(flavour: &str, modules: &[&str], program: &str) -> String {
    let directory = format!("{ROOT}/target/screen-test/{program}");
    std::fs::create_dir_all(&directory).expect("a folder");
    let binary = format!("{directory}/{program}");
    done("cc", &["-O1", "-Wall", "-o", &binary, &format!("tests/screen/{program}.c")]);
    let mut arguments = vec!["--flavour", flavour, "--output", &directory];
    modules.iter().for_each(|module| arguments.extend(["--module", module]));
    let file = format!("{binary}:/usr/bin/{program}");
    arguments.extend(["--file", &file]);
    done("scripts/linux-guest", &arguments);
    directory
}

/// The guest that prints the events of its input devices.
fn events() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    let modules = ["hyperv-keyboard", "hid-hyperv", "hid-generic", "evdev"];
    IMAGE.get_or_init(|| linux("cloud-amd64", &modules, "events"))
}

/// The guest that draws. Debian's cloud kernels lack the driver.
fn draw() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| linux("amd64", &["hyperv_drm"], "draw"))
}

fn plan(plan: &mut Plan, engine: &str) {
    let (this, events, draw) = (std::env::current_exe().expect("a test binary"), events(), draw());
    let this = this.to_str().expect("a plain path");
    plan.file(this);
    for image in [events, draw] {
        plan.file(&format!("{image}/vmlinux"));
        plan.file(&format!("{image}/initrd.img"));
    }
    for (check, image) in [("input", events), ("picture", draw)] {
        let test = format!("{check}_on_the_nested_host");
        plan.check(check, 60, format!("IMAGE={image} ENGINE={engine} {this} --ignored --exact --nocapture {test}"));
    }
}

/// Expects that a check has run its part of this file with success.
fn passes(check: &'static str) {
    SCREEN.outcomes(check, |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        assert!(outcome.text().contains("1 passed"), "{outcome}");
    });
}

#[test]
fn stock_linux_sees_each_key_and_each_move() {
    passes("input");
}

#[test]
fn what_stock_linux_shows_is_on_the_screenshot() {
    passes("picture");
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("it is set")
}

#[test]
#[ignore = "a part of stock_linux_sees_each_key_and_each_move, for the nested host"]
fn input_on_the_nested_host() {
    let linux = input::Linux::boot(Path::new(&variable("IMAGE")), &variable("ENGINE"));
    input::each_key_is_the_right_one(&linux);
    input::the_pointer_goes_where_it_is_told(&linux);
}

#[test]
#[ignore = "a part of what_stock_linux_shows_is_on_the_screenshot, for the nested host"]
fn picture_on_the_nested_host() {
    picture::each_picture_is_seen_as_it_is_drawn(Path::new(&variable("IMAGE")), &variable("ENGINE"));
}
