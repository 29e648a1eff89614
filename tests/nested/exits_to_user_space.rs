//! The number of exits to user space that a guest causes, counted by KVM on the nested host, with both engines.
//!
//! `scripts/lib/measure` counts exits between two lines of the guest. The guest waits for a reply to each line. The count
//! includes a line and a reply, with one exit per byte.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::common::nested::{Batch, Outcome, Plan};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VIRIDIAN: &str = env!("CARGO_BIN_EXE_viridian");
const IMAGE: &str = concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/costs");
/// Maximum number of exits for a line and the end of the previous one.
const LINES: i64 = 100;
const SIGNALS: i64 = 20_000;
const MESSAGES: i64 = 1000;
const IDLE_SECONDS: i64 = 10;

static WITH_IMAGES: Batch = Batch::new(|plan| {
    plan.file(VIRIDIAN);
    plan.file(IMAGE);
    let measure = measure(plan);
    let mut stretch = |name, engine, what: &str| {
        plan.check(
            name,
            60,
            format!("{measure} {VIRIDIAN} run --engine {engine} --test-device --kernel {IMAGE} --cmdline '{what}'"),
        );
    };
    for (name, engine) in [("user signals", "user"), ("kernel signals", "kernel")] {
        stretch(name, engine, &format!("stretch=signals count={SIGNALS}"));
    }
    for (name, engine) in [("user messages", "user"), ("kernel messages", "kernel")] {
        stretch(name, engine, &format!("stretch=messages count={MESSAGES}"));
    }
    for (name, engine) in [("user autoeoi", "user"), ("kernel autoeoi", "kernel")] {
        stretch(name, engine, &format!("stretch=autoeoi count={MESSAGES}"));
    }
});

static WITH_LINUX: Batch = Batch::new(|plan| {
    let guest = &format!("{ROOT}/target/idle-linux-test");
    let made = Command::new(Path::new(ROOT).join("scripts/linux-guest")).args(["--output", guest]).status();
    assert!(made.as_ref().is_ok_and(|status| status.success()), "scripts/linux-guest failed: {made:?}");
    for file in [VIRIDIAN, &format!("{guest}/vmlinux"), &format!("{guest}/initrd.img")] {
        plan.file(file);
    }
    let measure = measure(plan);
    let script =
        format!("sleep 3; echo measure begin idle; read go; sleep {IDLE_SECONDS}; echo measure end idle; read go");
    for (name, engine) in [("user idle", "user"), ("kernel idle", "kernel")] {
        plan.check(
            name,
            90,
            format!(
                "{measure} {VIRIDIAN} run --engine {engine} --kernel {guest}/vmlinux --initrd {guest}/initrd.img \
                 --cmdline 'console=ttyS0 quiet panic=-1 run=\"{script}\"'"
            ),
        );
    }
    let boot = format!(
        "{VIRIDIAN} run --engine user --trace msr=msrs --kernel {guest}/vmlinux --initrd {guest}/initrd.img \
         --cmdline 'console=ttyS0 quiet panic=-1 run=true' >&2 </dev/null || exit"
    );
    plan.check(
        "user ticks",
        60,
        format!("{boot}; echo ticks=$(grep -c 'wrmsr STIMER0_COUNT' msrs) ends=$(grep -c 'wrmsr EOI' msrs); rm msrs"),
    );
});

fn measure(plan: &mut Plan) -> String {
    let measure = format!("{ROOT}/scripts/lib/measure");
    plan.file(&measure);
    measure
}

/// Returns the counted events.
fn counts(outcome: &Outcome) -> BTreeMap<String, f64> {
    assert_eq!(outcome.code, Some(0), "{outcome}");
    let text = outcome.text();
    let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect()
}

fn on_both_engines(batch: &Batch, what: &str, judge: impl Fn(&BTreeMap<String, f64>, &Outcome)) {
    let checks = ["user", "kernel"].map(|engine| format!("{engine} {what}"));
    batch.run(&checks.each_ref().map(String::as_str));
    for engine in ["user", "kernel"] {
        batch.outcome(&format!("{engine} {what}"), |outcome| judge(&counts(outcome), outcome));
    }
}

#[test]
fn a_fast_signal_of_a_connected_id_causes_no_exit_to_user_space() {
    on_both_engines(&WITH_IMAGES, "signals", |counts, outcome| {
        assert_eq!((counts["count"], counts["handled"]), (SIGNALS as f64, SIGNALS as f64), "{outcome}");
        assert!(counts["user"] <= LINES as f64, "{outcome}");
        assert!(counts["ports"] >= SIGNALS as f64, "KVM saw fewer doorbells than there were: {outcome}");
    });
}

#[test]
fn a_message_costs_one_interrupt() {
    on_both_engines(&WITH_IMAGES, "messages", |counts, outcome| {
        assert_eq!((counts["count"], counts["handled"]), (MESSAGES as f64, MESSAGES as f64), "{outcome}");
        // An interrupt of the host sometimes makes KVM repeat the delivery of an interrupt, which is then counted twice.
        let again = MESSAGES as f64 / 10.0;
        assert!((MESSAGES as f64..=MESSAGES as f64 + again).contains(&counts["interrupts"]), "{outcome}");
    });
}

#[test]
fn a_message_with_autoeoi_costs_a_few_exits_even_if_the_guest_cannot_take_it_at_once() {
    on_both_engines(&WITH_IMAGES, "autoeoi", |counts, outcome| {
        assert_eq!((counts["count"], counts["handled"]), (MESSAGES as f64, MESSAGES as f64), "{outcome}");
        // 5 were seen on the user engine: the call, and the ends of rounds. A VP that is single-stepped has some hundred.
        assert!(counts["user"] <= 16.0 * MESSAGES as f64 + LINES as f64, "{outcome}");
    });
}

#[test]
fn an_idle_linux_causes_under_40_exits_to_user_space_a_second() {
    // The guest's own timers cause 20 to 26 exits, or more on a busy host. A periodic tick or polling would cause 100 and more.
    on_both_engines(&WITH_LINUX, "idle", |counts, outcome| {
        assert!(counts["user"] - LINES as f64 <= 40.0 * counts["seconds"], "{outcome}");
    });
}

#[test]
fn a_tick_of_linux_needs_no_end_of_interrupt_on_the_user_engine() {
    WITH_LINUX.outcome("user ticks", |outcome| {
        let counts = counts(outcome);
        assert!(counts["ticks"] >= 100.0, "{outcome}");
        // An exit during the handler, such as an interrupt of the host, makes an end necessary: on a busy host at one tick of
        // four.
        assert!(counts["ends"] <= counts["ticks"] / 2.0, "{outcome}");
    });
}
