use super::*;
use crate::boot::fixtures::machine;
use crate::boot::layout;
use crate::memory::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

fn description(apic_ids: Vec<u32>, pics: bool) -> Description {
    Description { apic_ids, pics, ..Description::default() }
}

/// Returns the memory of a machine with all parts of the firmware.
fn written(machine_with: &Description) -> GuestMemory {
    let memory = machine(2);
    let mut placement = Placement::new(2 << 20, "");
    for (place, bytes) in claim(&mut placement, machine_with).unwrap() {
        memory.write_slice(&bytes, GuestAddress(place.range.start)).unwrap();
    }
    memory
}

fn word(memory: &GuestMemory, address: u64) -> u16 {
    memory.read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn the_data_area_describes_the_machine() {
    let memory = written(&description(vec![0], true));
    assert_eq!(word(&memory, 0x400), 0x3f8, "COM1");
    assert_eq!([word(&memory, 0x402), word(&memory, 0x408)], [0, 0], "neither COM2 nor LPT1");
    assert_eq!((word(&memory, 0x40e), word(&memory, 0x413)), (0x9fc0, 639));
    assert_eq!(word(&memory, 0x410), 0x0222);
    assert_eq!((word(&memory, 0x41a), word(&memory, 0x41c)), (0x1e, 0x1e), "no key");
    assert_eq!((word(&memory, 0x449), word(&memory, 0x463)), (80 << 8 | 3, 0x3d4));
    assert_eq!((word(&memory, 0x475) & 0xff, word(&memory, 0x484) & 0xff), (0, 24));
    let ticks: u32 = memory.read_obj(GuestAddress(0x46c)).unwrap();
    assert!(ticks < 0x1800b0, "less than a day");
    let extended = u64::from(word(&memory, 0x40e)) << 4;
    assert_eq!(word(&memory, extended) & 0xff, 1, "the extended area has 1 KiB");
    let map = layout::memory_map(2 << 20);
    assert!(map[0].range.end <= extended, "and is reserved");
}

#[test]
fn ticks_have_the_rate_of_the_interval_timer() {
    let ticks = |seconds| u32::from_le_bytes(*data_area::data_area(seconds)[0x6c..].first_chunk().unwrap());
    assert_eq!([ticks(0), ticks(3600), ticks(24 * 3600 - 1)], [0, 65543, 1_573_024]);
}

/// Finds and checks the MP table of a machine as a kernel does, and returns its entries.
fn mp_entries(machine_with: &Description) -> Vec<Vec<u8>> {
    let memory = written(machine_with);
    let read = |address: u64, length: usize| {
        let mut bytes = vec![0; length];
        memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    };
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    let pointer = (0xf_0000..0x10_0000u64).step_by(16).map(|at| read(at, 16)).find(|bytes| bytes.starts_with(b"_MP_"));
    let pointer = pointer.expect("the MP floating pointer structure");
    assert_eq!((sum(&pointer), pointer[8], pointer[9]), (0, 1, 4));
    let at = u32::from_le_bytes(*pointer[4..].first_chunk().unwrap());
    let length = word(&memory, u64::from(at) + 4);
    let table = read(at.into(), length.into());
    assert_eq!((&table[..4], sum(&table)), (b"PCMP".as_slice(), 0));
    assert_eq!(table[36..40], 0xfee0_0000u32.to_le_bytes());
    assert!(u64::from(at) + u64::from(length) <= MP_TABLE.end);
    let mut entries = Vec::new();
    let mut rest = &table[44..];
    while let Some(kind) = rest.first() {
        let (entry, behind) = rest.split_at(if *kind == 0 { 20 } else { 8 });
        entries.push(entry.to_vec());
        rest = behind;
    }
    assert_eq!(entries.len(), usize::from(u16::from_le_bytes([table[34], table[35]])));
    assert!(entries.is_sorted_by_key(|entry| entry[0]), "sorted by kind");
    entries
}

#[test]
fn the_mp_table_lists_the_same_processors_as_the_acpi_tables() {
    for count in [1u32, 2, 64, 255, 300] {
        let entries = mp_entries(&description((0..count).collect(), false));
        let processors: Vec<_> = entries.iter().filter(|entry| entry[0] == 0).collect();
        assert_eq!(processors.len() as u32, count.min(255), "ids to 254");
        for (index, processor) in processors.iter().enumerate() {
            assert_eq!((usize::from(processor[1]), processor[3]), (index, if index == 0 { 3 } else { 1 }));
        }
    }
    let sparse = mp_entries(&description(vec![0, 2, 4, 256, 258], false));
    let ids: Vec<_> = sparse.iter().filter(|entry| entry[0] == 0).map(|entry| entry[1]).collect();
    assert_eq!(ids, [0, 2, 4]);
}

#[test]
fn the_mp_table_lists_the_interrupts_of_the_machine() {
    let interrupt = |entries: &[Vec<u8>], irq| entries.iter().find(|entry| entry[0] == 3 && entry[5] == irq).cloned();
    let pc = mp_entries(&description(vec![0], true));
    assert_eq!(interrupt(&pc, 0).unwrap()[7], 2, "the timer is at pin 2");
    assert_eq!(interrupt(&pc, 2), None);
    assert_eq!(interrupt(&pc, 4).unwrap()[1..], [0, 0, 0, 0, 4, 0, 4]);
    assert_eq!(interrupt(&pc, 9).unwrap()[2], 0b1101, "the SCI is level-triggered");
    assert!(pc.iter().any(|entry| entry[..2] == [4, 3] && entry[7] == 0), "the PIC is at LINT0");
    let small = mp_entries(&description(vec![0], false));
    assert_eq!(interrupt(&small, 0), None, "no timer");
    assert!(small.iter().all(|entry| entry[..2] != [4, 3]), "no PIC");
    assert_eq!(small.iter().find(|entry| entry[0] == 2).unwrap()[4..], 0xfec0_0000u32.to_le_bytes());
}

#[test]
fn every_interrupt_vector_is_0_or_points_to_code() {
    let code = services::code();
    let vectors = services::vectors();
    assert_eq!((code.len(), vectors.len()), (4096, 1024));
    for (number, vector) in vectors.chunks_exact(4).enumerate() {
        let at = (u64::from(u16::from_le_bytes([vector[2], vector[3]])) << 4)
            + u64::from(u16::from_le_bytes([vector[0], vector[1]]));
        let first = at.checked_sub(SERVICE_CODE.start).map(|offset| code[offset as usize]);
        assert_eq!(first.is_none(), at == 0, "vector {number:#x}");
        assert_ne!(first, Some(0), "vector {number:#x}");
    }
    assert_eq!((code[0xff0], code[0xffe]), (0xea, 0xfc));
    let reset = usize::from(u16::from_le_bytes([code[0xff1], code[0xff2]]));
    assert_eq!(code[reset - 0xf000..][..4], [0xb0, 0xfe, 0xe6, 0x64], "the reset line");
}

#[test]
fn a_part_of_the_firmware_is_left_out_if_the_kernel_needs_its_address() {
    let mut placement = Placement::new(2 << 20, "");
    placement.claim("a kernel", 0x480, 0x1000).unwrap();
    let parts = claim(&mut placement, &description(vec![0], false)).unwrap();
    let names: Vec<_> = parts.iter().map(|(place, _)| place.what.as_str()).collect();
    assert_eq!(
        names,
        ["the interrupt vectors", "the extended BIOS data area", "the MP table", "the firmware's services"]
    );
}
