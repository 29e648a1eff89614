//! Dynamic memory with stock Linux, on the nested host and on both engines.

mod guest;
mod pressure;
mod steps;

use std::sync::OnceLock;

use crate::common::nested::{Batch, OnBoth, Plan};
use crate::common::stock::{self, done};
use guest::Linux;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

static MEMORY: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// The guest: Debian's kernel with `hv_balloon`, whose first report would otherwise come after 45 seconds, and a program that uses memory.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = format!("{ROOT}/target/memory-test");
        std::fs::create_dir_all(&directory).expect("a folder");
        let stress = format!("{directory}/stress");
        done("cc", &["-O1", "-Wall", "-static", "-o", &stress, "tests/nested/memory/stress.c"]);
        let stress = format!("{stress}:/usr/bin/stress");
        let module = ["--module", "hv_balloon pressure_report_delay=0"];
        stock::image("memory", &[&module[..], &["--script", "tests/nested/memory/serve", "--file", &stress]].concat())
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    // For two guests.
    plan.option("--memory", "3G");
    stock::plan(
        plan,
        module_path!(),
        image(),
        engine,
        &[("sizes", 120, ""), ("discard", 60, ""), ("pressure", 300, "")],
    );
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
fn two_stock_linux_machines_share_a_budget_by_their_pressure() {
    stock::passes(&MEMORY, "pressure");
}

#[test]
#[ignore = "a part of two_stock_linux_machines_share_a_budget_by_their_pressure, for the nested host"]
fn nested_pressure() {
    let lab = pressure::Lab::boot();
    pressure::idle_machines_have_their_minimum(&lab);
    pressure::both_under_pressure_share_by_weight(&lab);
    pressure::one_under_pressure_grows_to_its_maximum(&lab);
    pressure::memory_goes_back_when_the_pressure_ends(&lab);
    pressure::huge_pages_grow_to_the_maximum_too(&lab);
    lab.end();
}

#[test]
#[ignore = "a part of stock_linux_shrinks_and_grows_by_exact_pages, for the nested host"]
fn nested_sizes() {
    let linux = Linux::with_memory("startup=256M,min=192M,max=640M,cold-discard=off");
    steps::the_driver_is_ready(&linux);
    steps::memory_is_given_and_returned(&linux);
    steps::memory_is_added(&linux);
    steps::sizes_are_exact(&linux);
    steps::a_restart_has_the_startup_size(&linux);
}

#[test]
#[ignore = "a part of stock_linux_reports_free_pages, for the nested host"]
fn nested_discard() {
    let linux = Linux::with_memory("startup=384M,cold-discard=on");
    steps::free_pages_are_given_back(&linux);
}
