//! Stock Linux's hv_netvsc on both engines, on the nested host: a network without privileges, and a tap with two channels.
//!
//! What the guests do stands in `tests/network/guest-*`, what the host does meanwhile in `tests/network/host-*`.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use common::nested::{Batch, Outcome, Plan};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/network-linux-test");

static USER: Batch = Batch::new(|plan| batch(plan, "user"));
static KERNEL: Batch = Batch::new(|plan| batch(plan, "kernel"));

fn batch(plan: &mut Plan, engine: &str) {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let script = |name: &str| format!("{ROOT}/tests/network/{name}:/{name}");
        let made = Command::new(Path::new(ROOT).join("scripts/linux-guest"))
            .args(["--drivers", "--package", "ethtool", "--output", GUEST])
            .args(["--file", &script("guest-user"), "--file", &script("guest-tap")])
            .status();
        assert!(made.as_ref().is_ok_and(|status| status.success()), "scripts/linux-guest failed: {made:?}");
    });
    let viridian = env!("CARGO_BIN_EXE_viridian");
    plan.option("--kernel-module", "tun");
    plan.option("--package", "dnsmasq-base");
    for file in ["host-user", "host-tap"].map(|name| format!("{ROOT}/tests/network/{name}")) {
        plan.file(&file);
    }
    for file in [viridian, &format!("{GUEST}/vmlinux"), &format!("{GUEST}/initrd.img")] {
        plan.file(file);
    }
    let run = |name: &str, options: &str| {
        format!(
            "sh {ROOT}/tests/network/host-{name} {viridian} run --engine {engine} --kernel {GUEST}/vmlinux \
             --initrd {GUEST}/initrd.img {options} --cmdline 'console=ttyS0 quiet panic=-1 run=\"sh /guest-{name}\"'"
        )
    };
    plan.check("user", 90, run("user", "--net user,fwd=tcp:8080:80,pcap=$PWD/capture"));
    plan.check("tap", 150, run("tap", "--cpus 2 --net tap=tap0,queues=2,mtu=9000"));
}

/// Expects that a guest came to its end, on either engine.
#[track_caller]
fn expect(check: &str, judge: impl Fn(&Outcome, &str)) {
    for batch in [&USER, &KERNEL] {
        batch.outcome(check, |outcome| {
            assert_eq!(outcome.code, Some(0), "{outcome}");
            let text = outcome.text();
            assert!(text.contains("The script ended with exit code 0."), "{outcome}");
            judge(outcome, &text.replace('\r', ""));
        });
    }
}

/// The rest of the only line that begins with `start`.
fn line<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(start));
    found.next().filter(|_| found.next().is_none())
}

/// The rests of all lines that begin with `start`, which have to be the same, and as many.
#[track_caller]
fn expect_same(text: &str, start: &str, count: usize) {
    let mut found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(start)).collect();
    assert_eq!(found.len(), count, "{start}\n{text}");
    found.dedup();
    assert_eq!(found.len(), 1, "{start}\n{text}");
}

#[test]
fn dhcp_gives_the_guest_its_address() {
    expect("user", |outcome, text| {
        assert!(text.contains("lease of 10.0.2.15 obtained from 10.0.2.2"), "{outcome}");
        assert!(text.contains("inet 10.0.2.15/24"), "{outcome}");
    });
}

#[test]
fn the_gateway_answers_pings_and_the_name_server_knows_names() {
    expect("user", |outcome, text| {
        assert!(text.contains("2 packets transmitted, 2 packets received"), "{outcome}");
        assert!(text.contains("Address: 192.0.2.7"), "{outcome}");
    });
}

#[test]
fn the_guest_reaches_a_server_on_the_hosts_loopback_and_is_reached_by_a_forwarded_port() {
    expect("user", |_, text| {
        assert!(text.contains("hello from the host\n") && text.contains("hello from the guest\n"), "{text}");
        expect_same(text, "big: ", 2);
        let (mine, fetched) = (line(text, "mine: "), line(text, "fetched: "));
        assert!(mine.is_some() && mine == fetched, "{text}");
    });
}

#[test]
fn the_capture_has_every_byte_that_went_through() {
    expect("user", |outcome, _| {
        let capture = &outcome.files[Path::new("capture")];
        assert!(capture.starts_with(&0x0a0d_0d0a_u32.to_le_bytes()) && capture.len() > 9_000_000, "{}", capture.len());
    });
}

#[test]
fn a_tap_carries_the_same_bytes_with_offloads_and_without_and_after_the_driver_was_gone() {
    expect("tap", |_, text| {
        let hosts = text.lines().find_map(|line| line.strip_prefix("big: ")).expect("the host's sum");
        expect_same(text, "big: ", 2);
        let plain = line(text, "plain: ");
        assert_eq!(plain, Some(hosts), "{text}");
        for round in 1..=3 {
            assert_eq!(line(text, &format!("round {round}: ")), Some(hosts), "{text}");
        }
        let (mine, fetched) = (line(text, "mine: "), line(text, "fetched: "));
        assert!(mine.is_some() && mine == fetched, "{text}");
        assert!(text.contains("8908 bytes from 10.1.0.1"), "{text}");
    });
}

#[test]
fn two_channels_share_the_traffic_as_the_indirection_table_says() {
    expect("tap", |_, text| {
        assert!(text.contains("indirection table for eth0 with 2 RX ring(s)"), "{text}");
        let counter = |name: &str| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("{name}\n{text}"))
        };
        for queue in ["tx_queue_0", "tx_queue_1", "rx_queue_0", "rx_queue_1"] {
            assert!(counter(&format!("{queue}_packets")) > 20, "{queue}\n{text}");
        }
    });
}

#[test]
fn linux_finds_the_offloads() {
    expect("tap", |_, text| {
        for feature in ["rx-checksumming", "tx-checksum-ipv4", "tx-checksum-ipv6", "tcp-segmentation-offload"]
            .into_iter()
            .chain(["tx-tcp6-segmentation", "large-receive-offload", "receive-hashing"])
        {
            assert!(text.contains(&format!("{feature}: on")), "{feature}\n{text}");
        }
    });
}
