//! The network: processes frames, and connects them with flows.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoltcp::time::Instant as Ticks;

use super::super::ports::{MAX_PORTS, Ports, SwitchPort};
use super::address::Network;
use super::forward::Forward;
use super::fragments::Fragments;
use super::guests::Guests;
use super::inbound::FIRST_PORT;
use super::leases::Leases;
use super::link::Link;
use super::outbox::Outbox;
use super::pace::Pace;
use super::packet::{Problem, add_problem};
use super::poll::{Poll, Ready};
use super::room::Said;
use super::table::Table;
use super::tcp::{self, Standing};
use super::{UserError, datagram, dns};
use crate::host::descriptors::{Budget, Member};
use crate::net::frame::{Frame, FrameBuffer};

/// Maximum number of TCP flows. Each has buffers of up to half a MiB, and a descriptor.
pub const MAX_CONNECTIONS: usize = 512;

/// Maximum number of flows of datagrams.
pub const MAX_DATAGRAM_FLOWS: usize = 256;

/// Maximum number of simultaneous look-ups. Each asks a few servers.
pub const MAX_LOOKUPS: usize = 128;

/// Maximum number of frames that are fetched before the host's sockets and timers get their turn.
const TURN: u32 = 64;

/// Tokens: the lower half is the number of the flow, the upper half its kind.
pub(super) const CONNECTION: u64 = 1 << 32;
pub(super) const DATAGRAMS: u64 = 2 << 32;
pub(super) const LISTENER: u64 = 3 << 32;
pub(super) const PORT: u64 = 4 << 32;
pub(super) const LOOKUP: u64 = 5 << 32;
pub(super) const NUMBER: u64 = 0xffff_ffff;

/// The network; see the module's description.
pub struct Stack {
    pub(super) network: Network,
    pub(super) outbox: Outbox,
    pub(super) poll: Arc<Poll>,
    pub(super) guests: Guests,
    /// The port with the guest to which forwarded ports lead.
    pub(super) target: SwitchPort,
    pub(super) leases: Leases,
    pub(super) fragments: Fragments,
    pub(super) switch: Arc<Ports>,
    /// The occupant of each port when it last sent.
    pub(super) occupants: [u32; MAX_PORTS],
    pub(super) member: Member,
    pub(super) said: Said,
    pub(super) pace: Pace,
    pub(super) connections: Table<tcp::Key, tcp::Flow>,
    pub(super) datagrams: Table<datagram::Key, datagram::Flow>,
    pub(super) lookups: Table<dns::Key, dns::Lookup>,
    pub(super) health: dns::Health,
    pub(super) listeners: Vec<(TcpListener, u16)>,
    /// Listeners at which more connections may wait.
    pub(super) listeners_readable: Vec<bool>,
    pub(super) ports: Vec<(Arc<UdpSocket>, u16)>,
    /// Forwarded ports with datagrams for which the guest had no room.
    pub(super) ports_readable: Vec<bool>,
    pub(super) next_port: u16,
    /// The earliest time at which a flow must be driven.
    pub(super) next_timer: Option<Instant>,
    pub(super) timer_set: Option<Instant>,
    /// There was no room for the guest, so flows may have data for it that the host does not report again.
    pub(super) held_back: bool,
    /// Number of frames that were fetched since the host's sockets had their turn.
    pub(super) fetched: u32,
    pub(super) start: Instant,
    pub(super) seed: u64,
    pub(super) scratch: Box<[u8]>,
}

impl Stack {
    /// Creates a network for one guest, with those ports forwarded to it.
    ///
    /// # Errors
    /// Returns an error if a port is not available, or if there are no descriptors.
    #[cfg(test)]
    pub fn new(network: Network, forwards: &[Forward], start: Instant) -> Result<Self, UserError> {
        Self::behind(network, forwards, Arc::default(), SwitchPort::default(), &Budget::of_process(), start)
    }

    /// Creates a network behind a switch with those ports. The host's ports are forwarded to the guest at `target`, and
    /// descriptors come from a shared budget.
    ///
    /// # Errors
    /// Returns an error if a port is not available, or if there are no descriptors.
    pub fn behind(
        network: Network,
        forwards: &[Forward],
        switch: Arc<Ports>,
        target: SwitchPort,
        budget: &Arc<Budget>,
        start: Instant,
    ) -> Result<Self, UserError> {
        let poll = Arc::new(Poll::new()?);
        let seed = random_seed();
        let mut stack = Self {
            network,
            outbox: Outbox::new(switch.clone(), seed as u32),
            member: budget.join(poll.clone()),
            poll,
            guests: Guests::default(),
            target,
            leases: Leases::default(),
            fragments: Fragments::default(),
            occupants: std::array::from_fn(|port| switch.occupant(SwitchPort::new(port))),
            switch,
            said: Said::default(),
            pace: Pace::new(start),
            connections: Table::new(),
            datagrams: Table::new(),
            lookups: Table::new(),
            health: dns::Health::default(),
            listeners: Vec::new(),
            listeners_readable: Vec::new(),
            ports: Vec::new(),
            ports_readable: Vec::new(),
            next_port: FIRST_PORT,
            next_timer: None,
            timer_set: None,
            held_back: false,
            fetched: 0,
            start,
            seed,
            scratch: datagram::scratch(),
        };
        forwards.iter().try_for_each(|forward| stack.listen(*forward))?;
        Ok(stack)
    }

    /// Returns the descriptor that is readable when [`fetch`](Self::fetch) should be called.
    pub fn poll_handle(&self) -> Arc<Poll> {
        self.poll.clone()
    }

    /// Returns the number of frames for the guest that were dropped.
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    /// Returns the number of flows: connections, and others including look-ups.
    #[cfg(test)]
    pub fn flows(&self) -> (usize, usize) {
        (self.connections.flows.len(), self.datagrams.flows.len() + self.lookups.flows.len())
    }

    pub(super) fn ticks(&self, now: Instant) -> Ticks {
        Ticks::from_micros(now.saturating_duration_since(self.start).as_micros() as i64)
    }

    /// Processes a frame from the guest. Returns `false` if it was dropped.
    pub fn receive(&mut self, frame: Frame<'_>, now: Instant) -> bool {
        self.receive_from(SwitchPort::default(), frame, now)
    }

    /// Processes a frame that arrived at a port of the switch. Returns `false` if it was dropped.
    pub fn receive_from(&mut self, port: SwitchPort, frame: Frame<'_>, now: Instant) -> bool {
        let was_empty = self.outbox.is_empty();
        let occupant = self.switch.occupant(port);
        if std::mem::replace(&mut self.occupants[port.index()], occupant) != occupant {
            self.forget(port, now);
        }
        let taken = self.receive_frame(port, frame, now).is_some();
        self.set_timer(now);
        if was_empty && !self.outbox.is_empty() {
            self.poll.wake();
        }
        taken
    }

    pub(super) fn next_seed(&mut self) -> u64 {
        // SplitMix64: initial sequence numbers must differ; a guest may be able to guess its own.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ self.seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    pub(super) fn drive(&mut self, number: u64, packet: Option<&[u8]>, now: Instant) {
        let ticks = self.ticks(now);
        let Some(flow) = self.connections.flows.get_mut(&number) else { return };
        let mut link = Link { incoming: packet, outbox: &mut self.outbox, mac: flow.guest().mac };
        let mut standing = flow.drive(&mut link, ticks);
        if flow.take_new() && self.poll.add(flow.socket(), CONNECTION | number).is_err() {
            standing = Standing::Over;
        }
        if standing == Standing::Over {
            let key = flow.key();
            self.connections.remove(number, &key);
            return;
        }
        self.held_back |= self.outbox.is_full() && flow.waits_for_guest();
        if let Some(deadline) = flow.deadline(ticks) {
            let after = deadline - ticks.min(deadline);
            self.wake_by(now + Duration::from_micros(after.total_micros()));
        }
    }

    pub(super) fn wake_by(&mut self, time: Instant) {
        self.next_timer = Some(self.next_timer.map_or(time, |next| next.min(time)));
    }

    /// Fetches a frame for the guest. Returns `false` if there is none.
    pub fn fetch(&mut self, frame: &mut FrameBuffer, now: Instant) -> bool {
        self.fetched += 1;
        if self.fetched < TURN && self.outbox.fetch(frame) {
            return true;
        }
        // Replies to a guest with endless requests must not keep the others from their turn.
        self.fetched = 0;
        self.work(now);
        self.outbox.fetch(frame)
    }

    /// Handles events of the host's sockets and timers.
    fn work(&mut self, now: Instant) {
        for ready in self.poll.ready() {
            self.attend(ready, now);
        }
        self.pay_debts(now);
        if std::mem::take(&mut self.held_back) {
            self.resume(now);
        }
        if self.next_timer.is_some_and(|time| time <= now) {
            self.next_timer = None;
            self.run_timers(now);
        }
        self.set_timer(now);
        // More than one round may be needed before the descriptor reports it again.
        if self.held_back {
            self.poll.wake();
        }
    }

    fn attend(&mut self, ready: Ready, now: Instant) {
        let number = ready.token & NUMBER;
        match ready.token & !NUMBER {
            CONNECTION => {
                if let Some(flow) = self.connections.flows.get_mut(&number) {
                    flow.set_ready(ready.readable, ready.writable);
                    self.drive(number, None, now);
                }
            }
            DATAGRAMS if ready.readable => {
                if let Some(flow) = self.datagrams.flows.get_mut(&number) {
                    flow.set_readable();
                    self.read_datagrams(number, now);
                }
            }
            LISTENER => self.accept(number as usize, now),
            LOOKUP if ready.readable => self.read_lookup(number, now),
            PORT if ready.readable => self.read_port(number as usize, now),
            _ => {}
        }
    }

    fn read_datagrams(&mut self, number: u64, now: Instant) {
        let Some(flow) = self.datagrams.flows.get_mut(&number) else { return };
        if !flow.read(&mut self.scratch, &mut self.outbox, now) {
            let key = flow.key();
            self.datagrams.remove(number, &key);
            return;
        }
        self.held_back |= flow.is_readable();
    }

    /// Continues flows that waited for room.
    fn resume(&mut self, now: Instant) {
        let waiting = self.connections.flows.iter().filter(|(_, flow)| flow.waits_for_guest());
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.drive(number, None, now);
        }
        let waiting = self.datagrams.flows.iter().filter(|(_, flow)| flow.is_readable());
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.read_datagrams(number, now);
        }
        for listener in 0..self.listeners.len() {
            if self.listeners_readable[listener] {
                self.accept(listener, now);
            }
        }
        for port in 0..self.ports.len() {
            if self.ports_readable[port] {
                self.read_port(port, now);
            }
        }
    }

    fn run_timers(&mut self, now: Instant) {
        let ticks = self.ticks(now);
        let due: Vec<u64> = self.connections.flows.keys().copied().collect();
        for number in due {
            let Some(flow) = self.connections.flows.get_mut(&number) else { continue };
            match flow.deadline(ticks) {
                Some(deadline) if deadline <= ticks => self.drive(number, None, now),
                Some(deadline) => {
                    let after = Duration::from_micros((deadline - ticks).total_micros());
                    self.wake_by(now + after);
                }
                None => {}
            }
        }
        let numbers = &mut self.datagrams.numbers;
        let mut next = None;
        self.datagrams.flows.retain(|_, flow| {
            let deadline = flow.deadline();
            if deadline <= now {
                numbers.remove(&flow.key());
                return false;
            }
            next = Some(next.map_or(deadline, |next: Instant| next.min(deadline)));
            true
        });
        next.into_iter().for_each(|time| self.wake_by(time));
        self.run_lookups(now);
        for late in self.fragments.expire(now) {
            let own = if late.ends.0.is_ipv4() { Network::GATEWAY.into() } else { Network::GATEWAY6.into() };
            add_problem(&mut self.outbox, late.guest, (own, late.ends.0), Problem::Reassembly, &late.packet);
        }
        self.fragments.deadline().into_iter().for_each(|time| self.wake_by(time));
    }

    fn set_timer(&mut self, now: Instant) {
        if self.timer_set != self.next_timer {
            self.timer_set = self.next_timer;
            self.poll.set_timer(self.next_timer.map(|time| time.saturating_duration_since(now)));
        }
    }
}

/// Returns a number that differs from run to run.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
