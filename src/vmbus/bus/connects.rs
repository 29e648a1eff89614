//! Requests of a guest to connect a socket, and what decides them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::vmbus::connection::ConnectRequest;

/// A request of a guest to connect a socket. It waits for [`VmBus::offer_socket`](super::VmBus::offer_socket) or
/// [`VmBus::refuse_socket`](super::VmBus::refuse_socket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The link to the guest that asks.
    pub(super) link: u64,
    /// The request.
    pub request: ConnectRequest,
}

type Take = Box<dyn Fn(Asked) -> bool + Send + Sync>;

/// Decides requests of guests to connect a socket. Without a decider, all are refused.
#[derive(Clone, Default)]
pub struct ConnectSink(Arc<OnceLock<Take>>);

impl ConnectSink {
    /// Sets the decider. It is called with the bus locked: it must not wait and not use the bus. If it returns `false`, the
    /// request is refused.
    pub fn set(&self, take: impl Fn(Asked) -> bool + Send + Sync + 'static) {
        // A bus has one set of sockets.
        let _ = self.0.set(Box::new(take));
    }

    pub(super) fn take(&self, asked: Asked) -> bool {
        self.0.get().is_some_and(|take| take(asked))
    }
}

impl fmt::Debug for ConnectSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ConnectSink")
    }
}
