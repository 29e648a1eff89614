//! Reassembly of fragmented IP packets (RFC 791, 3.2; RFC 8200, 4.5; RFC 5722). A pure function of frames and time.
//!
//! A packet with overlapping fragments is refused completely, including fragments that arrive later. A packet that is
//! not complete in time is dropped, and its sender is notified. The incomplete packets of each port of the switch are
//! limited: the oldest one of a port is dropped for a new one.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::{IPV6_HEADER, addresses};
use super::share::Guest;
use crate::net::frame::ETHERNET_HEADER;
use crate::net::offload::checksum;
use crate::net::offload::headers::{FragmentField, Headers, IpVersion, ether_type, set_be16};

/// Maximum time to wait for missing fragments (RFC 8200, 4.5: a minute; Linux: 30 s for IPv4).
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE6: Duration = Duration::from_secs(60);

/// Maximum number of incomplete packets, and of their bytes, for each port.
pub(super) const MAX_PACKETS: usize = 64;
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Maximum number of fragments of a packet. The longest packet has 119 at an MTU of 576.
pub(super) const MAX_PIECES: usize = 512;

/// Maximum length of an IP packet, with its header (IPv4) or without (IPv6).
const LONGEST: usize = 65_535;

/// Memory overhead of a packet.
const PACKET_COST: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    guest: Guest,
    ends: (IpAddr, IpAddr),
    identification: u32,
    /// Only for IPv4: packets of two protocols can have the same identification.
    protocol: u8,
}

/// The result of adding a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reassembly {
    /// The frame with the complete packet.
    Complete(Vec<u8>),
    /// Fragments are missing.
    Incomplete,
    /// The fragment is invalid, or contradicts others.
    Refused,
    /// The fragment is invalid, and the sender must be told the offset of the wrong byte (ICMPv6 parameter problem).
    Wrong(u32),
}

#[derive(Debug)]
struct Packet {
    key: Key,
    until: Instant,
    /// The frame up to the payload, from the first fragment, once it has arrived.
    header: Option<Vec<u8>>,
    /// Offset in the header of the next protocol's number, and that number. IPv6 only.
    next: Option<(usize, u8)>,
    payload: Vec<u8>,
    /// The parts of the payload that have arrived, in order.
    pieces: Vec<(usize, usize)>,
    /// Length of the payload, once the last fragment has arrived.
    length: Option<usize>,
    /// Fragments overlapped, so the packet is refused.
    refused: bool,
}

/// A packet that was not complete in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The guest that sent it.
    pub guest: Guest,
    /// Source and destination.
    pub ends: (IpAddr, IpAddr),
    /// The IP packet, as in its first fragment.
    pub packet: Vec<u8>,
}

/// The incomplete packets; see the module's description.
#[derive(Debug, Default)]
pub struct Fragments {
    /// Oldest first.
    packets: Vec<Packet>,
}

impl Packet {
    fn cost(&self) -> usize {
        self.payload.len() + self.header.as_ref().map_or(0, Vec::len) + PACKET_COST
    }

    fn refuse(&mut self) -> Reassembly {
        self.refused = true;
        (self.header, self.payload, self.pieces) = (None, Vec::new(), Vec::new());
        Reassembly::Refused
    }

    /// Adds a part of the payload.
    fn add(&mut self, start: usize, bytes: &[u8], is_last: bool) -> Reassembly {
        let end = start + bytes.len();
        let longest = self.pieces.last().map_or(0, |(_, end)| *end);
        let fits = match self.length {
            Some(length) => end <= length && (!is_last || end == length),
            None => !is_last || end >= longest,
        };
        if self.refused || !fits {
            return self.refuse();
        }
        let place = self.pieces.partition_point(|piece| piece.0 < start);
        if self.pieces.get(place) == Some(&(start, end)) && self.payload[start..end] == *bytes {
            // The fragment was duplicated.
            return Reassembly::Incomplete;
        }
        let before = place.checked_sub(1).map_or(0, |before| self.pieces[before].1);
        let after = self.pieces.get(place).map_or(usize::MAX, |piece| piece.0);
        if start < before || end > after || self.pieces.len() >= MAX_PIECES {
            return self.refuse();
        }
        self.pieces.insert(place, (start, end));
        if self.payload.len() < end {
            self.payload.resize(end, 0);
        }
        self.payload[start..end].copy_from_slice(bytes);
        if is_last {
            self.length = Some(end);
        }
        Reassembly::Incomplete
    }

    fn is_whole(&self) -> bool {
        let come: usize = self.pieces.iter().map(|(start, end)| end - start).sum();
        self.header.is_some() && self.length == Some(come)
    }

    /// Returns the frame with the complete packet.
    fn frame(self) -> Option<Vec<u8>> {
        let mut frame = self.header?;
        let payload_at = frame.len();
        frame.extend_from_slice(&self.payload);
        match self.next {
            None => {
                let length = frame.len() - ETHERNET_HEADER;
                set_be16(&mut frame, ETHERNET_HEADER + 2, length as u16);
                set_be16(&mut frame, ETHERNET_HEADER + 6, 0);
            }
            Some((place, next)) => {
                let length = frame.len() - ETHERNET_HEADER - IPV6_HEADER;
                set_be16(&mut frame, ETHERNET_HEADER + 4, length as u16);
                *frame.get_mut(place)? = next;
            }
        }
        if self.next.is_none() {
            let headers = Headers::parse(&frame).filter(|headers| headers.transport == payload_at)?;
            checksum::complete_ipv4_header(&mut frame, &headers);
        }
        Some(frame)
    }
}

impl Fragments {
    /// Adds a frame with a fragment.
    pub fn add(&mut self, guest: Guest, frame: &[u8], headers: &Headers, now: Instant) -> Reassembly {
        let Some(field) = FragmentField::find(frame, headers) else { return Reassembly::Refused };
        let Some(ends) = addresses(frame, headers) else { return Reassembly::Refused };
        let is_v6 = headers.version == IpVersion::V6;
        // The part before the payload is in every fragment; the Ethernet header is replaced.
        let network = frame.get(headers.network..field.header_end).unwrap_or_default();
        let Some(payload) = frame.get(field.payload..headers.end) else { return Reassembly::Refused };
        // All but the last fragment end at a multiple of eight bytes, and none is empty.
        if payload.is_empty() || (field.more && payload.len() % 8 != 0) {
            return if is_v6 { Reassembly::Wrong(4) } else { Reassembly::Refused };
        }
        let fixed = if is_v6 { network.len() - IPV6_HEADER } else { network.len() };
        if fixed + field.offset + payload.len() > LONGEST {
            return if is_v6 {
                Reassembly::Wrong((field.at + 2 - headers.network) as u32)
            } else {
                Reassembly::Refused
            };
        }
        // A VLAN tag is removed, because the network does not reply to tagged frames.
        let kind = if is_v6 { ether_type::IPV6 } else { ether_type::IPV4 };
        let header = || [&frame[..12], &kind.to_be_bytes(), network].concat();
        let next = is_v6.then_some((field.next_at - headers.network + ETHERNET_HEADER, field.next));
        let protocol = if is_v6 { 0 } else { headers.protocol };
        let key = Key { guest, ends, identification: field.identification, protocol };
        if field.offset == 0 && !field.more {
            // It is complete: an atomic fragment (RFC 6946) is independent of others with that identification.
            let until = now + PATIENCE;
            let (pieces, length) = (Vec::new(), Some(payload.len()));
            let payload = payload.to_vec();
            let packet = Packet { key, until, header: Some(header()), next, payload, pieces, length, refused: false };
            return packet.frame().map_or(Reassembly::Refused, Reassembly::Complete);
        }
        let place = self.packets.iter().position(|packet| packet.key == key);
        let place = place.unwrap_or_else(|| {
            let until = now + if is_v6 { PATIENCE6 } else { PATIENCE };
            let (header, payload, pieces) = Default::default();
            self.packets.push(Packet { key, until, header, next: None, payload, pieces, length: None, refused: false });
            self.packets.len() - 1
        });
        let packet = &mut self.packets[place];
        let outcome = packet.add(field.offset, payload, !field.more);
        if field.offset == 0 && !packet.refused {
            (packet.header, packet.next) = (Some(header()), next);
        }
        if packet.is_whole() {
            return self.packets.remove(place).frame().map_or(Reassembly::Refused, Reassembly::Complete);
        }
        self.make_room(guest);
        outcome
    }

    /// Drops the oldest packets of a port while it exceeds its limits.
    fn make_room(&mut self, guest: Guest) {
        let is_ports = |packet: &&Packet| packet.key.guest.port == guest.port;
        loop {
            let own = self.packets.iter().filter(is_ports);
            let (count, bytes) = own.fold((0, 0), |(count, bytes), packet| (count + 1, bytes + packet.cost()));
            if count <= MAX_PACKETS && bytes <= MAX_BYTES {
                return;
            }
            let Some(oldest) = self.packets.iter().position(|packet| is_ports(&packet)) else { return };
            self.packets.remove(oldest);
        }
    }

    /// Returns the time at which the next packet expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.packets.iter().map(|packet| packet.until).min()
    }

    /// Drops expired packets. Returns those whose senders must be notified: their first fragment has arrived.
    pub fn expire(&mut self, now: Instant) -> Vec<Expired> {
        let mut expired = Vec::new();
        self.packets.retain_mut(|packet| {
            let keep = packet.until > now;
            if let Some(mut header) = packet.header.take_if(|_| !keep) {
                let first = packet.pieces.first().map_or(0, |piece| piece.1);
                header.drain(..ETHERNET_HEADER);
                header.extend_from_slice(&packet.payload[..first]);
                expired.push(Expired { guest: packet.key.guest, ends: packet.key.ends, packet: header });
            }
            keep
        });
        expired
    }

    /// Drops the packets of a port, because another guest uses it now.
    pub fn forget(&mut self, port: super::SwitchPort) {
        self.packets.retain(|packet| packet.key.guest.port != port);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.packets.len(), self.packets.iter().map(Packet::cost).sum())
    }
}
