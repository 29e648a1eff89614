//! The trace of a machine.

use std::sync::Arc;

use super::{Machine, MachineError};
use crate::config::Config;
use crate::engine::{Output, TraceFollower, TraceFormat, TraceKind, TraceWriter, Wanted};
use crate::host::records::{self, Records};
use crate::vmbus::trace::Tracer;

/// Creates the trace of a machine, with an output if the settings have one. If several partitions `share` standard error, each line there
/// begins with the partition's name.
pub(super) fn tracer(config: &Config, share: bool) -> Result<Arc<TraceWriter>, MachineError> {
    let Some(trace) = &config.trace else { return Ok(Arc::new(TraceWriter::new(None))) };
    let records = match &trace.file {
        None => Records::standard_error().clone(),
        Some(path) => {
            let note = match config.trace_format {
                TraceFormat::Text => records::lines_dropped,
                TraceFormat::Json => records::json_lines_dropped,
            };
            Records::create(path, format!("the trace {}", path.display()), note).map_err(|errno| {
                let advice = records::advice_on_opening(errno);
                MachineError::Trace { path: path.clone(), source: errno.into(), advice }
            })?
        }
    };
    let shared = share && trace.file.is_none();
    let (kinds, format, partition) = (trace.kinds.clone(), config.trace_format, config.name.clone());
    Ok(Arc::new(TraceWriter::new(Some(Output { kinds, records, format, partition, shared }))))
}

/// Returns the tracer for events of this kind.
pub(super) fn lines(tracer: &Arc<TraceWriter>, kind: TraceKind) -> Tracer {
    let (asked, tracer) = (tracer.clone(), tracer.clone());
    Tracer::switched(move || asked.traces(kind), move |line| tracer.line(kind, line))
}

impl Machine {
    /// Follows the trace of the machine from now on: events of these kinds whose lines have all words. Returns `None` if there are too many
    /// who do.
    pub(crate) fn follow_trace(&self, kinds: Vec<TraceKind>, words: Vec<String>) -> Option<TraceFollower> {
        self.shared.tracer.follow(Wanted { kinds, words })
    }
}
