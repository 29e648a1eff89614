//! Where a machine's traces go.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::sync::Arc;

use super::MachineError;
use super::config::hyperv::{Trace, TraceKind};
use crate::hyperv::engine::{TraceKinds, Tracer};
use crate::vmbus;

/// Whoever writes the trace that is asked for. On standard error it has the `label` before each line, if there is one.
pub(super) fn tracer(trace: &Trace, label: Option<&str>) -> Result<Arc<Tracer>, MachineError> {
    let sink: Box<dyn Write + Send> = match &trace.file {
        None => Box::new(std::io::stderr()),
        Some(path) => {
            let failed = |source| MachineError::Trace { path: path.clone(), source };
            Box::new(LineWriter::new(File::create(path).map_err(failed)?))
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
    let tracer = Tracer::new(kinds, sink);
    Ok(Arc::new(match label.filter(|_| trace.file.is_none()) {
        Some(label) => tracer.labelled(label),
        None => tracer,
    }))
}

/// The same for VMBus, if it is to be traced.
pub(super) fn vmbus(tracer: Option<&Arc<Tracer>>) -> Option<vmbus::trace::Tracer> {
    lines(tracer, |kinds| kinds.vmbus)
}

/// The same for storage, if it is to be traced.
pub(super) fn storage(tracer: Option<&Arc<Tracer>>) -> Option<vmbus::trace::Tracer> {
    lines(tracer, |kinds| kinds.storage)
}

/// The same for network adapters, if they are to be traced.
pub(super) fn network(tracer: Option<&Arc<Tracer>>) -> Option<vmbus::trace::Tracer> {
    lines(tracer, |kinds| kinds.network)
}

fn lines(tracer: Option<&Arc<Tracer>>, wanted: fn(TraceKinds) -> bool) -> Option<vmbus::trace::Tracer> {
    let tracer = tracer.filter(|tracer| wanted(tracer.kinds()))?.clone();
    Some(vmbus::trace::Tracer::new(move |line| tracer.line(line)))
}
