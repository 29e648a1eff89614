use super::*;

fn guest(mac: u8) -> Guest {
    Guest { port: SwitchPort::new(1), mac: MacAddress([2, 0, 0, 0, 0, mac]) }
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 2, last).into()
}

fn target(guests: &Guests) -> Option<(u8, u8)> {
    guests.target(SwitchPort::new(1)).map(|(address, mac)| (address.octets()[3], mac.0[5]))
}

#[test]
fn forwards_follow_a_guest_to_its_new_address() {
    let (mut guests, now) = (Guests::default(), Instant::now());
    assert_eq!(guests.learn(address(15), guest(1), now), None);
    assert_eq!(target(&guests), Some((15, 1)));
    // The guest uses another address, and the old one is never seen again.
    assert!(guests.learn(address(16), guest(2), now).is_some());
    assert_eq!(target(&guests), Some((16, 2)));
    guests.learn(address(77), guest(2), now);
    assert_eq!(target(&guests), Some((77, 2)));
    // Another Ethernet address, but the same IP address.
    guests.learn(address(77), guest(3), now);
    assert_eq!(target(&guests), Some((77, 3)));
}

#[test]
fn the_first_guest_keeps_the_forwards_as_long_as_it_answers() {
    let (mut guests, now) = (Guests::default(), Instant::now());
    guests.learn(address(15), guest(1), now);
    // The previous owner must be asked, and answers.
    let (old, mac) = guests.learn(address(16), guest(2), now).unwrap();
    assert_eq!((IpAddr::from(old), mac), (address(15), guest(1).mac));
    guests.learn(address(15), guest(1), now);
    assert_eq!(target(&guests), Some((15, 1)));
}

#[test]
fn guests_at_other_ports_do_not_change_the_forwards() {
    let (mut guests, now) = (Guests::default(), Instant::now());
    guests.learn(address(15), guest(1), now);
    for number in 0..200 {
        guests.learn(address(15), Guest { port: SwitchPort::new(2), mac: guest(9).mac }, now);
        guests.learn(address(number), Guest { port: SwitchPort::new(2), mac: guest(9).mac }, now);
    }
    assert_eq!(target(&guests), Some((15, 1)));
}

#[test]
fn addresses_are_bounded_and_only_the_network_has_them() {
    let (mut guests, now) = (Guests::default(), Instant::now());
    for number in 1..=254 {
        guests.learn(address(number), guest(1), now);
    }
    assert_eq!(guests.ports[1].seen.len(), MAX_ADDRESSES);
    assert_eq!(target(&guests), Some((254, 1)));
    guests.forget(SwitchPort::new(1));
    for stranger in ["8.8.8.8", "10.0.2.2", "10.0.2.3", "0.0.0.0", "fe80::1"] {
        guests.learn(stranger.parse().unwrap(), guest(1), now);
    }
    guests.learn(address(20), Guest { mac: MacAddress::BROADCAST, ..guest(1) }, now);
    assert_eq!(target(&guests), None);
}

#[test]
fn a_guest_that_goes_back_to_an_old_address_is_followed_when_the_other_is_silent() {
    let (mut guests, mut now) = (Guests::default(), Instant::now());
    guests.learn(address(15), guest(1), now);
    guests.learn(address(16), guest(2), now);
    for _ in 0..3 {
        for number in [1, 2] {
            now += DOUBT;
            assert!(
                guests.learn(address(14 + number), guest(number), now).is_some()
                    || target(&guests).unwrap().1 == number
            );
            assert_eq!(target(&guests), Some((14 + number, number)));
            assert_eq!(guests.learn(address(14 + number), guest(number), now), None, "asked once");
        }
    }
}
