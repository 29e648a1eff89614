//! Screen, keyboard and mouse with stock Linux (`hyperv_drm`, `hyperv-keyboard`, `hid-hyperv`), on the nested host and on both
//! engines.
//!
//! This uses the library, so the test binary runs itself on the nested host.

#[path = "../common/mod.rs"]
mod common;
mod input;
mod picture;
#[path = "../common/rfb.rs"]
mod rfb;
#[path = "../common/vnc.rs"]
mod vnc;

use std::sync::OnceLock;

use common::nested::{Batch, OnBoth, Plan};
use common::stock::{self, done};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

static SCREEN: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

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
    let modules = ["hyperv_fb", "hyperv-keyboard", "hid-hyperv", "hid-generic", "evdev"];
    IMAGE.get_or_init(|| linux("cloud-amd64", &modules, "events"))
}

/// The guest that draws. Debian's cloud kernels lack the driver.
fn draw() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| linux("amd64", &["hyperv_drm"], "draw"))
}

fn plan(plan: &mut Plan, engine: &str) {
    stock::plan(plan, events(), engine, &[("input", 120, "")]);
    stock::plan(plan, draw(), engine, &[("picture", 120, "")]);
}

#[test]
fn stock_linux_sees_each_key_and_each_move() {
    stock::passes(&SCREEN, "input");
}

#[test]
fn what_stock_linux_shows_is_on_the_screenshot() {
    stock::passes(&SCREEN, "picture");
}

#[test]
#[ignore = "a part of stock_linux_sees_each_key_and_each_move, for the nested host"]
fn nested_input() {
    let linux = input::Linux::boot();
    input::each_key_is_the_right_one(&linux);
    input::the_pointer_goes_where_it_is_told(&linux);
    input::a_viewers_keys_are_the_right_ones(&linux);
    input::a_key_that_is_held_repeats(&linux);
    input::a_viewers_pointer_is_where_it_is_seen(&linux);
    input::a_long_text_arrives_completely(&linux);
}

#[test]
#[ignore = "a part of what_stock_linux_shows_is_on_the_screenshot, for the nested host"]
fn nested_picture() {
    picture::each_picture_is_seen_as_it_is_drawn();
    picture::the_frame_buffer_has_each_size();
}
