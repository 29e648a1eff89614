//! Discards on images that cannot release blocks, or only some of them. Linux may find no support, but must get no errors.

use super::guest::{self, NEED, WITH_ROOTS, expect_power_off, expect_words};
use crate::common::nested::Plan;

/// The disks' serial numbers. An old image (version 2) has no zero clusters, so a discarded block would
/// show its backing file.
const DISKS: [&str; 5] = ["OLD", "OVER", "NEW", "RAW", "KEPT"];

/// Runs after the plan of `tools.rs`, whose root disk is /dev/vda.
pub fn plan(plan: &mut Plan, engine: &str) {
    let guest = guest::with_root_disk();
    let image = |name: &str, kind: &str| guest.join(format!("{name}-{engine}.{kind}"));
    let (base, old, over, new) =
        (image("x", "raw"), image("old", "qcow2"), image("over", "qcow2"), image("new", "qcow2"));
    std::fs::write(&base, vec![b'x'; 8 << 20]).expect("target/ can be written to");
    guest::done(NEED, &["qemu-img:qemu-utils"]);
    let create = |arguments: &[&str]| guest::done("qemu-img", &[&["create", "-q", "-f", "qcow2"], arguments].concat());
    let backing = format!("x-{engine}.raw");
    create(&["-o", "compat=0.10", guest::text(&old), "8M"]);
    create(&["-o", "compat=0.10", "-b", &backing, "-F", "raw", guest::text(&over)]);
    create(&["-b", &backing, "-F", "raw", guest::text(&new)]);
    for file in [&base, &old, &over, &new] {
        plan.file(guest::text(file));
    }
    plan.file("/usr/bin/qemu-img");
    let [old, over, new] = [&old, &over, &new].map(|path| guest::text(path));
    let options = format!(
        "--disk path=/dev/vda --disk {old},serial=OLD --disk {over},serial=OVER --disk {new},serial=NEW \
         --disk raw.img,format=raw,serial=RAW --disk kept.img,format=raw,serial=KEPT,discard=off"
    );
    let words = format!("root=LABEL=root run=\"discards {}\"", DISKS.join(" "));
    let run = guest::run(engine, guest, &words, &options);
    // The images are checked with qemu-img after the run.
    let look = format!(
        "for image in {old} {over} {new}; do qemu-img check -q $image || {{ qemu-img check $image; exit 1; }}; \
         qemu-img convert -O raw $image image.raw; cmp image.raw expected.raw || exit 1; done; \
         for image in raw.img kept.img; do cmp $image expected.raw || exit 1; done; echo 'the images are whole'"
    );
    plan.check(
        "discards",
        300,
        format!(
            "truncate -s 8M raw.img; truncate -s 8M kept.img; \
             {{ dd if=/dev/zero bs=1M count=4; tr '\\0' x </dev/zero | dd bs=64k count=64 iflag=fullblock; }} >expected.raw 2>/dev/null; \
             {run} || exit; {look}; code=$?; rm *.raw *.img; exit $code"
        ),
    );
}

#[test]
fn discards_and_zeroing_succeed_on_every_kind_of_image() {
    WITH_ROOTS.outcomes("discards", |outcome| {
        for disk in DISKS {
            for check in ["discard", "zero", "file system", "leave"] {
                expect_words(outcome, &format!("\nok {check} {disk}\r\n"));
            }
        }
        expect_words(outcome, "\nok no complaint of the kernel\r\n");
        expect_words(outcome, "end of checks");
        expect_power_off(outcome);
    });
}

#[test]
fn zeroed_ranges_are_zeros_and_qemu_finds_the_images_consistent() {
    WITH_ROOTS.outcomes("discards", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        expect_words(outcome, "the images are whole");
    });
}
