//! Cutting long TCP segments into short ones, as a NIC does (TCP segmentation offload, large send offload).

use super::checksum;
use super::headers::{Headers, IpVersion, be16, protocol, set_be16};
use crate::net::frame::{Checksum, Frame, FrameBuffer, Offload};

const FLAGS: usize = 13;
const FIN: u8 = 0x01;
const PUSH: u8 = 0x08;
const CONGESTION_WINDOW_REDUCED: u8 = 0x80;

/// Cuts one frame. Each [`next_into`](Self::next_into) gives the next piece.
#[derive(Debug)]
pub struct Segmenter<'a> {
    frame: &'a [u8],
    headers: Headers,
    /// Where the TCP payload starts.
    payload: usize,
    size: usize,
    /// How much of the payload has been given out.
    done: usize,
}

impl<'a> Segmenter<'a> {
    /// Begins to cut a frame. Returns `None` if it is not to be cut, or is no TCP segment.
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

    /// Returns how many pieces there are, at least one.
    pub fn pieces(&self) -> usize {
        (self.headers.end - self.payload).div_ceil(self.size).max(1)
    }

    /// Puts the next piece into `piece`, its TCP checksum left open. Returns `false` when there is none left.
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
        // An empty segment is given out once, too.
        self.done += length.max(1);
        piece.offload = Offload { checksum: self.finish(bytes), segmentation: None };
        true
    }

    /// Lengths, and the identification of an IPv4 packet, which counts up (RFC 6864 lets it be anything if packets do not get fragmented).
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

/// Hands `frame` to `send` as frames to which nothing is left to do. `scratch` is only there to be used again.
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
