//! How TCP flows reach the guest: `smoltcp`'s idea of a device, for IP packets that are neither cut nor summed.

use std::num::NonZeroUsize;

use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::outbox::Outbox;
use super::packet::finish_transport;
use crate::net::frame::Segmentation;
use crate::net::mac::MacAddress;
use crate::net::offload::headers::{Headers, IpVersion, ether_type};

/// The longest packet, uncut. An IP packet has no more than 65535 bytes.
const LONGEST: NonZeroUsize = NonZeroUsize::new(64_000).unwrap();

/// How packets get from a flow to the guest, and one packet from the guest to the flow.
pub struct Link<'a> {
    /// The packet from the guest.
    pub incoming: Option<&'a [u8]>,
    /// Where packets to the guest go.
    pub outbox: &'a mut Outbox,
    /// The guest's address.
    pub mac: MacAddress,
}

/// The packet from the guest, handed over once.
pub struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// Room for one packet to the guest.
pub struct Outgoing<'a> {
    outbox: &'a mut Outbox,
    mac: MacAddress,
    cut: Option<u16>,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut version = IpVersion::V4;
        // The version stands in the packet, which is filled in later than the frame's type: put that right then.
        let result = self.outbox.add_ip(self.mac, version, length, |packet| {
            let result = fill(packet);
            if packet.first().is_some_and(|first| first >> 4 == 6) {
                version = IpVersion::V6;
            }
            result
        });
        finish(self.outbox, version, self.cut);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.cut = meta.segmentation_offload_size.map(Into::into);
    }
}

fn finish(outbox: &mut Outbox, version: IpVersion, cut: Option<u16>) {
    let Some(frame) = outbox.last() else { return };
    if version == IpVersion::V6 {
        frame.bytes[12..14].copy_from_slice(&ether_type::IPV6.to_be_bytes());
    }
    if let (Some(size), Some(headers)) = (cut, Headers::parse(&frame.bytes)) {
        let data = frame.bytes.get(headers.transport + 12).map_or(0, |byte| usize::from(byte >> 4) * 4);
        let headers = (headers.transport + data) as u16;
        frame.offload.segmentation = Some(Segmentation { version, size, headers });
    }
    finish_transport(outbox);
}

impl Device for Link<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let incoming = Incoming(self.incoming.take()?);
        Some((incoming, Outgoing { outbox: self.outbox, mac: self.mac, cut: None }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        if self.outbox.is_full() {
            return None;
        }
        Some(Outgoing { outbox: self.outbox, mac: self.mac, cut: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = LONGEST.get();
        // What the guest sends never left this host, and what it gets is left open.
        capabilities.checksum.tcp = Checksum::None;
        // smoltcp 0.14 does not say how an uncut segment of IPv6 is to be cut (`dispatch_ip` leaves the note out): it cuts those itself.
        capabilities.segmentation.tcpv4 = Some(LONGEST);
        capabilities
    }
}

/// Returns an interface without sockets: it refuses every connection.
pub fn interface(link: &mut Link<'_>, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, link, now);
    // Every address is its own, and every guest its neighbour.
    interface.set_any_ip(true);
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(IpCidr::new(smoltcp::wire::IpAddress::v4(0, 0, 0, 0), 0));
        let _ = addresses.push(IpCidr::new(smoltcp::wire::IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 0), 0));
    });
    interface
}
