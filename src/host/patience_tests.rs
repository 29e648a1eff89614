use super::*;

/// How often it is tried for `count` wakes of a guest for which it pays, or not.
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
fn a_guest_that_writes_more_is_always_let_go_on() {
    assert_eq!(tries(&mut Patience::default(), 1000, true), 1000);
}

#[test]
fn a_guest_that_waits_for_each_request_is_seldom_held_up() {
    let mut patience = Patience::default();
    tries(&mut patience, 200, false);
    assert_eq!(tries(&mut patience, 65 * 10, false), 10);
}

#[test]
fn a_guest_that_changes_its_ways_is_found_out() {
    let mut patience = Patience::default();
    tries(&mut patience, 10_000, false);
    tries(&mut patience, 200, true);
    assert_eq!(tries(&mut patience, 100, true), 100);
    assert!(tries(&mut patience, 1000, false) < 30);
}
