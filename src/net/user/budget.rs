//! The budget of descriptors for the flows of all networks of a process.
//!
//! Disks, consoles, and library users need descriptors, too, so the networks have a third of what the process may have
//! (`RLIMIT_NOFILE`). When these are used up, a network that has fewer than another still gets one, and the one that
//! has the most is told to give one up. It does so when its guest's thread runs next. Until then there are more, at
//! most twice as many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};

use super::poll::Poll;
use crate::host::lock::{Mutex, MutexGuard};

/// The limit if the process may have any number of descriptors.
const MOST: usize = 1 << 16;

/// The budget; see the module's description.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    accounts: Mutex<Vec<Arc<Account>>>,
}

/// The share of one network.
#[derive(Debug)]
struct Account {
    held: AtomicUsize,
    /// Number of descriptors that it must give up.
    owed: AtomicUsize,
    poll: Arc<Poll>,
}

impl Account {
    /// Returns the number that it will have after giving up what it must.
    fn kept(&self) -> usize {
        self.held.load(Ordering::SeqCst).saturating_sub(self.owed.load(Ordering::SeqCst))
    }
}

impl Budget {
    /// Returns the budget of this process.
    pub fn of_process() -> Arc<Self> {
        static BUDGET: LazyLock<Arc<Budget>> = LazyLock::new(|| {
            let most = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
            Budget::new(most.map_or(MOST, |most| (most / 3).min(MOST)))
        });
        BUDGET.clone()
    }

    /// Creates a budget of `limit` descriptors.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, accounts: Mutex::default() })
    }

    /// Returns the total number of descriptors.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn accounts(&self) -> MutexGuard<'_, Vec<Arc<Account>>> {
        self.accounts.lock()
    }

    /// Adds a member to the budget. `poll` is woken when it must give something up.
    pub(super) fn join(self: &Arc<Self>, poll: Arc<Poll>) -> Member {
        let account = Arc::new(Account { held: AtomicUsize::new(0), owed: AtomicUsize::new(0), poll });
        self.accounts().push(account.clone());
        Member { budget: self.clone(), account }
    }
}

/// A network with a share of a budget.
#[derive(Debug)]
pub(super) struct Member {
    budget: Arc<Budget>,
    account: Arc<Account>,
}

impl Member {
    /// Reserves a descriptor. Returns `None` if none is left and this network would have the most.
    pub(super) fn take(&self) -> Option<Ticket> {
        let accounts = self.budget.accounts();
        let used: usize = accounts.iter().map(|account| account.kept()).sum();
        if used >= self.budget.limit {
            let most = accounts.iter().max_by_key(|account| account.kept())?;
            if most.kept() <= self.account.kept() + 1 {
                return None;
            }
            most.owed.fetch_add(1, Ordering::SeqCst);
            most.poll.wake();
        }
        self.account.held.fetch_add(1, Ordering::SeqCst);
        Some(Ticket(self.account.clone()))
    }

    /// Returns the total number of descriptors for all networks.
    pub(super) fn limit(&self) -> usize {
        self.budget.limit()
    }

    /// Returns `true` if the network must give something up.
    pub(super) fn owes(&self) -> bool {
        self.account.owed.load(Ordering::SeqCst) > 0
    }

    /// Records that something was given up, or that there is nothing to give up.
    pub(super) fn pay(&self) {
        let less = |owed: usize| owed.checked_sub(1);
        let _ = self.account.owed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.budget.accounts().retain(|account| !Arc::ptr_eq(account, &self.account));
    }
}

/// A reserved descriptor, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Account>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
