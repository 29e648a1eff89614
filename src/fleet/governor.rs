//! Shares a budget of memory among machines, as a pure model.
//!
//! Once a second, each machine reports the memory that it has, and what its guest needs (its *demand*). [`Governor::step`] returns
//! the target of each machine:
//!
//! 1. A machine wants its demand and a fifth more, within its minimum and maximum. One that has not reported keeps what it has.
//! 2. If all wants fit into the budget, they are granted. Otherwise each machine gets its minimum, and the rest is shared by
//!    weight: nobody gets more than it wants, and what one does not want goes to the others.
//! 3. A share that differs little from the last one (a sixteenth, or 16 MiB) does not count. So a demand that wavers moves no
//!    memory.
//! 4. A machine grows only by memory that nobody has, and that nobody may still take: others must first have given theirs. A machine
//!    whose target was lowered may still grow to the one before, because a request to a guest cannot be taken back.
//!
//! The sum of targets, and of what machines have and may take, is never above the budget, if it was not before. At constant
//! demands, the shares do not change after the first step.

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// The smallest unit of a share.
const PAGE: u64 = 4096;

/// A machine of a budget. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its minimum.
    pub min: u64,
    /// Its maximum.
    pub max: u64,
    /// Its weight, at least 1.
    pub weight: u32,
    /// The memory that it has.
    pub assigned: u64,
    /// The memory that it has or may get if it is told no other target. At least what it has.
    pub reserved: u64,
    /// The memory that its guest needs, if it has reported.
    pub demand: Option<u64>,
}

impl Claim {
    /// Returns what it gets in any case. A guest that has not reported gives nothing.
    pub fn least(&self) -> u64 {
        if self.demand.is_some() { self.min } else { self.assigned.clamp(self.min, self.max) }
    }

    fn want(&self) -> u64 {
        let want = self.demand.map_or(self.assigned, |demand| demand.saturating_add(demand / 5));
        (want / PAGE * PAGE).clamp(self.least(), self.max)
    }
}

/// Shares a budget.
#[derive(Clone, Debug)]
pub struct Governor {
    budget: u64,
    /// The share of each machine after the last step.
    shares: Vec<Option<u64>>,
}

impl Governor {
    /// Creates a governor of `count` machines.
    pub fn new(budget: u64, count: usize) -> Self {
        Self { budget, shares: vec![None; count] }
    }

    /// Returns the target of each machine. `None` is a machine that does not run; it needs nothing.
    pub fn step(&mut self, claims: &[Option<Claim>]) -> Vec<Option<u64>> {
        let running: Vec<Claim> = claims.iter().flatten().copied().collect();
        let ideal = shares(self.budget, &running);
        let mut ideal = ideal.into_iter();
        let ideal: Vec<Option<u64>> = claims.iter().map(|claim| claim.and_then(|_| ideal.next())).collect();
        self.shares.resize(claims.len(), None);
        let kept = self.shares.iter().zip(&ideal).map(|(last, ideal)| match (last, ideal) {
            (Some(last), Some(ideal)) if last.abs_diff(*ideal) <= (last / 16).max(16 * MIB) => Some(*last),
            (_, ideal) => *ideal,
        });
        let kept: Vec<_> = kept.collect();
        // The kept shares may exceed the budget if the demand of another machine has just increased.
        let fits = sum(kept.iter().flatten().copied()) <= self.budget;
        self.shares = if fits { kept } else { ideal };
        self.grant(claims)
    }

    /// Returns the shares, but for memory that others still have or may take.
    fn grant(&self, claims: &[Option<Claim>]) -> Vec<Option<u64>> {
        let mut free = self.budget.saturating_sub(sum(claims.iter().flatten().map(|claim| claim.reserved)));
        let grant = |(claim, share): (&Option<Claim>, &Option<u64>)| {
            let (claim, share) = (claim.as_ref()?, (*share)?);
            let growth = share.saturating_sub(claim.reserved).min(free / PAGE * PAGE);
            free -= growth;
            Some(if share < claim.reserved { share } else { claim.reserved + growth })
        };
        claims.iter().zip(&self.shares).map(grant).collect()
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Returns the share of each machine in a budget.
fn shares(budget: u64, claims: &[Claim]) -> Vec<u64> {
    let wants: Vec<u64> = claims.iter().map(Claim::want).collect();
    if sum(wants.iter().copied()) <= budget {
        return wants;
    }
    let mut shares: Vec<u64> = claims.iter().map(Claim::least).collect();
    let mut left = budget.saturating_sub(sum(shares.iter().copied()));
    // Each round, some get all that they want, or the rest is divided. So there are at most as many rounds as machines.
    loop {
        let hungry: Vec<usize> = (0..claims.len()).filter(|&index| shares[index] < wants[index]).collect();
        let weights: u128 = hungry.iter().map(|&index| u128::from(claims[index].weight)).sum();
        let part = |index: usize| (u128::from(left) * u128::from(claims[index].weight) / weights) as u64;
        let full: Vec<usize> =
            hungry.iter().copied().filter(|&index| wants[index] - shares[index] <= part(index)).collect();
        if full.is_empty() {
            hungry.iter().for_each(|&index| shares[index] += part(index) / PAGE * PAGE);
            return shares;
        }
        for index in full {
            left -= wants[index] - shares[index];
            shares[index] = wants[index];
        }
    }
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
