//! Guest images on the nested host's KVM, with both engines: in these tests, the kernel engine runs only there.

use crate::common::nested::Batch;

const ENGINES: [&str; 2] = ["kernel", "user"];

/// The runs: an image with its options, the exit code, and words on the console or on standard error.
const RUNS: &[(&str, u8, &str)] = &[
    ("hello", 0, "Hello from a Viridian guest"),
    ("hello --cpus 3 --memory 5G --cmdline greeting=yes", 0, "100000000-17fffffff usable"),
    ("hello-bzimage", 0, "Linux, 64-bit entry"),
    ("hello-multiboot", 0, "multiboot 1"),
    ("hello-pvh", 0, "PVH"),
    ("flat:flat16", 16, "real mode"),
    ("flat:flat32@0x100000,mode=32", 32, "protected mode"),
    ("flat:flat64@0x100000,mode=64", 64, "long mode"),
    ("smp --cpus 1", 0, "0 failed"),
    ("smp --cpus 2", 0, "0 failed"),
    ("smp --cpus 8,sockets=2,cores=2,threads=2", 0, "0 failed"),
    ("memory --cpus 2 --memory 5G", 0, "0 failed"),
    ("selftest --cpus 2", 0, "0 failed"),
    ("exits --cmdline exit=42", 42, "the guest wrote 42 to the exit port"),
    ("exits --cmdline exit=100", 99, "the guest wrote 100 (0x64) to the exit port"),
    ("exits --cmdline poweroff", 0, "the guest powered off"),
    ("exits --cmdline reset=i8042", 100, "the guest asked for a reset"),
    ("exits --cmdline reset=acpi", 100, "the guest asked for a reset"),
    ("exits --cmdline reset=port92", 100, "the guest asked for a reset"),
    ("exits --cmdline reset=cf9", 100, "the guest asked for a reset"),
    ("exits --cmdline triple", 101, "triple fault on VP 0"),
    ("exits --cmdline halt --cpus 2 --timeout 0.5", 124, "the time ran out: 0.5 s"),
    ("exits --cmdline loop --cpus 2 --timeout 0.5", 124, "the time ran out: 0.5 s"),
    ("exits --cmdline spew=4096", 0, "0000000000000fc0 abc"),
];

static BATCH: Batch = Batch::new(|plan| {
    let (viridian, images) = (env!("CARGO_BIN_EXE_viridian"), env!("VIRIDIAN_GUEST_IMAGES"));
    plan.file(viridian);
    plan.option("--dir", images);
    for engine in ENGINES {
        for (run, ..) in RUNS {
            let kernel = match run.strip_prefix("flat:") {
                Some(flat) => format!("flat:{images}/{flat}"),
                None => format!("{images}/{run}"),
            };
            plan.check(name(engine, run).leak(), 30, format!("{viridian} run --engine {engine} --kernel {kernel}"));
        }
    }
    plan.check("check", 10, format!("{viridian} check --json"));
    plan.check("embedded", 10, format!("{viridian} run -v"));
});

/// Returns a run's name in the batch, which is also the name of its directory.
fn name(engine: &str, run: &str) -> String {
    format!("{engine} {}", run.replace('/', "_"))
}

/// Expects that every run of an engine ended as documented.
fn expect_all(engine: &str) {
    let names: Vec<_> = RUNS.iter().map(|(run, ..)| name(engine, run)).collect();
    BATCH.run(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (run, code, words) in RUNS {
        BATCH.outcome(&name(engine, run), |outcome| {
            assert_eq!(outcome.code, Some(*code), "{run}: {outcome}");
            assert!(outcome.text().contains(words) || outcome.errors().contains(words), "{words}: {run}: {outcome}");
        });
    }
}

#[test]
fn every_image_ends_as_documented_on_the_kernel_engine() {
    expect_all("kernel");
}

#[test]
fn every_image_ends_as_documented_on_the_user_engine() {
    expect_all("user");
}

#[test]
fn the_embedded_image_runs_and_the_kernel_engine_is_the_choice() {
    BATCH.run(&["embedded", "check"]);
    BATCH.outcome("embedded", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        assert!(outcome.text().contains("4096 bytes, as they were written"), "{outcome}");
        assert!(outcome.text().contains("All is well"), "{outcome}");
    });
    BATCH.outcome("check", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("a report in JSON");
        assert_eq!((&report["usable"], &report["engine"]), (&true.into(), &"kernel".into()), "{outcome}");
    });
}
