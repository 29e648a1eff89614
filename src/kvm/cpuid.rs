//! CPUID of a guest: KVM's list, minus the features that the machine lacks, plus the machine's topology.
//!
//! Sources: Intel SDM volume 2A, "CPUID"; AMD APM volume 3, appendix E; Linux, Documentation/virt/kvm/x86/cpuid.rst.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::APIC_FREQUENCY;

/// The number of processors of a machine, and their topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Packages.
    pub sockets: u32,
    /// Cores in a package.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

impl Topology {
    /// Returns the number of VPs.
    pub fn vps(self) -> u32 {
        self.sockets * self.cores * self.threads
    }

    /// Returns the x2APIC id of VP `index`. Thread, core and package number each have a field of their own.
    pub fn apic_id(self, index: u32) -> u32 {
        let (thread, core) = (index % self.threads, index / self.threads % self.cores);
        let package = index / (self.threads * self.cores);
        package << self.package_shift() | core << self.core_shift() | thread
    }

    /// Number of bits of an APIC id that number the threads of a core.
    fn core_shift(self) -> u32 {
        bits_for(self.threads)
    }

    /// Number of bits of an APIC id below the package number.
    fn package_shift(self) -> u32 {
        self.core_shift() + bits_for(self.cores)
    }

    fn threads_per_package(self) -> u32 {
        self.cores * self.threads
    }
}

/// Number of bits that can number `count` things.
fn bits_for(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// Leaf 1, ECX.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, ECX: features that this machine does not implement: debug store (two bits), MONITOR, VMX, SMX, speed step,
/// TM2, xTPR, PDCM. (VMX and SVM: a nested hypervisor would also need the nested part of the Hyper-V interface.)
const LACKING_1_ECX: u32 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 14 | 1 << 15;
/// Leaf 1, EDX: a package has more than one logical processor.
const HTT: u32 = 1 << 28;
/// Leaf 0x80000001, ECX.
const CMP_LEGACY: u32 = 1 << 1;
const SVM: u32 = 1 << 2;
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;

/// The leaves of hypervisors. KVM's list has its own paravirtual leaves there, which a guest with Hyper-V must not see.
const HYPERVISOR_LEAVES: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4fff_ffff;

/// Returns the leaves for VP `index`, from the host's `supported` list.
///
/// `tsc_deadline`: KVM's local APICs have the TSC deadline timer (KVM's list does not show it before Linux 6).
/// `hypervisor`: the leaves from 0x40000000 on. If it is empty, the guest finds no hypervisor.
pub fn leaves(
    supported: &CpuId,
    topology: Topology,
    index: u32,
    tsc_deadline: bool,
    hypervisor: &[kvm_cpuid_entry2],
) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<_> = supported.as_slice().to_vec();
    entries.retain(|entry| !HYPERVISOR_LEAVES.contains(&entry.function) && !matches!(entry.function, 0xb | 0x1f));
    let amd = entries.iter().any(|entry| entry.function == 0 && entry.ebx == u32::from_le_bytes(*b"Auth"));
    let apic_id = topology.apic_id(index);

    for entry in &mut entries {
        match entry.function {
            1 => {
                basic_features(entry, topology, apic_id, tsc_deadline);
                set(&mut entry.ecx, HYPERVISOR, !hypervisor.is_empty());
            }
            4 => intel_cache(entry, topology),
            // Performance counters.
            0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            0x8000_0001 => extended_features(entry, topology),
            0x8000_0008 if amd => amd_core_count(entry, topology),
            0x8000_001d => amd_cache(entry, topology),
            0x8000_001e => amd_apic_id(entry, topology, apic_id),
            _ => {}
        }
    }
    let highest = entries.iter().map(|entry| entry.function).filter(|leaf| *leaf < 0x4000_0000).max().unwrap_or(0);
    if let Some(entry) = entries.iter_mut().find(|entry| entry.function == 0) {
        entry.eax = highest.max(0xb);
    }
    entries.extend(extended_topology(topology, apic_id));
    entries.extend_from_slice(hypervisor);
    entries
}

/// KVM's signature and features.
const KVM_SIGNATURE: u32 = 0x4000_0000;
const KVM_FEATURES: u32 = 0x4000_0001;
/// Frequencies in kHz: the TSC in EAX, the local APICs' timers in EBX. Introduced by VMware, also used by others.
const FREQUENCIES: u32 = 0x4000_0010;
/// The KVM features that are shown: the clock (its first MSRs, its present MSRs, and that it is synchronous on all
/// processors), and that port I/O needs no delay. The others need support in the VMM (asynchronous page faults, stolen
/// time) or are only optimizations.
const KVM_FEATURES_SHOWN: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 24;

/// Returns KVM's own paravirtual leaves, for a machine without Hyper-V. With them a guest knows its TSC frequency and
/// reads the time from memory; without them it measures one clock by polling another.
///
/// `supported` is the host's list; if it has no such leaves, there are none. The frequency is in Hz.
pub fn kvm_leaves(supported: &CpuId, tsc_frequency: Option<u64>) -> Vec<kvm_cpuid_entry2> {
    let find = |function| supported.as_slice().iter().find(|entry| entry.function == function);
    let (Some(signature), Some(features)) = (find(KVM_SIGNATURE), find(KVM_FEATURES)) else { return Vec::new() };
    let mut leaves = vec![
        kvm_cpuid_entry2 { eax: KVM_FEATURES, ..*signature },
        // EDX has hints about how a host schedules its VPs: KVM gives none.
        kvm_cpuid_entry2 { function: KVM_FEATURES, eax: features.eax & KVM_FEATURES_SHOWN, ..Default::default() },
    ];
    if let Some(eax) = tsc_frequency.and_then(|frequency| u32::try_from(frequency / 1000).ok()) {
        let ebx = (APIC_FREQUENCY / 1000) as u32;
        leaves[0].eax = FREQUENCIES;
        leaves.push(kvm_cpuid_entry2 { function: FREQUENCIES, eax, ebx, ..Default::default() });
    }
    leaves
}

fn basic_features(entry: &mut kvm_cpuid_entry2, topology: Topology, apic_id: u32, tsc_deadline: bool) {
    let siblings = 1 << topology.package_shift();
    entry.ebx = entry.ebx & 0xffff | siblings.min(255) << 16 | apic_id << 24;
    entry.ecx = (entry.ecx & !LACKING_1_ECX & !TSC_DEADLINE) | X2APIC;
    if tsc_deadline {
        entry.ecx |= TSC_DEADLINE;
    }
    set(&mut entry.edx, HTT, topology.threads_per_package() > 1);
}

/// "Deterministic Cache Parameters": the first two levels belong to a core, the others to a package.
fn intel_cache(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let (kind, level) = (entry.eax & 0x1f, entry.eax >> 5 & 7);
    if kind != 0 {
        let sharers = 1u32 << if level <= 2 { topology.core_shift() } else { topology.package_shift() };
        let cores = topology.cores.next_power_of_two();
        entry.eax = entry.eax & 0x3fff | (sharers - 1) << 14 | (cores - 1) << 26;
    }
}

fn extended_features(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let amd = entry.ecx & TOPOLOGY_EXTENSIONS != 0;
    set(&mut entry.ecx, CMP_LEGACY, amd && topology.threads_per_package() > 1);
    entry.ecx &= !SVM;
}

fn amd_core_count(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    entry.ecx = topology.package_shift() << 12 | (topology.threads_per_package() - 1);
}

fn amd_cache(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let (kind, level) = (entry.eax & 0x1f, entry.eax >> 5 & 7);
    if kind != 0 {
        let sharers = if level <= 2 { topology.threads } else { topology.threads_per_package() };
        entry.eax = entry.eax & !(0xfff << 14) | (sharers - 1) << 14;
    }
}

fn amd_apic_id(entry: &mut kvm_cpuid_entry2, topology: Topology, apic_id: u32) {
    entry.eax = apic_id;
    entry.ebx = apic_id >> topology.core_shift() & 0xff | (topology.threads - 1) << 8;
    entry.ecx = apic_id >> topology.package_shift() & 0xff;
}

/// Leaves 0xb: one sub-leaf for the threads of a core, one for the cores of a package, and the end.
fn extended_topology(topology: Topology, apic_id: u32) -> [kvm_cpuid_entry2; 3] {
    let level = |index: u32, kind: u32, shift: u32, count: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | index,
        edx: apic_id,
        ..Default::default()
    };
    [
        level(0, 1, topology.core_shift(), topology.threads),
        level(1, 2, topology.package_shift(), topology.threads_per_package()),
        level(2, 0, 0, 0),
    ]
}

fn set(register: &mut u32, bit: u32, on: bool) {
    *register = *register & !bit | if on { bit } else { 0 };
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
