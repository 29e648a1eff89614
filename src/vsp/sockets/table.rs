//! The connections of a machine, for those who count and inspect them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::service::Service;
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

/// The existing connections, and the totals of all connections so far.
#[derive(Debug, Default)]
pub struct Table {
    present: Mutex<BTreeMap<DeviceId, Arc<Record>>>,
    opened: AtomicU64,
    refused: AtomicU64,
}

impl Table {
    /// Adds a connection, unless there are `limit` already.
    pub fn add(&self, device: DeviceId, service: Service, origin: Origin, limit: usize) -> Option<Arc<Record>> {
        let mut present = self.present.lock();
        if present.len() >= limit {
            return None;
        }
        let (from_guest, to_guest) = (AtomicU64::new(0), AtomicU64::new(0));
        let record = Arc::new(Record { device, service, origin, state: Mutex::new(OFFERED), from_guest, to_guest });
        present.insert(device, record.clone());
        Some(record)
    }

    /// Removes a connection.
    pub fn remove(&self, device: DeviceId) {
        self.present.lock().remove(&device);
    }

    /// Returns the connections that exist.
    pub fn present(&self) -> Vec<Arc<Record>> {
        self.present.lock().values().cloned().collect()
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
