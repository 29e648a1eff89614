use super::*;

/// Returns how often the delay is tried in `count` wakes of a guest for which it is worthwhile (`pays`), or not.
fn tries(patience: &mut Patience, count: u32, pays: bool) -> u32 {
    (0..count)
        .filter(|_| {
            let due = patience.is_due();
            if due {
                patience.learn(pays);
            }
            due
        })
        .count() as u32
}

#[test]
fn a_guest_that_sends_more_requests_is_always_given_time() {
    assert_eq!(tries(&mut Patience::default(), 1000, true), 1000);
}

#[test]
fn a_guest_that_waits_for_each_request_is_seldom_delayed() {
    let mut patience = Patience::default();
    tries(&mut patience, 200, false);
    assert_eq!(tries(&mut patience, 65 * 10, false), 10);
}

#[test]
fn a_change_in_the_behaviour_of_a_guest_is_noticed() {
    let mut patience = Patience::default();
    tries(&mut patience, 10_000, false);
    tries(&mut patience, 200, true);
    assert_eq!(tries(&mut patience, 100, true), 100);
    assert!(tries(&mut patience, 1000, false) < 30);
}
