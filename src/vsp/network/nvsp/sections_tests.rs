use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn all_sections_can_be_taken_and_released() {
    let mut sections = Sections::new(3);
    let first = sections.take(0, None).unwrap();
    let transaction = Transaction(first.into());
    let mut taken = vec![first];
    taken.push(sections.take(0, Some(transaction)).unwrap());
    taken.push(sections.take(0, Some(transaction)).unwrap());
    assert_eq!(sections.take(0, None), None);
    taken.sort();
    assert_eq!(taken, [0, 1, 2]);
    assert_eq!(sections.give_back(0, transaction), Ok(3));
    assert_eq!((sections.free(), sections.len()), (3, 3));
}

#[test]
fn a_transaction_is_released_only_once_and_only_by_its_channel() {
    let mut sections = Sections::new(4);
    let head = sections.take(1, None).unwrap();
    let transaction = Transaction(head.into());
    let follower = sections.take(1, Some(transaction)).unwrap();
    let refused = |channel, transaction| Err(NotOwned { channel, transaction });
    assert_eq!(sections.give_back(0, transaction), refused(0, head.into()));
    assert_eq!(sections.give_back(1, Transaction(follower.into())), refused(1, follower.into()));
    assert_eq!(sections.give_back(1, Transaction(4)), refused(1, 4));
    assert_eq!(sections.give_back(1, Transaction(u64::MAX)), refused(1, u64::MAX));
    assert_eq!(sections.give_back(1, transaction), Ok(2));
    assert_eq!(sections.give_back(1, transaction), refused(1, head.into()));
}

#[test]
fn an_empty_pool_has_no_sections() {
    let mut sections = Sections::new(0);
    assert!(sections.is_empty() && sections.take(0, None).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Begin(u16),
    Extend(usize),
    GiveBack(u16, u64),
    Close(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u16).prop_map(Step::Begin),
        6 => any::<usize>().prop_map(Step::Extend),
        4 => (0..3_u16, 0..20_u64).prop_map(|(channel, transaction)| Step::GiveBack(channel, transaction)),
        1 => (0..3_u16).prop_map(Step::Close),
    ]
}

proptest! {
    /// The model: a set of free sections, and for each transaction its channel and its sections.
    #[test]
    fn sections_behave_like_a_simple_model(count in 1..16_u32, steps in proptest::collection::vec(step(), 0..100)) {
        let mut sections = Sections::new(count);
        let mut free: BTreeSet<u32> = (0..count).collect();
        let mut taken: BTreeMap<u64, (u16, BTreeSet<u32>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Begin(channel) => match sections.take(channel, None) {
                    Some(section) => {
                        prop_assert!(free.remove(&section));
                        taken.insert(section.into(), (channel, BTreeSet::from([section])));
                    }
                    None => prop_assert!(free.is_empty()),
                },
                Step::Extend(which) => {
                    let Some(transaction) = (!taken.is_empty()).then(|| *taken.keys().nth(which % taken.len()).unwrap()) else { continue };
                    let (channel, owned) = taken.get_mut(&transaction).unwrap();
                    match sections.take(*channel, Some(Transaction(transaction))) {
                        Some(section) => {
                            prop_assert!(free.remove(&section));
                            owned.insert(section);
                        }
                        None => prop_assert!(free.is_empty()),
                    }
                }
                Step::GiveBack(channel, transaction) => {
                    let owned = taken.get(&transaction).filter(|(owner, _)| *owner == channel).map(|(_, owned)| owned.clone());
                    let result = sections.give_back(channel, Transaction(transaction)).ok();
                    prop_assert_eq!(result, owned.as_ref().map(BTreeSet::len));
                    if let Some(owned) = owned {
                        taken.remove(&transaction);
                        free.extend(owned);
                    }
                }
                Step::Close(channel) => {
                    sections.give_back_all(channel);
                    taken.retain(|_, (owner, owned)| {
                        if *owner == channel {
                            free.extend(owned.iter());
                        }
                        *owner != channel
                    });
                }
            }
            prop_assert_eq!(sections.free(), free.len());
        }
    }
}
