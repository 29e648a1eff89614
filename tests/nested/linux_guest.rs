//! The guest of `scripts/linux-guest`, booted by QEMU, so that a failure in another VMM is not the guest's fault.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::nested::Batch;

const VMM: &str =
    "qemu-system-x86_64 -M pc,accel=kvm -cpu host -m 256M -nodefaults -no-reboot -display none -serial stdio";

static BATCH: Batch = Batch::new(|plan| {
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/target/linux-guest-test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/target/linux-guest-test/script");
    std::fs::create_dir_all(guest).expect("target/ can be written to");
    std::fs::write(script, "lsmod; nothing-of-this-name").expect("target/ can be written to");
    made(&["--module", "virtio_net", "--script", script, "--output", guest]);

    plan.qemu();
    for file in ["vmlinuz", "vmlinux", "initrd.img"] {
        plan.file(&format!("{guest}/{file}"));
    }
    let boot = |kernel, cmdline| {
        format!("{VMM} -kernel {guest}/{kernel} -initrd {guest}/initrd.img -append 'console=ttyS0 quiet {cmdline}'")
    };
    plan.check("bzImage", 60, boot("vmlinuz", ""));
    plan.check("vmlinux", 60, boot("vmlinux", r#"run="echo it is; uname -r""#));
});

static ROOT_DISK: Batch = Batch::new(|plan| {
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/target/linux-guest-disk-test");
    made(&["--disk", "64M", "--package", "e2fsprogs", "--cdrom", "tests/common", "--output", guest]);

    plan.qemu();
    plan.option("--disk", &format!("{guest}/root.img"));
    for file in ["vmlinux", "initrd.img", "cdrom.iso"] {
        plan.file(&format!("{guest}/{file}"));
    }
    let boot = |devices, cmdline| {
        format!(
            "{VMM} -kernel {guest}/vmlinux -initrd {guest}/initrd.img -drive if=none,id=root,file=/dev/vda,format=raw \
             -drive if=none,id=dvd,file={guest}/cdrom.iso,format=raw,readonly=on {devices} \
             -append 'console=ttyS0 quiet {cmdline}'"
        )
    };
    plan.check(
        "virtio-blk",
        60,
        boot("-device virtio-blk-pci,drive=root", r#"root=/dev/vda run="mount; touch /kept && e2fsck -V""#),
    );
    plan.check_after(
        "virtio-blk",
        "virtio-scsi",
        60,
        boot(
            "-device virtio-scsi-pci -device scsi-hd,drive=root -device scsi-cd,drive=dvd",
            r#"root=LABEL=root run="mount; ls /kept && mount -t iso9660 /dev/sr0 /mnt && ls /mnt""#,
        ),
    );
    plan.check("missing", 60, boot("-device virtio-blk-pci,drive=root", "root=/dev/sda"));
});

/// Makes a guest.
fn made(options: &[&str]) {
    let made = linux_guest(options);
    assert!(made.status.success(), "scripts/linux-guest failed: {}", String::from_utf8_lossy(&made.stderr));
}

fn linux_guest(options: &[&str]) -> Output {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/linux-guest"))
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("scripts/linux-guest starts")
}

#[test]
fn the_bzimage_boots_loads_its_modules_and_runs_the_script_it_was_made_with() {
    BATCH.outcome("bzImage", |outcome| {
        let text = outcome.text();
        assert!(text.contains("Linux is in user space."), "{outcome}");
        assert!(
            text.contains("virtio_net ") && text.contains("net_failover ") && !text.contains("cannot load"),
            "{outcome}"
        );
        assert!(text.contains("The script ended with exit code 127."), "{outcome}");
        assert_eq!(outcome.code, Some(0), "{outcome}");
    });
}

#[test]
fn the_vmlinux_out_of_it_boots_and_runs_the_text_on_its_command_line() {
    BATCH.outcome("vmlinux", |outcome| {
        assert!(outcome.text().contains("it is\r\n6.1"), "{outcome}");
        assert!(outcome.text().contains("The script ended with exit code 0."), "{outcome}");
    });
}

#[test]
fn the_root_disk_boots_on_virtio_blk_and_packed_programs_come_before_busyboxs() {
    ROOT_DISK.outcome("virtio-blk", |outcome| {
        let text = outcome.text();
        assert!(text.contains("/dev/vda on / type ext4 (rw"), "{outcome}");
        assert!(text.contains("e2fsck 1."), "{outcome}");
        assert!(text.contains("The script ended with exit code 0."), "{outcome}");
    });
}

#[test]
fn the_root_disk_boots_on_virtio_scsi_keeps_its_files_and_reads_the_dvd() {
    ROOT_DISK.outcome("virtio-scsi", |outcome| {
        let text = outcome.text();
        assert!(text.contains("/dev/sda on / type ext4 (rw"), "{outcome}");
        assert!(text.contains("/kept"), "{outcome}");
        assert!(text.contains("nested.rs"), "{outcome}");
        assert!(text.contains("The script ended with exit code 0."), "{outcome}");
    });
}

#[test]
fn the_error_for_a_missing_root_disk_lists_the_existing_disks() {
    ROOT_DISK.outcome("missing", |outcome| {
        let text = outcome.text();
        assert!(text.contains("There is no /dev/sda to have the root on. Block devices here: "), "{outcome}");
        assert!(text.contains("vda"), "{outcome}");
    });
}

#[test]
fn errors_in_building_a_guest_are_reported() {
    for (options, complaint) in [
        (&["--disk", "many"][..], "--disk many is not a size"),
        (&["--cdrom", "/nowhere"], "--cdrom /nowhere is not a directory"),
        (&["--module", "no_such_module"], "has no module no_such_module"),
        (&["--disk", "100K"], "cannot make a file system of 100K"),
    ] {
        let output = concat!(env!("CARGO_MANIFEST_DIR"), "/target/linux-guest-refused");
        let refused = linux_guest(&[options, &["--output", output]].concat());
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(complaint), "{said}");
    }
}
