//! The MP table (Intel, MultiProcessor Specification 1.4, chapter 4), for kernels from before ACPI.
//!
//! It agrees with the ACPI tables, but its APIC ids have 8 bits, so processors with higher ids are omitted.

use zerocopy::{Immutable, IntoBytes};

use crate::boot::acpi::{Description, LAST_XAPIC_ID};
use crate::boot::layout::{IOAPIC, LOCAL_APIC, MP_TABLE, SCI_IRQ};

/// Version 1.4 of the specification.
const REVISION: u8 = 4;
const ISA_BUS: u8 = 0;
const IOAPIC_ID: u8 = 0;

/// "MP floating pointer structure" (4.1). There is no IMCR: interrupts of the PICs come through the local APIC.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Pointer {
    signature: [u8; 4],
    table: u32,
    /// In units of 16 bytes.
    length: u8,
    revision: u8,
    checksum: u8,
    features: [u8; 5],
}
const _: () = assert!(size_of::<Pointer>() == 16);

/// "MP configuration table header" (4.2).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    signature: [u8; 4],
    length: u16,
    revision: u8,
    checksum: u8,
    oem: [u8; 8],
    product: [u8; 12],
    oem_table: u32,
    oem_table_size: u16,
    entries: u16,
    local_apic: u32,
    extended: [u8; 4],
}
const _: () = assert!(size_of::<Header>() == 44);

/// "Processor entries" (4.3.1).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Processor {
    kind: u8,
    apic_id: u8,
    apic_version: u8,
    flags: u8,
    signature: u32,
    features: u32,
    reserved: [u32; 2],
}
const _: () = assert!(size_of::<Processor>() == 20);

/// Builds the pointer and the table behind it, to be written at [`MP_TABLE`].
pub(super) fn mp_table(machine: &Description) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0;
    let mut add = |entry: &[u8]| {
        entries.extend_from_slice(entry);
        count += 1;
    };
    processors(machine).for_each(|processor| add(processor.as_bytes()));
    add(&[1, ISA_BUS, b'I', b'S', b'A', b' ', b' ', b' ']);
    const IOAPIC_VERSION: u8 = 0x11;
    const ENABLED: u8 = 1;
    add(&[&[2, IOAPIC_ID, IOAPIC_VERSION, ENABLED], (IOAPIC as u32).as_bytes()].concat());
    interrupts(machine).for_each(|interrupt| add(&interrupt));

    let table_at = MP_TABLE.start as u32 + size_of::<Pointer>() as u32;
    let mut header = Header {
        signature: *b"PCMP",
        length: (size_of::<Header>() + entries.len()) as u16,
        revision: REVISION,
        checksum: 0,
        oem: *b"VIRIDIAN",
        product: *b"PC          ",
        oem_table: 0,
        oem_table_size: 0,
        entries: count,
        local_apic: LOCAL_APIC as u32,
        extended: [0; 4],
    };
    header.checksum = checksum(header.as_bytes()).wrapping_add(checksum(&entries));
    let mut pointer =
        Pointer { signature: *b"_MP_", table: table_at, length: 1, revision: REVISION, checksum: 0, features: [0; 5] };
    pointer.checksum = checksum(pointer.as_bytes());
    [pointer.as_bytes(), header.as_bytes(), &entries].concat()
}

fn processors(machine: &Description) -> impl Iterator<Item = Processor> {
    /// An integrated local APIC.
    const APIC_VERSION: u8 = 0x14;
    const ENABLED: u8 = 1 << 0;
    const BOOT_PROCESSOR: u8 = 1 << 1;
    /// Family 6, and the features that the specification requires: FPU, CMPXCHG8B and local APIC. CPUID has the others.
    const SIGNATURE: u32 = 0x600;
    const FEATURES: u32 = 1 << 0 | 1 << 8 | 1 << 9;

    let known = machine.apic_ids.iter().enumerate().filter(|(_, id)| **id <= LAST_XAPIC_ID);
    known.map(|(index, id)| Processor {
        kind: 0,
        apic_id: *id as u8,
        apic_version: APIC_VERSION,
        flags: ENABLED | if index == 0 { BOOT_PROCESSOR } else { 0 },
        signature: SIGNATURE,
        features: FEATURES,
        reserved: [0; 2],
    })
}

/// Returns the routing of the ISA bus's interrupts: "I/O interrupt assignment entries" and those of local interrupts
/// (4.3.4, 4.3.5).
fn interrupts(machine: &Description) -> impl Iterator<Item = [u8; 8]> {
    const IO: u8 = 3;
    const LOCAL: u8 = 4;
    const VECTORED: u8 = 0;
    const NMI: u8 = 1;
    const EXTERNAL: u8 = 3;
    const CONFORMS: u8 = 0;
    const LEVEL_ACTIVE_HIGH: u8 = 0b1101;
    const ALL_LOCAL_APICS: u8 = 0xff;

    let pics = machine.pics;
    // The interval timer's interrupt 0 is the IOAPIC's pin 2. Interrupt 2 is the cascade of the second PIC, which has
    // no pin.
    let sources = (0..16u8).filter(move |irq| if *irq == 0 { pics } else { *irq != 2 });
    let io = sources.map(|irq| {
        let flags = if u32::from(irq) == SCI_IRQ { LEVEL_ACTIVE_HIGH } else { CONFORMS };
        [IO, VECTORED, flags, 0, ISA_BUS, irq, IOAPIC_ID, if irq == 0 { 2 } else { irq }]
    });
    let external = pics.then_some([LOCAL, EXTERNAL, CONFORMS, 0, ISA_BUS, 0, 0, 0]);
    let nmi = [LOCAL, NMI, CONFORMS, 0, ISA_BUS, 0, ALL_LOCAL_APICS, 1];
    io.chain(external).chain([nmi])
}

/// Returns the byte that makes the sum of these bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}
