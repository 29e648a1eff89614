//! Dynamic memory as a VMBus device: connects the [`Protocol`] to the rings of its channel, to guest memory and to the host.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::protocol::{Protocol, Step};
use super::status::Status;
use super::wire::MAX_MESSAGE;
use super::{Event, Layout, Limits};
use crate::host::limited;
use crate::host::lock::Mutex;
use crate::kvm::Vm;
use crate::memory::{self, PAGE_SIZE};
use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::NewPacket;
use crate::vmbus::vsp::{Channel, Handler, Offer, Port, ServiceError, Vsp};
use crate::wire::guid::{Guid, interface};

/// The period at which a full ring is checked if the guest does not signal that it has room.
const POLL: Duration = Duration::from_secs(1);

/// Maps memory into a guest.
pub trait Populate: Send + Sync {
    /// Maps a range of guest physical addresses.
    ///
    /// # Errors
    /// Returns the reason in words.
    fn populate(&self, addresses: Range<u64>) -> Result<(), String>;
}

impl Populate for Vm {
    fn populate(&self, addresses: Range<u64>) -> Result<(), String> {
        self.add_memory(addresses).map_err(|error| error.to_string())
    }
}

/// Takes the events, on the thread of the channel.
pub type EventSink = Arc<dyn Fn(&Event) + Send + Sync>;

/// The memory of a machine, for the host. Clones refer to the same machine.
#[derive(Clone)]
pub struct MemoryHandle(Arc<Shared>);

struct Shared {
    protocol: Mutex<Protocol>,
    clock: Mutex<Clock>,
    /// Maps memory into the present life of the guest.
    room: Mutex<Option<Arc<dyn Populate>>>,
    events: EventSink,
}

/// The time that the machine has run, as far as the channels know.
#[derive(Default)]
struct Clock {
    /// The time at which the present channel was opened, or the last one was closed.
    base: Duration,
    open: Option<Arc<dyn Port>>,
}

impl Clock {
    fn now(&self) -> Duration {
        self.base + self.open.as_ref().map(|port| port.time()).unwrap_or_default()
    }

    fn set(&mut self, open: Option<Arc<dyn Port>>) {
        self.base = self.now();
        self.open = open;
    }
}

impl MemoryHandle {
    /// Returns the state.
    pub fn status(&self) -> Status {
        let now = self.0.clock.lock().now();
        self.0.protocol.lock().status(now)
    }

    /// Sets the target size, in pages. It is brought into the limits. Returns the new target.
    pub fn set_target(&self, pages: u64) -> u64 {
        let target = self.0.protocol.lock().set_target(pages);
        let open = self.0.clock.lock().open.clone();
        open.inspect(|port| port.wake());
        target
    }

    /// Returns the machine's sizes.
    pub fn limits(&self) -> Limits {
        self.0.protocol.lock().limits
    }

    /// Uses `room` to map memory from now on. `None` ends the guest's life.
    pub fn set_room(&self, room: Option<Arc<dyn Populate>>) {
        let before = std::mem::replace(&mut *self.0.room.lock(), room);
        drop(before);
    }

    /// Returns to the startup size: the guest starts again.
    pub fn reset(&self) {
        self.0.protocol.lock().reset();
    }
}

impl fmt::Debug for MemoryHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("MemoryHandle").finish()
    }
}

/// The device.
pub struct MemoryVsp(MemoryHandle);

impl MemoryVsp {
    /// Creates the device, whose events go to `events`.
    pub fn new(limits: Limits, layout: Layout, events: EventSink) -> Self {
        Self(MemoryHandle(Arc::new(Shared {
            protocol: Mutex::new(Protocol::new(limits, layout)),
            clock: Mutex::default(),
            room: Mutex::default(),
            events,
        })))
    }

    /// Returns the memory, for the host.
    pub fn handle(&self) -> MemoryHandle {
        self.0.clone()
    }
}

impl Vsp for MemoryVsp {
    fn offer(&self) -> Offer {
        Offer::new(interface::BALLOON, Guid::new(0x1eccfd72_4b41_45ef_b73a_4a6e44c12924))
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        let shared = self.0.0.clone();
        shared.protocol.lock().opened();
        shared.clock.lock().set(Some(channel.port().clone()));
        Ok(Box::new(MemoryHandler { shared, port: channel.port().clone(), buffer: Vec::new(), next_packet: 1 }))
    }
}

/// Serves the open channel.
struct MemoryHandler {
    shared: Arc<Shared>,
    port: Arc<dyn Port>,
    buffer: Vec<u8>,
    /// Identifies a packet in the ring. The protocol does not use it.
    next_packet: u64,
}

impl Handler for MemoryHandler {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        let result = self.serve(channel);
        self.settle();
        result
    }
}

impl MemoryHandler {
    fn now(&self) -> Duration {
        self.shared.clock.lock().now()
    }

    fn serve(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        let mut has_room = true;
        let mut is_over = false;
        while !is_over && !self.port.should_return() {
            channel.rings().0.mask();
            let result = self.exchange(channel);
            let (incoming, outgoing) = channel.rings();
            let (freed, shown) = (incoming.publish(), outgoing.publish());
            channel.signal(if freed.is_needed() { freed } else { shown });
            has_room = result?;
            if !has_room {
                let (room, signal) = channel.rings().1.wait_for_room(NewPacket::space(MAX_MESSAGE))?;
                channel.signal(signal);
                if room {
                    continue;
                }
                // Messages of the guest wait until it has read those of the host.
                break;
            }
            is_over = !channel.rings().0.unmask()?;
        }
        let now = self.now();
        let deadline = self.shared.protocol.lock().deadline().map(|deadline| deadline.saturating_sub(now));
        let poll = (!has_room && !channel.rings().0.guest_minds_room()).then_some(POLL);
        self.port.wake_after([deadline.filter(|_| has_room), poll].into_iter().flatten().min());
        Ok(())
    }

    /// Does what is due, and receives one message after the other. Returns `false` if the ring has no room for a reply.
    fn exchange(&mut self, channel: &mut Channel) -> Result<bool, ServiceError> {
        while self.perform(channel)? {
            if self.port.should_return() {
                return Ok(true);
            }
            let Some(packet) = channel.rings().0.receive(&mut self.buffer)? else { return Ok(true) };
            let PacketKind::IN_BAND = packet.header.kind else {
                return Err(ServiceError::Protocol(format!("dynamic memory gets no {} packets", packet.header.kind)));
            };
            let now = self.shared.clock.lock().now();
            let received = self.shared.protocol.lock().receive(now, packet.payload);
            received.map_err(|violation| ServiceError::Protocol(violation.to_string()))?;
        }
        Ok(false)
    }

    /// Carries out the effects that are due. Returns `false` if the ring has no room.
    fn perform(&mut self, channel: &mut Channel) -> Result<bool, ServiceError> {
        let room = NewPacket::space(MAX_MESSAGE);
        while channel.rings().1.has_room(room)? {
            let now = self.now();
            // Without the lock while the host frees and maps pages.
            let step = self.shared.protocol.lock().next_step(now);
            match step {
                None => return Ok(true),
                Some(Step::Send(message)) => {
                    channel.rings().1.write(&NewPacket::in_band(self.next_packet, &[&message]))?;
                    self.next_packet = self.next_packet.wrapping_add(1);
                }
                Some(Step::Discard(pages)) => {
                    if let Err(error) = memory::discard(channel.memory(), addresses(&pages)) {
                        limited::warn!("the host does not take back memory that a guest has given: {error}");
                    }
                }
                Some(Step::Populate(pages)) => {
                    let room = self.shared.room.lock().clone();
                    let result =
                        room.map_or_else(|| Err("the guest is gone".into()), |room| room.populate(addresses(&pages)));
                    let is_done = result.inspect_err(|error| limited::warn!("memory cannot be added: {error}")).is_ok();
                    self.shared.protocol.lock().populated(now, is_done);
                }
            }
        }
        Ok(false)
    }

    /// Passes on what has happened.
    fn settle(&self) {
        let events = self.shared.protocol.lock().take_events();
        events.iter().for_each(|event| (self.shared.events)(event));
    }
}

impl Drop for MemoryHandler {
    fn drop(&mut self) {
        self.shared.protocol.lock().closed();
        self.shared.clock.lock().set(None);
        self.settle();
    }
}

fn addresses(pages: &Range<u64>) -> Range<u64> {
    pages.start * PAGE_SIZE..pages.end * PAGE_SIZE
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
