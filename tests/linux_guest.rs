//! The guest that `scripts/linux-guest` makes, booted by QEMU: it must not be the guest's fault when a VMM fails with it.

mod common;

use std::path::Path;
use std::process::Command;

use common::nested::Batch;

const VMM: &str =
    "qemu-system-x86_64 -M pc,accel=kvm -cpu host -m 256M -nodefaults -no-reboot -display none -serial stdio";

static BATCH: Batch = Batch::new(|plan| {
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/target/linux-guest-test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/target/linux-guest-test/script");
    std::fs::create_dir_all(guest).expect("target/ can be written to");
    std::fs::write(script, "lsmod; nothing-of-this-name").expect("target/ can be written to");
    let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/linux-guest"))
        .args(["--module", "virtio_net", "--script", script, "--output", guest])
        .status()
        .expect("scripts/linux-guest starts");
    assert!(made.success(), "scripts/linux-guest failed: {made}");

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
