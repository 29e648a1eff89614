//! Debian's 32-bit kernel under Viridian, on the nested host: it is entered by the 32-bit boot protocol, and uses its disk and network
//! through the 32-bit code of the hypercall page.
//!
//! The kernel is the one without PAE, because QEMU's emulation of SVM cannot run guests with PAE and nested page tables, under
//! any VMM. This emulation does not preserve the state of XSAVE either (`noxsave`). With retpolines, Linux's 32-bit hypercalls
//! jump to a wrong address, because the compiler addresses the target relative to the stack pointer (`mitigations=off`).

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::common::nested::{Batch, OnBoth, Plan};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const SCRIPT: &str = "uname -m; cd /sys/bus/vmbus/devices; for d in *; do echo device $(basename $(readlink $d/driver)); done; \
    cat /sys/devices/system/clocksource/clocksource0/current_clocksource; \
    udhcpc -n -q -i eth0; ping -c 2 10.0.2.2; \
    dd if=/dev/urandom of=/written bs=64k count=20; dd if=/written of=/dev/sda bs=64k; sync; echo 3 > /proc/sys/vm/drop_caches; \
    dd if=/dev/sda of=/read bs=64k count=20; cmp /written /read && echo disk is sound";

static BATCHES: OnBoth =
    OnBoth { kernel: Batch::new(|plan| describe(plan, "kernel")), user: Batch::new(|plan| describe(plan, "user")) };

fn describe(plan: &mut Plan, engine: &str) {
    static MADE: OnceLock<()> = OnceLock::new();
    let guest = &format!("{ROOT}/target/linux-32-bit-test");
    MADE.get_or_init(|| {
        let made = Command::new(Path::new(ROOT).join("scripts/linux-guest"))
            .args(["--flavour", "686", "--drivers", "--output", guest])
            .status();
        assert!(made.as_ref().is_ok_and(|status| status.success()), "scripts/linux-guest failed: {made:?}");
    });
    let viridian = env!("CARGO_BIN_EXE_viridian");
    for file in [viridian, &format!("{guest}/vmlinuz"), &format!("{guest}/initrd.img")] {
        plan.file(file);
    }
    plan.check(
        "boot",
        90,
        format!(
            "{viridian} run --engine {engine} --cpus 2 --memory 512M --kernel {guest}/vmlinuz --initrd {guest}/initrd.img \
             --disk memory:8M --net user \
             --cmdline 'console=ttyS0 quiet panic=-1 noxsave mitigations=off run=\"{SCRIPT}\"'"
        ),
    );
}

#[test]
fn a_32_bit_kernel_uses_disk_and_network_on_both_engines() {
    BATCHES.outcomes("boot", |outcome| {
        let text = outcome.text();
        assert!(text.contains("i686\r\n"), "{outcome}");
        for driver in ["hv_netvsc", "hv_storvsc"] {
            assert!(text.contains(&format!("device {driver}\r\n")), "{outcome}");
        }
        assert!(text.contains("hyperv_clocksource_"), "{outcome}");
        assert!(text.contains("lease of 10.0.2.15 obtained from 10.0.2.2"), "{outcome}");
        assert!(text.contains("2 packets transmitted, 2 packets received"), "{outcome}");
        assert!(text.contains("disk is sound\r\n"), "{outcome}");
        assert_eq!(outcome.code, Some(0), "{outcome}");
    });
}
