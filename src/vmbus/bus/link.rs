//! A bus's connection to one guest: executes the actions of the control protocol.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Value, json};

use super::channel::ChannelThread;
use super::connects::{Asked, ConnectSink};
use super::port::{ASIDE_PATIENCE, ChannelPort};
use super::{BusDevice, ChannelFailure, ConnectError, DeviceId, FailureSink, Settings, thread_named};
use crate::engine::Child;
use crate::host::event::EventFd;
use crate::host::limited;
use crate::host::lock::{Mutex, MutexGuard};
use crate::hyperv::connections::MessagePort;
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::SintIndex;
use crate::kvm::gate::Gate;
use crate::memory::GuestMemory;
use crate::vmbus::connection::{self, BusAction, BusActions, Connection, OfferError, Opening, Refusal};
use crate::vmbus::ids::{ChannelId, ConnectionId, GpadlId, Version};
use crate::vmbus::trace::{MessageLine, Tracer};
use crate::vmbus::vsp::ServiceError;
use crate::wire::guid::interface;

/// The connection; see the module's description.
pub(super) struct Link {
    name: String,
    tracer: Option<Tracer>,
    failures: FailureSink,
    /// Decides requests of the guest to connect a socket.
    connects: ConnectSink,
    /// Distinguishes this link from earlier ones of the bus.
    number: u64,
    child: Arc<dyn Child>,
    gate: Arc<Gate>,
    /// Wakes the bus's own thread, because there is room for messages or a channel's thread has ended.
    attention: EventFd,
    over: AtomicBool,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    channels: BTreeMap<ChannelId, Entry>,
    /// Threads that are about to end.
    ended: Vec<JoinHandle<()>>,
    /// Devices whose only channel has been removed, to be dropped without the lock.
    removed: Vec<Arc<BusDevice>>,
    /// Set when no further channels are opened.
    closing: bool,
}

/// A channel that is, or was, offered.
struct Entry {
    /// `None` once it is rescinded.
    device: Option<Arc<BusDevice>>,
    id: DeviceId,
    subchannel_index: u16,
    open: Option<Open>,
}

/// A channel with a thread.
struct Open {
    port: Arc<ChannelPort>,
    thread: JoinHandle<()>,
}

impl Link {
    pub fn new(settings: &Settings, number: u64, child: Arc<dyn Child>) -> io::Result<Arc<Self>> {
        let Settings { name, max_version, tracer, failures, connects, gate, devices: _ } = settings.clone();
        let settings = connection::Settings { max_version, vp_count: child.vp_count() };
        let state = State {
            connection: Connection::new(child.memory().clone(), settings),
            channels: BTreeMap::new(),
            ended: Vec::new(),
            removed: Vec::new(),
            closing: false,
        };
        Ok(Arc::new(Self {
            name,
            tracer,
            failures,
            connects,
            number,
            child,
            gate,
            attention: EventFd::blocking()?,
            over: AtomicBool::new(false),
            state: Mutex::new(state),
        }))
    }

    /// Opens the message ports, so that the guest can make contact.
    pub fn connect(self: &Arc<Self>) -> Result<(), ConnectError> {
        self.child.announce_room(Some(self.attention.try_clone().map_err(ConnectError::Descriptor)?));
        for id in self.ports() {
            self.child.connect_messages(id, Arc::new(Mailbox { link: Arc::downgrade(self), id }))?;
        }
        Ok(())
    }

    fn ports(&self) -> impl Iterator<Item = ConnectionId> {
        let ids = [ConnectionId::MESSAGES, ConnectionId::MESSAGES_5];
        let state = self.lock();
        ids.map(|id| state.connection.listens_on(id).then_some(id)).into_iter().flatten()
    }

    /// Closes ports and channels. When this returns, all threads have ended except the bus's own, which is about to, and those that are
    /// [aside](crate::vmbus::vsp::Port::aside): nothing but the memory of the machine stays for them.
    pub fn disconnect(&self) {
        self.ports().for_each(|id| self.child.disconnect(id));
        self.child.announce_room(None);
        let mut state = self.lock();
        state.closing = true;
        let open: Vec<Open> = state.channels.values_mut().filter_map(|entry| entry.open.take()).collect();
        let ended = std::mem::take(&mut state.ended);
        drop(state);
        open.iter().for_each(|open| open.port.close());
        let until = Instant::now() + ASIDE_PATIENCE;
        let (returned, left): (Vec<_>, Vec<_>) = open.into_iter().partition(|open| open.port.await_return(until));
        if !left.is_empty() {
            limited::warn!(of: &self.name, "{}: the host does not answer for {} channels; the machine ends without", self.name, left.len());
        }
        returned.into_iter().map(|open| open.thread).chain(ended).for_each(|thread| self.bury(thread));
        self.over.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Returns `true` once the guest is gone and [`disconnect`](Self::disconnect) is running.
    pub fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Runs the bus's own thread.
    pub fn run(&self) {
        while !self.over.load(Ordering::SeqCst) {
            // After an interruption, the checks below find nothing to do.
            let _ = self.attention.wait();
            let mut state = self.lock();
            self.send(&mut state);
            let (ended, removed) = (std::mem::take(&mut state.ended), std::mem::take(&mut state.removed));
            drop(state);
            ended.into_iter().for_each(|thread| self.bury(thread));
            drop(removed);
        }
    }

    /// Waits for what other threads are writing to guest memory. The machine is paused, and nothing is written after this.
    pub fn settle(&self) {
        let state = self.lock();
        open_ports(&state).for_each(|port| port.settle());
    }

    /// Sends what had to wait for the end of a pause.
    pub fn resume(&self) {
        self.wake();
        open_ports(&self.lock()).for_each(|port| port.send_owed());
    }

    fn wake(&self) {
        self.attention.signal();
    }

    fn bury(&self, thread: JoinHandle<()>) {
        if thread.join().is_err() {
            limited::error!(of: &self.name, "{}: the thread of a channel panicked", self.name);
        }
    }

    /// Returns the state of the channels.
    pub fn inspect(&self) -> Vec<Value> {
        let state = self.lock();
        let channel = |(id, entry): (&ChannelId, &Entry)| {
            let offer = entry.device.as_ref().map(|device| &device.offer);
            json!({
                "id": id.0,
                "interface": offer.and_then(|offer| interface::name(offer.interface)),
                "instance": offer.map(|offer| offer.instance.to_string()),
                "subchannel": entry.subchannel_index,
                "open": entry.open.is_some(),
                "vp": entry.open.as_ref().and_then(|open| open.port.vp()).map(|vp| vp.0),
                "rings": entry.open.as_ref().map(|open| open.port.rings()),
                "rescinded": entry.device.is_none(),
            })
        };
        state.channels.iter().map(channel).collect()
    }

    pub fn version(&self) -> Option<Version> {
        self.lock().connection.version()
    }

    /// Offers a device's primary channel.
    pub fn offer(&self, device: &Arc<BusDevice>) -> Result<(), OfferError> {
        let mut state = self.lock();
        self.offer_channel(&mut state, device, 0)?;
        self.send(&mut state);
        Ok(())
    }

    fn offer_channel(
        &self,
        state: &mut State,
        device: &Arc<BusDevice>,
        subchannel_index: u16,
    ) -> Result<(), OfferError> {
        let channel = state.connection.offer(device.offer.subchannel(subchannel_index))?;
        let entry = Entry { device: Some(device.clone()), id: device.id, subchannel_index, open: None };
        state.channels.insert(channel, entry);
        Ok(())
    }

    /// Returns the number of this link among those of its bus.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Offers a connection: see [`VmBus::offer_socket`](super::VmBus).
    pub fn offer_socket(&self, device: &Arc<BusDevice>, asked: Option<&Asked>) -> Result<(), OfferError> {
        let mut state = self.lock();
        let request = asked.map(|asked| &asked.request);
        let result = state.connection.offer_socket(device.offer.clone(), request).map(|channel| {
            let entry = Entry { device: Some(device.clone()), id: device.id, subchannel_index: 0, open: None };
            state.channels.insert(channel, entry);
        });
        self.send(&mut state);
        result
    }

    pub fn refuse_socket(&self, asked: &Asked) {
        let mut state = self.lock();
        state.connection.refuse_socket(&asked.request);
        self.send(&mut state);
    }

    /// Returns `true` if the guest has begun to open a channel of this device.
    pub fn is_answered(&self, id: DeviceId) -> bool {
        let state = self.lock();
        let mut own = state.channels.iter().filter(|(_, entry)| entry.id == id);
        own.any(|(channel, _)| state.connection.is_answered(*channel))
    }

    pub fn offer_subchannels(&self, primary: ChannelId, count: u16) {
        let mut state = self.lock();
        let Some(Entry { device: Some(device), subchannel_index: 0, .. }) = state.channels.get(&primary) else {
            return;
        };
        let device = device.clone();
        let count = u32::from(count).min(self.child.vp_count()) as u16;
        for index in 1..=count {
            match self.offer_channel(&mut state, &device, index) {
                Ok(()) | Err(OfferError::Duplicate { .. }) => {}
                Err(error) => log::debug!("{}: {error}", self.name),
            }
        }
        self.send(&mut state);
    }

    /// Rescinds the offers of a device, by [`Connection::rescind`] or [`Connection::retire`]. Returns the references to
    /// it, which must be dropped without a lock.
    pub fn take_back(
        self: &Arc<Self>,
        id: DeviceId,
        take_back: fn(&mut Connection, ChannelId) -> BusActions,
    ) -> Vec<Arc<BusDevice>> {
        let mut state = self.lock();
        let State { connection, channels, .. } = &mut *state;
        let mut actions = BusActions::new();
        let mut shares = Vec::new();
        for (channel, entry) in channels.iter_mut().filter(|(_, entry)| entry.id == id) {
            shares.extend(entry.device.take());
            if entry.subchannel_index == 0 {
                actions.extend(take_back(connection, *channel));
            }
        }
        self.carry_out(&mut state, actions);
        self.send(&mut state);
        shares
    }

    /// Processes a message from the guest.
    fn receive(self: &Arc<Self>, id: ConnectionId, message: &[u8]) -> HvResult<()> {
        let mut state = self.lock();
        let actions = state.connection.receive(id, message);
        let busy = matches!(actions[..], [BusAction::Refuse(Refusal::Busy)]);
        if let Some(tracer) = self.tracer.as_ref().filter(|_| !busy).and_then(Tracer::if_on) {
            tracer.line(format_args!("guest: {}", MessageLine(message)));
        }
        log::trace!("{}: guest: {}", self.name, MessageLine(message));
        let ends = ends_at_once(&state, &actions);
        self.carry_out(&mut state, actions);
        self.send(&mut state);
        drop(state);
        // The VP's thread waits, because the guest does not.
        if !ends.is_empty() && self.gate.is_own_thread() {
            self.gate.wait_for(|| ends.iter().all(|port| port.is_finished()));
        }
        if busy { Err(HvStatus::INSUFFICIENT_BUFFERS) } else { Ok(()) }
    }

    /// Called by a channel's thread that has opened its channel, or failed to and ends.
    pub fn opened(self: &Arc<Self>, channel: ChannelId, success: bool) {
        let mut state = self.lock();
        log::debug!("{}: VMBus channel {channel} {}", self.name, if success { "is open" } else { "cannot be opened" });
        if !success {
            self.thread_ends(&mut state, channel);
        }
        let actions = state.connection.opened(channel, success);
        self.carry_out(&mut state, actions);
        self.send(&mut state);
    }

    /// Called by a channel's thread that has closed its channel and ends.
    pub fn closed(self: &Arc<Self>, channel: ChannelId) {
        let mut state = self.lock();
        log::debug!("{}: VMBus channel {channel} is closed", self.name);
        self.thread_ends(&mut state, channel);
        let actions = state.connection.closed(channel);
        self.carry_out(&mut state, actions);
        self.send(&mut state);
    }

    /// Called by a channel's thread that has released a GPADL.
    pub fn gpadl_released(self: &Arc<Self>, channel: ChannelId, gpadl: GpadlId) {
        let mut state = self.lock();
        let actions = state.connection.gpadl_released(channel, gpadl);
        self.carry_out(&mut state, actions);
        self.send(&mut state);
    }

    fn thread_ends(&self, state: &mut State, channel: ChannelId) {
        if let Some(open) = state.channels.get_mut(&channel).and_then(|entry| entry.open.take()) {
            state.ended.push(open.thread);
            self.wake();
        }
    }

    /// Executes the protocol's actions. Nothing here blocks.
    fn carry_out(self: &Arc<Self>, state: &mut State, actions: BusActions) {
        for action in actions {
            match action {
                BusAction::Open(opening) => self.open(state, *opening),
                BusAction::Close(channel) => with_port(state, channel, ChannelPort::close),
                BusAction::ReleaseGpadl(channel, gpadl) => with_port(state, channel, |port| port.release(gpadl)),
                BusAction::Retarget(channel, vp) => with_port(state, channel, |port| port.retarget(vp)),
                BusAction::Remove(channel) => {
                    // The entry has no device if the bus keeps it.
                    if let Some(device) = state.channels.remove(&channel).and_then(|entry| entry.device) {
                        state.removed.push(device);
                        self.wake();
                    }
                }
                BusAction::Connect(request) => {
                    if !self.connects.take(Asked { link: self.number, request }) {
                        state.connection.refuse_socket(&request);
                    }
                }
                BusAction::Refuse(refusal) => log::debug!("{}: a VMBus message is refused: {refusal}", self.name),
            }
        }
    }

    /// Starts the thread that opens a channel.
    fn open(self: &Arc<Self>, state: &mut State, opening: Opening) {
        let channel = opening.channel;
        log::debug!("{}: the guest opens VMBus channel {channel} by version {}", self.name, opening.version);
        let entry = state.channels.get_mut(&channel).filter(|_| !state.closing);
        let started = match entry.map(|entry| self.start(entry, opening)) {
            Some(Ok(started)) => started,
            Some(Err(error)) => {
                limited::warn!(of: &self.name, "{}: channel {channel} does not open: {error}", self.name);
                false
            }
            None => false,
        };
        if !started {
            let actions = state.connection.opened(channel, false);
            self.carry_out(state, actions);
        }
    }

    /// Starts the thread of a channel. Returns `false` if its device is gone.
    fn start(self: &Arc<Self>, entry: &mut Entry, opening: Opening) -> io::Result<bool> {
        let Entry { device: Some(device), subchannel_index, open: open @ None, .. } = entry else { return Ok(false) };
        let channel = opening.channel;
        let port =
            ChannelPort::new(channel, Arc::downgrade(self), self.gate.clone(), self.child.clone(), opening.target)?;
        let port = Arc::new(port);
        let body = ChannelThread {
            link: self.clone(),
            device: device.clone(),
            port: port.clone(),
            subchannel_index: *subchannel_index,
        };
        let thread = thread_named(&self.name, &format!("ch{channel}")).spawn(move || body.run(opening))?;
        *open = Some(Open { port, thread });
        Ok(true)
    }

    /// Connects the guest's signals to the channel's doorbell.
    pub fn connect_events(&self, channel: ChannelId, port: &ChannelPort) -> Result<(), ServiceError> {
        let doorbell = port.eventfd().map_err(|error| error.to_string());
        let connected = doorbell.and_then(|doorbell| {
            self.child.connect_events(channel.connection(), doorbell).map_err(|error| error.to_string())
        });
        connected.map_err(ServiceError::Host)
    }

    pub fn disconnect_events(&self, channel: ChannelId) {
        self.child.disconnect(channel.connection());
    }

    pub fn memory(&self) -> &GuestMemory {
        self.child.memory()
    }

    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Reports a failure of a device. A guest can cause this repeatedly.
    pub fn failed(&self, device: &BusDevice, channel: Option<ChannelId>, what: &'static str, error: ServiceError) {
        let failure = ChannelFailure::new(&device.offer, channel, what, error);
        limited::warn!(of: &self.name, "{}: {failure}", self.name);
        self.failures.take(failure);
    }

    /// Sends the guest as many waiting messages as it has room for.
    fn send(&self, state: &mut State) {
        // Messages are sent when the machine resumes.
        if self.gate.is_pausing() {
            return;
        }
        if state.connection.takes_back_messages() {
            self.child.withdraw_messages(SintIndex::VMBUS, MessageType::CHANNEL);
        }
        while let Some(outgoing) = state.connection.next_message() {
            let bytes = outgoing.message.to_bytes();
            // Every message of the protocol fits.
            let Some(message) = Message::new(MessageType::CHANNEL, 0, &bytes) else { continue };
            match self.child.post_message(outgoing.vp, outgoing.sint, message) {
                Err(HvStatus::INSUFFICIENT_BUFFERS) => return state.connection.put_back(outgoing),
                Err(status) => log::debug!("{}: {} takes no message: {status}", self.name, outgoing.vp),
                Ok(()) => {}
            }
            if let Some(tracer) = self.tracer.as_ref().and_then(Tracer::if_on) {
                tracer.line(format_args!("host: {}", MessageLine(&bytes)));
            }
            log::trace!("{}: host: {}", self.name, MessageLine(&bytes));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

fn open_ports(state: &State) -> impl Iterator<Item = &ChannelPort> {
    state.channels.values().filter_map(|entry| entry.open.as_ref()).map(|open| &*open.port)
}

/// Returns the ports of channels that the guest closes, and whose pages it then uses for something else at once.
fn ends_at_once(state: &State, actions: &BusActions) -> Vec<Arc<ChannelPort>> {
    let ends = actions.iter().filter_map(|action| match action {
        BusAction::Close(channel) if state.connection.frees_at_once(*channel) => state.channels.get(channel),
        _ => None,
    });
    ends.filter_map(|entry| entry.open.as_ref().map(|open| open.port.clone())).collect()
}

fn with_port(state: &State, channel: ChannelId, tell: impl FnOnce(&ChannelPort)) {
    if let Some(Entry { open: Some(open), .. }) = state.channels.get(&channel) {
        tell(&open.port);
    }
}

/// The port to which the guest posts its control messages.
struct Mailbox {
    link: Weak<Link>,
    id: ConnectionId,
}

impl MessagePort for Mailbox {
    fn post(&self, message_type: MessageType, payload: &[u8]) -> HvResult<()> {
        if message_type != MessageType::CHANNEL {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let link = self.link.upgrade().ok_or(HvStatus::INVALID_PORT_ID)?;
        link.receive(self.id, payload)
    }
}
