//! Flows by number and by endpoints.

use std::collections::HashMap;
use std::hash::Hash;

use super::stack::NUMBER;

/// A table of flows; see the module's description.
#[derive(Debug)]
pub(super) struct Table<K, F> {
    pub(super) flows: HashMap<u64, F>,
    pub(super) numbers: HashMap<K, u64>,
    next: u64,
}

impl<K: Hash + Eq, F> Table<K, F> {
    pub(super) fn new() -> Self {
        Self { flows: HashMap::new(), numbers: HashMap::new(), next: 0 }
    }

    /// Adds a flow and returns its number.
    pub(super) fn insert(&mut self, key: K, flow: F) -> u64 {
        // A number is reused only after four billion flows, so that a late event does not find another flow.
        self.next = (self.next + 1) & NUMBER;
        self.flows.insert(self.next, flow);
        self.numbers.insert(key, self.next);
        self.next
    }

    /// Returns the flow with these endpoints.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut F> {
        self.flows.get_mut(self.numbers.get(key)?)
    }

    pub(super) fn remove(&mut self, number: u64, key: &K) {
        self.flows.remove(&number);
        self.numbers.remove(key);
    }
}
