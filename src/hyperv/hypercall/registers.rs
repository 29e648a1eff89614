//! The registers that carry parameters (TLFS, "Hypercall Register Conventions (x86/x64)").

use super::{HypercallInput, HypercallResult};

/// Number of XMM registers that carry parameters: XMM0 to XMM5.
pub const XMM_REGISTERS: usize = 6;
/// Number of parameter bytes that fit into registers: RDX, R8 and six XMM registers.
pub(super) const FAST_BYTES: usize = 16 + XMM_REGISTERS * 16;
/// Number of parameter bytes that fit into general registers.
pub(super) const GENERAL_BYTES: usize = 16;

/// The processor state that decides whether a call is allowed, and which convention it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// CR0.PE.
    pub protected: bool,
    /// The current privilege level.
    pub cpl: u8,
    /// EFER.LMA and CS.L: the 64-bit convention is used.
    pub long: bool,
}

impl Mode {
    /// 64-bit mode, ring 0.
    #[cfg(test)]
    pub const LONG: Self = Self { protected: true, cpl: 0, long: true };
    /// 32-bit protected mode, ring 0.
    #[cfg(test)]
    pub const PROTECTED: Self = Self { protected: true, cpl: 0, long: false };

    /// Returns `true` if a hypercall is allowed in this mode.
    pub const fn may_call(self) -> bool {
        self.protected && self.cpl == 0
    }
}

/// The registers of a VP that has made a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "registers are named after themselves")]
pub struct Registers {
    pub mode: Mode,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    /// XMM0 to XMM5. Needed only if [`super::Hypercalls::needs_xmm`] returns `true`.
    pub xmm: [[u8; 16]; XMM_REGISTERS],
    /// Whether the call has changed [`xmm`](Self::xmm), so that it must be written back to the VP.
    pub xmm_changed: bool,
}

const fn join(high: u64, low: u64) -> u64 {
    high << 32 | low & 0xffff_ffff
}

impl Registers {
    /// Creates registers that are all zero, in this mode.
    pub const fn new(mode: Mode) -> Self {
        let xmm = [[0; 16]; XMM_REGISTERS];
        Self { mode, rax: 0, rbx: 0, rcx: 0, rdx: 0, rsi: 0, rdi: 0, r8: 0, xmm, xmm_changed: false }
    }

    /// Returns the hypercall input value.
    pub const fn input(&self) -> HypercallInput {
        HypercallInput(if self.mode.long { self.rcx } else { join(self.rdx, self.rax) })
    }

    /// Returns the input parameters' GPA, or the first eight bytes of fast input.
    pub const fn first(&self) -> u64 {
        if self.mode.long { self.rdx } else { join(self.rbx, self.rcx) }
    }

    /// Returns the output parameters' GPA, or the second eight bytes of fast input.
    pub const fn second(&self) -> u64 {
        if self.mode.long { self.r8 } else { join(self.rdi, self.rsi) }
    }

    /// Changes the input value, for a call that continues later.
    pub(super) fn set_input(&mut self, input: HypercallInput) {
        if self.mode.long {
            self.rcx = input.0;
        } else {
            self.rdx = input.0 >> 32;
            self.rax = input.0 & 0xffff_ffff;
        }
    }

    /// Sets the result value in the registers of the calling convention.
    pub(super) fn set_result(&mut self, result: HypercallResult) {
        if self.mode.long {
            self.rax = result.bits();
        } else {
            self.rdx = result.bits() >> 32;
            self.rax = result.bits() & 0xffff_ffff;
        }
    }

    /// Returns the block of fast parameters.
    pub(super) fn fast_block(&self) -> [u8; FAST_BYTES] {
        let mut block = [0; FAST_BYTES];
        block[..8].copy_from_slice(&self.first().to_le_bytes());
        block[8..16].copy_from_slice(&self.second().to_le_bytes());
        block[16..].copy_from_slice(self.xmm.as_flattened());
        block
    }

    /// Puts fast output into the block at `offset`, a multiple of 16. Only 64-bit callers get fast output.
    pub(super) fn set_fast_output(&mut self, offset: usize, output: &[u8]) {
        let mut block = self.fast_block();
        block[offset..offset + output.len()].copy_from_slice(output);
        let (general, xmm) = block.split_at(GENERAL_BYTES);
        if let ([first, second], []) = general.as_chunks() {
            (self.rdx, self.r8) = (u64::from_le_bytes(*first), u64::from_le_bytes(*second));
        }
        if offset + output.len() > GENERAL_BYTES {
            self.xmm.as_flattened_mut().copy_from_slice(xmm);
            self.xmm_changed = true;
        }
    }
}
