use super::*;
use crate::hyperv::page::HypercallPage;
use crate::hyperv::testing::{RAM, everything, number, partition, partition_with, patterned, ram};
use crate::hyperv::types::GP;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

fn msr(number: u32) -> Msr {
    Msr::decode(number).unwrap()
}

fn write(partition: &Partition, number: u32, value: u64) -> Result<Option<Action>, Fault> {
    partition.write(msr(number), value)
}

fn read(partition: &Partition, number: u32) -> u64 {
    partition.read(msr(number), Reading::default()).unwrap()
}

fn first_bytes(partition: &Partition, gpa: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    partition.memory().read_slice(&mut bytes, GuestAddress(gpa)).unwrap();
    bytes
}

fn code() -> [u8; 16] {
    HypercallPage::new(None).content()[..16].try_into().unwrap()
}

#[test]
fn the_hypercall_page_cannot_be_enabled_before_the_guest_os_id_is_set() {
    let partition = partition();
    write(&partition, number::HYPERCALL, 0x3001).unwrap();
    assert_eq!(read(&partition, number::HYPERCALL), 0x3000);
    assert_eq!(first_bytes(&partition, 0x3000), [0; 16]);
    write(&partition, number::GUEST_OS_ID, 0x8100 << 48).unwrap();
    write(&partition, number::HYPERCALL, 0x3001).unwrap();
    assert_eq!(read(&partition, number::HYPERCALL), 0x3001);
    assert_eq!(first_bytes(&partition, 0x3000), code());
}

#[test]
fn clearing_the_os_id_disables_the_hypercall_page() {
    let partition = partition();
    write(&partition, number::GUEST_OS_ID, 1).unwrap();
    write(&partition, number::HYPERCALL, 0x3001).unwrap();
    write(&partition, number::GUEST_OS_ID, 0).unwrap();
    assert_eq!(read(&partition, number::HYPERCALL), 0x3000);
    assert_eq!(first_bytes(&partition, 0x3000), [0; 16]);
}

#[test]
fn moving_the_hypercall_page_restores_what_it_covered() {
    let partition = partition();
    partition.memory().write_slice(&[7; 16], GuestAddress(0x3000)).unwrap();
    write(&partition, number::GUEST_OS_ID, 1).unwrap();
    write(&partition, number::HYPERCALL, 0x3001).unwrap();
    write(&partition, number::HYPERCALL, 0x4001).unwrap();
    assert_eq!((first_bytes(&partition, 0x3000), first_bytes(&partition, 0x4000)), ([7; 16], code()));
    write(&partition, number::HYPERCALL, 0x4000).unwrap();
    assert_eq!(first_bytes(&partition, 0x4000), [0; 16]);
}

#[test]
fn a_page_beyond_ram_faults_and_changes_nothing() {
    let partition = partition();
    write(&partition, number::GUEST_OS_ID, 1).unwrap();
    for register in [number::HYPERCALL, number::REFERENCE_TSC] {
        write(&partition, register, 0x3001).unwrap();
        for gpa in [RAM, !0xfff] {
            assert_eq!(write(&partition, register, gpa | 1), Err(GP));
            assert_eq!(read(&partition, register), 0x3001);
        }
        assert_eq!(write(&partition, register, RAM), Ok(None), "a page that is not enabled may lie anywhere");
    }
}

#[test]
fn a_locked_hypercall_register_stays_until_reset() {
    let partition = partition();
    write(&partition, number::GUEST_OS_ID, 1).unwrap();
    write(&partition, number::HYPERCALL, 0x3003).unwrap();
    assert_eq!(write(&partition, number::HYPERCALL, 0x4001), Err(GP));
    assert_eq!(read(&partition, number::HYPERCALL), 0x3003);
    partition.reset();
    assert_eq!((read(&partition, number::HYPERCALL), read(&partition, number::GUEST_OS_ID)), (0, 0));
    assert_eq!(first_bytes(&partition, 0x3000), [0; 16]);
    let without = partition_with(everything().without(Feature::HypercallMsrLockAvailable));
    assert_eq!(write(&without, number::HYPERCALL, 2), Err(GP));
}

#[test]
fn reserved_bits_of_page_registers_are_kept() {
    let partition = partition();
    write(&partition, number::GUEST_OS_ID, 1).unwrap();
    write(&partition, number::HYPERCALL, 0x3ffd).unwrap();
    write(&partition, number::REFERENCE_TSC, 0x4fff).unwrap();
    assert_eq!((read(&partition, number::HYPERCALL), read(&partition, number::REFERENCE_TSC)), (0x3ffd, 0x4fff));
}

fn tsc_partition() -> Partition {
    let config = PartitionConfig {
        features: everything(),
        tsc_frequency: 1_000_000_000,
        apic_frequency: 1,
        hypercall_page: Box::new(*HypercallPage::new(None).content()),
    };
    Partition::new(config, ram(), ReferenceTime::new(Some(1_000_000_000), Reading::default()))
}

fn tsc_page(partition: &Partition) -> [u64; 3] {
    [0x4000, 0x4008, 0x4010].map(|gpa| partition.memory().read_obj(GuestAddress(gpa)).unwrap())
}

#[test]
fn the_reference_tsc_page_shows_the_clock_and_is_updated_on_resume() {
    let partition = tsc_partition();
    let now = |guest_tsc| Reading { guest_tsc, monotonic: 0 };
    write(&partition, number::REFERENCE_TSC, 0x4001).unwrap();
    let [sequence, scale, offset] = tsc_page(&partition);
    assert_eq!((scale, offset), (crate::hyperv::reftime::tsc_scale(1_000_000_000).unwrap(), 0));
    assert!(sequence != 0 && sequence >> 32 == 0);
    partition.pause(now(5_000_000));
    partition.resume(now(9_000_000));
    let [next_sequence, _, offset] = tsc_page(&partition);
    assert_ne!(next_sequence, sequence);
    let by_page = ((9_000_000u128 * u128::from(scale)) >> 64) as u64;
    assert_eq!(by_page.wrapping_add(offset), partition.reference_time(now(9_000_000)));
    assert!((49_999..=50_000).contains(&partition.reference_time(now(9_000_000))));
}

#[test]
fn the_page_has_sequence_zero_if_the_tsc_is_unsuitable() {
    let partition = partition();
    partition.memory().write_slice(&[0xff; 4096], GuestAddress(0x4000)).unwrap();
    write(&partition, number::REFERENCE_TSC, 0x4001).unwrap();
    assert_eq!(tsc_page(&partition), [0; 3]);
}

#[test]
fn read_only_registers_fault_when_written() {
    let partition = partition();
    for register in [number::TIME_REF_COUNT, 0x4000_0022, 0x4000_0023] {
        assert_eq!(write(&partition, register, 0), Err(GP));
    }
    assert_eq!((read(&partition, 0x4000_0022), read(&partition, 0x4000_0023)), (2_000_000_000, 1_000_000_000));
}

#[test]
fn bit_0_of_the_reset_msr_requests_a_reset() {
    let partition = partition();
    assert_eq!(write(&partition, 0x4000_0003, 1), Ok(Some(Action::Reset)));
    assert_eq!(write(&partition, 0x4000_0003, 2), Ok(None));
    assert_eq!(read(&partition, 0x4000_0003), 0);
}

#[test]
fn a_crash_is_reported_with_its_parameters() {
    let partition = partition();
    for (number, value) in (0x4000_0100..).zip([10, 11, 12, 13, 14]) {
        write(&partition, number, value).unwrap();
        assert_eq!(read(&partition, number), value);
    }
    assert_eq!(read(&partition, 0x4000_0105), 3 << 62);
    let Ok(Some(Action::Crash(report))) = write(&partition, 0x4000_0105, 1 << 63) else { panic!("no report") };
    assert_eq!(report.parameters, [10, 11, 12, 13, 14]);
}

#[test]
fn reenlightenment_takes_a_fixed_vector_and_no_reserved_bits() {
    let partition = partition();
    assert_eq!(partition.reenlightenment(), None);
    write(&partition, 0x4000_0106, 1 << 32 | 1 << 16 | 0xee).unwrap();
    assert_eq!(partition.reenlightenment(), Some((VpIndex(1), Interrupt { vector: 0xee, auto_eoi: false })));
    for bad in [1 << 16 | 15, 1 << 8 | 0xee, 1 << 17 | 0xee] {
        assert_eq!(write(&partition, 0x4000_0106, bad), Err(GP), "{bad:#x}");
    }
    for (number, bad) in [(0x4000_0107, 2), (0x4000_0108, 1), (0x4000_0118, 2)] {
        assert_eq!(write(&partition, number, bad), Err(GP));
        assert_eq!(write(&partition, number, 0), Ok(None));
    }
    write(&partition, 0x4000_0118, 1).unwrap();
    write(&partition, 0x4000_0118, 0).unwrap();
    assert_eq!(read(&partition, 0x4000_0118), 1, "an invariant TSC is not taken back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any writes to any registers, there is no panic, a fault has changed nothing, and a reset restores memory.
    #[test]
    fn guest_memory_is_unchanged_after_hostile_writes_and_a_reset(
        writes in prop::collection::vec((0usize..64, prop_oneof![any::<u64>(), 0u64..0x10_0000, Just(0), Just(u64::MAX)]), 1..60)
    ) {
        let partition = partition();
        let all: Vec<_> = Msr::all().filter(|(_, msr)| msr.is_partition_wide()).collect();
        let before = patterned();
        partition.memory().write_slice(&before, GuestAddress(0)).unwrap();
        for (index, value) in writes {
            let (_, msr) = all[index % all.len()];
            let old = partition.read(msr, Reading::default());
            if partition.write(msr, value).is_err() {
                prop_assert_eq!(partition.read(msr, Reading::default()), old);
            }
        }
        partition.reset();
        let mut after = vec![0; RAM as usize];
        partition.memory().read_slice(&mut after, GuestAddress(0)).unwrap();
        prop_assert!(after == before);
    }
}
