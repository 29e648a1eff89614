use super::*;
use crate::boot::fixtures::machine;

/// The system registers of a VP after a reset, as far as entries use them.
fn reset() -> kvm_sregs {
    let cs = kvm_segment {
        base: 0xffff_0000,
        limit: 0xffff,
        selector: 0xf000,
        type_: 0xb,
        present: 1,
        ..Default::default()
    };
    let idt = kvm_dtable { limit: 0xffff, ..Default::default() };
    kvm_sregs { cs, idt, cr0: 0x6000_0010, apic_base: 0xfee0_0900, ..Default::default() }
}

fn applied(protocol: BootProtocol) -> kvm_sregs {
    let mut sregs = reset();
    Entry::new(protocol, 0x7c00).apply(&mut sregs);
    sregs
}

#[test]
fn real_mode_starts_with_all_bases_zero_and_its_own_interrupt_table() {
    let sregs = applied(BootProtocol::Flat16);
    assert_eq!((sregs.cr0, sregs.efer, sregs.idt.limit), (0x10, 0, 0xffff));
    for segment in [sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] {
        assert_eq!((segment.base, segment.selector, segment.limit, segment.present), (0, 0, 0xffff, 1));
    }
}

#[test]
fn protected_mode_is_flat_and_without_paging() {
    let (linux, qemu) = ((0x10, 0x18), (0x08, 0x10));
    for (protocol, selectors) in [
        (BootProtocol::Linux32, linux),
        (BootProtocol::Pvh, qemu),
        (BootProtocol::Multiboot, qemu),
        (BootProtocol::Flat32, linux),
    ] {
        let sregs = applied(protocol);
        assert_eq!((sregs.cs.selector, sregs.ss.selector), selectors, "{protocol}");
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer, sregs.idt.limit), (0x11, 0, 0, 0));
        assert_eq!((sregs.cs.db, sregs.cs.l, sregs.cs.limit), (1, 0, u32::MAX));
        assert_eq!((sregs.ss.db, sregs.ss.base, sregs.ss.limit), (1, 0, u32::MAX));
        assert_eq!((sregs.tr.limit, sregs.tr.type_, sregs.tr.s), (0x67, 0xb, 0));
    }
}

#[test]
fn long_mode_runs_on_the_boot_page_tables() {
    for protocol in [BootProtocol::Linux64, BootProtocol::Flat64] {
        let sregs = applied(protocol);
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x8000_0011, PAGE_TABLES, 0x20, 0x500));
        assert_eq!((sregs.cs.selector, sregs.cs.db, sregs.cs.l), (0x10, 0, 1));
    }
}

#[test]
fn the_rest_of_the_reset_state_is_unchanged() {
    for protocol in [BootProtocol::Flat16, BootProtocol::Flat32, BootProtocol::Flat64] {
        assert_eq!(applied(protocol).apic_base, 0xfee0_0900);
    }
}

#[test]
fn interrupts_are_off_and_registers_zero() {
    let registers = Entry::new(BootProtocol::Pvh, 0x1234).registers;
    assert_eq!(registers, kvm_regs { rip: 0x1234, rflags: 2, ..Default::default() });
}

#[test]
fn descriptors_match_the_segment_registers() {
    assert_eq!(descriptor(&PROTECTED_CODE), 0x00cf_9b00_0000_ffff);
    assert_eq!(descriptor(&LONG_CODE), 0x00af_9b00_0000_ffff);
    assert_eq!(descriptor(&FLAT_DATA), 0x00cf_9300_0000_ffff);
    assert_eq!(descriptor(&TASK), 0x0000_8b00_0000_0067);
    let based = kvm_segment { base: 0x1234_5678, ..segment(0, 0, DATA) };
    assert_eq!(descriptor(&based), 0x1200_9334_5678_0000);
}

#[test]
fn the_descriptor_table_is_at_the_address_in_gdtr() {
    let memory = machine(1);
    write_tables(BootProtocol::Linux64, &memory).unwrap();
    let sregs = applied(BootProtocol::Linux64);
    assert_eq!(usize::from(sregs.gdt.limit) + 1, GDT_LENGTH);
    for segment in [sregs.cs, sregs.ss, sregs.tr] {
        let address = sregs.gdt.base + u64::from(segment.selector);
        assert_eq!(memory.read_obj::<u64>(GuestAddress(address)).unwrap(), descriptor(&segment));
    }
}

/// Translates an address as a processor does. Returns `None` if it is not mapped.
fn translate(memory: &GuestMemory, address: u64) -> Option<u64> {
    let mut table = PAGE_TABLES;
    for level in [39, 30, 21] {
        let entry: u64 = memory.read_obj(GuestAddress(table + (address >> level & 511) * 8)).unwrap();
        if entry & 1 == 0 {
            return None;
        }
        if entry & 0x80 != 0 {
            return Some((entry & !0x1f_ffff) + (address & 0x1f_ffff));
        }
        table = entry & !0xfff;
    }
    None
}

#[test]
fn the_page_tables_identity_map_exactly_four_gibibytes() {
    let memory = machine(1);
    write_tables(BootProtocol::Flat64, &memory).unwrap();
    for address in [0, 0xfffff, 0x20_0000, 0x3fff_ffff, 0x4000_0000, 0xfee0_0000, 0xffff_ffff] {
        assert_eq!(translate(&memory, address), Some(address));
    }
    for address in [1 << 32, 1 << 39, 0xffff_8000_0000_0000] {
        assert_eq!(translate(&memory, address), None);
    }
}

#[test]
fn real_mode_needs_no_tables() {
    let memory = machine(1);
    write_tables(BootProtocol::Flat16, &memory).unwrap();
    assert_eq!(memory.read_obj::<[u64; 6]>(GuestAddress(GDT)).unwrap(), [0; 6]);
}

#[test]
fn protocols_have_names() {
    assert_eq!(BootProtocol::Linux64.to_string(), "Linux 64-bit boot protocol");
    assert_eq!(BootProtocol::Multiboot.to_string(), "multiboot");
}
