//! A VMBus device that is one state machine. Host and channel share it: the host changes it and wakes the channel's thread, which
//! exchanges messages with the guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, Peer};
use crate::host::lock::{Condvar, Mutex, MutexGuard};
use crate::memory::GuestMemory;
use crate::vmbus::vsp::{Channel, Handler, Offer, Port, ServiceError, Vsp};

/// The protocol of a device.
pub trait Protocol: Send + 'static {
    /// Name of the device in error messages, with its article.
    const NAME: &'static str;
    /// Maximum length of the payload of what [`next`](Self::next) returns.
    const MAX_PACKET: usize;

    /// Returns the offer.
    fn offer(&self) -> Offer;

    /// The memory of the guest that opens the channel. [`opened`](Self::opened) follows.
    fn attach(&mut self, _memory: &GuestMemory) {}

    /// The guest has opened the channel.
    fn opened(&mut self);

    /// The guest starts again, with other memory. The channel is closed.
    fn reset(&mut self) {}

    /// The guest has closed the channel, or is gone.
    fn closed(&mut self);

    /// Processes the payload of a packet of the guest. Its length is the guest's choice.
    ///
    /// # Errors
    /// Returns a description of how the guest violates the protocol.
    fn receive(&mut self, payload: &[u8]) -> Result<(), String>;

    /// Notes whether the guest has read all that it was sent. Called before [`next`](Self::next).
    fn note(&mut self, _is_read: bool) {}

    /// Returns the payload of the next packet, if there is one to be sent now.
    fn next(&mut self, now: Duration) -> Option<Vec<u8>>;

    /// Returns when [`next`](Self::next) has something to send that it does not have now.
    fn deadline(&self) -> Option<Duration> {
        None
    }
}

/// A device, for the host. Clones refer to the same device.
pub struct Handle<P>(Arc<Shared<P>>);

struct Shared<P> {
    state: Mutex<State<P>>,
    /// Something has been sent, or the channel is closed.
    progress: Condvar,
}

struct State<P> {
    protocol: P,
    /// The open channel, and its number.
    port: Option<(u64, Arc<dyn Port>)>,
    openings: u64,
}

impl<P> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Protocol> Handle<P> {
    /// Creates a device.
    pub fn new(protocol: P) -> Self {
        let state = State { protocol, port: None, openings: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), progress: Condvar::default() }))
    }

    /// Returns the VMBus device.
    pub fn vsp(&self) -> PipeVsp<P> {
        PipeVsp(self.clone())
    }

    /// Reads the state.
    pub fn read<T>(&self, read: impl FnOnce(&P) -> T) -> T {
        read(&self.lock().protocol)
    }

    /// Changes the state. The channel's thread is not woken: nothing becomes due by the change.
    pub fn update<T>(&self, change: impl FnOnce(&mut P) -> T) -> T {
        change(&mut self.lock().protocol)
    }

    /// Changes the state, and has the channel's thread send what is due.
    pub fn change<T>(&self, change: impl FnOnce(&mut P) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.protocol);
        let port = state.port.clone();
        drop(state);
        if let Some((_, port)) = port {
            port.wake();
        }
        result
    }

    /// Calls `change` until it returns something: now, and each time that the guest was sent something. Returns `None` if that
    /// takes longer than `most` without any progress.
    pub fn change_until<T>(&self, most: Duration, mut change: impl FnMut(&mut P) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(result) = change(&mut state.protocol) {
                return Some(result);
            }
            if let Some((_, port)) = state.port.clone() {
                port.wake();
            }
            let started = Instant::now();
            state = self.0.progress.wait_timeout(state, most);
            if started.elapsed() >= most {
                return change(&mut state.protocol);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.0.state.lock()
    }
}

/// The device, for its bus.
pub struct PipeVsp<P>(Handle<P>);

impl<P: Protocol> Vsp for PipeVsp<P> {
    fn offer(&self) -> Offer {
        self.0.read(P::offer)
    }

    fn reset(&mut self) {
        self.0.lock().protocol.reset();
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        let mut state = self.0.lock();
        state.openings += 1;
        let number = state.openings;
        state.port = Some((number, channel.port().clone()));
        state.protocol.attach(channel.memory());
        state.protocol.opened();
        drop(state);
        Ok(Box::new(PipeHandler { handle: self.0.clone(), number, exchange: Exchange::default() }))
    }
}

/// Serves the open channel.
struct PipeHandler<P: Protocol> {
    handle: Handle<P>,
    number: u64,
    exchange: Exchange,
}

struct Turn<'a, P> {
    handle: &'a Handle<P>,
    now: Duration,
    sent: bool,
}

impl<P: Protocol> Peer for Turn<'_, P> {
    const MAX_PACKET: usize = P::MAX_PACKET;

    fn name(&self) -> &'static str {
        P::NAME
    }

    fn receive(&mut self, payload: &[u8]) -> Result<(), ServiceError> {
        self.handle.lock().protocol.receive(payload).map_err(ServiceError::Protocol)
    }

    fn tick(&mut self, is_read: bool) {
        self.handle.lock().protocol.note(is_read);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let packet = self.handle.lock().protocol.next(self.now);
        self.sent |= packet.is_some();
        packet
    }
}

impl<P: Protocol> Handler for PipeHandler<P> {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        let now = channel.port().time();
        let mut turn = Turn { handle: &self.handle, now, sent: false };
        let ended = self.exchange.run(channel, &mut turn);
        if turn.sent {
            self.handle.0.progress.notify_all();
        }
        let ended = ended?;
        let deadline = self.handle.read(P::deadline).filter(|_| ended.has_room);
        let wait = deadline.map(|deadline| deadline.saturating_sub(channel.port().time()));
        channel.port().wake_after([wait, ended.poll].into_iter().flatten().min());
        Ok(())
    }
}

impl<P: Protocol> Drop for PipeHandler<P> {
    fn drop(&mut self) {
        let mut state = self.handle.lock();
        if state.port.as_ref().is_some_and(|(number, _)| *number == self.number) {
            state.port = None;
            state.protocol.closed();
        }
        drop(state);
        self.handle.0.progress.notify_all();
    }
}
