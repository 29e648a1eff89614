//! Shares of the host's processor for machines of `viridian serve`, by cgroup v2 on the nested host.

use crate::common::nested::{Batch, Outcome};
use crate::common::patience::slowness;

const VIRIDIAN: &str = env!("CARGO_BIN_EXE_viridian");
const IMAGE: &str = concat!(env!("VIRIDIAN_GUEST_IMAGES"), "/exits");

/// Starts a service, and defines `define NAME SHARES` and `used NAME`, in microseconds.
const BEGIN: &str = r#"
    mkdir groups && mount -t cgroup2 none groups || exit 1
    export VIRIDIAN_RUNTIME_DIR=$PWD/run
    "$VIRIDIAN" serve --state state --cgroup groups/viridian 2>said &
    until grep -q 'serving at' said; do sleep 1; done
    define() {
        printf 'kernel = "%s"\ncmdline = "loop"\n[service]\n%s\n' "$IMAGE" "$2" >$1.toml
        "$VIRIDIAN" define $1 $1.toml && "$VIRIDIAN" start $1
    }
    used() { sed -n 's/^usage_usec //p' groups/viridian/machine-$1/cpu.stat; }
"#;

static BATCH: Batch = Batch::new(|plan| {
    plan.file(VIRIDIAN);
    plan.file(IMAGE);
    plan.option("--env", &format!("VIRIDIAN={VIRIDIAN}"));
    plan.option("--env", &format!("IMAGE={IMAGE}"));
    let mut check = |name, seconds, script: &str| plan.check(name, seconds, format!("{BEGIN}\n{script}"));
    check(
        "weights",
        60,
        r#"
        define light 'cpu = { weight = 100 }' && define heavy 'cpu = { weight = 300 }' || exit 1
        light=$(used light) heavy=$(used heavy)
        until [ $(($(used light) - light + $(used heavy) - heavy)) -ge 12000000 ]; do sleep 1; done
        echo $(($(used light) - light)) $(($(used heavy) - heavy))
        "$VIRIDIAN" kill light heavy
        until [ -z "$(ls groups/viridian | grep machine)" ]; do sleep 1; done
        "#,
    );
    check(
        "limit",
        60,
        r#"
        define slow 'cpu = { limit = "25%" }' || exit 1
        now() { sed 's/[.]\([0-9]*\) .*/\10000/' /proc/uptime; }
        begin=$(now) slow=$(used slow)
        until [ $(($(used slow) - slow)) -ge 3000000 ]; do sleep 1; done
        echo $(($(used slow) - slow)) $(($(now) - begin))
        printf 'kernel = "%s"\ncmdline = "loop"\n[service]\ncpu = { limit = "50%%" }\n' "$IMAGE" >slow.toml
        "$VIRIDIAN" define slow slow.toml
        cat groups/viridian/machine-slow/cpu.max
        "#,
    );
    check(
        "reserve",
        60,
        r#"
        define first 'cpu = { reserve = "60%" }' || exit 1
        cat groups/viridian/machine-first/cpu.weight
        define second 'cpu = { weight = 300 }' || exit 1
        cat groups/viridian/machine-first/cpu.weight groups/viridian/machine-second/cpu.weight
        define third 'cpu = { reserve = "50%" }'
        echo code $?
        "#,
    );
});

/// Returns the two numbers of the first line.
fn numbers(outcome: &Outcome) -> (f64, f64) {
    assert_eq!(outcome.code, Some(0), "{outcome}");
    let text = outcome.text();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("{outcome}")));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn machines_share_a_busy_processor_by_their_weights() {
    BATCH.outcome("weights", |outcome| {
        let (light, heavy) = numbers(outcome);
        let ratio = heavy / light;
        println!("weights of 100 and 300: 1 to {ratio:.2}");
        assert!((2.7..=3.3).contains(&ratio), "1 to {ratio:.2}; {outcome}");
    });
}

#[test]
fn a_machine_gets_no_more_processor_time_than_its_limit() {
    BATCH.outcome("limit", |outcome| {
        let (used, time) = numbers(outcome);
        let part = used / time;
        println!("a limit of 25 %: {:.1} %", 100.0 * part);
        // On a busy host, the whole nested host may get less.
        assert!(part <= 0.25 * 1.05 && part >= 0.25 * 0.95 / slowness(), "{part:.3}; {outcome}");
        assert!(outcome.text().contains("\n50000 100000"), "a new limit has an effect at once: {outcome}");
    });
}

#[test]
fn what_is_reserved_comes_first_and_cannot_be_more_than_the_host_has() {
    BATCH.outcome("reserve", |outcome| {
        let text = outcome.text();
        // Alone, it gets everything. Beside another one it gets its 60 %, and a quarter of the rest.
        assert_eq!(text.lines().collect::<Vec<_>>(), ["10000", "7000", "3000", "code 1"], "{outcome}");
        assert!(outcome.errors().contains("third reserves 50% of a processor, other machines 60%"), "{outcome}");
    });
}
