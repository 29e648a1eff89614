//! How many descriptors the networks of a process may have for their flows, all together.
//!
//! Disks, consoles, and whoever uses this crate as a library want descriptors, too: the networks have a third of what the process may
//! have (`RLIMIT_NOFILE`). When these are used up, a network that has fewer than another still gets one, and the one that has most
//! is told to give one up. It does so when its guest's thread next comes by: until then there are more, at most twice as many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use super::poll::Poll;

/// The most that makes sense, where the process may have any number.
const MOST: usize = 1 << 16;

/// See the module's description.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    accounts: Mutex<Vec<Arc<Account>>>,
}

/// What one network has.
#[derive(Debug)]
struct Account {
    held: AtomicUsize,
    /// How many it has been told to give up.
    owed: AtomicUsize,
    poll: Arc<Poll>,
}

impl Account {
    /// How many it will have when it has given up what it owes.
    fn kept(&self) -> usize {
        self.held.load(Ordering::SeqCst).saturating_sub(self.owed.load(Ordering::SeqCst))
    }
}

impl Budget {
    /// Returns what the networks of this process share.
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

    /// Returns the number of descriptors.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn accounts(&self) -> MutexGuard<'_, Vec<Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the budget. `poll` is woken when something is to be given up.
    pub(super) fn join(self: &Arc<Self>, poll: Arc<Poll>) -> Member {
        let account = Arc::new(Account { held: AtomicUsize::new(0), owed: AtomicUsize::new(0), poll });
        self.accounts().push(account.clone());
        Member { budget: self.clone(), account }
    }
}

/// A network that takes part in a budget.
#[derive(Debug)]
pub(super) struct Member {
    budget: Arc<Budget>,
    account: Arc<Account>,
}

impl Member {
    /// Takes a descriptor's place. Returns `None` if this network would have most, and there is no place left.
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

    /// Returns how many descriptors all networks may have together.
    pub(super) fn limit(&self) -> usize {
        self.budget.limit()
    }

    /// Returns `true` if something is to be given up.
    pub(super) fn owes(&self) -> bool {
        self.account.owed.load(Ordering::SeqCst) > 0
    }

    /// Something was given up, or there is nothing.
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

/// The place of one descriptor, until it is dropped.
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
