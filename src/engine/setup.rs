//! Creates an engine from the user's settings and the host's capabilities.

use std::ops::Range;
use std::sync::Arc;

use kvm_bindings::CpuId;

use super::auto_eoi::Watches;
use super::common::{Common, clocks};
use super::inbox::Inbox;
use super::kernel::KernelEngine;
use super::user::{LevelEoi, UserEngine};
use super::{Engine, TraceKind, TraceWriter};
use crate::host::limited;
use crate::host::lock::{Mutex, RwLock};
use crate::hyperv::cpuid::{self, Identity, Leaf, Version};
use crate::hyperv::features::{EngineKind, Feature, Features, Offer, SwitchError, Switches};
use crate::hyperv::hypercall::Hypercalls;
use crate::hyperv::page::{HypercallPage, KvmCall};
use crate::hyperv::partition::{Partition, PartitionConfig};
use crate::hyperv::reftime::ReferenceTime;
use crate::kvm::gate::Gate;
use crate::kvm::host::{Host, HostError};
use crate::kvm::vp::Vp;
use crate::kvm::{self, APIC_FREQUENCY, tsc};

/// The reason why no engine can be created.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The user's switches are invalid.
    #[error("--hv: {0}")]
    Switch(#[from] SwitchError),
    /// KVM refuses.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// The parameters of an engine.
pub struct Setup<'a> {
    /// The machine's name, for the log.
    pub machine: String,
    /// The kind of engine.
    pub kind: EngineKind,
    /// The features that the user has switched on or off.
    pub switches: &'a Switches,
    /// The version in leaf 0x40000002.
    pub version: Version,
    /// The host.
    pub host: &'a Host,
    /// The KVM machine.
    pub partition: Arc<kvm::Vm>,
    /// The machine's VPs, in order, in the state in which KVM created them.
    pub vps: &'a [Vp],
    /// The APIC ids of the VPs.
    pub apic_ids: Vec<u32>,
    /// The gate that the VPs pass.
    pub gate: Arc<Gate>,
    /// GPA ranges, in pages, that contain only zeros when the guest starts.
    pub zeroed: Vec<Range<u64>>,
    /// Ranges of MSRs that other code handles, as first MSR and count. Their accesses must exit, too.
    pub other_msrs: Vec<(u32, u32)>,
    /// The hypercalls that are handled.
    pub calls: Hypercalls,
    /// Called when the guest ends a level-triggered interrupt through the EOI MSR.
    pub level_eoi: LevelEoi,
    /// The writer of the trace, if tracing is enabled.
    pub tracer: Option<Arc<TraceWriter>>,
}

/// Returns the features that the user engine offers only on hosts where they save more than they cost.
fn faster_features(host: &Host) -> Result<Features, HostError> {
    Ok(if host.skips_eois()? { Features::NONE.with(Feature::UseApicMsrs) } else { Features::NONE })
}

/// Returns the features that KVM supports, for the kernel engine.
fn kvm_features(host: &Host) -> Result<(Features, u32), HostError> {
    let leaves: Vec<Leaf> = host.supported_hyperv_cpuid()?.as_slice().iter().map(leaf).collect();
    let retries = leaves.iter().find(|leaf| leaf.function == 0x4000_0004).map_or(cpuid::NEVER_NOTIFY, |leaf| leaf.ebx);
    Ok((cpuid::features_in(&leaves), retries))
}

fn leaf(entry: &kvm_bindings::kvm_cpuid_entry2) -> Leaf {
    Leaf { function: entry.function, eax: entry.eax, ebx: entry.ebx, ecx: entry.ecx, edx: entry.edx }
}

/// Returns the features that `kind` offers on this host, with reasons.
///
/// # Errors
/// Returns an error if the engine can never have the switched features, or if an ioctl fails.
pub fn offer(kind: EngineKind, host: &Host, switches: &Switches) -> Result<(Offer, u32), SetupError> {
    switches.check(kind)?;
    let (kvm, retries) = match kind {
        EngineKind::User => (faster_features(host)?, cpuid::NEVER_NOTIFY),
        EngineKind::Kernel => kvm_features(host)?,
    };
    Ok((Offer::new(kind, kvm, switches), retries))
}

/// Creates the engine. The VPs have no CPUID leaves yet.
///
/// # Errors
/// Returns an error if the engine can never have the switched features, or if an ioctl fails.
pub fn create(setup: Setup<'_>) -> Result<Arc<dyn Engine>, SetupError> {
    let first = setup.vps.first();
    let tsc_frequency = first.and_then(Vp::tsc_frequency);
    let mut switches = *setup.switches;
    if tsc_frequency.is_none() {
        limited::info!("KVM does not know the TSC's frequency: the guest is not told of it");
        switches.set(Feature::AccessFrequencyRegs, false);
    }
    let (offer, spinlock_retries) = offer(setup.kind, setup.host, &switches)?;
    let features = offer.features();
    let identity = Identity { version: setup.version, spinlock_retries, ..Identity::default() };

    let offsets: Vec<_> = setup.vps.iter().map(Vp::tsc_offset).collect();
    let tsc_offset = offsets.first().copied().flatten();
    // Measured offsets differ by the duration of a measurement.
    const ALIKE: u64 = 50_000;
    let alike = offsets.iter().all(|offset| offset.zip(tsc_offset).is_some_and(|(a, b)| a.abs_diff(b) < ALIKE));
    let reference_tsc = tsc_frequency.filter(|_| tsc::is_reliable() && alike);
    if reference_tsc.is_none() && setup.kind == EngineKind::User {
        limited::info!("the host's TSC cannot carry the reference time: the guest reads it from an MSR");
    }
    let tsc_offset = tsc_offset.unwrap_or_default();

    let kvm_call = (setup.kind == EngineKind::Kernel).then(|| kvm_call(&setup.host.supported_cpuid()));
    let left_to_kvm = setup.calls.left_to_kvm();
    let page = HypercallPage::new(kvm_call.map(|instruction| (instruction, &left_to_kvm[..])));
    let config = PartitionConfig {
        features,
        tsc_frequency: tsc_frequency.unwrap_or_default(),
        apic_frequency: APIC_FREQUENCY,
        hypercall_page: Box::new(*page.content()),
    };
    let memory = setup.partition.memory().clone();
    let mut calls = setup.calls;
    if let Some(tracer) = setup.tracer.clone() {
        // Somebody may follow the trace later.
        calls.watch(move |observation| {
            if tracer.traces(TraceKind::HYPERCALL) {
                tracer.line(TraceKind::HYPERCALL, observation);
            }
        });
    }
    let skips_eois = setup.kind == EngineKind::Kernel && setup.host.skips_eois()?;
    let filtered = match setup.kind {
        EngineKind::User => UserEngine::FILTERED.to_vec(),
        EngineKind::Kernel if skips_eois => [KernelEngine::FILTERED, KernelEngine::PASSED_ON].concat(),
        EngineKind::Kernel => KernelEngine::FILTERED.to_vec(),
    };
    setup.partition.filter_msrs(&[filtered, setup.other_msrs].concat())?;
    let common = Common {
        machine: setup.machine,
        kvm: setup.partition,
        watches: Watches::new(setup.apic_ids.len(), setup.gate.clone()),
        gate: setup.gate,
        partition: Partition::new(config, memory, ReferenceTime::new(reference_tsc, clocks(tsc_offset))),
        inboxes: setup.apic_ids.iter().map(|_| Inbox::default()).collect(),
        apic_ids: setup.apic_ids,
        leaves: cpuid::leaves(features, &identity),
        calls,
        page,
        connections: RwLock::default(),
        doorbells: Mutex::default(),
        room: Mutex::default(),
        zeroed: setup.zeroed,
        tsc_offset,
        tracer: setup.tracer,
    };
    Ok(match setup.kind {
        EngineKind::User => UserEngine::new(common, setup.level_eoi),
        EngineKind::Kernel => KernelEngine::new(common, skips_eois),
    })
}

/// Returns the instruction for hypercalls to KVM, which depends on the host's processor.
fn kvm_call(supported: &Result<CpuId, HostError>) -> KvmCall {
    const INTEL: u32 = u32::from_le_bytes(*b"Genu");
    let leaves = supported.as_ref().map_or(&[][..], |leaves| leaves.as_slice());
    match leaves.iter().find(|entry| entry.function == 0) {
        Some(vendor) if vendor.ebx == INTEL => KvmCall::Vmcall,
        _ => KvmCall::Vmmcall,
    }
}
