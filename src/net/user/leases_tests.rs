use super::*;
use crate::net::mac::MacAddress;
use crate::net::user::SwitchPort;
use proptest::prelude::*;

fn guest(port: usize, number: u16) -> Guest {
    let [high, low] = number.to_be_bytes();
    Guest { port: SwitchPort::new(port), mac: MacAddress([2, 0, 0, 0, high, low]) }
}

fn lease(leases: &mut Leases, guest: Guest, now: Instant) -> Option<Ipv4Addr> {
    let address = leases.offer(guest, now);
    leases.take(guest, now);
    address
}

#[test]
fn each_guest_gets_an_address_of_its_own_until_its_port_has_none_left() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    for number in 0..u16::from(MAX_GUESTS) {
        assert_eq!(lease(&mut leases, guest(0, number), now), Some(Network::guest(number as u8)));
    }
    assert_eq!(lease(&mut leases, guest(0, 200), now), None);
    assert_eq!(lease(&mut leases, guest(0, 3), now), Some(Network::guest(3)));
}

#[test]
fn ports_that_take_all_addresses_leave_the_others_their_share() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    for port in 0..3 {
        for number in 0..1000 {
            lease(&mut leases, guest(port, number), now);
        }
    }
    for port in 3..MAX_PORTS - 1 {
        for number in 0..GUARANTEED as u16 {
            let address = lease(&mut leases, guest(port, 5000 + number), now).expect("an address");
            assert!(Network::is_guest(address.into()));
        }
    }
}

#[test]
fn an_offer_that_nobody_takes_makes_room_for_another() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    let mine = lease(&mut leases, guest(0, 9999), now);
    for number in 0..2000 {
        assert!(leases.offer(guest(0, number), now + Duration::from_millis(number.into())).is_some());
    }
    assert_eq!(leases.offer(guest(0, 9999), now), mine, "a lease is no offer");
}

#[test]
fn an_expired_lease_remains_the_guests_until_another_needs_it() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    for number in 0..u16::from(MAX_GUESTS) {
        lease(&mut leases, guest(0, number), now);
    }
    let later = now + 2 * LEASE;
    assert_eq!(leases.offer(guest(0, 7), later), Some(Network::guest(7)));
    assert!(lease(&mut leases, guest(0, 500), later).is_some());
    leases.release(guest(0, 500));
    assert!(leases.leases.len() < 64);
}

proptest! {
    #[test]
    fn no_two_guests_share_an_address_and_every_port_has_its_share(
        steps in proptest::collection::vec((0..31_usize, 0..80_u16, 0..2000_u64, 0..4_u8), 0..400),
    ) {
        let (mut leases, mut now) = (Leases::default(), Instant::now());
        for (port, number, seconds, what) in steps {
            now += Duration::from_secs(if what == 3 { seconds } else { 0 });
            let guest = guest(port, number);
            let before = leases.leases.iter().filter(|lease| lease.guest.port == guest.port).count();
            let address = leases.offer(guest, now);
            prop_assert!(address.is_some() || before >= GUARANTEED);
            match what {
                0 => leases.take(guest, now),
                1 => leases.release(guest),
                _ => {}
            }
            let mut indices: Vec<_> = leases.leases.iter().map(|lease| lease.index).collect();
            indices.sort_unstable();
            prop_assert!(indices.windows(2).all(|pair| pair[0] != pair[1]));
            prop_assert!(indices.iter().all(|index| *index < ADDRESSES));
        }
    }
}
