use super::*;
use proptest::prelude::*;

fn address(number: u32) -> MacAddress {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddress([2, 0, a, b, c, d])
}

#[test]
fn an_address_is_forgotten_when_it_is_not_seen_for_long() {
    let mut table = Table::default();
    let start = Instant::now();
    table.learn(address(1), 0, start);
    table.learn(address(1), 0, start + AGE / 2);
    assert_eq!(table.find(address(1), start + AGE), Some(0));
    assert_eq!(table.find(address(1), start + AGE + AGE / 2), None);
}

#[test]
fn one_port_cannot_fill_the_table() {
    let mut table = Table::default();
    let now = Instant::now();
    assert!((0..10_000).all(|number| table.learn(address(number), 0, now)));
    assert_eq!(table.places.len(), MAX_ADDRESSES);
    table.learn(address(20_000), 1, now);
    assert_eq!(table.find(address(20_000), now), Some(1));
    // It cannot remove the others' entries either.
    assert!(table.learn(address(20_000), 0, now));
    assert_eq!(table.find(address(20_000), now), Some(1));
    // When the old ones are too old, there is room for new ones.
    table.learn(address(30_000), 0, now + AGE);
    assert_eq!(table.find(address(30_000), now + AGE), Some(0));
}

#[test]
fn groups_are_not_learnt() {
    let mut table = Table::default();
    let now = Instant::now();
    for group in [MacAddress::BROADCAST, MacAddress([1, 0, 0, 0, 0, 1]), MacAddress([0; 6])] {
        assert!(table.learn(group, 0, now));
        assert_eq!(table.find(group, now), None);
    }
}

proptest! {
    /// The model: a list of learnt entries, of which the last one for an address applies.
    #[test]
    fn the_table_behaves_like_a_simple_model(
        steps in proptest::collection::vec((0..6_u32, 0..4_usize, 0..200_u64, any::<bool>()), 0..60),
        pinned in proptest::collection::vec((0..6_u32, 0..4_usize), 0..3),
    ) {
        let mut table = Table::default();
        let mut model: HashMap<u32, (usize, Option<Instant>)> = Default::default();
        let mut now = Instant::now();
        for (number, port) in pinned {
            // The first port keeps the address.
            prop_assert_eq!(table.pin(address(number), port), !model.contains_key(&number));
            model.entry(number).or_insert((port, None));
        }
        for (number, port, seconds, forget) in steps {
            now += Duration::from_secs(seconds);
            if forget && seconds < 20 {
                table.forget(port);
                model.retain(|_, (at, _)| *at != port);
                continue;
            }
            let known = model.get(&number).copied();
            let allowed = !matches!(known, Some((at, None)) if at != port);
            prop_assert_eq!(table.learn(address(number), port, now), allowed);
            if !matches!(known, Some((_, None))) {
                model.insert(number, (port, Some(now)));
            }
            for number in 0..6 {
                let expected = model.get(&number).filter(|(_, seen)| seen.is_none_or(|seen| now - seen < AGE));
                prop_assert_eq!(table.find(address(number), now), expected.map(|(port, _)| *port));
            }
            for port in 0..4 {
                let learnt = table.places.values().filter(|place| place.port == port && place.seen.is_some()).count();
                prop_assert_eq!(table.learnt[port], learnt);
            }
        }
    }
}
