//! `--trace`: what happens at the interface, one readable line an event.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::hyperv::trace::Line;

/// Which events are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceKinds {
    /// Hypercalls that reach us.
    pub hypercall: bool,
    /// Accesses to synthetic MSRs that reach us.
    pub msr: bool,
    /// Messages, event flags and interrupts.
    pub synic: bool,
    /// VMBus control messages and packets.
    pub vmbus: bool,
    /// Storage requests and their ends.
    pub storage: bool,
    /// Messages of network adapters, and frames.
    pub network: bool,
}

/// Writes lines. Whoever does not trace has none.
pub struct Tracer {
    kinds: TraceKinds,
    start: Instant,
    /// None when writing has failed: the trace ends there, the machine goes on.
    sink: Mutex<Option<Box<dyn Write + Send>>>,
    label: String,
}

impl Tracer {
    /// Traces `kinds` to `sink`; times count from now.
    pub fn new(kinds: TraceKinds, sink: Box<dyn Write + Send>) -> Self {
        Self { kinds, start: Instant::now(), sink: Mutex::new(Some(sink)), label: String::new() }
    }

    /// What is traced.
    pub fn kinds(&self) -> TraceKinds {
        self.kinds
    }

    /// Puts `label` before each line: whose it is, where others write into the same sink.
    pub fn labelled(self, label: &str) -> Self {
        Self { label: format!("{label}: "), ..self }
    }

    /// Writes one line, at once. With a sink that fails the trace ends, which is told once.
    pub fn line(&self, event: impl fmt::Display) {
        let time = (self.start.elapsed().as_nanos() / 100) as u64;
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = sink.as_mut() else { return };
        let line = format!("{}{}\n", self.label, Line { time, event });
        if let Err(error) = file.write_all(line.as_bytes()) {
            log::warn!("the trace ends here: {error}");
            *sink = None;
        }
    }
}
