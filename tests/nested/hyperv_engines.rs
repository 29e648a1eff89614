//! The Hyper-V interface as a guest finds it, on both engines, on the nested host.
//!
//! Three starts of the nested host, one for each number of VPs, run all images on both engines.

use std::path::Path;

use crate::common::nested::{Batch, Outcome, Plan};
use crate::hyperv_images::{failures, passed};

const IMAGES: &str = env!("VIRIDIAN_GUEST_IMAGES");
const VIRIDIAN: &str = env!("CARGO_BIN_EXE_viridian");
/// Time limit of one image, in seconds.
const PATIENCE: u32 = 120;

/// Every run: its name, engine, image, and the rest of the guest's command line.
const RUNS: [(&str, &str, &str, &str); 20] = [
    ("user cpuid", "user", "cpuid", ""),
    ("user msr", "user", "msr", ""),
    ("user lock", "user", "msr", "lock=on"),
    ("user hypercall", "user", "hypercall", ""),
    ("user synic", "user", "synic", ""),
    ("user stimer", "user", "stimer", ""),
    ("user reftime", "user", "reftime", ""),
    ("user crash", "user", "crash", "crash=text"),
    ("user reset", "user", "crash", "reset"),
    ("user hostile", "user", "hostile", "seconds=5 seed=4"),
    ("kernel cpuid", "kernel", "cpuid", ""),
    ("kernel msr", "kernel", "msr", ""),
    ("kernel lock", "kernel", "msr", "lock=on"),
    ("kernel hypercall", "kernel", "hypercall", ""),
    ("kernel synic", "kernel", "synic", ""),
    ("kernel stimer", "kernel", "stimer", ""),
    ("kernel reftime", "kernel", "reftime", ""),
    ("kernel crash", "kernel", "crash", "crash=text"),
    ("kernel reset", "kernel", "crash", "reset"),
    ("kernel hostile", "kernel", "hostile", "seconds=5 seed=5"),
];

fn plan(plan: &mut Plan, vps: u32) {
    plan.file(VIRIDIAN);
    for image in ["cpuid", "msr", "hypercall", "synic", "stimer", "reftime", "crash", "hostile"] {
        plan.file(&format!("{IMAGES}/{image}"));
    }
    for (name, engine, image, command_line) in RUNS {
        let kernel = Path::new(IMAGES).join(image);
        let script = format!(
            "{VIRIDIAN} run --engine {engine} --test-device --timeout $(({PATIENCE} * SLOWNESS)) --cpus {vps} --kernel {} \
             --cmdline \"engine={engine} checks=quiet patience=$SLOWNESS {command_line}\" </dev/null",
            kernel.display()
        );
        plan.check(name, PATIENCE + 10, script);
    }
}

static WITH_1_VP: Batch = Batch::new(|the_plan| plan(the_plan, 1));
static WITH_2_VPS: Batch = Batch::new(|the_plan| plan(the_plan, 2));
static WITH_4_VPS: Batch = Batch::new(|the_plan| plan(the_plan, 4));

/// Checks a run on both engines, with 1, 2 and 4 VPs.
fn on_both_engines(what: &str, judge: fn(&str, &Outcome)) {
    const BATCHES: [&Batch; 3] = [&WITH_1_VP, &WITH_2_VPS, &WITH_4_VPS];
    // In parallel, because an outer machine keeps only one processor busy.
    let checks = ["user", "kernel"].map(|engine| format!("{engine} {what}"));
    let checks = checks.each_ref().map(String::as_str);
    std::thread::scope(|scope| BATCHES.map(|batch| drop(scope.spawn(move || batch.run(&checks)))));
    for batch in BATCHES {
        for engine in ["user", "kernel"] {
            batch.outcome(&format!("{engine} {what}"), |outcome| judge(engine, outcome));
        }
    }
}

fn passes(engine: &str, outcome: &Outcome) {
    let text = outcome.text();
    let failures = failures(&text);
    assert!(failures.is_empty(), "{engine}: {failures:#?}\n{outcome}");
    assert!(passed(&text) > Some(0), "{engine}: {outcome}");
}

#[test]
fn cpuid_shows_the_interface() {
    on_both_engines("cpuid", passes);
}

#[test]
fn every_msr_behaves() {
    on_both_engines("msr", passes);
}

#[test]
fn a_locked_hypercall_register_stays_as_it_is() {
    on_both_engines("lock", passes);
}

#[test]
fn hypercalls_are_answered() {
    on_both_engines("hypercall", passes);
}

#[test]
fn the_synic_delivers() {
    on_both_engines("synic", passes);
}

#[test]
fn synthetic_timers_expire() {
    on_both_engines("stimer", passes);
}

#[test]
fn reference_time_is_one_clock() {
    on_both_engines("reftime", passes);
}

#[test]
fn a_crash_is_reported_with_its_text() {
    on_both_engines("crash", |_, outcome| {
        assert_eq!(outcome.code, Some(102), "{outcome}");
        let words = String::from_utf8_lossy(&outcome.stderr);
        assert!(words.ends_with("\n  | Kernel panic - not syncing: no init\n  | end of the log\n"), "{outcome}");
    });
}

#[test]
fn the_reset_register_resets() {
    on_both_engines("reset", |_, outcome| assert_eq!(outcome.code, Some(100), "{outcome}"));
}

#[test]
fn a_hostile_guest_does_not_affect_the_host() {
    on_both_engines("hostile", |_, outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        assert!(outcome.text().contains(" random steps by "), "{outcome}");
    });
}
