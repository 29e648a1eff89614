//! Makes room for another flow, within the limits of the network and of the process.

use std::io;
use std::time::Instant;

use super::super::ports::SwitchPort;
use super::link::Link;
use super::share::{Guest, Held, Victim, victim};
use super::stack::{MAX_CONNECTIONS, MAX_DATAGRAM_FLOWS, MAX_LOOKUPS, Stack};
use super::tcp;
use crate::host::descriptors::Ticket;

/// Idle time after which a guest's connection can be ended for a new one of the same guest (RFC 5382, 5).
const IDLE: std::time::Duration = std::time::Duration::from_secs(300);

/// The messages that were logged already. A guest can cause each of them repeatedly.
#[derive(Debug, Default)]
pub(super) struct Said {
    connections: bool,
    addresses: bool,
    descriptors: bool,
    pub(super) servers: bool,
}

fn once(said: &mut bool, say: impl FnOnce()) {
    if !std::mem::replace(said, true) {
        say();
    }
}

impl Said {
    fn no_connection(&mut self) {
        once(&mut self.connections, || {
            crate::host::limited::warn!(
                "a user network has {MAX_CONNECTIONS} connections, as many as it may; the guest that has most gives up one that it uses least"
            );
        });
    }

    /// Logs that there is no address for a guest.
    pub(super) fn no_address(&mut self, guest: Guest) {
        once(&mut self.addresses, || {
            crate::host::limited::warn!(
                "a user network has no address left for {}: its adapter has asked for too many",
                guest.mac
            );
        });
    }

    fn no_place(&mut self, limit: usize) {
        once(&mut self.descriptors, || {
            crate::host::limited::warn!(
                "the user networks of this process have {limit} sockets, a third of its limit on open files; the guest that has most gives up one that it uses least; raise the limit (ulimit -n)"
            );
        });
    }

    /// Logs that the host has no socket for a flow, possibly for lack of descriptors.
    pub(super) fn no_socket(&mut self, error: &io::Error) {
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            once(&mut self.descriptors, || {
                crate::host::limited::warn!(
                    "a user network cannot open a socket: {error}; raise the limit on open files (ulimit -n)"
                );
            });
        }
    }
}

/// The kind of a flow that can be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Connection,
    Datagrams,
    Lookup,
}

impl Stack {
    fn connections_held(&self) -> impl Iterator<Item = Held<Instant>> + Clone {
        let start = self.start;
        self.connections.flows.iter().map(move |(number, flow)| Held {
            number: *number,
            guest: flow.guest(),
            last_used: start + std::time::Duration::from_micros(flow.last_used().total_micros().max(0) as u64),
        })
    }

    fn datagrams_held(&self) -> impl Iterator<Item = Held<Instant>> + Clone {
        let flows = self.datagrams.flows.iter();
        flows.map(|(number, flow)| Held { number: *number, guest: flow.guest(), last_used: flow.last_used() })
    }

    fn lookups_held(&self) -> impl Iterator<Item = Held<Instant>> + Clone {
        let flows = self.lookups.flows.iter();
        flows.map(|(number, flow)| Held { number: *number, guest: flow.guest(), last_used: flow.begun() })
    }

    /// Returns `true` if a flow can be ended for another one of the same guest: a connection only if it is idle.
    fn may_go(victim: &Victim<Instant>, kind: Flow, now: Instant) -> bool {
        let idle = now.saturating_duration_since(victim.flow.last_used);
        !victim.is_own || kind != Flow::Connection || idle >= IDLE
    }

    /// Makes room for another connection of a guest. Returns `None` if it must be refused.
    pub(super) fn make_room(&mut self, guest: Guest, now: Instant) -> Option<tcp::Setup> {
        if self.connections.flows.len() >= MAX_CONNECTIONS {
            self.said.no_connection();
            self.pace.take(guest.port, now)?;
            let victim =
                victim(Some(guest), self.connections_held()).filter(|it| Self::may_go(it, Flow::Connection, now))?;
            self.evict(Flow::Connection, victim.flow.number, now);
        }
        let ticket = self.take_ticket(guest, now)?;
        let held = self.connections.flows.values().filter(|flow| flow.guest() == guest).count();
        Some(tcp::Setup { ticket, held, seed: self.next_seed() })
    }

    /// Makes room in the table for another datagram flow of a guest.
    pub(super) fn make_place_for_datagrams(&mut self, guest: Guest, now: Instant) -> Option<()> {
        if self.datagrams.flows.len() >= MAX_DATAGRAM_FLOWS {
            self.pace.take(guest.port, now)?;
            let victim = victim(Some(guest), self.datagrams_held())?;
            self.evict(Flow::Datagrams, victim.flow.number, now);
        }
        Some(())
    }

    /// Makes room for another datagram flow of a guest, with its own socket.
    pub(super) fn make_room_for_datagrams(&mut self, guest: Guest, now: Instant) -> Option<Ticket> {
        self.make_place_for_datagrams(guest, now)?;
        self.take_ticket(guest, now)
    }

    /// Makes room for another look-up of a guest.
    pub(super) fn make_room_for_lookup(&mut self, guest: Guest, now: Instant) -> Option<()> {
        if self.lookups.flows.len() >= MAX_LOOKUPS {
            self.pace.take(guest.port, now)?;
            let victim = victim(Some(guest), self.lookups_held())?;
            self.evict(Flow::Lookup, victim.flow.number, now);
        }
        Some(())
    }

    /// Reserves another descriptor. If the process has none left, the guest with the most on this network loses one.
    fn take_ticket(&mut self, guest: Guest, now: Instant) -> Option<Ticket> {
        self.pay_debts(now);
        if let Some(ticket) = self.member.take() {
            return Some(ticket);
        }
        self.said.no_place(self.member.limit());
        self.pace.take(guest.port, now)?;
        self.evict_any(Some(guest), now)?;
        self.member.take()
    }

    /// Ends a flow of any kind in favour of `newcomer`.
    fn evict_any(&mut self, newcomer: Option<Guest>, now: Instant) -> Option<()> {
        let tag = |kind: Flow| move |held: Held<Instant>| (kind, held);
        let all: Vec<_> = self.connections_held().map(tag(Flow::Connection)).collect();
        let all: Vec<_> = all
            .into_iter()
            .chain(self.datagrams_held().map(tag(Flow::Datagrams)))
            .chain(self.lookups_held().map(tag(Flow::Lookup)))
            .collect();
        let numbered = all.iter().enumerate().map(|(place, (_, held))| Held { number: place as u64, ..*held });
        let victim = victim(newcomer, numbered)?;
        let (kind, held) = *all.get(victim.flow.number as usize)?;
        if !Self::may_go(&victim, kind, now) {
            return None;
        }
        self.evict(kind, held.number, now);
        Some(())
    }

    /// Gives up flows that other networks of the process need.
    pub(super) fn pay_debts(&mut self, now: Instant) {
        while self.member.owes() {
            self.member.pay();
            let _ = self.evict_any(None, now);
        }
    }

    fn evict(&mut self, kind: Flow, number: u64, now: Instant) {
        let ticks = self.ticks(now);
        match kind {
            Flow::Connection => {
                let Some(flow) = self.connections.flows.get_mut(&number) else { return };
                let (key, mac) = (flow.key(), flow.guest().mac);
                flow.evict(&mut Link { incoming: None, outbox: &mut self.outbox, mac }, ticks);
                self.connections.remove(number, &key);
            }
            Flow::Datagrams => {
                let Some(key) = self.datagrams.flows.get(&number).map(|flow| flow.key()) else { return };
                self.datagrams.remove(number, &key);
            }
            Flow::Lookup => {
                let Some(key) = self.lookups.flows.get(&number).map(|flow| flow.key()) else { return };
                self.lookups.remove(number, &key);
            }
        }
    }

    /// Removes everything that belongs to a port of the switch, because another guest uses it now.
    pub(super) fn forget(&mut self, port: SwitchPort, now: Instant) {
        self.guests.forget(port);
        self.leases.forget(port);
        self.fragments.forget(port);
        let of_port = |(_, held): &(Flow, Held<Instant>)| held.guest.port == port;
        let mut gone: Vec<_> = self.connections_held().map(|held| (Flow::Connection, held)).filter(of_port).collect();
        gone.extend(self.datagrams_held().map(|held| (Flow::Datagrams, held)).filter(of_port));
        gone.extend(self.lookups_held().map(|held| (Flow::Lookup, held)).filter(of_port));
        for (kind, held) in gone {
            self.evict(kind, held.number, now);
        }
    }
}
