//! Dynamic memory with stock Linux, on the nested host and on both engines.
//!
//! These tests use the library, so the test binary itself runs on the nested host: see the ignored tests below.

#[path = "../common/mod.rs"]
mod common;
mod guest;
mod steps;

use std::sync::OnceLock;

use common::nested::{Batch, OnBoth, Plan};
use common::stock;
use guest::Linux;

static MEMORY: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// The guest: Debian's kernel with `hv_balloon`, whose first report would otherwise come after 45 seconds.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        stock::image("memory", &["--module", "hv_balloon pressure_report_delay=0", "--script", "tests/memory/serve"])
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    stock::plan(plan, image(), engine, &[("sizes", 120, ""), ("discard", 60, "")]);
}

#[test]
fn stock_linux_shrinks_and_grows_by_exact_pages() {
    stock::passes(&MEMORY, "sizes");
}

#[test]
fn stock_linux_reports_free_pages() {
    stock::passes(&MEMORY, "discard");
}

#[test]
#[ignore = "a part of stock_linux_shrinks_and_grows_by_exact_pages, for the nested host"]
fn nested_sizes() {
    let linux = Linux::boot("startup=256M,min=192M,max=640M,cold-discard=off");
    steps::the_driver_is_ready(&linux);
    steps::memory_is_given_and_returned(&linux);
    steps::memory_is_added(&linux);
    steps::sizes_are_exact(&linux);
    steps::a_restart_has_the_startup_size(&linux);
}

#[test]
#[ignore = "a part of stock_linux_reports_free_pages, for the nested host"]
fn nested_discard() {
    let linux = Linux::boot("startup=384M,cold-discard=on");
    steps::free_pages_are_given_back(&linux);
}
