//! Limits how often the flows of a guest are ended in favour of others.
//!
//! Ending a flow and creating another costs several system calls, on a thread that all guests of the network share. A guest
//! that opens flows without end gets a bounded part of that thread.

use std::time::{Duration, Instant};

use super::super::ports::{MAX_PORTS, SwitchPort};

/// Number of flows that a guest may replace at once.
const BURST: u32 = 256;

/// The time in which it may replace another one: 1000 a second.
const INTERVAL: Duration = Duration::from_millis(1);

/// The replacements that each port of the switch may make.
#[derive(Debug)]
pub(super) struct Pace {
    /// For each port, the time at which its previous replacements no longer count.
    free_at: [Instant; MAX_PORTS],
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self { free_at: [now; MAX_PORTS] }
    }

    /// Counts another replacement. Returns `None` if it must not be made now.
    pub fn take(&mut self, port: SwitchPort, now: Instant) -> Option<()> {
        let free_at = &mut self.free_at[port.index()];
        let next = now.max(*free_at) + INTERVAL;
        if next > now + INTERVAL * BURST {
            return None;
        }
        *free_at = next;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_replace_a_burst_and_then_one_flow_per_interval_without_effect_on_others() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let (flood, other) = (SwitchPort::new(1), SwitchPort::new(2));
        let taken = (0..10_000).filter(|_| pace.take(flood, start).is_some()).count();
        assert_eq!(taken, BURST as usize);
        assert!(pace.take(other, start).is_some());
        let later = start + 10 * INTERVAL;
        assert_eq!((0..100).filter(|_| pace.take(flood, later).is_some()).count(), 10);
        let rested = later + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| pace.take(flood, rested).is_some()).count(), BURST as usize);
    }
}
