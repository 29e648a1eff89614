//! A child partition without KVM: a SynIC with short queues, and the guest's side of the SynIC.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use viridian::hyperv::VpIndex;
use viridian::hyperv::{HvResult, HvStatus};
use viridian::internals::hyperv::MessagePort;
use viridian::internals::hyperv::{ConnectionId, SintIndex};
use viridian::internals::hyperv::{Message, MessageType};
use viridian::internals::memory::GuestMemory;
use viridian::internals::{Child, EventFd, PortError};
use vm_memory::GuestAddress;

use crate::common::patience::Patience;

/// Time limit of each wait.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Length of the queues: short enough that the bus fills them often.
const QUEUE: usize = 3;

pub struct FakeChild {
    memory: GuestMemory,
    vp_count: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    message_ports: BTreeMap<ConnectionId, Arc<dyn MessagePort>>,
    event_ports: BTreeMap<ConnectionId, EventFd>,
    /// Messages that wait for the guest, and their VP.
    messages: VecDeque<(VpIndex, Vec<u8>)>,
    refused: bool,
    refusals: u64,
    room: Option<EventFd>,
    /// Event flags, by VP.
    flags: BTreeMap<(VpIndex, u16), u64>,
    interrupts: u64,
    asleep: bool,
    gone: bool,
}

impl FakeChild {
    pub fn new(vp_count: u32, pages: u64) -> Arc<Self> {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), pages as usize * 4096)]).unwrap();
        Arc::new(Self { memory, vp_count, state: Mutex::default(), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// HvCallPostMessage.
    pub fn guest_posts(&self, id: ConnectionId, payload: &[u8]) -> HvResult<()> {
        let port = self.lock().message_ports.get(&id).cloned();
        port.ok_or(HvStatus::INVALID_CONNECTION_ID)?.post(MessageType::CHANNEL, payload)
    }

    /// The same with another message type than that of VMBus.
    pub fn guest_posts_type(&self, message_type: MessageType, payload: &[u8]) -> HvResult<()> {
        let port = self.lock().message_ports[&ConnectionId::MESSAGES].clone();
        port.post(message_type, payload)
    }

    /// Makes the guest stop reading messages, or start again.
    pub fn guest_sleeps(&self, asleep: bool) {
        self.lock().asleep = asleep;
        self.changed.notify_all();
    }

    /// HvCallSignalEvent.
    pub fn guest_signals(&self, id: ConnectionId) -> HvResult<()> {
        let state = self.lock();
        let event = state.event_ports.get(&id).ok_or(HvStatus::INVALID_CONNECTION_ID)?;
        event.signal();
        Ok(())
    }

    /// Takes the next message as the guest does, and writes EOM. Returns `None` after the guest has ended.
    pub fn guest_reads(&self) -> Option<(VpIndex, Vec<u8>)> {
        let mut state = self.lock();
        loop {
            if state.gone {
                return None;
            }
            let message = if state.asleep { None } else { state.messages.pop_front() };
            if let Some(message) = message {
                if std::mem::take(&mut state.refused) {
                    state.room.iter().for_each(|room| room.signal());
                }
                return Some(message);
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Ends the guest.
    pub fn guest_goes(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    /// Waits for a channel's event flag on a VP, and clears it. Returns `false` at the time limit.
    pub fn guest_waits(&self, vp: VpIndex, flag: u16, time: Duration) -> bool {
        let mut patience = Patience::new(time);
        let mut state = self.lock();
        while state.flags.remove(&(vp, flag)).is_none() {
            if patience.is_over() {
                return false;
            }
            state = self.changed.wait_timeout(state, patience.slice()).unwrap().0;
        }
        true
    }

    /// Returns the number of messages that found no room, and of interrupts.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.refusals, state.interrupts)
    }

    /// Returns the number of messages that wait for the guest.
    pub fn waiting(&self) -> usize {
        self.lock().messages.len()
    }

    /// Returns the connection ids of message ports and of event ports.
    pub fn ports(&self) -> (Vec<u32>, Vec<u32>) {
        let state = self.lock();
        (state.message_ports.keys().map(|id| id.0).collect(), state.event_ports.keys().map(|id| id.0).collect())
    }
}

impl Child for FakeChild {
    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn vp_count(&self) -> u32 {
        self.vp_count
    }

    fn post_message(&self, vp: VpIndex, sint: SintIndex, message: Message) -> HvResult<()> {
        assert!(vp.0 < self.vp_count && sint == SintIndex::VMBUS);
        let mut state = self.lock();
        if state.messages.len() >= QUEUE {
            (state.refused, state.refusals) = (true, state.refusals + 1);
            return Err(HvStatus::INSUFFICIENT_BUFFERS);
        }
        state.messages.push_back((vp, message.payload().to_vec()));
        self.changed.notify_all();
        Ok(())
    }

    fn withdraw_messages(&self, sint: SintIndex, message_type: MessageType) {
        assert!(sint == SintIndex::VMBUS && message_type == MessageType::CHANNEL);
        self.lock().messages.clear();
    }

    fn announce_room(&self, event: Option<EventFd>) {
        self.lock().room = event;
    }

    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()> {
        assert!(vp.0 < self.vp_count && sint == SintIndex::VMBUS && flag < 2048);
        let mut state = self.lock();
        *state.flags.entry((vp, flag)).or_default() += 1;
        state.interrupts += 1;
        self.changed.notify_all();
        Ok(())
    }

    fn raise_sint(&self, _vp: VpIndex, sint: SintIndex) -> HvResult<()> {
        panic!("VMBus does not raise {sint} without a cause");
    }

    fn connect_messages(&self, id: ConnectionId, port: Arc<dyn MessagePort>) -> Result<(), PortError> {
        assert!(self.lock().message_ports.insert(id, port).is_none(), "{id} is in use");
        Ok(())
    }

    fn connect_events(&self, id: ConnectionId, event: EventFd) -> Result<(), PortError> {
        assert!(self.lock().event_ports.insert(id, event).is_none(), "{id} is in use");
        Ok(())
    }

    fn disconnect(&self, id: ConnectionId) {
        let mut state = self.lock();
        let found = (state.message_ports.remove(&id).is_some(), state.event_ports.remove(&id).is_some());
        assert!(found.0 != found.1, "{id} is not connected");
    }
}
