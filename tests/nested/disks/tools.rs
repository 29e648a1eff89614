//! A root file system on a disk, and tools that check the others: sg3_utils, fio, e2fsprogs.

use super::guest::{self, NEED, WITH_ROOTS, expect_power_off, expect_words};
use crate::common::nested::{Plan, is_full};

pub fn plan(plan: &mut Plan, engine: &str) {
    let guest = guest::with_root_disk();
    guest::pack_root_disk(plan, engine, guest);
    let base = guest.join(format!("base-{engine}.raw"));
    let top = guest.join(format!("top-{engine}.qcow2"));
    // Readable where the guest's script looks for it.
    let mut bytes = vec![0; 32 << 20];
    bytes[40960 * 512..][..19].copy_from_slice(b"in the backing file");
    std::fs::write(&base, bytes).expect("target/ can be written to");
    guest::done(NEED, &["qemu-img:qemu-utils"]);
    let backing = format!("base-{engine}.raw");
    guest::done("qemu-img", &["create", "-f", "qcow2", "-b", &backing, "-F", "raw", guest::text(&top), "64M"]);
    for file in [base, top, guest.join("cdrom.iso")] {
        plan.file(guest::text(&file));
    }
    let directory = guest.display();
    // The time limits and options of fio.
    let (seconds, extent) = if is_full() { (4000, "full") } else { (400, "") };
    let options = format!(
        "--cpus 2 --disk path=/dev/vda,cache=none --disk raw.img,serial=RAW,lun=9 --disk {directory}/top-{engine}.qcow2,serial=QCOW2 \
         --disk {directory}/cdrom.iso,media=dvd --disk memory:64M,serial=LARGE,sector=4096,controller=1"
    );
    let run = guest::run(engine, guest, &format!("root=LABEL=root run=\"disk-tools {extent}\""), &options);
    plan.check(
        "tools",
        seconds,
        format!("truncate -s 64M raw.img; {run}; code=$?; du -k raw.img >size; rm raw.img; exit $code"),
    );
}

/// Expects that the checks whose names start with one of `names` passed, and that there are some.
#[track_caller]
fn expect_passed(names: &[&str]) {
    WITH_ROOTS.outcomes("tools", |outcome| {
        let text = outcome.text();
        for name in names {
            let about = |verdict: &str| text.lines().filter(|line| line.starts_with(verdict)).count();
            let (passed, failed) = (about(&format!("ok {name}")), about(&format!("not ok {name}")));
            assert!(passed > 0 && failed == 0, "{name}: {outcome}");
        }
    });
}

#[test]
fn linux_has_its_root_on_a_disk_and_powers_off() {
    expect_passed(&["the root is an ext4 on a SCSI disk", "no complaint of the kernel"]);
    WITH_ROOTS.outcomes("tools", |outcome| {
        expect_words(outcome, "end of checks");
        expect_power_off(outcome);
    });
}

#[test]
fn controllers_are_devices_on_vmbus_with_a_channel_for_each_processor() {
    expect_passed(&["VMBus lists the controllers", "a channel each VP"]);
}

#[test]
fn disks_are_known_by_their_serial_numbers() {
    expect_passed(&["the disks are found by their serial numbers", "sg_vpd tells the serial number"]);
}

#[test]
fn sg3_utils_find_a_scsi_disk() {
    expect_passed(&["sg_inq", "sg_vpd", "sg_readcap", "sg_luns", "sg_turs", "sg_modes", "sg_opcodes", "sg_persist"]);
}

#[test]
fn unmapped_blocks_read_as_zeros() {
    expect_passed(&["sg_unmap", "sg_unmap of qcow2"]);
}

#[test]
fn fio_verifies_everything_that_it_wrote() {
    expect_passed(&["fio finds what it wrote"]);
}

#[test]
fn a_qcow2_image_shows_its_backing_file() {
    expect_passed(&["the backing file shows through"]);
}

#[test]
fn file_systems_can_be_created_filled_trimmed_and_checked() {
    expect_passed(&["mkfs.ext4, e2fsck and fstrim"]);
}

#[test]
fn trimmed_blocks_are_given_back_to_the_host() {
    WITH_ROOTS.outcomes("tools", |outcome| {
        let size = String::from_utf8_lossy(&outcome.files[std::path::Path::new("size")]).into_owned();
        let kilobytes: u32 = size.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a size");
        // The file system held 16 MiB and more.
        assert!(kilobytes < 15 << 10, "{kilobytes} KiB: {outcome}");
    });
}

#[test]
fn a_dvd_is_mounted_and_read() {
    expect_passed(&["the DVD"]);
}
