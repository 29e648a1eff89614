//! Checksums and segmentation: what guests leave open and somebody has to do.
//!
//! Between a guest and a tap, nothing is done at all: [`vnet`] translates what one side left open into the other
//! side's words. Towards a backend that wants finished frames, [`checksum`] and [`segment`] do the work here, and the guest saves the cost
//! of many small messages anyway. What a guest claims about a frame is checked against the frame: see [`transmit`].

pub mod checksum;
pub mod headers;
pub mod segment;
#[cfg(test)]
pub(crate) mod testing;
pub mod transmit;
pub mod vlan;
pub mod vnet;
