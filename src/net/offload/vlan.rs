//! 802.1Q tags. Backends have them in the frame, guests in the per-packet information.

use super::headers::{be16, ether_type};
use crate::net::frame::{Checksum, ETHERNET_HEADER, FrameBuffer, VLAN_TAG};

/// Offset of the tag in a frame, after the two addresses.
const OFFSET: usize = 12;

/// A tag's control information: priority, drop eligibility and VLAN id, from the top (IEEE 802.1Q, 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagControl(pub u16);

/// Inserts a tag into a frame. Does nothing if the frame is shorter than an Ethernet header.
pub fn insert(buffer: &mut FrameBuffer, tag: TagControl) {
    if buffer.bytes.len() < ETHERNET_HEADER {
        return;
    }
    let [type_high, type_low] = ether_type::VLAN.to_be_bytes();
    let [high, low] = tag.0.to_be_bytes();
    buffer.bytes.splice(OFFSET..OFFSET, [type_high, type_low, high, low]);
    move_offsets(buffer, |offset| offset.saturating_add(VLAN_TAG as u16));
}

/// Removes and returns the outermost tag of a frame. Returns `None` if the frame does not start with an 802.1Q tag.
pub fn remove(buffer: &mut FrameBuffer) -> Option<TagControl> {
    let tag = TagControl(be16(&buffer.bytes, OFFSET + 2)?);
    if be16(&buffer.bytes, OFFSET)? != ether_type::VLAN || buffer.bytes.len() < ETHERNET_HEADER + VLAN_TAG {
        return None;
    }
    buffer.bytes.drain(OFFSET..OFFSET + VLAN_TAG);
    move_offsets(buffer, |offset| offset.saturating_sub(VLAN_TAG as u16));
    Some(tag)
}

/// Adjusts the offsets in the offload information to the changed length of the link header.
fn move_offsets(buffer: &mut FrameBuffer, by: impl Fn(u16) -> u16) {
    if let Checksum::Partial { start, .. } = &mut buffer.offload.checksum {
        *start = by(*start);
    }
    if let Some(segmentation) = &mut buffer.offload.segmentation {
        segmentation.headers = by(segmentation.headers);
    }
}

#[cfg(test)]
#[path = "vlan_tests.rs"]
mod tests;
