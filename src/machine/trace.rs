//! Where a machine's traces go.

use std::sync::Arc;

use super::MachineError;
use crate::config::Config;
use crate::config::hyperv::TraceKind;
use crate::engine::{TraceFormat, TraceKinds, Tracer};
use crate::host::records::{self, Records};
use crate::vmbus;

/// Whoever writes the trace that is asked for, if one is. Where several partitions `share` standard error, each line names its own.
pub(super) fn tracer(config: &Config, share: bool) -> Result<Option<Arc<Tracer>>, MachineError> {
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
    let has = |kind| trace.kinds.contains(&kind);
    let kinds = TraceKinds {
        hypercall: has(TraceKind::Hypercall),
        msr: has(TraceKind::Msr),
        synic: has(TraceKind::Synic),
        vmbus: has(TraceKind::Vmbus),
        storage: has(TraceKind::Storage),
        network: has(TraceKind::Network),
    };
    let shared = share && trace.file.is_none();
    Ok(Some(Arc::new(Tracer::new(kinds, config.trace_format, records, &config.name, shared))))
}

/// The same for VMBus, if it is to be traced.
pub(super) fn vmbus(tracer: Option<&Arc<Tracer>>) -> Option<vmbus::trace::Tracer> {
    lines(tracer, "vmbus", |kinds| kinds.vmbus)
}

/// The same for storage, if it is to be traced.
pub(super) fn storage(tracer: Option<&Arc<Tracer>>) -> Option<vmbus::trace::Tracer> {
    lines(tracer, "storage", |kinds| kinds.storage)
}

/// The same for network adapters, if they are to be traced.
pub(super) fn network(tracer: Option<&Arc<Tracer>>) -> Option<vmbus::trace::Tracer> {
    lines(tracer, "network", |kinds| kinds.network)
}

fn lines(
    tracer: Option<&Arc<Tracer>>,
    kind: &'static str,
    wanted: fn(TraceKinds) -> bool,
) -> Option<vmbus::trace::Tracer> {
    let tracer = tracer.filter(|tracer| wanted(tracer.kinds()))?.clone();
    Some(vmbus::trace::Tracer::new(move |line| tracer.line(kind, line)))
}
