//! A guest's VMBus driver on a [`FakeChild`], with the structure of Linux's: a thread receives messages, and others send
//! requests and wait for their answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use viridian::hyperv::HvStatus;
use viridian::hyperv::VpIndex;
use viridian::internals::hyperv::ConnectionId;
use viridian::internals::vmbus::GpaRangeHeader;
use viridian::internals::vmbus::message;
use viridian::internals::vmbus::{self, RingMemory};
use viridian::internals::vmbus::{
    ChannelReference, GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, InitiateContact,
    MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse, OfferChannel, OpenChannel, OpenResult, Status,
    UserDefined, VersionResponse,
};
use viridian::internals::vmbus::{GuestReceiver, GuestSender};
use viridian::vmbus::vsp::{NewPacket, WriteError};
use viridian::vmbus::{ChannelId, GpadlId, Version};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::child::{FakeChild, PATIENCE};
use crate::common::patience::Patience;
use viridian::internals::Child;

/// Length of the ranges in a header and in a body, in bytes.
const IN_HEADER: usize = 240 - size_of::<MessageHeader>() - size_of::<GpadlHeader>();
const IN_BODY: usize = 240 - size_of::<MessageHeader>() - size_of::<GpadlBody>();

pub struct Guest {
    pub child: Arc<FakeChild>,
    port: ConnectionId,
    version: Version,
    inbox: Arc<Inbox>,
    reader: Option<JoinHandle<()>>,
    /// The next open id or GPADL id. All are different.
    next: AtomicU32,
}

/// Received messages that were not taken yet.
#[derive(Default)]
struct Inbox {
    messages: Mutex<Vec<(VpIndex, Vec<u8>)>>,
    changed: Condvar,
}

impl Guest {
    /// Creates a guest that has not connected yet.
    pub fn new(child: &Arc<FakeChild>) -> Self {
        let inbox = Arc::new(Inbox::default());
        let read = {
            let (child, inbox) = (child.clone(), inbox.clone());
            move || {
                while let Some(message) = child.guest_reads() {
                    inbox.messages.lock().unwrap().push(message);
                    inbox.changed.notify_all();
                }
            }
        };
        let reader = Some(std::thread::spawn(read));
        let (port, version) = (ConnectionId::MESSAGES_5, Version::NEWEST);
        Self { child: child.clone(), port, version, inbox, reader, next: AtomicU32::new(1) }
    }

    /// Creates a guest that has connected with `version` and read its offers.
    pub fn connected(child: &Arc<FakeChild>, version: Version) -> Self {
        let mut guest = Self::new(child);
        assert!(guest.contact(version), "version {version} is not spoken");
        guest.request_offers();
        guest
    }

    /// Sends INITIATE_CONTACT. Returns `true` if the version is supported.
    pub fn contact(&mut self, version: Version) -> bool {
        self.post_contact(version);
        self.wait::<VersionResponse>(MessageType::VERSION_RESPONSE, |_| true).supported == 1
    }

    /// Sends INITIATE_CONTACT and returns the answer, which must arrive.
    pub fn post_contact(&mut self, version: Version) {
        let mut contact = InitiateContact::new_zeroed();
        (contact.version, contact.target_vp) = (version, VpIndex(self.child.vp_count() - 1));
        contact.interrupt_page_or_target[0] = 2;
        self.port = if version >= Version::V5_0 { ConnectionId::MESSAGES_5 } else { ConnectionId::MESSAGES };
        self.version = version;
        self.post(MessageType::INITIATE_CONTACT, &contact);
    }

    pub fn request_offers(&self) {
        self.post(MessageType::REQUESTOFFERS, &[0_u8; 0]);
        self.wait::<[u8; 0]>(MessageType::ALLOFFERS_DELIVERED, |_| true);
    }

    pub fn unload(&self) {
        self.post(MessageType::UNLOAD, &[0_u8; 0]);
        self.wait::<[u8; 0]>(MessageType::UNLOAD_RESPONSE, |_| true);
    }

    /// Posts a message, and retries while the host has no buffer for it.
    pub fn post(&self, message_type: MessageType, body: &(impl IntoBytes + Immutable + ?Sized)) {
        let message = message(message_type, body);
        let mut patience = Patience::new(PATIENCE);
        while let Err(status) = self.child.guest_posts(self.port, &message) {
            assert_eq!(status, HvStatus::INSUFFICIENT_BUFFERS);
            assert!(!patience.is_over(), "the host takes no more messages");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes the first message of this type for which `is_meant` holds.
    pub fn find<T: FromBytes + KnownLayout + Immutable>(
        &self,
        wanted: MessageType,
        is_meant: impl Fn(&T) -> bool,
        time: Duration,
    ) -> Option<T> {
        let read = |bytes: &[u8]| {
            let (header, body) = MessageHeader::read_from_prefix(bytes).unwrap();
            let body = (header.message_type == wanted).then(|| T::read_from_prefix(body).unwrap().0);
            body.filter(&is_meant)
        };
        let mut patience = Patience::new(time);
        let mut messages = self.inbox.messages.lock().unwrap();
        loop {
            let found = messages.iter().enumerate().find_map(|(index, (_, bytes))| Some((index, read(bytes)?)));
            if let Some((index, body)) = found {
                messages.remove(index);
                return Some(body);
            }
            if patience.is_over() {
                return None;
            }
            messages = self.inbox.changed.wait_timeout(messages, patience.slice()).unwrap().0;
        }
    }

    pub fn wait<T: FromBytes + KnownLayout + Immutable>(
        &self,
        wanted: MessageType,
        is_meant: impl Fn(&T) -> bool,
    ) -> T {
        self.find(wanted, is_meant, PATIENCE).unwrap_or_else(|| panic!("{wanted} never came"))
    }

    /// Returns the offer of a device's channel.
    pub fn offer(&self, instance: u128, subchannel: u16) -> OfferChannel {
        let instance = viridian::vmbus::Guid::new(instance);
        self.wait(MessageType::OFFERCHANNEL, |offer: &OfferChannel| {
            offer.instance == instance && offer.subchannel_index == subchannel
        })
    }

    /// Returns `true` once if the channel was rescinded.
    pub fn was_rescinded(&self, channel: ChannelId, time: Duration) -> bool {
        self.find(MessageType::RESCIND_CHANNELOFFER, |body: &ChannelReference| body.channel == channel, time).is_some()
    }

    pub fn release(&self, channel: ChannelId) {
        self.post(MessageType::RELID_RELEASED, &ChannelReference { channel });
    }

    /// Creates a GPADL of pages, with header and bodies. Returns `None` if the host refuses it.
    pub fn gpadl(&self, channel: ChannelId, frames: &[u64]) -> Option<GpadlId> {
        let gpadl = GpadlId(self.next.fetch_add(1, Ordering::Relaxed));
        let range = GpaRangeHeader { byte_count: frames.len() as u32 * 4096, byte_offset: 0 };
        let list = [range.as_bytes(), frames.as_bytes()].concat();
        let header = GpadlHeader { channel, gpadl, range_bytes: list.len() as u16, range_count: 1 };
        let (first, rest) = list.split_at(list.len().min(IN_HEADER / 8 * 8));
        self.post(MessageType::GPADL_HEADER, &[header.as_bytes(), first].concat()[..]);
        for (number, part) in (1..).zip(rest.chunks(IN_BODY / 8 * 8)) {
            let body = GpadlBody { message_number: number, gpadl };
            self.post(MessageType::GPADL_BODY, &[body.as_bytes(), part].concat()[..]);
        }
        let created = self.wait(MessageType::GPADL_CREATED, |body: &GpadlCreated| body.gpadl == gpadl);
        (created.status == Status::SUCCESS).then_some(gpadl)
    }

    /// Tears a GPADL down, and waits for the answer. For a removed channel, there is none.
    pub fn teardown(&self, channel: ChannelId, gpadl: GpadlId) {
        self.post(MessageType::GPADL_TEARDOWN, &GpadlTeardown { channel, gpadl });
        self.wait(MessageType::GPADL_TORNDOWN, |body: &GpadlTorndown| body.gpadl == gpadl);
    }

    /// Opens a channel with rings in `frames`. Returns `None` if the host refuses.
    pub fn open(&self, channel: ChannelId, frames: &[u64], vp: VpIndex) -> Option<GuestChannel<'_>> {
        let gpadl = self.gpadl(channel, frames)?;
        let list: Vec<u64> = [&[frames.len() as u64 * 4096], frames].concat();
        let pages = vmbus::gpadl(self.child.memory(), 1, list.as_bytes()).unwrap();
        let downstream_offset = frames.len() as u32 / 2;
        let (upstream, downstream) = RingMemory::pair(pages.single().unwrap(), downstream_offset).unwrap();
        let opened = GuestChannel {
            guest: self,
            id: channel,
            gpadl,
            vp,
            sender: GuestSender::new(upstream),
            receiver: GuestReceiver::new(downstream),
            buffer: Vec::new(),
        };
        let open_id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = OpenChannel {
            channel,
            open_id,
            ring_gpadl: gpadl,
            target_vp: vp,
            downstream_offset,
            user_defined: UserDefined::default(),
        };
        self.post(MessageType::OPENCHANNEL, &request);
        let result = self.wait(MessageType::OPENCHANNEL_RESULT, |body: &OpenResult| body.open_id == open_id);
        assert_eq!(result.channel, channel);
        if result.status != Status::SUCCESS {
            self.teardown(channel, gpadl);
            return None;
        }
        Some(opened)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.child.guest_goes();
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// An open channel.
pub struct GuestChannel<'a> {
    pub guest: &'a Guest,
    pub id: ChannelId,
    pub gpadl: GpadlId,
    pub vp: VpIndex,
    pub sender: GuestSender,
    pub receiver: GuestReceiver,
    buffer: Vec<u8>,
}

impl GuestChannel<'_> {
    /// Writes a packet, and signals the host if needed. Returns `false` if there is no room.
    pub fn send(&mut self, packet: &NewPacket<'_>) -> bool {
        match self.sender.send(packet) {
            Ok(signal) => {
                if signal.is_needed() {
                    self.signal();
                }
                true
            }
            Err(WriteError::Full { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Signals the host. Errors are ignored, because the host may have rescinded the channel.
    pub fn signal(&self) {
        let _ = self.guest.child.guest_signals(self.id.connection());
    }

    /// Takes a packet, if there is one, and returns its transaction id and payload.
    pub fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        let packet = self.receiver.receive(&mut self.buffer)?;
        let taken = (packet.header.transaction_id, packet.payload.to_vec());
        if self.receiver.close().is_needed() {
            self.signal();
        }
        Some(taken)
    }

    /// Waits for a packet, asleep until the host signals. Returns `None` at the time limit.
    pub fn receive_within(&mut self, time: Duration) -> Option<(u64, Vec<u8>)> {
        let mut patience = Patience::new(time);
        loop {
            if let Some(packet) = self.take() {
                return Some(packet);
            }
            if self.receiver.end_read() {
                continue;
            }
            if patience.is_over() {
                return None;
            }
            self.guest.child.guest_waits(self.vp, self.id.0 as u16, patience.slice());
        }
    }

    pub fn receive(&mut self) -> (u64, Vec<u8>) {
        self.receive_within(PATIENCE).expect("a packet, or the signal for it, is lost")
    }

    /// Sends MODIFYCHANNEL, which directs signals to `vp`. From version 5.3 on, the host answers.
    pub fn retarget(&mut self, vp: VpIndex) -> bool {
        let channel = self.id;
        self.guest.post(MessageType::MODIFYCHANNEL, &ModifyChannel { channel, target_vp: vp });
        if self.guest.version < Version::V5_3 {
            self.vp = vp;
            return true;
        }
        let is_meant = |body: &ModifyChannelResponse| body.channel == channel;
        let response = self.guest.wait(MessageType::MODIFYCHANNEL_RESPONSE, is_meant);
        let done = response.status == Status::SUCCESS;
        if done {
            self.vp = vp;
        }
        done
    }

    /// Closes the channel, and tears the GPADL of its rings down.
    pub fn close(self) {
        self.guest.post(MessageType::CLOSECHANNEL, &ChannelReference { channel: self.id });
        self.guest.teardown(self.id, self.gpadl);
    }
}
