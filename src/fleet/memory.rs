//! The memory that the machines of a fleet share.

use super::governor::{Claim, Governor};
use crate::machine::MemoryUse;

/// A budget of memory, and the weights of those that share it.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    pub bytes: u64,
    pub weights: Vec<u32>,
}

/// Shares a budget among machines that run.
pub(super) struct Sharing {
    governor: Governor,
    weights: Vec<u32>,
}

impl Sharing {
    pub fn new(budget: Budget) -> Self {
        Self { governor: Governor::new(budget.bytes, budget.weights.len()), weights: budget.weights }
    }

    /// Returns the targets of the machines. `None` is a machine that does not run.
    pub fn targets(&mut self, uses: &[Option<MemoryUse>]) -> Vec<Option<u64>> {
        let claim = |(memory, weight): (&Option<MemoryUse>, &u32)| {
            let MemoryUse { min, max, assigned, reserved, demand } = (*memory)?;
            Some(Claim { min, max, weight: *weight, assigned, reserved, demand })
        };
        let claims: Vec<_> = uses.iter().zip(&self.weights).map(claim).collect();
        self.governor.step(&claims)
    }
}
