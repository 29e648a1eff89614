//! Other kernels with a root disk: the same kernel again, and Debian's for real machines.

use super::guest::{self, WITH_ROOTS, expect_power_off, expect_words};
use crate::common::nested::Plan;

/// Runs after the plan of `tools.rs`, whose root disk is /dev/vda.
pub fn plan(plan: &mut Plan, engine: &str) {
    let guest = guest::with_root_disk();
    let run = guest::run(engine, guest, "root=LABEL=root run=\"boot-again hostname\"", "--disk /dev/vda");
    plan.check("kexec", 240, run);

    let guest = guest::with_full_kernel();
    guest::pack_root_disk(plan, engine, guest);
    let run = guest::run(engine, guest, "root=/dev/sda run=\"uname -r; mount\"", "--disk /dev/vdb");
    plan.check("full kernel", 240, run);
}

#[test]
fn the_same_kernel_boots_by_kexec_and_has_its_root_again() {
    WITH_ROOTS.outcomes("kexec", |outcome| {
        expect_words(outcome, "booting again");
        assert_eq!(outcome.text().matches("Linux is in user space.").count(), 2, "{outcome}");
        expect_words(outcome, "The script ended with exit code 0.");
        expect_power_off(outcome);
    });
}

#[test]
fn debians_kernel_for_real_machines_has_its_root_on_a_disk_too() {
    WITH_ROOTS.outcomes("full kernel", |outcome| {
        expect_words(outcome, "/dev/sda on / type ext4 (rw");
        assert!(!outcome.text().contains("-cloud-"), "{outcome}");
        expect_power_off(outcome);
    });
}
