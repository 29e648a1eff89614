//! The budget of descriptors for what the guests of a process open: flows of networks, and sockets.
//!
//! Disks, consoles, and library users need descriptors, too, so the networks and sockets have a third of what the process may have
//! (`RLIMIT_NOFILE`). When these are used up, a member that has fewer than another still gets one, and the one that
//! has the most is told to give one up. It does so when its thread runs next. Until then there are more, at
//! most twice as many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};

use crate::host::event::EventFd;
use crate::host::lock::{Mutex, MutexGuard};

/// The limit if the process may have any number of descriptors.
const MOST: usize = 1 << 16;

/// Wakes a member that must give something up.
pub trait Wake: std::fmt::Debug + Send + Sync {
    /// Schedules the member's thread.
    fn wake(&self);
}

impl Wake for EventFd {
    fn wake(&self) {
        self.signal();
    }
}

/// The budget; see the module's description.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    accounts: Mutex<Vec<Arc<Account>>>,
}

/// The share of one member.
#[derive(Debug)]
struct Account {
    held: AtomicUsize,
    /// Number of descriptors that it must give up.
    owed: AtomicUsize,
    wake: Arc<dyn Wake>,
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

    /// Adds a member to the budget.
    pub fn join(self: &Arc<Self>, wake: Arc<dyn Wake>) -> Member {
        let account = Arc::new(Account { held: AtomicUsize::new(0), owed: AtomicUsize::new(0), wake });
        self.accounts().push(account.clone());
        Member { budget: self.clone(), account }
    }
}

/// A network, or the sockets of a machine, with a share of a budget.
#[derive(Debug)]
pub struct Member {
    budget: Arc<Budget>,
    account: Arc<Account>,
}

impl Member {
    /// Reserves a descriptor. Returns `None` if none is left and this member would have the most.
    pub fn take(&self) -> Option<Ticket> {
        let accounts = self.budget.accounts();
        let used: usize = accounts.iter().map(|account| account.kept()).sum();
        if used >= self.budget.limit {
            let most = accounts.iter().max_by_key(|account| account.kept())?;
            if most.kept() <= self.account.kept() + 1 {
                return None;
            }
            most.owed.fetch_add(1, Ordering::SeqCst);
            most.wake.wake();
        }
        self.account.held.fetch_add(1, Ordering::SeqCst);
        Some(Ticket(self.account.clone()))
    }

    /// Returns the total number of descriptors for all members.
    pub fn limit(&self) -> usize {
        self.budget.limit()
    }

    /// Returns `true` if the member must give something up.
    pub fn owes(&self) -> bool {
        self.owed() > 0
    }

    /// Returns the number of descriptors that the member must give up.
    pub fn owed(&self) -> usize {
        self.account.owed.load(Ordering::SeqCst)
    }

    /// Records that something was given up, or that there is nothing to give up.
    pub fn pay(&self) {
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
pub struct Ticket(Arc<Account>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "descriptors_tests.rs"]
mod tests;
