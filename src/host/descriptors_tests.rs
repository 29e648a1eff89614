use super::*;

fn join(budget: &Arc<Budget>) -> Member {
    budget.join(Arc::new(EventFd::new().unwrap()))
}

#[test]
fn a_single_member_may_use_the_whole_budget_and_no_more() {
    let budget = Budget::new(10);
    let member = join(&budget);
    let mut tickets: Vec<_> = (0..10).map(|_| member.take().unwrap()).collect();
    assert!(member.take().is_none());
    tickets.pop();
    assert!(member.take().is_some());
}

#[test]
fn a_later_member_gets_its_share_and_the_other_is_asked_to_release_descriptors() {
    let budget = Budget::new(10);
    let (first, second) = (join(&budget), join(&budget));
    let mut firsts: Vec<_> = (0..10).map(|_| first.take().unwrap()).collect();
    let seconds: Vec<_> = std::iter::from_fn(|| second.take()).take(100).collect();
    assert_eq!(seconds.len(), 5);
    assert!(!second.owes());
    while first.owes() {
        firsts.pop();
        first.pay();
    }
    assert_eq!(firsts.len(), 5);
    assert!(first.take().is_none() && second.take().is_none());
}

#[test]
fn a_member_that_never_releases_anything_costs_at_most_the_budget_again() {
    let budget = Budget::new(30);
    let idle = join(&budget);
    let _held: Vec<_> = (0..30).map(|_| idle.take().unwrap()).collect();
    let others: Vec<_> = (0..20).map(|_| join(&budget)).collect();
    let mut tickets: Vec<Vec<Ticket>> = others.iter().map(|_| Vec::new()).collect();
    for round in 0..1000 {
        let (member, own) = (&others[round % 20], &mut tickets[round % 20]);
        while member.owes() {
            own.pop();
            member.pay();
        }
        own.extend(member.take());
        assert!(tickets.iter().map(Vec::len).sum::<usize>() <= 30);
    }
    assert!(tickets.iter().all(|tickets| !tickets.is_empty()));
}

#[test]
fn the_share_of_a_removed_member_is_available_to_others() {
    let budget = Budget::new(2);
    let gone = join(&budget);
    drop((gone.take(), gone.take()));
    drop(gone);
    let member = join(&budget);
    let both = (member.take(), member.take());
    assert!(both.0.is_some() && both.1.is_some());
}
