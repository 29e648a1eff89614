use super::*;
use proptest::prelude::*;

fn supported(vendor: &[u8; 4]) -> CpuId {
    let leaf = |function| kvm_cpuid_entry2 { function, ..Default::default() };
    let all = [0, 1, 4, 0xa, 0xb, 0x4000_0000, 0x4000_0001, 0x8000_0001, 0x8000_0008, 0x8000_001d, 0x8000_001e];
    let mut entries = all.map(leaf);
    entries[0].ebx = u32::from_le_bytes(*vendor);
    entries[1].ecx = u32::MAX;
    entries[2].eax = 3 << 5 | 1;
    entries[3].eax = 0x0730_0402;
    entries[7].ecx = SVM | TOPOLOGY_EXTENSIONS;
    entries[9].eax = 3 << 5 | 1;
    CpuId::from_entries(&entries).unwrap()
}

fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    *entries.iter().find(|entry| entry.function == function && entry.index == index).unwrap()
}

#[test]
fn apic_ids_round_counts_up_to_a_power_of_two() {
    let topology = Topology { sockets: 2, cores: 3, threads: 2 };
    let ids: Vec<_> = (0..topology.vps()).map(|index| topology.apic_id(index)).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
}

#[test]
fn the_topology_leaves_describe_the_machine() {
    let topology = Topology { sockets: 2, cores: 3, threads: 2 };
    let entries = leaves(&supported(b"Genu"), topology, 7, true, &[]);
    let (core, package) = (find(&entries, 0xb, 0), find(&entries, 0xb, 1));
    assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (1, 2, 0x100, 9));
    assert_eq!((package.eax, package.ebx, package.ecx, package.edx), (3, 6, 0x201, 9));
    assert_eq!(find(&entries, 0xb, 2).ecx, 2);
    assert_eq!(find(&entries, 1, 0).ebx, 9 << 24 | 8 << 16);
    assert_eq!(find(&entries, 4, 0).eax >> 14 & 0xfff, 7, "a third-level cache is the package's");
    assert_eq!(find(&entries, 0, 0).eax, 0xb);
}

#[test]
fn the_topology_on_amd_is_in_the_leaves_of_amd() {
    let topology = Topology { sockets: 1, cores: 4, threads: 2 };
    let entries = leaves(&supported(b"Auth"), topology, 5, true, &[]);
    assert_eq!(find(&entries, 0x8000_0008, 0).ecx, 3 << 12 | 7);
    assert_eq!(find(&entries, 0x8000_001d, 0).eax >> 14 & 0xfff, 7);
    let own = find(&entries, 0x8000_001e, 0);
    assert_eq!((own.eax, own.ebx, own.ecx), (5, 1 << 8 | 2, 0));
    assert_eq!(find(&entries, 0x8000_0001, 0).ecx & (SVM | CMP_LEGACY), CMP_LEGACY);
}

#[test]
fn features_that_the_machine_lacks_are_hidden() {
    let entries = leaves(&supported(b"Genu"), Topology { sockets: 1, cores: 1, threads: 1 }, 0, false, &[]);
    assert!(!entries.iter().any(|entry| HYPERVISOR_LEAVES.contains(&entry.function)), "KVM's own leaves");
    assert_eq!(find(&entries, 0xa, 0).eax, 0, "performance counters");
    let features = find(&entries, 1, 0);
    assert_eq!(features.ecx & (LACKING_1_ECX | TSC_DEADLINE), 0);
    assert_eq!(features.ecx & (X2APIC | HYPERVISOR), X2APIC);
    assert_eq!(features.edx & HTT, 0);
}

#[test]
fn the_leaves_of_the_hypervisor_set_the_hypervisor_bit() {
    let hypervisor = [kvm_cpuid_entry2 { function: 0x4000_0000, eax: 7, ..Default::default() }];
    let entries = leaves(&supported(b"Genu"), Topology { sockets: 1, cores: 1, threads: 1 }, 0, false, &hypervisor);
    assert_eq!(find(&entries, 1, 0).ecx & HYPERVISOR, HYPERVISOR);
    assert_eq!(find(&entries, 0x4000_0000, 0).eax, 7);
}

/// Returns a host's CPUID with KVM's leaves and all of their features.
fn with_kvm() -> CpuId {
    let (ebx, ecx, edx) = (0x4b4d_564b, 0x564b_4d56, 0x4d);
    let signature = kvm_cpuid_entry2 { function: KVM_SIGNATURE, eax: 0x4000_0001, ebx, ecx, edx, ..Default::default() };
    let features = kvm_cpuid_entry2 { function: KVM_FEATURES, eax: u32::MAX, edx: u32::MAX, ..Default::default() };
    CpuId::from_entries(&[signature, features]).unwrap()
}

#[test]
fn only_the_clock_remains_of_kvms_own_features() {
    let leaves = kvm_leaves(&with_kvm(), Some(2_400_000_123));
    let signature = find(&leaves, 0x4000_0000, 0);
    let name = [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes).concat();
    assert_eq!((signature.eax, &name[..]), (0x4000_0010, &b"KVMKVMKVM\0\0\0"[..]));
    let features = find(&leaves, 0x4000_0001, 0);
    assert_eq!((features.eax, features.edx), (0x0100_000b, 0));
    let frequencies = find(&leaves, 0x4000_0010, 0);
    assert_eq!((frequencies.eax, frequencies.ebx, frequencies.ecx), (2_400_000, 1_000_000, 0));
}

#[test]
fn a_feature_that_kvm_lacks_is_not_shown() {
    let mut supported = with_kvm();
    supported.as_mut_slice()[1].eax = 1 << 3 | 1 << 4;
    assert_eq!(find(&kvm_leaves(&supported, None), KVM_FEATURES, 0).eax, 1 << 3);
}

#[test]
fn without_a_known_frequency_the_leaf_of_frequencies_is_missing() {
    for tsc in [None, Some(u64::MAX)] {
        let leaves = kvm_leaves(&with_kvm(), tsc);
        assert_eq!(leaves.iter().map(|leaf| leaf.function).collect::<Vec<_>>(), [KVM_SIGNATURE, KVM_FEATURES]);
        assert_eq!(leaves[0].eax, KVM_FEATURES);
    }
}

#[test]
fn a_host_without_kvm_leaves_offers_none() {
    let bare = CpuId::from_entries(&[kvm_cpuid_entry2::default()]).unwrap();
    assert!(kvm_leaves(&bare, Some(2_400_000_000)).is_empty());
}

proptest! {
    #[test]
    fn apic_ids_are_unique_and_encode_the_place_in_the_topology(sockets in 1u32..9, cores in 1u32..9, threads in 1u32..5) {
        let topology = Topology { sockets, cores, threads };
        let mut last = None;
        for index in 0..topology.vps() {
            let id = topology.apic_id(index);
            prop_assert!(last < Some(id));
            last = Some(id);
            prop_assert_eq!(id >> topology.package_shift(), index / (cores * threads));
            prop_assert_eq!(id & ((1 << topology.core_shift()) - 1), index % threads);
        }
    }
}
