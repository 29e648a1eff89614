//! A network without privileges.

use super::guest::{self, HERE, NETWORK, ended, line, same_sum};
use crate::common::nested::{Plan, is_full};

fn megabytes() -> u32 {
    if is_full() { 100 } else { 8 }
}

pub fn plan(plan: &mut Plan, engine: &str) {
    let run = guest::run(engine, "--net user,fwd=tcp:8080:80,pcap=$PWD/capture", "on-user");
    plan.check("user", 60 + 2 * megabytes(), format!("sh {HERE}/host/with-user {} {run}", megabytes()));
}

#[test]
fn dhcp_gives_the_guest_its_address() {
    NETWORK.outcomes("user", |outcome| {
        let text = ended(outcome);
        assert!(text.contains("lease of 10.0.2.15 obtained from 10.0.2.2"), "{outcome}");
        assert!(text.contains("inet 10.0.2.15/24"), "{outcome}");
    });
}

#[test]
fn the_gateway_answers_pings_and_the_name_server_knows_names() {
    NETWORK.outcomes("user", |outcome| {
        let text = ended(outcome);
        assert!(text.contains("2 packets transmitted, 2 packets received"), "{outcome}");
        assert!(text.contains("Address: 192.0.2.7"), "{outcome}");
    });
}

#[test]
fn without_privileges_the_guest_reaches_the_hosts_loopback_and_is_reached_by_a_forward() {
    NETWORK.outcomes("user", |outcome| {
        let text = ended(outcome);
        assert!(text.contains("run by user\n"), "{outcome}");
        assert!(text.contains("hello from the host\n") && text.contains("hello from the guest\n"), "{outcome}");
        same_sum(&text, "big: ", 2);
        assert_eq!(line(&text, "mine: "), line(&text, "fetched: "), "{outcome}");
        println!("{} MB: fetched after {}", megabytes(), line(&text, "fetched after "));
    });
}

#[test]
fn the_capture_has_every_byte_that_went_through() {
    NETWORK.outcomes("user", |outcome| {
        let text = ended(outcome);
        let (magic, length) = line(&text, "capture: ").trim().split_once(' ').expect("two words");
        assert_eq!(magic, "0a0d0d0a", "{outcome}");
        assert!(length.parse::<u32>().is_ok_and(|length| length > (megabytes() + 1) * 1_000_000), "{outcome}");
    });
}
