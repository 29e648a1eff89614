//! Creates the writer of a machine's traces.

use std::sync::Arc;

use super::MachineError;
use crate::config::Config;
use crate::engine::{TraceFormat, TraceKind, TraceWriter};
use crate::host::records::{self, Records};
use crate::vmbus;

/// Creates the writer of the trace, if tracing is enabled. If several partitions `share` standard error, each line there begins
/// with the partition's name.
pub(super) fn tracer(config: &Config, share: bool) -> Result<Option<Arc<TraceWriter>>, MachineError> {
    let Some(trace) = &config.trace else { return Ok(None) };
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
    Ok(Some(Arc::new(TraceWriter::new(trace.kinds.clone(), config.trace_format, records, &config.name, shared))))
}

/// Returns the tracer for events of this kind, if they are traced.
pub(super) fn lines(tracer: Option<&Arc<TraceWriter>>, kind: TraceKind) -> Option<vmbus::trace::Tracer> {
    let tracer = tracer.filter(|tracer| tracer.traces(kind))?.clone();
    Some(vmbus::trace::Tracer::new(move |line| tracer.line(kind, line)))
}
