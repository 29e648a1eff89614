//! Checksums and segmentation that guests leave to the adapter.
//!
//! Between a guest and a tap, nothing has to be computed: [`vnet`] translates pending offloads between both formats.
//! For a backend that needs complete frames, [`checksum`] and [`segment`] do the work here; the guest still saves the
//! cost of many small messages. What a guest states about a frame is checked against the frame: see [`transmit`].

pub mod checksum;
pub mod headers;
pub mod segment;
#[cfg(test)]
pub(crate) mod testing;
pub mod transmit;
pub mod vlan;
pub mod vnet;
