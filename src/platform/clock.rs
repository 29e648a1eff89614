//! The monotonic clock of a machine, by which its timers count. It stands still while the machine is paused.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::Clock;
use super::chip::Chip;
use crate::device::Value;
use crate::host::lock::Mutex;
use crate::host::stopwatch::Stopwatch;

/// The clock. Clones are the same clock.
#[derive(Clone)]
pub(crate) struct MachineClock(Arc<Mutex<Stopwatch>>);

impl MachineClock {
    /// Creates a clock that starts now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Stopwatch::new(Instant::now()))))
    }

    /// Returns the clock as a device's input.
    pub fn reader(&self) -> Clock {
        let clock = self.0.clone();
        Box::new(move || clock.lock().time(Instant::now()))
    }

    /// Returns the clock as a chip.
    pub fn chip(&self) -> &Arc<Mutex<impl Chip + use<>>> {
        &self.0
    }
}

impl Chip for Stopwatch {
    fn pause(&mut self) {
        self.stop(Instant::now());
    }

    fn resume(&mut self) {
        Self::resume(self, Instant::now());
    }

    fn inspect(&self) -> Value {
        json!({ "nanoseconds": self.time(Instant::now()).as_nanos() as u64 })
    }
}
