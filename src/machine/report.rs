//! Describes where a VP was executing, to find out why a guest hangs or crashed.
//!
//! The data comes from the guest: registers, page tables, the stack. Each report reads a bounded amount of it.

use std::fmt::Write;
use std::sync::OnceLock;

use vm_memory::{Bytes, GuestAddress};

use crate::boot::KernelSource;
use crate::boot::symbols::stack::{Registers, Stack, View};
use crate::boot::symbols::{SymbolOffset, Symbols};
use crate::config::Config;
use crate::guest_images::EMBEDDED;
use crate::kvm::vp::Vp;
use crate::kvm::{Mode, Whereabouts};
use crate::memory::{GuestMemory, PAGE_SIZE};

/// Maximum length of an instruction, in bytes.
const MAX_INSTRUCTION: usize = 15;
/// Length of a gate of the interrupt descriptor table in 64-bit mode, and in the other protected modes.
const LONG_GATE: u32 = 16;
const GATE: u32 = 8;
/// Index of the entry for double faults.
const DOUBLE_FAULT: u32 = 8;
/// The MSR with the target of a 64-bit SYSCALL, and the name of that target in Linux.
const IA32_LSTAR: u32 = 0xc000_0082;
const LINUX_SYSCALL: &str = "entry_SYSCALL_64";
/// KASLR moves Linux by a multiple of this, less than 1 GiB.
const SLIDE_UNIT: u64 = 2 << 20;
const MAX_SLIDE: u64 = 1 << 30;

/// Makes the reports of one life of a guest.
pub(super) struct Reporter {
    memory: GuestMemory,
    symbols: OnceLock<Symbols>,
}

impl Reporter {
    /// Creates a reporter, which has not read any symbols yet.
    pub fn new(memory: GuestMemory) -> Self {
        Self { memory, symbols: OnceLock::new() }
    }

    /// Returns the name of the code that the VP executes.
    pub fn name(&self, config: &Config, vp: &Vp) -> Option<SymbolOffset> {
        let place = vp.whereabouts().ok()?;
        self.symbols(config, vp).name(place.instruction)
    }

    /// Describes the callers of the code that the VP executes. The text follows a sentence, or is empty.
    pub fn callers(&self, config: &Config, vp: &Vp) -> String {
        let Ok(place) = vp.whereabouts() else { return String::new() };
        let Some(width) = place.mode.word() else { return String::new() };
        let Whereabouts { instruction, stack, frame, .. } = place;
        let registers = Registers { instruction, stack, frame, width };
        Stack::walk(self.symbols(config, vp), registers, &self.view(vp)).to_string()
    }

    /// Describes where a VP took a triple fault, and the possible reason.
    pub fn triple_fault(&self, config: &Config, vp: &Vp) -> String {
        let Ok(place) = vp.whereabouts() else { return String::new() };
        if place.is_reset {
            return self.before_reset(config, vp);
        }
        let mut text = format!(" at {}", self.place(config, vp, place.instruction));
        let _ = write!(text, " in {}", place.mode);
        if place.paging && place.page_fault != 0 {
            let _ = write!(text, ", the last page fault at {:#x} (CR2)", place.page_fault);
        }
        text += &self.callers(config, vp);
        if let Some(reason) = self.reason(vp, &place) {
            let _ = write!(text, ": {reason}");
        }
        text
    }

    /// Describes a VP that KVM has reset after a triple fault, as it does on AMD's processors, which keep no state of the VP.
    fn before_reset(&self, config: &Config, vp: &Vp) -> String {
        const RESET: &str = "this host's KVM resets a processor then and does not tell where it was";
        match vp.last_instruction() {
            Some(last) => {
                format!("; {RESET}; it last left the guest at {}", self.place(config, vp, last))
            }
            None => format!("; {RESET}"),
        }
    }

    /// Returns the reason why the VP could not handle an exception, if it can be determined.
    fn reason(&self, vp: &Vp, place: &Whereabouts) -> Option<String> {
        let view = self.view(vp);
        let is_mapped = |address: u64| view.read(address, &mut [0]);
        if !is_mapped(place.instruction) {
            return Some("no memory is mapped there".into());
        }
        let (table, limit) = (place.interrupt_table, u32::from(place.interrupt_table_limit));
        let gate = match place.mode {
            Mode::Real => return None,
            Mode::Long64 | Mode::Compatibility => LONG_GATE,
            Mode::Protected32 | Mode::Protected16 => GATE,
        };
        if limit == 0 {
            return Some("it has no interrupt descriptor table (IDT), so every exception is a triple fault".into());
        }
        if limit < gate * (DOUBLE_FAULT + 1) - 1 {
            return Some(format!(
                "its interrupt descriptor table (IDT) at {table:#x} ends before the double fault's entry"
            ));
        }
        if !is_mapped(table.wrapping_add(u64::from(gate * DOUBLE_FAULT))) {
            return Some(format!("its interrupt descriptor table (IDT) at {table:#x} is not mapped"));
        }
        // In 64-bit mode, the entry may select another stack.
        if !is_mapped(place.stack.wrapping_sub(8)) {
            return Some(format!("its stack at {:#x} is not mapped", place.stack));
        }
        let mut present = [0];
        view.read(table.wrapping_add(u64::from(gate * DOUBLE_FAULT) + 5), &mut present);
        (present[0] & 0x80 == 0)
            .then(|| format!("its interrupt descriptor table (IDT) at {table:#x} has no entry for the double fault"))
    }

    /// Describes the instruction at which a VP cannot continue. The text follows a sentence.
    pub fn instruction(&self, config: &Config, vp: &Vp) -> String {
        let Ok(place) = vp.whereabouts() else { return String::new() };
        let name = self.symbols(config, vp).name(place.instruction);
        let mut text = name.map(|name| format!(" ({name})")).unwrap_or_default();
        let _ = write!(text, " in {}", place.mode);
        let mut bytes = [0; MAX_INSTRUCTION];
        let view = self.view(vp);
        let length = (1..=bytes.len()).rev().find(|length| view.read(place.instruction, &mut bytes[..*length]));
        match length {
            Some(length) => {
                text += ", the bytes there";
                bytes[..length].iter().for_each(|byte| text += &format!(" {byte:02x}"));
            }
            None => text += ", where no memory is mapped",
        }
        text + &self.callers(config, vp)
    }

    fn place(&self, config: &Config, vp: &Vp, address: u64) -> String {
        match self.symbols(config, vp).name(address) {
            Some(name) => format!("{address:#x} ({name})"),
            None => format!("{address:#x}"),
        }
    }

    fn view<'a>(&'a self, vp: &'a Vp) -> VpView<'a> {
        VpView { memory: &self.memory, vp }
    }

    /// Returns the symbols, which are read for the first report that needs them.
    fn symbols(&self, config: &Config, vp: &Vp) -> &Symbols {
        self.symbols.get_or_init(|| {
            let embedded = KernelSource::Embedded { name: "vsc", bytes: EMBEDDED };
            let kernel = config.kernel.as_ref().unwrap_or(&embedded);
            let mut symbols = match &config.symbols {
                Some(file) => Symbols::read(file),
                None => Symbols::of_kernel(kernel),
            }
            .unwrap_or_else(|error| {
                log::warn!("{}: no symbols: {error}", config.name);
                Symbols::default()
            });
            if let Some(slide) = slide(&symbols, vp) {
                symbols.slide_by(slide);
            }
            symbols
        })
    }
}

/// Returns the offset by which KASLR has moved Linux, computed from its entry for system calls.
fn slide(symbols: &Symbols, vp: &Vp) -> Option<u64> {
    let (here, in_file) = (vp.read_msr(IA32_LSTAR)?, symbols.address_of(LINUX_SYSCALL)?);
    let slide = here.wrapping_sub(in_file);
    (slide < MAX_SLIDE && slide.is_multiple_of(SLIDE_UNIT)).then_some(slide)
}

/// Guest memory by the linear addresses of a VP.
struct VpView<'a> {
    memory: &'a GuestMemory,
    vp: &'a Vp,
}

impl View for VpView<'_> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let (mut address, mut rest) = (address, bytes);
        while !rest.is_empty() {
            let in_page = (PAGE_SIZE - address % PAGE_SIZE).min(rest.len() as u64) as usize;
            let (piece, after) = rest.split_at_mut(in_page);
            let read = self.vp.guest_physical(address).map(|place| self.memory.read_slice(piece, GuestAddress(place)));
            if !matches!(read, Some(Ok(()))) {
                return false;
            }
            address = address.wrapping_add(in_page as u64);
            rest = after;
        }
        true
    }
}
