//! The guest of these tests: how to start it, and how to read its output.

use std::process::Command;
use std::sync::OnceLock;

use super::{lab, plug, tap, user};
use crate::common::nested::{Batch, OnBoth, Outcome, Plan, is_full};

pub const VIRIDIAN: &str = env!("CARGO_BIN_EXE_viridian");
/// The guest's kernel and initramfs.
pub const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/network-test");
/// The folder of these tests.
pub const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nested/network");

/// Scripts for guest and host.
const SHARED: [&str; 4] = ["capture", "checksum-errors", "join", "join-vlan"];

pub static NETWORK: OnBoth =
    OnBoth { kernel: Batch::new(|plan| plan_all(plan, "kernel")), user: Batch::new(|plan| plan_all(plan, "user")) };

fn plan_all(plan: &mut Plan, engine: &str) {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(make);
    for module in ["tun", "veth", "8021q"] {
        plan.option("--kernel-module", module);
    }
    for package in ["dnsmasq-base", "ethtool", "iperf3", "tcpdump"] {
        plan.option("--package", package);
    }
    for script in SHARED {
        plan.file(&format!("{HERE}/{script}"));
    }
    plan.option("--dir", &format!("{HERE}/host"));
    for file in [VIRIDIAN, &format!("{GUEST}/vmlinux"), &format!("{GUEST}/initrd.img")] {
        plan.file(file);
    }
    user::plan(plan, engine);
    tap::plan(plan, engine);
    lab::plan(plan, engine);
    plug::plan(plan, engine);
}

fn make() {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/linux-guest"));
    command.args(["--drivers", "--module", "8021q", "--output", GUEST]);
    command.args(["ethtool", "iperf3", "tcpdump"].iter().flat_map(|package| ["--package", package]));
    command.args(["--dir", &format!("{HERE}/guest:/usr/bin")]);
    for script in SHARED {
        command.args(["--file", &format!("{HERE}/{script}:/usr/bin/{script}")]);
    }
    let made = command.status();
    assert!(made.as_ref().is_ok_and(|status| status.success()), "scripts/linux-guest failed: {made:?}");
}

/// A command that runs the guest, which runs a script.
pub fn run(engine: &str, options: &str, script: &str) -> String {
    let cmdline = cmdline(script);
    format!(
        "{VIRIDIAN} run --engine {engine} --kernel {GUEST}/vmlinux --initrd {GUEST}/initrd.img {options} \
         --cmdline '{cmdline}'"
    )
}

/// The command line of a guest that runs a script.
pub fn cmdline(script: &str) -> String {
    let full = if is_full() { " full=1" } else { "" };
    format!("console=ttyS0 quiet panic=-1{full} run=\"{script}\"")
}

/// Returns output as text, with line feeds only.
pub fn plain(output: &[u8]) -> String {
    String::from_utf8_lossy(output).replace('\r', "")
}

/// Returns the output of a check's guest, which must have finished, and of its host.
#[track_caller]
pub fn ended(outcome: &Outcome) -> String {
    assert_eq!(outcome.code, Some(0), "{outcome}");
    let text = plain(&outcome.stdout);
    assert!(text.contains("The script ended with exit code 0."), "{outcome}");
    assert!(!text.contains("complaint: "), "{outcome}");
    text
}

/// Returns the rest of the only line that begins with `start`.
#[track_caller]
pub fn line<'a>(text: &'a str, start: &str) -> &'a str {
    let found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(start)).collect();
    assert_eq!(found.len(), 1, "{start}\n{text}");
    found[0]
}

/// Returns the checksum that several lines beginning with `start` agree on.
#[track_caller]
pub fn same_sum<'a>(text: &'a str, start: &str, count: usize) -> &'a str {
    let mut found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(start)).collect();
    assert_eq!(found.len(), count, "{start}\n{text}");
    found.dedup();
    assert_eq!(found.len(), 1, "{start}\n{text}");
    found[0]
}

/// Expects that `guest/exercise` has found no errors. Its lines begin with `device`.
#[track_caller]
pub fn expect_exercised(text: &str, device: &str) {
    for network in ["1500", "9000", "vlan"] {
        for kind in ["ping", "ping6"] {
            assert!(
                line(text, &format!("{device} {network} {kind}: ")).starts_with("2 packets transmitted, 2 packets"),
                "{text}"
            );
        }
    }
    const ALL: [&str; 4] = ["tcp out", "tcp in", "udp out", "udp in"];
    let jobs: Vec<(&str, &[&str])> = if is_full() {
        ["1500 v4", "1500 v6", "9000 v4", "9000 v6", "vlan v4", "vlan v6"].map(|network| (network, &ALL[..])).to_vec()
    } else {
        vec![
            ("1500 v4", &["tcp out", "tcp in", "udp out"]),
            ("9000 v6", &["tcp out", "tcp in", "udp in"]),
            ("vlan v4", &["tcp in", "udp out"]),
        ]
    };
    let mut measured = Vec::new();
    for (network, job) in jobs.into_iter().flat_map(|(network, jobs)| jobs.iter().map(move |job| (network, *job))) {
        let said = line(text, &format!("{device} {network} {job}: "));
        assert!(said.ends_with("receiver"), "{network} {job}: {said}\n{text}");
        let words: Vec<_> = said.split_whitespace().collect();
        let unit = words.iter().position(|word| word.ends_with("bits/sec")).expect("a rate");
        let lost = words.iter().find_map(|word| word.strip_suffix("%)"));
        assert_eq!(lost, job.starts_with("udp").then_some("(0"), "{said}\n{text}");
        measured.push(format!("{network} {job} {} {}", words[unit - 1], words[unit]));
    }
    println!("{device}: {}", measured.join(", "));
}

/// Expects many frames in a capture of `capture`, all with valid checksums.
#[track_caller]
pub fn expect_right_checksums(text: &str, capture: &str) {
    let said = line(text, capture);
    println!("{capture}{said}");
    let numbers: Vec<u32> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(matches!(numbers[..], [tcp, udp, 0] if tcp > 100 && udp > 100), "{said}\n{text}");
}
