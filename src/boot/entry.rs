//! The state in which VP 0 enters a kernel, as data. The machine writes it to the VP.
//!
//! A new VP is in its reset state (Intel SDM volume 3, 10.1.1). [`Entry::apply`] changes what a protocol requires and
//! leaves the rest. No protocol provides an interrupt descriptor table: interrupts are off, and an exception before the
//! kernel has its own table is a triple fault.

use std::fmt;
use std::ops::Range;

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use super::error::BootError;
use super::layout::{GDT, PAGE_TABLES};
use super::placement::Placement;
use crate::memory::{GuestMemory, PAGE_SIZE};

/// The boot protocol, by which a kernel gets its information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootProtocol {
    /// The 64-bit boot protocol (Linux, "The Linux/x86 Boot Protocol"): long mode, RSI has the zero page.
    Linux64,
    /// The 32-bit boot protocol of the same document: protected mode, ESI has the zero page.
    Linux32,
    /// Xen's PVH ABI, direct boot: protected mode, EBX has `hvm_start_info`.
    Pvh,
    /// Multiboot 0.6.96: protected mode, EAX has the magic number, EBX the boot information.
    Multiboot,
    /// A flat image in real mode.
    Flat16,
    /// A flat image in protected mode.
    Flat32,
    /// A flat image in long mode.
    Flat64,
}

impl fmt::Display for BootProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Linux64 => "Linux 64-bit boot protocol",
            Self::Linux32 => "Linux 32-bit boot protocol",
            Self::Pvh => "PVH",
            Self::Multiboot => "multiboot",
            Self::Flat16 => "flat image in real mode",
            Self::Flat32 => "flat image in protected mode",
            Self::Flat64 => "flat image in long mode",
        })
    }
}

/// The processor's mode at entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Real,
    Protected,
    Long,
}

impl BootProtocol {
    /// Returns `true` if this is one of the three modes of flat images, which get no boot information.
    pub(super) fn is_flat(self) -> bool {
        matches!(self, Self::Flat16 | Self::Flat32 | Self::Flat64)
    }

    /// Returns the code and data segments with the selectors that kernels expect.
    ///
    /// The Linux boot protocol specifies __BOOT_CS and __BOOT_DS. Multiboot and PVH do not specify selectors, but some
    /// kernels, such as xv6, load their own table and continue with the selectors of the entry, which must be QEMU's.
    fn select(self, code: kvm_segment, data: kvm_segment) -> (kvm_segment, kvm_segment) {
        let (code_selector, data_selector) = match self {
            Self::Pvh | Self::Multiboot => (0x08, 0x10),
            _ => (0x10, 0x18),
        };
        (kvm_segment { selector: code_selector, ..code }, kvm_segment { selector: data_selector, ..data })
    }

    fn mode(self) -> Mode {
        match self {
            Self::Flat16 => Mode::Real,
            Self::Linux32 | Self::Pvh | Self::Multiboot | Self::Flat32 => Mode::Protected,
            Self::Linux64 | Self::Flat64 => Mode::Long,
        }
    }
}

/// The state in which VP 0 enters the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The kernel's boot protocol.
    pub protocol: BootProtocol,
    /// The general registers, RIP and RFLAGS.
    pub registers: kvm_regs,
    /// The usable GPA ranges that were not written, so that they are still zero.
    pub untouched: Vec<Range<u64>>,
    /// The kernel was told of a framebuffer.
    pub draws: bool,
}

/// RFLAGS with only the bit that is always set: interrupts are off, the direction flag is clear.
const RFLAGS: u64 = 1 << 1;
const CR0_PE: u64 = 1 << 0;
/// Always set since the Pentium.
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

impl Entry {
    /// Creates an entry at `rip` with all other registers zero.
    pub(super) fn new(protocol: BootProtocol, rip: u64) -> Self {
        Self {
            protocol,
            registers: kvm_regs { rip, rflags: RFLAGS, ..Default::default() },
            untouched: Vec::new(),
            draws: false,
        }
    }

    /// Changes the system registers of a VP in its reset state to what the kernel expects.
    pub fn apply(&self, sregs: &mut kvm_sregs) {
        let (code, data) = match self.protocol.mode() {
            Mode::Real => (REAL_CODE, REAL_DATA),
            Mode::Protected => self.protocol.select(PROTECTED_CODE, FLAT_DATA),
            Mode::Long => self.protocol.select(LONG_CODE, FLAT_DATA),
        };
        sregs.cs = code;
        for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
            *segment = data;
        }
        // Reset leaves the caches off (CD and NW). Firmware would enable them before it starts a kernel.
        sregs.cr0 = CR0_ET;
        if self.protocol.mode() == Mode::Real {
            return;
        }
        sregs.cr0 |= CR0_PE;
        sregs.tr = TASK;
        sregs.gdt = kvm_dtable { base: GDT, limit: GDT_LENGTH as u16 - 1, ..Default::default() };
        sregs.idt = kvm_dtable::default();
        if self.protocol.mode() == Mode::Long {
            sregs.cr0 |= CR0_PG;
            sregs.cr3 = PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
    }
}

/// Returns a present segment with base 0; `kind` is the descriptor's type field.
const fn segment(selector: u16, limit: u32, kind: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 0,
        s: 1,
        l: 0,
        g: 0,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

// Descriptor types (Intel SDM volume 3, 3.4.5.1 and 3.5), with the accessed or busy bit set.
const DATA: u8 = 0x3;
const CODE: u8 = 0xb;
const BUSY_TSS: u8 = 0xb;

// The selectors of protected and long mode depend on the protocol.
const REAL_CODE: kvm_segment = segment(0, 0xffff, CODE);
const REAL_DATA: kvm_segment = segment(0, 0xffff, DATA);
const PROTECTED_CODE: kvm_segment = kvm_segment { db: 1, g: 1, ..segment(0, u32::MAX, CODE) };
const LONG_CODE: kvm_segment = kvm_segment { l: 1, g: 1, ..segment(0, u32::MAX, CODE) };
const FLAT_DATA: kvm_segment = kvm_segment { db: 1, g: 1, ..segment(0, u32::MAX, DATA) };
// PVH requires a task register with a limit of 0x67; VMX requires one in any mode.
const TASK: kvm_segment = kvm_segment { s: 0, ..segment(0x20, 0x67, BUSY_TSS) };

/// Null, three for code and data, of which one is unused, and the task's, which takes two slots in long mode.
const GDT_LENGTH: usize = 6 * 8;

/// Returns the eight-byte descriptor of `segment` (Intel SDM volume 3, 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    let access = u64::from(segment.type_ | segment.s << 4 | segment.dpl << 5 | segment.present << 7);
    let flags = u64::from(segment.avl | segment.l << 1 | segment.db << 2 | segment.g << 3);
    let base = segment.base;
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 0xf) << 48
        | flags << 52
        | (base >> 24 & 0xff) << 56
}

/// Claims the memory of the tables that an entry by `protocol` uses.
pub(super) fn claim_tables(protocol: BootProtocol, placement: &mut Placement) -> Result<(), BootError> {
    if protocol.mode() != Mode::Real {
        placement.claim("the boot GDT", GDT, GDT_LENGTH as u64)?;
    }
    if protocol.mode() == Mode::Long {
        placement.claim("the boot page tables", PAGE_TABLES, 6 * PAGE_SIZE)?;
    }
    Ok(())
}

/// Writes the tables that an entry by `protocol` uses.
pub(super) fn write_tables(protocol: BootProtocol, memory: &GuestMemory) -> Result<(), vm_memory::GuestMemoryError> {
    let code = match protocol.mode() {
        Mode::Real => return Ok(()),
        Mode::Protected => PROTECTED_CODE,
        Mode::Long => LONG_CODE,
    };
    let (code, data) = protocol.select(code, FLAT_DATA);
    let mut table = [0; GDT_LENGTH / 8];
    for segment in [code, data, TASK] {
        table[usize::from(segment.selector / 8)] = descriptor(&segment);
    }
    memory.write_slice(&table.map(u64::to_le_bytes).concat(), GuestAddress(GDT))?;
    if protocol.mode() == Mode::Long { memory.write_slice(&page_tables(), GuestAddress(PAGE_TABLES)) } else { Ok(()) }
}

/// Returns the first 4 GiB, mapped to themselves in pages of 2 MiB, which every processor in long mode has.
///
/// A page map level 4, a page directory pointer table and four page directories (Intel SDM volume 3, 4.5).
fn page_tables() -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let page = |index: u64| PAGE_TABLES + index * PAGE_SIZE;
    let mut entries = vec![0u64; 6 * 512];
    entries[0] = page(1) | PRESENT_WRITABLE;
    for directory in 0..4 {
        entries[512 + directory as usize] = page(2 + directory) | PRESENT_WRITABLE;
    }
    for (index, entry) in (0u64..).zip(&mut entries[2 * 512..]) {
        *entry = index << 21 | LARGE | PRESENT_WRITABLE;
    }
    entries.into_iter().flat_map(u64::to_le_bytes).collect()
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
