//! Every guest image runs to its documented end.

use super::command::{expect_all_checks, image, run};

#[test]
fn hello_boots_by_every_protocol() {
    for (variant, protocol) in [
        ("linux64", "Linux, 64-bit entry"),
        ("bzimage", "Linux, 64-bit entry"),
        ("pvh", "PVH"),
        ("multiboot", "multiboot 1"),
        ("multiboot-addresses", "multiboot 1"),
    ] {
        let run = run(&format!("run --cmdline a=b --kernel {}", image(&format!("hello-{variant}")).display()));
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.output.contains(&format!("boot protocol  {protocol}\n")), "{run:?}");
        assert!(run.output.contains("a=b"), "{run:?}");
    }
}

#[test]
fn flat_images_start_in_the_specified_mode_with_a_stack() {
    for (mode, address) in [(16, "0x7c00"), (32, "0x100000"), (64, "0x100000")] {
        let path = image(&format!("flat{mode}"));
        let run = run(&format!("run --kernel flat:{}@{address},mode={mode}", path.display()));
        assert_eq!(run.code, Some(mode), "{run:?}");
        assert!(run.output.ends_with("stack set\n"), "{run:?}");
    }
    let run = run(&format!("run --kernel flat:{}", image("flat16").display()));
    assert_eq!(run.code, Some(16), "real mode at 0x7c00 is the default: {run:?}");
}

#[test]
fn smp_passes_with_1_2_and_8_vps() {
    for vps in [1, 2, 8] {
        expect_all_checks("smp", &format!("--cpus {vps}"));
    }
}

#[test]
fn smp_passes_with_64_vps_and_with_sparse_apic_ids() {
    expect_all_checks("smp", "--cpus 64");
    expect_all_checks("smp", "--cpus 6,sockets=2,cores=3");
    expect_all_checks("smp", "--cpus 12,sockets=2,cores=3,threads=2");
}

#[test]
fn memory_passes_below_and_above_4_gib() {
    for size in ["2M", "3G", "3G,hugepages=off", "5G"] {
        expect_all_checks("memory", &format!("--memory {size} --cpus 2"));
    }
}

#[test]
fn one_mebibyte_is_enough_for_a_guest_in_real_mode() {
    let run = run(&format!("run --memory 1M --kernel flat:{}", image("flat16").display()));
    assert_eq!(run.code, Some(16), "{run:?}");
}

#[test]
fn the_runtime_passes_its_own_checks() {
    for vps in [1, 2, 8] {
        expect_all_checks("selftest", &format!("--cpus {vps}"));
    }
}
