//! The connection between TCP flows and the guest: a device for `smoltcp`, for IP packets that are unsegmented and
//! without checksums.

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

/// Maximum size of an unsegmented packet. An IP packet has at most 65535 bytes.
const LONGEST: NonZeroUsize = NonZeroUsize::new(64_000).unwrap();

/// Transfers packets from a flow to the guest, and one packet from the guest to the flow.
pub struct Link<'a> {
    /// The packet from the guest.
    pub incoming: Option<&'a [u8]>,
    /// The queue for packets to the guest.
    pub outbox: &'a mut Outbox,
    /// The guest's Ethernet address.
    pub mac: MacAddress,
}

/// The packet from the guest, which is taken once.
pub struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// Space for one packet to the guest.
pub struct Outgoing<'a> {
    outbox: &'a mut Outbox,
    mac: MacAddress,
    cut: Option<u16>,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut version = IpVersion::V4;
        // The IP version is in the packet, which is filled in after the frame's type, so the type is corrected then.
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
        // Packets from the guest never left this host, and those to the guest are left incomplete.
        capabilities.checksum.tcp = Checksum::None;
        // smoltcp 0.14 does not report how an unsegmented IPv6 packet must be segmented (`dispatch_ip` omits it), so it
        // segments those itself.
        capabilities.segmentation.tcpv4 = Some(LONGEST);
        capabilities
    }
}

/// Creates an interface without sockets, which refuses every connection.
pub fn interface(link: &mut Link<'_>, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, link, now);
    // Every address belongs to it, and every guest is its neighbour.
    interface.set_any_ip(true);
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(IpCidr::new(smoltcp::wire::IpAddress::v4(0, 0, 0, 0), 0));
        let _ = addresses.push(IpCidr::new(smoltcp::wire::IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 0), 0));
    });
    interface
}
