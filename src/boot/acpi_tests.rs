use super::*;
use proptest::prelude::*;

fn machine(apic_ids: impl IntoIterator<Item = u32>, pics: bool) -> Description {
    Description { apic_ids: apic_ids.into_iter().collect(), pics, ..Description::default() }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Returns the table at a guest physical address, with the length in its header. Its checksum must be right.
fn table<'a>(tables: &'a [u8], address: u64, signature: &[u8; 4]) -> &'a [u8] {
    let table = &tables[(address - ACPI_TABLES.start) as usize..];
    assert_eq!(&table[..4], signature);
    let table = &table[..word(table, 4) as usize];
    assert!(signature == b"FACS" || sum(table) == 0, "{signature:?}");
    table
}

/// Finds FADT and MADT by a search for the RSDP, as a guest does.
fn find(tables: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(&tables[..8], b"RSD PTR ");
    assert_eq!((sum(&tables[..20]), sum(&tables[..36]), tables[15]), (0, 0, 2));
    let xsdt = table(tables, long(tables, 24), b"XSDT");
    assert_eq!(xsdt.len(), 36 + 2 * 8);
    (table(tables, long(xsdt, 36), b"FACP"), table(tables, long(xsdt, 44), b"APIC"))
}

/// Returns the entries of a MADT: type and body.
fn entries(madt: &[u8]) -> Vec<(u8, &[u8])> {
    let mut entries = Vec::new();
    let mut rest = &madt[44..];
    while let [kind, length, ..] = *rest {
        entries.push((kind, &rest[2..usize::from(length)]));
        rest = &rest[usize::from(length)..];
    }
    entries
}

#[test]
fn the_fadt_names_the_ports_of_the_layout() {
    let tables = tables(&machine([0], true)).unwrap();
    let (fadt, _) = find(&tables);
    assert_eq!(fadt.len(), 276);
    assert_eq!((word(fadt, 56), word(fadt, 64), word(fadt, 76)), (0x600, 0x604, 0x608));
    assert_eq!((fadt[88], fadt[89], fadt[91]), (4, 2, 4));
    // The 64-bit fields: an I/O port, the width in bits, the address.
    for (at, width, port) in [(148, 32, 0x600), (172, 16, 0x604), (208, 32, 0x608), (116, 8, 0xcf9)] {
        assert_eq!((fadt[at], fadt[at + 1], long(fadt, at + 4)), (1, width, port));
    }
    assert_eq!((fadt[128], fadt[46], word(fadt, 48)), (6, 9, 0));
    // There is a reset register, the PM timer has 32 bits, and the hardware is not reduced.
    assert_eq!(
        word(fadt, 112) & (1 << 10 | 1 << 8 | 1 << 20 | 1 << 4),
        1 << 10 | 1 << 8,
        "the power button is the fixed one"
    );
    // There is a clock, but neither a keyboard nor VGA.
    assert_eq!(u16::from_le_bytes([fadt[109], fadt[110]]), 0b101);
}

#[test]
fn the_fadt_points_to_the_dsdt_twice_and_to_an_aligned_facs() {
    let tables = tables(&machine(0..64, true)).unwrap();
    let (fadt, _) = find(&tables);
    table(&tables, word(fadt, 40).into(), b"DSDT");
    assert_eq!(u64::from(word(fadt, 40)), long(fadt, 140));
    assert_eq!(word(fadt, 36) % 64, 0);
    assert_eq!(table(&tables, word(fadt, 36).into(), b"FACS").len(), 64);
}

#[test]
fn processors_with_ids_above_254_are_x2apics() {
    let tables = tables(&machine([0, 254, 255, 4096], false)).unwrap();
    let (_, madt) = find(&tables);
    let entries = entries(madt);
    assert_eq!(entries[0], (0, &[0, 0, 1, 0, 0, 0][..]));
    assert_eq!(entries[1], (0, &[1, 254, 1, 0, 0, 0][..]));
    assert_eq!(entries[2], (9, &[0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0][..]));
    assert_eq!(entries[3], (9, &[0, 0, 0, 16, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0][..]));
    assert_eq!(entries.len(), 6, "the IOAPIC and an override follow");
}

#[test]
fn the_madt_has_the_interrupt_overrides_of_a_pc_and_of_an_existing_timer() {
    let with = tables(&machine([0], true)).unwrap();
    let (_, madt) = find(&with);
    assert_eq!((word(madt, 36), word(madt, 40)), (0xfee0_0000, 1));
    let entries_with = entries(madt);
    assert_eq!(entries_with[1], (1, &[0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0][..]));
    assert_eq!(entries_with[2], (2, &[0, 0, 2, 0, 0, 0, 0, 0][..]));
    assert_eq!(entries_with[3], (2, &[0, 9, 9, 0, 0, 0, 0xd, 0][..]));
    let without = tables(&machine([0], false)).unwrap();
    let (_, madt) = find(&without);
    assert_eq!((word(madt, 40), entries(madt).len()), (0, 3));
    assert_eq!(entries(madt)[2], entries_with[3]);
}

#[test]
fn more_processors_than_fit_are_refused() {
    assert!(tables(&machine(0..1024, true)).is_ok());
    let text = tables(&machine(0..1025, true)).unwrap_err().to_string();
    let expected = "ACPI tables for 1025 VPs do not fit in the 65536 bytes below 1M; give --cpus 1024 or fewer";
    assert_eq!(text, expected);
}

proptest! {
    #[test]
    fn every_table_is_valid_for_any_processors(ids in prop::collection::vec(any::<u32>(), 0..300), pics: bool) {
        let tables = tables(&machine(ids.clone(), pics)).unwrap();
        let (fadt, madt) = find(&tables);
        table(&tables, long(fadt, 140), b"DSDT");
        let processors = entries(madt).into_iter().filter(|(kind, _)| matches!(kind, 0 | 9)).count();
        prop_assert_eq!(processors, ids.len());
        prop_assert!(tables.len() as u64 <= ACPI_TABLES.end - ACPI_TABLES.start);
    }
}
