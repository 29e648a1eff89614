//! The network's handling of DNS questions.

use std::net::SocketAddr;
use std::time::Instant;

use super::dns::{self, Lookup, Standing};
use super::packet::add_udp;
use super::share::Guest;
use super::stack::{LOOKUP, Stack};

impl Stack {
    /// Returns the host's present name servers, in the order in which they are asked.
    pub(super) fn name_servers(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut servers = self.network.resolver.as_ref().map(|resolver| resolver.servers()).unwrap_or_default();
        self.health.sort(&mut servers, now);
        if !servers.is_empty() {
            self.said.servers = false;
        } else if !std::mem::replace(&mut self.said.servers, true) {
            crate::host::limited::warn!(
                "the host has no name server in /etc/resolv.conf: guests' look-ups fail until it has one"
            );
        }
        servers
    }

    /// Handles a question from a guest.
    pub(super) fn look_up(
        &mut self,
        guest: Guest,
        source: SocketAddr,
        server: SocketAddr,
        question: &[u8],
        now: Instant,
    ) -> Option<()> {
        let [high, low] = *question.get(..dns::HEADER)?.first_chunk()?;
        let key = dns::Key { port: guest.port, guest: source, server, number: u16::from_be_bytes([high, low]) };
        if let Some(lookup) = self.lookups.get_mut(&key).filter(|lookup| lookup.is_for(question)) {
            lookup.repeat();
            return Some(());
        }
        if let Some(number) = self.lookups.numbers.get(&key).copied() {
            // The guest has given up its other question with that number.
            self.lookups.remove(number, &key);
        }
        self.pay_debts(now);
        self.make_room_for_lookup(guest, now)?;
        let servers = self.name_servers(now);
        let number = self.lookups.insert(key, Lookup::new(key, guest, question, servers, now));
        self.advance_lookup(number, now);
        Some(())
    }

    fn advance_lookup(&mut self, number: u64, now: Instant) {
        let Some(lookup) = self.lookups.flows.get_mut(&number) else { return };
        let (member, poll) = (&self.member, &self.poll);
        let watch = |socket: std::os::fd::BorrowedFd<'_>| poll.add(socket, LOOKUP | number).is_ok();
        let standing = lookup.advance(now, &mut self.health, || member.take(), watch);
        let deadline = lookup.deadline();
        self.wake_by(deadline);
        self.finish_lookup(number, standing);
    }

    /// Handles a reply from a server, or its absence.
    pub(super) fn read_lookup(&mut self, number: u64, now: Instant) {
        let Some(lookup) = self.lookups.flows.get_mut(&number) else { return };
        let standing = lookup.read(&mut self.scratch, &mut self.health, now);
        match standing {
            Standing::Waiting => self.advance_lookup(number, now),
            answered => self.finish_lookup(number, answered),
        }
    }

    /// Asks further servers where it is time.
    pub(super) fn run_lookups(&mut self, now: Instant) {
        for number in self.lookups.flows.keys().copied().collect::<Vec<_>>() {
            self.advance_lookup(number, now);
        }
    }

    fn finish_lookup(&mut self, number: u64, standing: Standing) {
        let Standing::Answered(answer) = standing else { return };
        let Some(lookup) = self.lookups.flows.get(&number) else { return };
        let (key, guest) = (lookup.key(), lookup.guest());
        add_udp(&mut self.outbox, guest, key.server, key.guest, &answer);
        self.lookups.remove(number, &key);
    }
}
