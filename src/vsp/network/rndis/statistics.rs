//! The counters of an adapter, as NDIS shows them to the guest.

use zerocopy::IntoBytes;

use super::oid::Oid;
use super::wire::ObjectHeader;
use crate::net::counters::NetCounts;

/// `NDIS_STATISTICS_FLAGS_VALID_*` of all implemented counters.
const COUNTED: u32 = 0x003f_87ff;

/// Returns the value of a counter, if `oid` is one.
pub fn counter(counts: &NetCounts, oid: Oid) -> Option<u64> {
    let NetCounts { transmit, receive } = counts;
    Some(match oid {
        Oid::GEN_XMIT_OK => transmit.frames(),
        Oid::GEN_RCV_OK => receive.frames(),
        Oid::GEN_XMIT_ERROR => transmit.errors,
        Oid::GEN_RCV_ERROR => receive.errors,
        Oid::GEN_RCV_NO_BUFFER | Oid::GEN_RCV_DISCARDS => receive.dropped,
        Oid::GEN_XMIT_DISCARDS => transmit.dropped,
        Oid::GEN_BYTES_XMIT => transmit.bytes(),
        Oid::GEN_BYTES_RCV => receive.bytes(),
        Oid::GEN_DIRECTED_BYTES_XMIT => transmit.directed.bytes,
        Oid::GEN_DIRECTED_FRAMES_XMIT => transmit.directed.frames,
        Oid::GEN_MULTICAST_BYTES_XMIT => transmit.multicast.bytes,
        Oid::GEN_MULTICAST_FRAMES_XMIT => transmit.multicast.frames,
        Oid::GEN_BROADCAST_BYTES_XMIT => transmit.broadcast.bytes,
        Oid::GEN_BROADCAST_FRAMES_XMIT => transmit.broadcast.frames,
        Oid::GEN_DIRECTED_BYTES_RCV => receive.directed.bytes,
        Oid::GEN_DIRECTED_FRAMES_RCV => receive.directed.frames,
        Oid::GEN_MULTICAST_BYTES_RCV => receive.multicast.bytes,
        Oid::GEN_MULTICAST_FRAMES_RCV => receive.multicast.frames,
        Oid::GEN_BROADCAST_BYTES_RCV => receive.broadcast.bytes,
        Oid::GEN_BROADCAST_FRAMES_RCV => receive.broadcast.frames,
        Oid::GEN_RCV_CRC_ERROR
        | Oid::GEN_TRANSMIT_QUEUE_LENGTH
        | Oid::ETHERNET_RCV_ERROR_ALIGNMENT
        | Oid::ETHERNET_XMIT_ONE_COLLISION
        | Oid::ETHERNET_XMIT_MORE_COLLISIONS => 0,
        _ => return None,
    })
}

/// Returns `NDIS_STATISTICS_INFO`: all counters in one structure.
pub fn to_bytes(counts: &NetCounts) -> Vec<u8> {
    let NetCounts { transmit, receive } = counts;
    let counters = [
        receive.dropped,
        receive.errors,
        receive.bytes(),
        receive.directed.frames,
        receive.multicast.frames,
        receive.broadcast.frames,
        transmit.bytes(),
        transmit.directed.frames,
        transmit.multicast.frames,
        transmit.broadcast.frames,
        transmit.errors,
        transmit.dropped,
        receive.directed.bytes,
        receive.multicast.bytes,
        receive.broadcast.bytes,
        transmit.directed.bytes,
        transmit.multicast.bytes,
        transmit.broadcast.bytes,
    ];
    let size = (size_of::<ObjectHeader>() + size_of::<u32>() + size_of_val(&counters)) as u16;
    let header = ObjectHeader { object_type: ObjectHeader::DEFAULT, revision: 1, size };
    [header.as_bytes(), COUNTED.as_bytes(), counters.as_bytes()].concat()
}
