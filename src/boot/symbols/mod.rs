//! The symbols of a guest kernel's code, for reports of where a VP was.
//!
//! They come from the symbol table of an ELF file (System V ABI, chapter 4) or from a `System.map`. Both are read only
//! when a report needs them. Neither is trusted: sizes and counts are bounded, and names are made safe for a terminal.

use std::fmt;
use std::ops::Range;
use std::path::Path;

mod elf;
mod map;
mod orc;
pub mod stack;

use super::file::ImageFile;
use super::{BootError, KernelSource};
use orc::Orc;

/// A kernel with debug information has about 200,000 functions.
const MAX_SYMBOLS: usize = 1 << 20;
/// Longer names are truncated.
const MAX_NAME: usize = 120;
/// Maximum extent of a symbol without a size.
const MAX_REACH: u64 = 1 << 20;

/// One function or label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    address: u64,
    /// Size in bytes, or 0 if unknown.
    size: u64,
    /// The range of its name in the text.
    name: Range<u32>,
}

/// A part of the kernel whose physical address differs from its virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    virtual_address: u64,
    physical_address: u64,
    size: u64,
}

/// The symbols of one kernel's code, ordered by address.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Ordered by address.
    symbols: Vec<Symbol>,
    /// The names.
    text: Vec<u8>,
    /// The address ranges of code.
    code: Vec<Range<u64>>,
    loads: Vec<Load>,
    orc: Option<Orc>,
    /// The offset of the kernel's addresses from those in the file: the kernel may have relocated itself (KASLR).
    slide: u64,
}

impl Symbols {
    /// Reads the symbols in `file`, an ELF file or a `System.map`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or has neither format.
    pub fn read(file: &Path) -> Result<Self, BootError> {
        Self::of_image(&ImageFile::open(file).map_err(|error| error.of("--symbols"))?)
    }

    /// Reads the symbols of the kernel's file. There are none if it is not an ELF file, or if it was stripped.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is malformed.
    pub fn of_kernel(kernel: &KernelSource) -> Result<Self, BootError> {
        match kernel {
            KernelSource::Flat { .. } => Ok(Self::default()),
            KernelSource::Embedded { name, bytes } => Self::of_elf(&ImageFile::embedded(name, bytes)?),
            KernelSource::File(path) => Self::of_elf(&ImageFile::open(path)?),
        }
    }

    fn of_image(file: &ImageFile) -> Result<Self, BootError> {
        let symbols = match elf::read(file)? {
            Some(symbols) => symbols,
            None => map::read(file)?,
        };
        match symbols.is_empty() {
            false => Ok(symbols),
            true => Err(BootError::Malformed {
                file: file.name().into(),
                format: "file of symbols",
                problem: "it has no symbols: it is a stripped ELF file, or not a System.map".into(),
            }),
        }
    }

    fn of_elf(file: &ImageFile) -> Result<Self, BootError> {
        Ok(elf::read(file)?.unwrap_or_default())
    }

    /// Sorts the symbols.
    fn new(mut symbols: Vec<Symbol>, text: Vec<u8>, code: Vec<Range<u64>>) -> Self {
        // If there are several at one address, the first stays.
        symbols.sort_by_key(|symbol| symbol.address);
        symbols.dedup_by_key(|symbol| symbol.address);
        Self { symbols, text, code, ..Self::default() }
    }

    /// Returns `true` if there are no symbols.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Returns the address of a symbol in the file.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        let is_it = |symbol: &&Symbol| self.bytes(symbol) == name.as_bytes();
        self.symbols.iter().find(is_it).map(|symbol| symbol.address)
    }

    /// Sets the offset of the kernel's addresses from those in the file.
    pub fn slide_by(&mut self, slide: u64) {
        self.slide = slide;
    }

    /// Returns the symbol of the code at `address`.
    pub fn name(&self, address: u64) -> Option<SymbolOffset> {
        let address = self.in_file(address)?;
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        let offset = address - symbol.address;
        let reach = if symbol.size == 0 { MAX_REACH } else { symbol.size };
        (offset < reach).then(|| SymbolOffset { name: printable(self.bytes(symbol)), offset })
    }

    /// Returns `true` if the kernel's code is at `address`.
    pub fn is_code(&self, address: u64) -> bool {
        self.in_file(address).is_some()
    }

    /// Returns the address in the file of the code that the guest has at `address`.
    fn in_file(&self, address: u64) -> Option<u64> {
        let is_code = |address: &u64| self.code.iter().any(|range| range.contains(address));
        let slid = Some(address.wrapping_sub(self.slide)).filter(is_code);
        // Before a kernel has its own page tables, it runs at physical addresses.
        slid.or_else(|| {
            let virtual_address = |load: &Load| {
                let offset = address.checked_sub(load.physical_address).filter(|offset| *offset < load.size)?;
                load.virtual_address.checked_add(offset)
            };
            self.loads.iter().filter_map(virtual_address).find(is_code)
        })
    }

    fn bytes(&self, symbol: &Symbol) -> &[u8] {
        self.text.get(symbol.name.start as usize..symbol.name.end as usize).unwrap_or_default()
    }
}

/// A place in the kernel's code. Displayed as in Linux: `name+0x12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolOffset {
    name: String,
    offset: u64,
}

impl fmt::Display for SymbolOffset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}+{:#x}", self.name, self.offset)
    }
}

/// Returns a name without terminal control characters.
fn printable(name: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    let mut text: String = name.iter().take(MAX_NAME).map(shown).collect();
    if name.len() > MAX_NAME {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;
