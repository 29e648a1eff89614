//! Two guests on one switch; one of them also has a tap with one channel.

use std::path::Path;

use super::guest::{GUEST, HERE, NETWORK, VIRIDIAN, cmdline, expect_exercised, expect_right_checksums, line, plain};
use crate::common::nested::{Outcome, Plan, is_full};

pub fn plan(plan: &mut Plan, engine: &str) {
    let partition = |name: &str, net: &str| {
        let cmdline = cmdline(&format!("lab-{name}"));
        format!(
            "[[partition]]\nname = \"{name}\"\nengine = \"{engine}\"\nkernel = \"{GUEST}/vmlinux\"\n\
             initrd = \"{GUEST}/initrd.img\"\nmemory = \"256M\"\ncmdline = '''{cmdline}'''\nnet = {net}\n\
             console = \"file:{name}\"\n"
        )
    };
    let server = partition("server", r#"["switch=lab,mtu=9000", "tap=tap1,mtu=9000"]"#);
    let client = partition("client", r#""switch=lab,mtu=9000""#);
    plan.check(
        "lab",
        240,
        format!("cat >lab.toml <<'END'\n{server}{client}END\nsh {HERE}/host/with-lab {VIRIDIAN} up lab.toml; code=$?; rm lab.toml; exit $code"),
    );
}

/// Returns the output of the server, the client and the host.
#[track_caller]
fn consoles(outcome: &Outcome) -> [String; 3] {
    let console = |name: &str| plain(outcome.files.get(Path::new(name)).unwrap_or_else(|| panic!("{name}\n{outcome}")));
    let [server, client] = ["server", "client"].map(console);
    assert_eq!(outcome.code, Some(0), "{outcome}\n{server}\n{client}");
    for text in [&server, &client] {
        assert!(text.contains("The script ended with exit code 0.") && !text.contains("complaint: "), "{text}");
    }
    [server, client, outcome.text()]
}

#[test]
fn two_partitions_reach_each_other_by_every_protocol_and_in_a_vlan() {
    NETWORK.outcomes("lab", |outcome| {
        let [_, client, _] = consoles(outcome);
        expect_exercised(&client, "eth0");
    });
}

#[test]
fn a_tap_with_one_channel_works_like_one_with_four() {
    NETWORK.outcomes("lab", |outcome| {
        let [server, _, host] = consoles(outcome);
        expect_exercised(&server, "eth1");
        assert_eq!(line(&host, "host checksum errors: "), "0", "{host}");
    });
}

#[test]
fn the_other_partition_sees_valid_checksums_with_and_without_offloads() {
    NETWORK.outcomes("lab", |outcome| {
        let [server, client, _] = consoles(outcome);
        expect_right_checksums(&server, "capture lro-off: ");
        if is_full() {
            expect_right_checksums(&server, "capture lro-on: ");
        }
        for (text, device) in [(&client, "eth0"), (&server, "eth0"), (&server, "eth1")] {
            assert_eq!(line(text, &format!("{device} checksum errors: ")), "0", "{text}");
        }
    });
}
