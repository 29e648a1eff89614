//! Segments long TCP packets, as a NIC does (TCP segmentation offload, large send offload).

use super::checksum;
use super::headers::{Headers, IpVersion, be16, protocol, set_be16};
use crate::net::frame::{Checksum, Frame, FrameBuffer, Offload};

const FLAGS: usize = 13;
const FIN: u8 = 0x01;
const PUSH: u8 = 0x08;
const CONGESTION_WINDOW_REDUCED: u8 = 0x80;

/// Segments one frame. Each call of [`next_into`](Self::next_into) returns the next segment.
#[derive(Debug)]
pub struct Segmenter<'a> {
    frame: &'a [u8],
    headers: Headers,
    /// Offset of the TCP payload.
    payload: usize,
    size: usize,
    /// Number of payload bytes already processed.
    done: usize,
}

impl<'a> Segmenter<'a> {
    /// Starts to segment a frame. Returns `None` if it needs no segmentation, or is not a TCP packet.
    pub fn new(frame: &Frame<'a>) -> Option<Self> {
        let size = usize::from(frame.offload.segmentation?.size);
        let headers = Headers::parse(frame.bytes).filter(|headers| headers.protocol == protocol::TCP)?;
        headers.checksum_offset()?;
        let payload = headers.transport + usize::from(frame.bytes[headers.transport + 12] >> 4) * 4;
        if size == 0 || payload < headers.transport + 20 || payload > headers.end {
            return None;
        }
        Some(Self { frame: frame.bytes, headers, payload, size, done: 0 })
    }

    /// Returns the number of segments, at least one.
    #[cfg(test)]
    pub fn pieces(&self) -> usize {
        (self.headers.end - self.payload).div_ceil(self.size).max(1)
    }

    /// Puts the next segment into `piece`, with an incomplete TCP checksum. Returns `false` if there is none left.
    pub fn next_into(&mut self, piece: &mut FrameBuffer) -> bool {
        let total = self.headers.end - self.payload;
        let first = self.done == 0;
        if self.done > total || (self.done == total && !first) {
            return false;
        }
        let length = self.size.min(total - self.done);
        let from = self.payload + self.done;
        let bytes = &mut piece.bytes;
        bytes.clear();
        bytes.extend_from_slice(&self.frame[..self.payload]);
        bytes.extend_from_slice(&self.frame[from..from + length]);
        self.fix_network(bytes);
        self.fix_transport(bytes, first, self.done + length == total);
        // An empty packet is one segment.
        self.done += length.max(1);
        piece.offload = Offload { checksum: self.finish(bytes), segmentation: None };
        true
    }

    /// Sets the lengths, and increments the identification of IPv4 packets (RFC 6864 allows any value for packets that
    /// are not fragmented).
    fn fix_network(&self, bytes: &mut [u8]) {
        let network = self.headers.network;
        let length = bytes.len() - network;
        match self.headers.version {
            IpVersion::V4 => {
                let number = (self.done / self.size) as u16;
                let identification = be16(bytes, network + 4).unwrap_or(0).wrapping_add(number);
                set_be16(bytes, network + 2, length as u16);
                set_be16(bytes, network + 4, identification);
            }
            IpVersion::V6 => set_be16(bytes, network + 4, (length - 40) as u16),
        }
    }

    fn fix_transport(&self, bytes: &mut [u8], first: bool, last: bool) {
        let transport = self.headers.transport;
        let sequence = &mut bytes[transport + 4..transport + 8];
        let number = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
        sequence.copy_from_slice(&number.wrapping_add(self.done as u32).to_be_bytes());
        let flags = &mut bytes[transport + FLAGS];
        if !last {
            *flags &= !(FIN | PUSH);
        }
        if !first {
            *flags &= !CONGESTION_WINDOW_REDUCED;
        }
    }

    fn finish(&self, bytes: &mut [u8]) -> Checksum {
        let headers = Headers { end: bytes.len(), ..self.headers };
        checksum::complete_ipv4_header(bytes, &headers);
        checksum::leave_open(bytes, &headers).unwrap_or_default()
    }
}

/// Passes `frame` to `send` as frames without pending offloads. `scratch` is a reusable buffer.
#[cfg(test)]
pub fn finish(frame: &Frame<'_>, scratch: &mut FrameBuffer, mut send: impl FnMut(&[u8])) {
    if let Some(mut segmenter) = Segmenter::new(frame) {
        while segmenter.next_into(scratch) {
            checksum::complete(&mut scratch.bytes, scratch.offload.checksum);
            send(&scratch.bytes);
        }
    } else if matches!(frame.offload.checksum, Checksum::Partial { .. }) {
        scratch.set(*frame);
        checksum::complete(&mut scratch.bytes, frame.offload.checksum);
        send(&scratch.bytes);
    } else {
        send(frame.bytes);
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
