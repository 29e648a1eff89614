use super::*;
use proptest::prelude::*;

fn guest(port: usize, mac: u8) -> Guest {
    Guest { port: SwitchPort::new(port), mac: MacAddress([2, 0, 0, 0, 0, mac]) }
}

fn held(flows: &[(usize, u8)]) -> Vec<Held<u64>> {
    let flow = |(number, (port, mac)): (usize, &(usize, u8))| Held {
        number: number as u64,
        guest: guest(*port, *mac),
        last_used: number as u64,
    };
    flows.iter().enumerate().map(flow).collect()
}

fn find(newcomer: Guest, flows: &[(usize, u8)]) -> Option<(u64, bool)> {
    let flows = held(flows);
    victim(Some(newcomer), flows.iter().copied()).map(|victim| (victim.flow.number, victim.is_own))
}

#[test]
fn the_port_with_the_most_flows_loses_its_least_recently_used_one() {
    assert_eq!(find(guest(2, 9), &[(2, 9), (1, 1), (1, 1), (3, 3), (1, 1)]), Some((1, false)));
}

#[test]
fn invented_addresses_do_not_increase_the_share_of_a_port() {
    assert_eq!(find(guest(2, 9), &[(2, 9), (2, 9), (1, 1), (1, 2), (1, 3), (1, 4)]), Some((2, false)));
    assert_eq!(find(guest(1, 5), &[(2, 9), (2, 9), (1, 1), (1, 2)]), Some((2, true)), "its own port's");
}

#[test]
fn behind_one_port_the_address_with_the_most_flows_loses_one() {
    assert_eq!(find(guest(0, 9), &[(0, 1), (0, 2), (0, 2), (0, 1), (0, 1)]), Some((0, false)));
}

#[test]
fn a_guest_with_the_most_flows_replaces_one_of_its_own() {
    assert_eq!(find(guest(1, 1), &[(1, 1), (2, 2), (1, 1)]), Some((0, true)));
    assert_eq!(find(guest(1, 1), &[(2, 2), (1, 1)]), Some((1, true)), "as many as another do not take from it");
    assert_eq!(find(guest(1, 1), &[]), None);
    // A new flow that belongs to no guest replaces one of the guest with the most.
    let flows = held(&[(2, 2), (1, 1), (1, 1)]);
    let victim = victim(None, flows.iter().copied()).unwrap();
    assert_eq!((victim.flow.number, victim.is_own), (1, false));
}

proptest! {
    #[test]
    fn a_guest_with_less_than_its_share_gets_a_flow_and_loses_none(
        flows in proptest::collection::vec((0..4_usize, 0..3_u8), 1..40),
        port in 0..4_usize,
        mac in 0..3_u8,
    ) {
        let of = |port: usize| flows.iter().filter(|flow| flow.0 == port).count();
        let newcomer = guest(port, mac);
        let all = held(&flows);
        match victim(Some(newcomer), all.iter().copied()) {
            Some(victim) => {
                let loser = victim.flow.guest.port.index();
                prop_assert!((0..4).all(|other| of(other) + usize::from(other == port) <= of(loser) + usize::from(loser == port)));
                prop_assert!(victim.is_own || victim.flow.guest != newcomer);
                prop_assert!(!victim.is_own || loser == port);
            }
            None => prop_assert_eq!(of(port), 0),
        }
    }
}
