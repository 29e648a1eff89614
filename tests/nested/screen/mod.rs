//! Screen, keyboard and mouse with stock Linux (`hyperv_drm`, `hyperv-keyboard`, `hid-hyperv`), on the nested host and on both
//! engines.

mod early;
mod input;
mod picture;

use std::sync::OnceLock;

use crate::common::nested::{Batch, OnBoth, Plan, is_full};
use crate::common::stock::{self, done};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The script that loads the screen's driver again, and its place in the guests.
const RELOAD: &str = "tests/nested/screen/reload.sh:/usr/bin/reload";

static SCREEN: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// Makes a guest of Debian's kernel with these modules, these files, and the program of a C file here, which can be run in it.
fn linux(flavour: &str, modules: &[&str], files: &[&str], program: &str) -> String {
    let directory = format!("{ROOT}/target/screen-test/{flavour}-{program}");
    std::fs::create_dir_all(&directory).expect("a folder");
    let mut arguments: Vec<String> = ["--flavour", flavour, "--output", &directory].map(str::to_owned).into();
    modules.iter().for_each(|module| arguments.extend(["--module".into(), module.to_string()]));
    files.iter().for_each(|file| arguments.extend(["--file".into(), file.to_string()]));
    let binary = format!("{directory}/{program}");
    done("cc", &["-O1", "-Wall", "-o", &binary, &format!("tests/nested/screen/{program}.c")]);
    arguments.extend(["--file".into(), format!("{binary}:/usr/bin/{program}")]);
    done("scripts/linux-guest", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    directory
}

/// The guest that prints the events of its input devices. It has no driver for the screen: Linux's console would draw what is typed, and
/// the guest lose events when its processor is slow.
fn events() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    let modules = ["hyperv-keyboard", "hid-hyperv", "hid-generic", "evdev"];
    IMAGE.get_or_init(|| linux("cloud-amd64", &modules, &[], "events"))
}

/// The guest that draws with the older driver, and can load it again. Debian's cloud kernels have no other.
fn older() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| linux("cloud-amd64", &["hyperv_fb"], &[RELOAD], "draw"))
}

/// The guest that draws. Debian's cloud kernels lack the driver.
fn draw() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| linux("amd64", &["hyperv_drm"], &[], "draw"))
}

/// The guest that loads the screen's driver when it is told to.
fn early() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let kernel = std::process::Command::new("scripts/lib/debian-kernel").arg("amd64").current_dir(ROOT).output();
        let kernel = String::from_utf8(kernel.expect("the script starts").stdout).expect("a path");
        let kernel = kernel.trim();
        let release = std::fs::read_to_string(format!("{kernel}/release")).expect("the kernel's release");
        let modules = format!("{kernel}/lib/modules/{}/kernel/drivers", release.trim());
        let driver = format!("{modules}/gpu/drm/hyperv/hyperv_drm.ko:/hyperv_drm.ko");
        let arguments = ["--flavour", "amd64", "--module", "hv_vmbus", "--module", "drm_kms_helper", "--module"];
        let files = ["drm_shmem_helper", "--file", &driver, "--file", "tests/nested/screen/early.sh:/usr/bin/early"];
        stock::image("early-screen", &[&arguments[..], &files, &["--file", RELOAD]].concat())
    })
}

/// The guest that starts the kernel of [`early`] when it is told to.
fn again() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let next = early();
        let files = ["vmlinuz", "initrd.img"].map(|name| format!("{next}/{name}:/boot/{name}"));
        let script = format!("{ROOT}/tests/nested/screen/again.sh:/usr/bin/again");
        let arguments = ["--flavour", "amd64", "--module", "hyperv_drm", "--package", "kexec-tools", "--file", &script];
        stock::image("again-screen", &[&arguments[..], &["--file", &files[0], "--file", &files[1]]].concat())
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    for image in [events(), older(), early(), again()] {
        plan.file(&format!("{image}/vmlinuz"));
    }
    stock::plan(plan, module_path!(), events(), engine, &[("input", 120, ""), ("early_panic", 60, "")]);
    let rounds = if is_full() { 20 } else { 3 };
    let variables = format!("ROUNDS={rounds}");
    let of_older = [("older_driver", 120, ""), ("older_again", 40 + 2 * rounds, &*variables)];
    stock::plan(plan, module_path!(), older(), engine, &of_older);
    stock::plan(plan, module_path!(), early(), engine, &[("early_driver", 80 + 2 * rounds, &variables)]);
    stock::plan(plan, module_path!(), again(), engine, &[("early_again", 180, "")]);
    stock::plan(plan, module_path!(), draw(), engine, &[("picture", 120, "")]);
    // One engine is enough: the memory is the same.
    if engine == "kernel" {
        stock::plan(plan, module_path!(), draw(), engine, &[("large", 120, "")]);
    }
}

#[test]
fn what_a_kernel_shows_without_a_driver_is_on_the_screen_until_a_driver_takes_over() {
    stock::passes(&SCREEN, "early_driver");
}

#[test]
fn a_kernel_that_another_has_started_has_the_screen_again() {
    stock::passes(&SCREEN, "early_again");
}

#[test]
fn a_kernels_panic_is_on_the_screen() {
    stock::passes(&SCREEN, "early_panic");
}

#[test]
fn the_older_driver_finds_its_memory_and_takes_over() {
    stock::passes(&SCREEN, "older_driver");
}

#[test]
fn the_older_driver_can_be_loaded_again_while_viewers_come_and_leave() {
    stock::passes(&SCREEN, "older_again");
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
#[ignore = "a part of what_a_kernel_shows_without_a_driver_is_on_the_screen_until_a_driver_takes_over, for the nested host"]
fn nested_early_driver() {
    early::the_driver_takes_over_what_the_kernel_shows();
}

#[test]
#[ignore = "a part of a_kernel_that_another_has_started_has_the_screen_again, for the nested host"]
fn nested_early_again() {
    early::the_next_kernel_has_the_screen();
}

#[test]
#[ignore = "a part of a_kernels_panic_is_on_the_screen, for the nested host"]
fn nested_early_panic() {
    early::a_panic_is_on_the_screen();
}

#[test]
#[ignore = "a part of the_older_driver_finds_its_memory_and_takes_over, for the nested host"]
fn nested_older_driver() {
    picture::the_older_driver_shows_each_size();
    early::the_older_driver_takes_over_what_the_kernel_shows();
}

#[test]
#[ignore = "a part of the_older_driver_can_be_loaded_again_while_viewers_come_and_leave, for the nested host"]
fn nested_older_again() {
    early::the_older_driver_is_loaded_again();
}

#[test]
fn a_screen_of_8k_is_on_the_screenshot() {
    SCREEN.kernel.outcome("large", stock::has_passed);
}

#[test]
#[ignore = "a part of a_screen_of_8k_is_on_the_screenshot, for the nested host"]
fn nested_large() {
    picture::a_large_screen_is_seen();
}

#[test]
#[ignore = "a part of what_stock_linux_shows_is_on_the_screenshot, for the nested host"]
fn nested_picture() {
    picture::each_picture_is_seen_as_it_is_drawn();
    picture::the_frame_buffer_has_each_size();
}
