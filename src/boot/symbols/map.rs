//! `System.map` and `/proc/kallsyms`: lines with an address, a letter for the kind, and a name.

use super::{MAX_SYMBOLS, Symbol, Symbols};
use crate::boot::BootError;
use crate::boot::file::ImageFile;

/// Debian's has 5 MB.
const MAX_LENGTH: u64 = 64 << 20;

pub(super) fn read(file: &ImageFile) -> Result<Symbols, BootError> {
    if file.length() > MAX_LENGTH {
        return Err(BootError::Malformed {
            file: file.name().into(),
            format: "System.map",
            problem: format!("it has more than {MAX_LENGTH} bytes"),
        });
    }
    let text = file.head(MAX_LENGTH as usize)?;
    let symbols: Vec<_> = symbols(&text).take(MAX_SYMBOLS).collect();
    let addresses = || symbols.iter().map(|symbol| symbol.address);
    let code = addresses().min().zip(addresses().max()).map(|(first, last)| first..last.saturating_add(1));
    Ok(Symbols::new(symbols, text, code.into_iter().collect()))
}

fn symbols(text: &[u8]) -> impl Iterator<Item = Symbol> {
    let start = text.as_ptr() as usize;
    text.split(|byte| *byte == b'\n').filter_map(move |line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let address = u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
        // Functions and labels: global, local and weak.
        let is_code = matches!(words.next()?, b"t" | b"T" | b"w" | b"W");
        let name = words.next()?;
        let offset = u32::try_from(name.as_ptr() as usize - start).ok()?;
        // Unprivileged users read zeroes in /proc/kallsyms.
        (is_code && address != 0).then(|| Symbol { address, size: 0, name: offset..offset + name.len() as u32 })
    })
}
