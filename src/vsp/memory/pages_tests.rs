#![allow(clippy::single_range_in_vec_init)]
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    Take(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..600, 0_u64..200).prop_map(|(start, length)| Step::Insert(start, length)),
        (0_u64..150).prop_map(Step::Take),
    ]
}

proptest! {
    #[test]
    fn a_set_of_pages_is_a_set_of_numbers(steps in prop::collection::vec(step(), 1..40)) {
        const LIMIT: u64 = 512;
        let (mut set, mut model) = (PageSet::new(LIMIT), BTreeSet::new());
        for step in steps {
            match step {
                Step::Insert(start, length) => {
                    let added: Vec<u64> = set.insert(start..start + length).into_iter().flatten().collect();
                    let expected: Vec<u64> =
                        (start..(start + length).min(LIMIT)).filter(|page| model.insert(*page)).collect();
                    prop_assert_eq!(added, expected);
                }
                Step::Take(limit) => {
                    let taken = set.take(limit);
                    let Some(first) = model.first().copied().filter(|_| limit > 0) else {
                        prop_assert_eq!(taken, None);
                        continue;
                    };
                    let end = (first..first + limit).find(|page| !model.remove(page)).unwrap_or(first + limit);
                    prop_assert_eq!(taken, Some(first..end));
                }
            }
            prop_assert_eq!(set.count(), model.len() as u64);
        }
    }
}

#[test]
fn neighbors_that_come_one_by_one_leave_as_one_range() {
    let mut set = PageSet::new(1 << 20);
    for page in (1000..5000).rev() {
        assert_eq!(set.insert(page..page + 1), [page..page + 1]);
    }
    assert_eq!(set.take(u64::MAX), Some(1000..5000));
    assert_eq!(set.take(u64::MAX), None);
}

#[test]
fn pages_beyond_the_limit_are_ignored() {
    let mut set = PageSet::new(128);
    assert_eq!(set.insert(100..u64::MAX), [100..128]);
    assert!(set.insert(u64::MAX - 1..u64::MAX).is_empty());
    assert_eq!(set.count(), 28);
}
