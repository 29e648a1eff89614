//! The connections of a machine, for those who count and inspect them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::service::Service;
use crate::host::descriptors::{Member, Ticket};
use crate::host::lock::Mutex;
use crate::vmbus::bus::DeviceId;

/// The side that has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The guest, to a listener of the host.
    Guest,
    /// The host, to a listener of the guest.
    Host,
}

/// A connection, for others than its channel's thread.
#[derive(Debug)]
pub struct Record {
    /// The device that is offered.
    pub device: DeviceId,
    /// The address of the listener.
    pub service: Service,
    /// The side that has connected.
    pub origin: Origin,
    state: Mutex<&'static str>,
    from_guest: AtomicU64,
    to_guest: AtomicU64,
}

/// The state of a connection whose channel the guest has not opened.
const OFFERED: &str = "offered";

impl Record {
    /// Returns `true` if the guest has not opened the channel yet.
    pub fn is_offered(&self) -> bool {
        *self.state.lock() == OFFERED
    }

    /// Sets the state, and the number of bytes that the guest has sent and that it was sent.
    pub fn update(&self, state: &'static str, (from_guest, to_guest): (u64, u64)) {
        *self.state.lock() = state;
        self.from_guest.store(from_guest, Ordering::Relaxed);
        self.to_guest.store(to_guest, Ordering::Relaxed);
    }

    /// Returns the state, and the number of bytes that the guest has sent and that it was sent.
    pub fn facts(&self) -> (&'static str, u64, u64) {
        (*self.state.lock(), self.from_guest.load(Ordering::Relaxed), self.to_guest.load(Ordering::Relaxed))
    }
}

/// Number of descriptors of a connection: its socket, and the eventfds of its channel.
const DESCRIPTORS: usize = 3;

/// A connection, and its reservation in the budget of the process.
#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    _tickets: Vec<Ticket>,
    /// It ends, because the machine has more than its share.
    is_leaving: bool,
}

/// The existing connections, and the totals of all connections so far.
#[derive(Debug)]
pub struct Table {
    present: Mutex<BTreeMap<DeviceId, Entry>>,
    share: Member,
    opened: AtomicU64,
    refused: AtomicU64,
}

impl Table {
    /// Creates an empty table, whose connections have their descriptors from this share.
    pub fn new(share: Member) -> Self {
        Self { present: Mutex::default(), share, opened: AtomicU64::default(), refused: AtomicU64::default() }
    }

    /// Adds a connection, unless there are `limit` already, or the machine has its share of the process's descriptors.
    pub fn add(&self, device: DeviceId, service: Service, origin: Origin, limit: usize) -> Option<Arc<Record>> {
        let mut present = self.present.lock();
        if present.len() >= limit {
            return None;
        }
        let tickets = (0..DESCRIPTORS).map(|_| self.share.take()).collect::<Option<_>>()?;
        let (from_guest, to_guest) = (AtomicU64::new(0), AtomicU64::new(0));
        let record = Arc::new(Record { device, service, origin, state: Mutex::new(OFFERED), from_guest, to_guest });
        present.insert(device, Entry { record: record.clone(), _tickets: tickets, is_leaving: false });
        Some(record)
    }

    /// Removes a connection.
    pub fn remove(&self, device: DeviceId) {
        if self.present.lock().remove(&device).is_some() {
            (0..DESCRIPTORS).for_each(|_| self.share.pay());
        }
    }

    /// Returns the connections that must end now, the newest ones first, because other machines have less than their share.
    pub fn take_leaving(&self) -> Vec<DeviceId> {
        let mut present = self.present.lock();
        if present.is_empty() {
            while self.share.owes() {
                self.share.pay();
            }
        }
        let leaving = present.values().filter(|entry| entry.is_leaving).count();
        let more = self.share.owed().div_ceil(DESCRIPTORS).saturating_sub(leaving);
        let staying = present.iter_mut().rev().filter(|(_, entry)| !entry.is_leaving).take(more);
        staying
            .map(|(device, entry)| {
                entry.is_leaving = true;
                *device
            })
            .collect()
    }

    /// Returns the connections that exist.
    pub fn present(&self) -> Vec<Arc<Record>> {
        self.present.lock().values().map(|entry| entry.record.clone()).collect()
    }

    /// Counts a connection that the guest has opened.
    pub fn count_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was refused, by either side.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of connections that were opened and refused so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::descriptors::Budget;
    use crate::host::event::EventFd;
    use crate::vmbus::bus::VmBus;

    #[test]
    fn a_second_machine_gets_its_share_of_the_connections_of_the_process() {
        const HALF: usize = 10;
        let budget = Budget::new(2 * HALF * DESCRIPTORS);
        let table = || Table::new(budget.join(Arc::new(EventFd::new().unwrap())));
        let (first, second, bus) = (table(), table(), VmBus::default());
        let fill = |table: &Table| {
            let add = || table.add(bus.new_device_id(), Service::from(1), Origin::Guest, 1000);
            std::iter::from_fn(add).map(|record| record.device).collect::<Vec<_>>()
        };
        let firsts = fill(&first);
        assert_eq!(firsts.len(), 2 * HALF);
        assert!(first.take_leaving().is_empty());
        assert_eq!(fill(&second).len(), HALF);
        let leaving = first.take_leaving();
        assert_eq!(leaving, firsts.iter().rev().take(HALF).copied().collect::<Vec<_>>());
        assert!(first.take_leaving().is_empty(), "each ends once");
        leaving.into_iter().for_each(|device| first.remove(device));
        assert!(first.take_leaving().is_empty() && fill(&first).is_empty() && fill(&second).is_empty());
        // What one gives back, the other can have.
        second.present().iter().for_each(|record| second.remove(record.device));
        assert_eq!(fill(&first).len(), HALF);
    }

    #[test]
    fn a_machine_without_connections_owes_none() {
        let budget = Budget::new(DESCRIPTORS);
        let table = || Table::new(budget.join(Arc::new(EventFd::new().unwrap())));
        let (first, second, bus) = (table(), table(), VmBus::default());
        let add = |table: &Table| table.add(bus.new_device_id(), Service::from(1), Origin::Guest, 1000);
        let only = add(&first).unwrap();
        let _ = add(&second);
        first.remove(only.device);
        assert!(first.take_leaving().is_empty());
        assert!(add(&first).is_some());
    }
}
