//! Dynamic memory with stock Linux, on the nested host and on both engines.
//!
//! This uses the library, so the test binary runs itself on the nested host.

#[path = "../common/mod.rs"]
mod common;
mod guest;
mod steps;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use common::nested::{Batch, OnBoth, Plan};
use guest::Linux;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

static MEMORY: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// The guest: Debian's kernel with `hv_balloon`, whose first report would otherwise come after 45 seconds.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = format!("{ROOT}/target/memory-test");
        let script = format!("{ROOT}/tests/memory/serve");
        let module = "hv_balloon pressure_report_delay=0";
        let arguments = ["--output", &directory, "--module", module, "--script", &script];
        let output = Command::new("scripts/linux-guest").args(arguments).current_dir(ROOT).output();
        let output = output.expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        directory
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    let (this, image) = (std::env::current_exe().expect("a test binary"), image());
    let this = this.to_str().expect("a plain path");
    for file in [this, &format!("{image}/vmlinux"), &format!("{image}/initrd.img")] {
        plan.file(file);
    }
    for (check, seconds) in [("sizes", 120), ("discard", 60)] {
        let script = format!("IMAGE={image} ENGINE={engine} {this} --ignored --exact --nocapture nested_{check}");
        plan.check(check, seconds, script);
    }
}

fn passes(check: &str) {
    MEMORY.outcomes(check, |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        assert!(outcome.text().contains("1 passed"), "{outcome}");
        outcome.text().lines().filter(|line| line.starts_with("measured: ")).for_each(|line| println!("{line}"));
    });
}

#[test]
fn stock_linux_shrinks_and_grows_to_the_page() {
    passes("sizes");
}

#[test]
fn stock_linux_tells_which_pages_are_free() {
    passes("discard");
}

fn boot(memory: &str) -> Linux {
    let variable = |name: &str| std::env::var(name).expect("it is set");
    Linux::boot(&PathBuf::from(variable("IMAGE")), &variable("ENGINE"), memory)
}

#[test]
#[ignore = "a part of stock_linux_shrinks_and_grows_to_the_page, for the nested host"]
fn nested_sizes() {
    let linux = boot("startup=256M,min=192M,max=640M,cold-discard=off");
    steps::the_driver_is_ready(&linux);
    steps::memory_is_given_and_returned(&linux);
    steps::memory_is_added(&linux);
    steps::sizes_are_exact(&linux);
    steps::a_restart_has_the_startup_size(&linux);
}

#[test]
#[ignore = "a part of stock_linux_tells_which_pages_are_free, for the nested host"]
fn nested_discard() {
    let linux = boot("startup=384M,cold-discard=on");
    steps::free_pages_are_given_back(&linux);
}
