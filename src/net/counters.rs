//! Counters of an adapter: frames and bytes of both directions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::mac::MacAddress;

/// Frames and bytes of one kind.
#[derive(Debug, Default)]
struct FrameCounters {
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// The counters of one direction.
#[derive(Debug, Default)]
pub struct DirectionCounters {
    directed: FrameCounters,
    multicast: FrameCounters,
    broadcast: FrameCounters,
    errors: AtomicU64,
    dropped: AtomicU64,
}

/// The counters of one adapter, which all of its channels share.
#[derive(Debug, Default)]
pub struct NetCounters {
    /// From the guest.
    pub transmit: DirectionCounters,
    /// To the guest.
    pub receive: DirectionCounters,
}

/// The frames and bytes of one kind, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrameCounts {
    /// Number of frames.
    pub frames: u64,
    /// Their length, without the frame check sequence.
    pub bytes: u64,
}

/// The counters of one direction, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DirectionCounts {
    /// Frames to one station.
    pub directed: FrameCounts,
    /// Frames to a group.
    pub multicast: FrameCounts,
    /// Frames to all.
    pub broadcast: FrameCounts,
    /// Invalid frames.
    pub errors: u64,
    /// Frames that were dropped for lack of room.
    pub dropped: u64,
}

/// The counters of one adapter, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetCounts {
    /// From the guest.
    pub transmit: DirectionCounts,
    /// To the guest.
    pub receive: DirectionCounts,
}

impl FrameCounters {
    fn snapshot(&self) -> FrameCounts {
        FrameCounts { frames: self.frames.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

impl DirectionCounters {
    /// Counts a transferred frame.
    pub fn count(&self, frame: &[u8]) {
        let kind = match MacAddress::destination(frame) {
            Some(MacAddress::BROADCAST) => &self.broadcast,
            Some(address) if address.is_group() => &self.multicast,
            _ => &self.directed,
        };
        kind.frames.fetch_add(1, Relaxed);
        kind.bytes.fetch_add(frame.len() as u64, Relaxed);
    }

    /// Counts an invalid frame.
    pub fn count_error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    /// Counts frames that were dropped for lack of room.
    pub fn count_dropped(&self, frames: u64) {
        self.dropped.fetch_add(frames, Relaxed);
    }

    fn snapshot(&self) -> DirectionCounts {
        DirectionCounts {
            directed: self.directed.snapshot(),
            multicast: self.multicast.snapshot(),
            broadcast: self.broadcast.snapshot(),
            errors: self.errors.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

impl DirectionCounts {
    /// Returns the number of transferred frames.
    pub fn frames(&self) -> u64 {
        self.directed.frames + self.multicast.frames + self.broadcast.frames
    }

    /// Returns the number of transferred bytes.
    pub fn bytes(&self) -> u64 {
        self.directed.bytes + self.multicast.bytes + self.broadcast.bytes
    }
}

impl NetCounters {
    /// Returns the values, each as it is at some moment during the call.
    pub fn snapshot(&self) -> NetCounts {
        NetCounts { transmit: self.transmit.snapshot(), receive: self.receive.snapshot() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_by_their_destination_and_are_serialized_by_name() {
        let counters = NetCounters::default();
        let frame = |destination: [u8; 6]| [&destination[..], &[0; 54]].concat();
        counters.transmit.count(&frame([2, 0, 0, 0, 0, 1]));
        counters.transmit.count(&frame([0x33, 0x33, 0, 0, 0, 1]));
        counters.transmit.count(&frame([0xff; 6]));
        counters.transmit.count(&frame([0xff; 6]));
        counters.receive.count_error();
        counters.receive.count_dropped(3);
        let counts = counters.snapshot();
        assert_eq!((counts.transmit.frames(), counts.transmit.bytes()), (4, 240));
        assert_eq!(counts.transmit.broadcast, FrameCounts { frames: 2, bytes: 120 });
        let json = serde_json::to_value(counts).expect("plain values");
        assert_eq!((&json["receive"]["dropped"], &json["transmit"]["multicast"]["frames"]), (&3.into(), &1.into()));
    }
}
