//! 802.1Q tags: in the frame for backends, in the per-packet information for guests.

use super::headers::{be16, ether_type};
use crate::net::frame::{Checksum, ETHERNET_HEADER, FrameBuffer, VLAN_TAG};

/// Offset of the tag, after the two addresses.
const PLACE: usize = 12;

/// A tag's control information: priority, drop eligibility and VLAN id, from the top (IEEE 802.1Q, 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagControl(pub u16);

/// Inserts a tag into a frame.
pub fn insert(buffer: &mut FrameBuffer, tag: TagControl) {
    if buffer.bytes.len() < ETHERNET_HEADER {
        return;
    }
    let [type_high, type_low] = ether_type::VLAN.to_be_bytes();
    let [high, low] = tag.0.to_be_bytes();
    buffer.bytes.splice(PLACE..PLACE, [type_high, type_low, high, low]);
    move_offsets(buffer, |offset| offset.saturating_add(VLAN_TAG as u16));
}

/// Removes and returns the outermost tag of a frame, if it is a customer's (802.1Q) tag.
pub fn remove(buffer: &mut FrameBuffer) -> Option<TagControl> {
    let tag = TagControl(be16(&buffer.bytes, PLACE + 2)?);
    if be16(&buffer.bytes, PLACE)? != ether_type::VLAN || buffer.bytes.len() < ETHERNET_HEADER + VLAN_TAG {
        return None;
    }
    buffer.bytes.drain(PLACE..PLACE + VLAN_TAG);
    move_offsets(buffer, |offset| offset.saturating_sub(VLAN_TAG as u16));
    Some(tag)
}

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
