use proptest::prelude::*;

use super::*;

fn claim(min: u64, max: u64, weight: u32, assigned: u64, demand: u64) -> Option<Claim> {
    let demand = Some(demand * MIB);
    let assigned = assigned * MIB;
    Some(Claim { min: min * MIB, max: max * MIB, weight, assigned, reserved: assigned, demand })
}

fn mebibytes(targets: &[Option<u64>]) -> Vec<Option<u64>> {
    targets.iter().map(|target| target.map(|bytes| bytes / MIB)).collect()
}

#[test]
fn each_machine_gets_its_demand_and_a_fifth_more_if_all_fit() {
    let mut governor = Governor::new(1000 * MIB, 3);
    let claims = [claim(100, 400, 100, 100, 200), claim(100, 400, 100, 100, 10), claim(100, 150, 100, 100, 300)];
    assert_eq!(mebibytes(&governor.step(&claims)), [Some(240), Some(100), Some(150)]);
}

#[test]
fn scarce_memory_is_shared_by_weight() {
    let mut governor = Governor::new(900 * MIB, 3);
    let claims = [claim(100, 900, 100, 100, 800), claim(100, 900, 300, 100, 800), claim(100, 140, 100, 100, 800)];
    // 600 MiB are left after the minimums; the third takes 40 of them.
    assert_eq!(mebibytes(&governor.step(&claims)), [Some(240), Some(520), Some(140)]);
}

#[test]
fn a_machine_grows_only_by_memory_that_another_has_released() {
    let mut governor = Governor::new(600 * MIB, 2);
    let step = |governor: &mut Governor, first, second| {
        mebibytes(&governor.step(&[claim(100, 500, 1, first, 50), claim(100, 500, 1, second, 350)]))
    };
    assert_eq!(step(&mut governor, 300, 300), [Some(100), Some(300)]);
    assert_eq!(step(&mut governor, 250, 300), [Some(100), Some(350)]);
    assert_eq!(step(&mut governor, 100, 350), [Some(100), Some(420)]);
}

#[test]
fn memory_that_a_machine_may_still_take_goes_to_nobody_else() {
    let mut governor = Governor::new(900 * MIB, 2);
    let step = |governor: &mut Governor, reserved: u64, demand| {
        let first = claim(250, 650, 100, 250, 800).map(|first| Claim { reserved: reserved * MIB, ..first });
        mebibytes(&governor.step(&[first, claim(250, 650, 200, 250, demand)]))
    };
    assert_eq!(step(&mut governor, 250, 50), [Some(650), Some(250)]);
    // Now the second one needs memory, too, but the first is about to grow to its old target.
    assert_eq!(step(&mut governor, 650, 800), [Some(383), Some(250)]);
    assert_eq!(step(&mut governor, 383, 800), [Some(383), Some(516)]);
}

#[test]
fn small_changes_of_demand_move_no_memory() {
    let mut governor = Governor::new(1000 * MIB, 1);
    for demand in [200, 205, 195, 210, 200] {
        assert_eq!(mebibytes(&governor.step(&[claim(100, 500, 1, 240, demand)])), [Some(240)]);
    }
    assert_eq!(mebibytes(&governor.step(&[claim(100, 500, 1, 240, 300)])), [Some(360)]);
}

#[test]
fn the_share_of_an_ended_machine_is_available_to_others() {
    let mut governor = Governor::new(600 * MIB, 2);
    let greedy = claim(100, 600, 1, 300, 600);
    assert_eq!(mebibytes(&governor.step(&[greedy, greedy])), [Some(300), Some(300)]);
    assert_eq!(mebibytes(&governor.step(&[greedy, None])), [Some(600), None]);
}

/// Generates machines whose memory at the start fits into the budget.
fn fleet() -> impl Strategy<Value = (u64, Vec<Option<Claim>>)> {
    let claim = (1_u64..500, 0_u64..500, 1_u32..10_000, 0_u64..=100, prop::option::of(0_u64..2000), 0_u8..8);
    let claim = claim.prop_map(|(min, more, weight, place, demand, gone)| {
        let (min, max) = (min * MIB, (min + more) * MIB);
        let assigned = min + (max - min) * place / 100 / PAGE * PAGE;
        let demand = demand.map(|mebibytes| mebibytes * MIB + 12_345);
        (gone > 0).then_some(Claim { min, max, weight, assigned, reserved: assigned, demand })
    });
    (prop::collection::vec(claim, 1..8), 0_u64..1000).prop_map(|(claims, spare)| {
        let least: u64 = claims.iter().flatten().map(|claim| claim.assigned.max(claim.min)).sum();
        (least + spare * MIB, claims)
    })
}

/// A guest's change between two steps, and its need after that: it begins to grow to its target, it completes that, it shrinks to its target.
type Turn = (bool, bool, bool, u64);

proptest! {
    #[test]
    fn guests_that_are_late_do_not_exceed_the_budget(
        (budget, mut claims) in fleet(),
        rounds in prop::collection::vec(prop::collection::vec(any::<Turn>(), 8), 1..12),
    ) {
        let mut governor = Governor::new(budget, claims.len());
        let mut growing = vec![0; claims.len()];
        for turns in rounds {
            let targets = governor.step(&claims);
            for (((claim, target), growing), turn) in claims.iter_mut().zip(&targets).zip(&mut growing).zip(&turns) {
                let (Some(claim), Some(target)) = (claim, target) else { continue };
                let (begins, completes, shrinks, demand) = *turn;
                if completes {
                    claim.assigned = claim.assigned.max(std::mem::take(growing));
                }
                if begins && *growing == 0 {
                    *growing = *target;
                }
                if shrinks && *growing == 0 {
                    claim.assigned = claim.assigned.min(*target);
                }
                claim.reserved = claim.assigned.max(*growing).max(*target);
                claim.demand = claim.demand.map(|_| demand % (1 << 30));
            }
            let assigned: u64 = claims.iter().flatten().map(|claim| claim.assigned).sum();
            prop_assert!(assigned <= budget, "{assigned} of {budget}");
        }
    }

    #[test]
    fn the_budget_is_never_exceeded_and_the_shares_converge((budget, mut claims) in fleet(), first in any::<u64>()) {
        let mut governor = Governor::new(budget, claims.len());
        // An earlier step with another demand, so that there are shares to keep.
        let before: Vec<_> = claims.iter().map(|claim| claim.map(|claim| {
            Claim { demand: claim.demand.map(|_| first % (1 << 31)), ..claim }
        })).collect();
        governor.step(&before);
        let mut last = Vec::new();
        for round in 0..12 {
            let targets = governor.step(&claims);
            let mut worst = 0;
            for (claim, target) in claims.iter_mut().zip(&targets) {
                prop_assert_eq!(claim.is_some(), target.is_some());
                let (Some(claim), Some(target)) = (claim, target) else { continue };
                prop_assert!((claim.min..=claim.max).contains(target), "{claim:?}: {target}");
                prop_assert!(target.is_multiple_of(PAGE));
                worst += claim.reserved.max(*target);
                // The guest fulfils the request.
                (claim.assigned, claim.reserved) = (*target, *target);
            }
            prop_assert!(worst <= budget, "{worst} of {budget}");
            if round > 0 {
                prop_assert_eq!(&governor.shares, &last, "at constant demands, the shares stay");
            }
            last.clone_from(&governor.shares);
        }
        for (claim, share) in claims.iter().zip(&governor.shares) {
            prop_assert_eq!(claim.map(|claim| claim.assigned), *share, "each has its share in the end");
        }
    }

    #[test]
    fn a_greater_weight_gets_no_less((budget, claims) in fleet()) {
        let mut alike: Vec<Claim> = claims.into_iter().flatten().collect();
        let Some(first) = alike.first().copied() else { return Ok(()) };
        alike.iter_mut().for_each(|claim| *claim = Claim { weight: claim.weight, ..first });
        let needed = first.min * alike.len() as u64;
        let shares = shares(budget.max(needed), &alike);
        for (claim, share) in alike.iter().zip(&shares) {
            for (other, theirs) in alike.iter().zip(&shares) {
                prop_assert!(claim.weight < other.weight || share >= theirs);
            }
        }
    }
}
