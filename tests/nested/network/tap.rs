//! A tap with four channels.

use super::guest::{self, HERE, NETWORK, ended, expect_exercised, expect_right_checksums, line, same_sum};
use crate::common::nested::{Plan, times};

const QUEUES: usize = 4;

pub fn plan(plan: &mut Plan, engine: &str) {
    let options = format!("--cpus {QUEUES} --net tap=tap0,queues={QUEUES},mtu=9000");
    let run = guest::run(engine, &options, &format!("on-tap {}", times(2)));
    plan.check("tap", 180 + 15 * times(2), format!("sh {HERE}/host/with-tap {run}"));
}

#[test]
fn a_tap_carries_every_protocol_both_ways_and_a_vlan() {
    NETWORK.outcomes("tap", |outcome| expect_exercised(&ended(outcome), "eth0"));
}

#[test]
fn checksums_behind_the_tap_are_valid_with_and_without_offloads() {
    NETWORK.outcomes("tap", |outcome| {
        let text = ended(outcome);
        expect_right_checksums(&text, "capture far: ");
        for who in ["eth0", "after", "host"] {
            assert_eq!(line(&text, &format!("{who} checksum errors: ")), "0", "{text}");
        }
    });
}

#[test]
fn a_tap_carries_the_same_bytes_with_offloads_and_without() {
    NETWORK.outcomes("tap", |outcome| {
        let text = ended(outcome);
        assert_eq!(line(&text, "plain: "), same_sum(&text, "big: ", 2), "{text}");
        assert_eq!(line(&text, "mine: "), line(&text, "fetched: "), "{text}");
    });
}

#[test]
fn the_mtu_can_change_and_the_driver_can_be_reloaded_under_load() {
    NETWORK.outcomes("tap", |outcome| {
        let text = ended(outcome);
        let sum = line(&text, "small: ");
        for time in 1..=times(2) {
            assert_eq!(line(&text, &format!("mtu {time}: ")), sum, "{text}");
            assert_eq!(line(&text, &format!("driver {time}: ")), sum, "{text}");
        }
        assert_eq!(line(&text, "after: "), same_sum(&text, "big: ", 2), "{text}");
    });
}

#[test]
fn four_channels_share_the_traffic_as_the_indirection_table_says() {
    NETWORK.outcomes("tap", |outcome| {
        let text = ended(outcome);
        assert!(text.contains(&format!("indirection table for eth0 with {QUEUES} RX ring(s)")), "{text}");
        assert!(text.contains(&format!("Combined:\t{QUEUES}\n")), "{text}");
        let counter = |name: &str| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("{name}\n{text}"))
        };
        for queue in 0..QUEUES {
            for way in ["tx", "rx"] {
                let packets = counter(&format!("{way}_queue_{queue}_packets"));
                println!("{way}_queue_{queue}: {packets}");
                assert!(packets > 20, "{way}_queue_{queue}\n{text}");
            }
        }
        for nothing in ["tx_too_big", "rx_no_memory", "rx_comp_busy", "stop_queue"] {
            assert!(text.lines().any(|line| line.trim().starts_with(nothing)), "{nothing}\n{text}");
        }
    });
}

#[test]
fn linux_enables_the_offloads() {
    NETWORK.outcomes("tap", |outcome| {
        let text = ended(outcome);
        for feature in ["rx-checksumming", "tx-checksum-ipv4", "tx-checksum-ipv6", "tcp-segmentation-offload"]
            .into_iter()
            .chain(["tx-tcp6-segmentation", "large-receive-offload", "receive-hashing"])
        {
            assert!(text.contains(&format!("{feature}: on")), "{feature}\n{text}");
        }
    });
}
