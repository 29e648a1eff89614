use std::collections::BTreeMap;

use super::super::table::Kind;
use super::super::testing::Pair;
use super::*;

const FIELDS: std::ops::Range<usize> = 8..2580;

/// A key and a value, each with its field's length.
type Record = (Vec<u8>, Vec<u8>);

/// A guest with pools, which answers like Linux's driver and daemon.
#[derive(Default)]
struct Pools(BTreeMap<u8, Vec<Record>>);

impl Pools {
    fn with_intrinsic(addresses: &str) -> Self {
        let mut pools = Self::default();
        for (key, value) in [("OSName", "Debian"), ("NetworkAddressIPv4", addresses), ("NetworkAddressIPv6", "fe80::1")]
        {
            let field = |text: &str, length: usize| {
                let mut field = vec![0; length];
                super::super::text::put(&mut field, text, "a text").unwrap();
                field
            };
            pools.0.entry(2).or_default().push((field(key, 512), field(value, 2048)));
        }
        pools
    }

    /// Answers messages until there are none.
    fn serve(&mut self, pair: &mut Pair) -> usize {
        let mut count = 0;
        while let Some((_, body)) = pair.take() {
            count += 1;
            let (pool, key) = (self.0.entry(body[1]).or_default(), body[16..16 + 512].to_vec());
            match body[0] {
                1 => {
                    let value = body[528..2576].to_vec();
                    match pool.iter_mut().find(|item| item.0 == key) {
                        Some(item) => item.1 = value,
                        None => pool.push((key, value)),
                    }
                    pair.send_back(Status::SUCCESS);
                }
                2 => {
                    let before = pool.len();
                    pool.retain(|item| item.0[..] != body[8..520]);
                    pair.send_back(if pool.len() < before { Status::SUCCESS } else { Status::NO_MORE_ITEMS });
                }
                3 => match pool.get(u32::from_le_bytes(*body[4..].first_chunk().unwrap()) as usize) {
                    Some((key, value)) => pair.send_back_with(Status::SUCCESS, |body| {
                        let lengths = [1_u32, 512, 2048].map(u32::to_le_bytes).concat();
                        body[FIELDS].copy_from_slice(&[&lengths, &key[..], value].concat());
                    }),
                    None => pair.send_back(Status::NO_MORE_ITEMS),
                },
                other => panic!("operation {other}"),
            }
        }
        count
    }
}

fn text(key: impl Into<String>, value: &str) -> Item {
    Item { key: key.into(), value: Value::Text(value.into()) }
}

/// Returns a service that has read the intrinsic items.
fn connected(pools: &mut Pools) -> Pair {
    let mut pair = Pair::connected(Kind::KeyValue);
    pools.serve(&mut pair);
    pair
}

#[test]
fn the_guests_addresses_are_known_once_it_is_connected_and_kept_up_to_date() {
    let mut pools = Pools::with_intrinsic("10.0.2.15;");
    let mut pair = connected(&mut pools);
    let event = |first: &str| [Event::Intrinsic(vec![first.into(), "fe80::1".into()])];
    assert_eq!(pair.service.take_events(), event("10.0.2.15"));
    let Details::KeyValue(facts) = pair.status().details else { panic!("the details are another service's") };
    assert_eq!(facts.intrinsic[0], text("OSName", "Debian"));
    assert_eq!(pair.service.deadline(true), Some(pair.now.running + REFRESH));
    pair.wait(REFRESH);
    assert_eq!(pools.serve(&mut pair), 4);
    assert_eq!(pair.service.take_events(), [], "nothing has changed");
    pools.0.insert(2, Pools::with_intrinsic("10.0.2.16").0.remove(&2).unwrap());
    pair.wait(REFRESH);
    pools.serve(&mut pair);
    assert_eq!(pair.service.take_events(), event("10.0.2.16"));
}

#[test]
fn a_guest_is_told_the_hosts_facts_after_the_first_reading_and_again_after_a_failure() {
    let facts = [text("HostName", "rack7"), text("", "no key"), text("VirtualMachineName", "web")];
    let service = super::super::create(Kind::KeyValue, super::super::Forced::default(), &facts);
    let mut pair = Pair::opened_by(Kind::KeyValue, service);
    pair.negotiate();
    assert_eq!(pair.sent().1[..2], [3, 2], "it enumerates the intrinsic items");
    pair.send_back(Status::NO_MORE_ITEMS);
    assert_eq!(pair.service.deadline(true), Some(pair.now.running));
    assert_eq!(pair.sent().1[..2], [1, 3], "it sets an item of the host's pool");
    pair.send_back(Status::FAIL);
    assert_eq!(pair.take(), None, "it does not try again at once");
    pair.wait(REFRESH);
    let mut pools = Pools::default();
    assert_eq!(pools.serve(&mut pair), 1 + 2);
    let keys: Vec<_> = pools.0[&3].iter().map(|(key, _)| super::super::text::get(key)).collect();
    assert_eq!(keys, ["HostName", "VirtualMachineName"]);
    pair.wait(REFRESH);
    assert_eq!(pools.serve(&mut pair), 1, "they are sent once");
    pair.service.opened();
    pair.negotiate();
    assert_eq!(pools.serve(&mut pair), 1 + 2, "another guest, or the same after a restart, is told them too");
}

#[test]
fn items_are_pushed_read_and_deleted() {
    let mut pools = Pools::default();
    let mut pair = connected(&mut pools);
    let items: Vec<_> = (0..250).map(|number| text(format!("key {number}"), "Wert ü")).collect();
    let mut ask = |request| {
        pair.request(Request::KeyValue(request));
        pools.serve(&mut pair);
        pair.outcome()
    };
    assert_eq!(ask(KeyValue::Set(Pool::External, items.clone())), Ok(Answer::Done));
    assert_eq!(ask(KeyValue::List(Pool::External)), Ok(Answer::Items(items)));
    let get = |number: u32| KeyValue::Get(Pool::External, format!("key {number}"));
    assert_eq!(ask(get(249)), Ok(Answer::Value(Some(Value::Text("Wert ü".into())))));
    assert_eq!(ask(get(250)), Ok(Answer::Value(None)));
    assert_eq!(ask(KeyValue::Delete(Pool::External, "key 249".into())), Ok(Answer::Done));
    assert_eq!(ask(get(249)), Ok(Answer::Value(None)));
    let missing = Err(Failure::Guest(Status::NO_MORE_ITEMS));
    assert_eq!(ask(KeyValue::Delete(Pool::External, "key 249".into())), missing);
    assert_eq!(ask(KeyValue::List(Pool::Guest)), Ok(Answer::Items(vec![])));
}

#[test]
fn a_failed_item_ends_the_push() {
    let mut pair = connected(&mut Pools::default());
    pair.request(Request::KeyValue(KeyValue::Set(Pool::Host, vec![text("a", "1"), text("b", "2"), text("c", "3")])));
    pair.sent();
    pair.send_back(Status::SUCCESS);
    pair.sent();
    pair.send_back(Status::FAIL);
    assert_eq!(pair.outcome(), Err(Failure::Guest(Status::FAIL)));
    assert_eq!(pair.take(), None);
}

#[test]
fn an_invalid_request_is_refused_at_once() {
    let mut pair = connected(&mut Pools::default());
    let mut refused = |request| pair.service.request(&pair.now, Request::KeyValue(request)).unwrap_err().to_string();
    let theirs = "items of this pool are the guest's: the host cannot change them";
    assert_eq!(refused(KeyValue::Set(Pool::Intrinsic, vec![text("a", "1")])), theirs);
    assert_eq!(refused(KeyValue::Delete(Pool::Guest, "a".into())), theirs);
    assert_eq!(refused(KeyValue::Set(Pool::Host, vec![])), "a request has 1 to 1024 items, not 0");
    let many = vec![text("a", "1"); MAX_ITEMS + 1];
    assert_eq!(refused(KeyValue::Set(Pool::Host, many)), "a request has 1 to 1024 items, not 1025");
}

#[test]
fn the_number_of_items_that_a_guest_lists_is_bounded() {
    let mut pair = connected(&mut Pools::default());
    pair.request(Request::KeyValue(KeyValue::List(Pool::Guest)));
    let mut answers = 0;
    while pair.take().is_some() {
        answers += 1;
        pair.send_back_with(Status::SUCCESS, |body| {
            body[FIELDS][..12].copy_from_slice(&[1_u32, 8, 8].map(u32::to_le_bytes).concat());
        });
    }
    assert_eq!(answers, MAX_ITEMS + 1);
    assert!(pair.outcome().unwrap_err().to_string().contains("more than 1024 items"));
}

#[test]
fn an_adapter_is_asked_for_by_its_mac_address_and_configured_by_its_guid() {
    let mut pair = connected(&mut Pools::default());
    pair.request(Request::KeyValue(KeyValue::Adapter([0, 0x15, 0x5d, 0, 0xab, 1])));
    let (_, body) = pair.sent();
    assert_eq!((body[0], super::super::text::get(&body[2..258])), (4, "00:15:5D:00:AB:01".into()));
    pair.send_back_with(Status::SUCCESS, |body| {
        body[259] = 1;
        body[260..268].copy_from_slice(b"1\0;\x002\0;\0");
    });
    let adapter = Adapter { dhcp: true, addresses: vec!["1".into(), "2".into()], ..Adapter::default() };
    assert_eq!(pair.outcome(), Ok(Answer::Adapter(adapter.clone())));
    let guid = crate::wire::guid::Guid::new(0xf8615163_df3e_46c5_913f_f2d2f965ed0e);
    pair.request(Request::KeyValue(KeyValue::Configure(guid, adapter)));
    let (_, body) = pair.sent();
    assert_eq!(super::super::text::get(&body[2..258]), "{f8615163-df3e-46c5-913f-f2d2f965ed0e}");
    pair.send_back(Status::NOT_FOUND);
    assert_eq!(pair.outcome().unwrap_err().to_string(), "the guest has no such network adapter");
}

#[test]
fn requests_wait_in_order_within_a_bound_and_can_be_cancelled() {
    let mut pools = Pools::default();
    let mut pair = connected(&mut pools);
    let list = || Request::KeyValue(KeyValue::List(Pool::External));
    let tickets: Vec<_> = (0..MAX_JOBS).map(|_| pair.request(list())).collect();
    assert_eq!(pair.service.request(&pair.now, list()), Err(Failure::Busy));
    pair.sent();
    for ticket in [tickets[0], tickets[2], tickets[2]] {
        pair.service.cancel(ticket);
    }
    assert_eq!(pair.outcomes().len(), 2);
    pair.send_back(Status::NO_MORE_ITEMS);
    pools.serve(&mut pair);
    let finished: Vec<_> = pair.outcomes().into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(finished, [&tickets[1..2], &tickets[3..]].concat());
    pair.request(list());
    pair.service.closed();
    assert_eq!(pair.outcome(), Err(Failure::Closed));
}

#[test]
fn requests_fail_when_the_daemon_is_killed_and_its_successor_is_asked_again() {
    let mut pools = Pools::with_intrinsic("10.0.2.15");
    let mut pair = connected(&mut pools);
    pair.service.take_events();
    pair.wait(REFRESH);
    pair.sent();
    pair.send_back(Status::FAIL);
    assert_eq!((pair.take(), pair.service.take_events()), (None, vec![]), "what was known stays known");
    pair.wait(REFRESH);
    assert_eq!(pools.serve(&mut pair), 4);
}
