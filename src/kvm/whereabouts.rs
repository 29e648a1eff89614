//! The registers that show where a VP is executing, in every mode.

use std::fmt;

use super::host::HostError;
use super::vp::Vp;

const CR0_PE: u64 = 1 << 0;
const CR0_PG: u64 = 1 << 31;
const EFER_LMA: u64 = 1 << 10;
/// Where a processor begins after INIT (Intel SDM volume 3, "Processor State After Reset").
const RESET_IP: u64 = 0xfff0;
const RESET_BASE: u64 = 0xffff_0000;

/// The execution mode of a VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode.
    Real,
    /// Protected mode, in a 16-bit segment.
    Protected16,
    /// Protected mode, in a 32-bit segment.
    Protected32,
    /// Long mode, in a 16-bit or 32-bit segment.
    Compatibility,
    /// Long mode, in a 64-bit segment.
    Long64,
}

impl Mode {
    /// Size of a word on the stack in bytes, or `None` if the stack is not examined in this mode.
    pub fn word(self) -> Option<u64> {
        match self {
            Self::Real | Self::Protected16 => None,
            Self::Protected32 | Self::Compatibility => Some(4),
            Self::Long64 => Some(8),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Real => "real mode",
            Self::Protected16 => "16-bit protected mode",
            Self::Protected32 => "32-bit protected mode",
            Self::Compatibility => "compatibility mode",
            Self::Long64 => "64-bit mode",
        })
    }
}

/// Where a VP is executing. Addresses are linear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// CS:RIP.
    pub instruction: u64,
    /// SS:RSP.
    pub stack: u64,
    /// SS:RBP.
    pub frame: u64,
    /// The execution mode.
    pub mode: Mode,
    /// Whether paging is enabled.
    pub paging: bool,
    /// CR2.
    pub page_fault: u64,
    /// IDTR base.
    pub interrupt_table: u64,
    /// IDTR limit.
    pub interrupt_table_limit: u16,
    /// The VP has not executed anything since its reset.
    pub is_reset: bool,
}

impl Vp {
    /// Returns where the VP is executing.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn whereabouts(&self) -> Result<Whereabouts, HostError> {
        let (general, system) = (self.registers()?, self.system_registers()?);
        let mode = match (system.cr0 & CR0_PE != 0, system.efer & EFER_LMA != 0) {
            (false, _) => Mode::Real,
            (true, true) if system.cs.l != 0 => Mode::Long64,
            (true, true) => Mode::Compatibility,
            (true, false) if system.cs.db != 0 => Mode::Protected32,
            (true, false) => Mode::Protected16,
        };
        let linear = |base: u64, offset: u64| match mode {
            Mode::Long64 => offset,
            _ => base.wrapping_add(offset) & u64::from(u32::MAX),
        };
        Ok(Whereabouts {
            instruction: linear(system.cs.base, general.rip),
            stack: linear(system.ss.base, general.rsp),
            frame: linear(system.ss.base, general.rbp),
            mode,
            paging: system.cr0 & CR0_PG != 0,
            page_fault: system.cr2,
            interrupt_table: system.idt.base,
            interrupt_table_limit: system.idt.limit,
            is_reset: mode == Mode::Real && general.rip == RESET_IP && system.cs.base == RESET_BASE,
        })
    }

    /// Returns the physical address for a linear address, by the VP's page tables, or `None` if it is not mapped.
    pub fn guest_physical(&self, address: u64) -> Option<u64> {
        let translation = self.fd.translate_gva(address).ok()?;
        (translation.valid != 0).then_some(translation.physical_address)
    }
}
