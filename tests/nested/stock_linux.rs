//! Debian's stock kernel on the nested host: it boots, finds the devices of its machine, and ends in every way.

use std::path::Path;
use std::process::Command;

use crate::common::nested::{Batch, Outcome};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The script by which guests describe their machine.
const REPORT: &str = "echo processors: $(nproc); grep System /proc/iomem; uname -r; \
    cd /sys/devices/system/cpu; for c in cpu[0-9]*; do \
    echo $c: package $(cat $c/topology/physical_package_id) core $(cat $c/topology/core_id); done";

static BATCH: Batch = Batch::new(|plan| {
    let guest = &format!("{ROOT}/target/stock-linux-test");
    let made = Command::new(Path::new(ROOT).join("scripts/linux-guest")).args(["--output", guest]).status();
    assert!(made.as_ref().is_ok_and(|status| status.success()), "scripts/linux-guest failed: {made:?}");

    let viridian = env!("CARGO_BIN_EXE_viridian");
    for file in [viridian, &format!("{guest}/vmlinuz"), &format!("{guest}/vmlinux"), &format!("{guest}/initrd.img")] {
        plan.file(file);
    }
    let boot = |kernel: &str, run: &str, options: &str| {
        format!(
            "{viridian} run --kernel {guest}/{kernel} --initrd {guest}/initrd.img {options} \
             --cmdline 'console=ttyS0 quiet panic=-1 run=\"{run}\"'"
        )
    };
    // Boots take seconds, so each covers a machine and an end, and the engines alternate.
    plan.check("bzImage", 60, boot("vmlinuz", REPORT, "--engine user"));
    plan.check("two", 60, boot("vmlinux", &format!("{REPORT}; reboot -f"), "--memory 1G --cpus 2 --engine kernel"));
    let crash = format!("{REPORT}; sleep 1; echo c > /proc/sysrq-trigger");
    plan.check("four", 60, boot("vmlinux", &crash, "--memory 5G --cpus 4,sockets=2,cores=2 --engine user"));
    let clock = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource; dmesg | grep Hypervisor";
    plan.check("hv off", 60, boot("vmlinux", clock, "--hv off --cpus 2 --report report"));
    plan.check("timeout", 60, boot("vmlinux", "sleep 1000", "--timeout 3"));
});

/// Expects an exit code and Viridian's last message.
fn expect_end(outcome: &Outcome, code: u8, words: &str) {
    assert_eq!(outcome.code, Some(code), "{outcome}");
    assert!(outcome.errors().ends_with(&format!("viridian: {words}\n")), "{outcome}");
}

/// Expects user space, all processors, and all memory but the first megabyte's reserved parts.
fn expect_machine(outcome: &Outcome, processors: usize, memory: u64) {
    let text = outcome.text();
    assert!(text.contains("Linux is in user space."), "{outcome}");
    assert!(text.contains(&format!("processors: {processors}\r\n")), "{outcome}");
    let length = |range: &str| {
        let (first, last) = range.trim().split_once('-')?;
        Some(u64::from_str_radix(last, 16).ok()? + 1 - u64::from_str_radix(first, 16).ok()?)
    };
    let found: u64 = text.lines().filter_map(|line| length(line.split_once(" : System RAM")?.0)).sum();
    assert!((memory - (1 << 20)..=memory).contains(&found), "{found} bytes of {memory}\n{outcome}");
}

/// Expects that processor `number` sits where `--cpus` puts it.
fn expect_place(outcome: &Outcome, number: usize, package: usize, core: usize) {
    let line = format!("cpu{number}: package {package} core {core}\r\n");
    assert!(outcome.text().contains(&line), "{line}{outcome}");
}

#[test]
fn the_bzimage_boots_to_user_space() {
    BATCH.outcome("bzImage", |outcome| expect_machine(outcome, 1, 256 << 20));
}

#[test]
fn the_vmlinux_out_of_it_boots_to_user_space() {
    BATCH.outcome("two", |outcome| expect_machine(outcome, 2, 1 << 30));
}

#[test]
fn two_processors_are_two_cores_of_one_package() {
    BATCH.outcome("two", |outcome| {
        expect_place(outcome, 0, 0, 0);
        expect_place(outcome, 1, 0, 1);
    });
}

#[test]
fn four_processors_are_in_two_packages_and_memory_extends_above_4_gib() {
    BATCH.outcome("four", |outcome| {
        expect_machine(outcome, 4, 5 << 30);
        for (number, package, core) in [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)] {
            expect_place(outcome, number, package, core);
        }
    });
}

#[test]
fn a_poweroff_is_0() {
    BATCH.outcome("bzImage", |outcome| expect_end(outcome, 0, "the guest powered off"));
}

#[test]
fn a_reboot_is_100() {
    BATCH.outcome("two", |outcome| expect_end(outcome, 100, "the guest asked for a reset"));
}

#[test]
fn a_crash_is_102_with_the_end_of_the_kernels_log() {
    BATCH.outcome("four", |outcome| {
        assert_eq!(outcome.code, Some(102), "{outcome}");
        let errors = outcome.errors();
        assert!(errors.contains("viridian: the guest reported a crash"), "{outcome}");
        assert!(errors.contains("Kernel panic - not syncing: sysrq triggered crash"), "{outcome}");
    });
}

/// Port reads and writes, of which the console's text alone takes several hundred.
fn port_exits(outcome: &Outcome) -> u64 {
    let text = String::from_utf8_lossy(&outcome.files[Path::new("report")]).into_owned();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let exits = events.filter_map(|event| event.get("exits").cloned()).next().unwrap();
    ["port-reads", "port-writes"].iter().map(|kind| exits[*kind].as_u64().unwrap()).sum()
}

#[test]
fn without_hyper_v_linux_uses_kvms_clock_and_does_not_calibrate_by_ports() {
    BATCH.outcome("hv off", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        assert!(outcome.text().contains("Linux is in user space."), "{outcome}");
        assert!(outcome.text().contains("Hypervisor detected: KVM\r\n"), "{outcome}");
        assert!(outcome.text().contains("kvm-clock\r\n"), "{outcome}");
        assert!(port_exits(outcome) < 10_000, "{} port exits: {outcome}", port_exits(outcome));
    });
}

#[test]
fn a_guest_that_does_not_power_off_is_stopped_at_the_time_limit() {
    BATCH.outcome("timeout", |outcome| expect_end(outcome, 124, "the time ran out: 3 s"));
}
