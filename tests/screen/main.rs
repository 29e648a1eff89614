//! Keyboard and mouse with stock Linux (`hyperv-keyboard`, `hid-hyperv`), on the nested host and on both engines.
//!
//! This uses the library, so the test binary runs itself on the nested host.

#[path = "../common/mod.rs"]
mod common;
mod input;

use std::path::{Path, PathBuf};
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

/// The guest: Debian's kernel with its drivers, and a program that prints the events of its input devices.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = format!("{ROOT}/target/screen-test");
        std::fs::create_dir_all(&directory).expect("a folder");
        let events = format!("{directory}/events");
        done("cc", &["-O1", "-Wall", "-o", &events, "tests/screen/events.c"]);
        let mut arguments = vec!["--output", &directory];
        for module in ["hyperv-keyboard", "hid-hyperv", "hid-generic", "evdev"] {
            arguments.extend(["--module", module]);
        }
        let events = format!("{events}:/usr/bin/events");
        arguments.extend(["--file", &events]);
        done("scripts/linux-guest", &arguments);
        directory
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    let (this, image) = (std::env::current_exe().expect("a test binary"), image());
    let this = this.to_str().expect("a plain path");
    for file in [this, &format!("{image}/vmlinux"), &format!("{image}/initrd.img")] {
        plan.file(file);
    }
    let script = format!("IMAGE={image} ENGINE={engine} {this} --ignored --exact --nocapture on_the_nested_host");
    plan.check("input", 60, script);
}

#[test]
fn stock_linux_sees_each_key_and_each_move() {
    SCREEN.outcomes("input", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        assert!(outcome.text().contains("1 passed"), "{outcome}");
    });
}

#[test]
#[ignore = "a part of stock_linux_sees_each_key_and_each_move, for the nested host"]
fn on_the_nested_host() {
    let variable = |name: &str| std::env::var(name).expect("it is set");
    let image = PathBuf::from(variable("IMAGE"));
    let linux = input::Linux::boot(Path::new(&image), &variable("ENGINE"));
    input::each_key_is_the_right_one(&linux);
    input::the_pointer_goes_where_it_is_told(&linux);
}
