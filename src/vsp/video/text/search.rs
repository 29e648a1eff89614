//! Finds the fonts of a guest's kernel in the guest's memory.
//!
//! - Fonts that are part of Linux have the order of code page 437. Its left and right half block follow each other, which few other
//!   bytes look like; the rest of the table is checked where they are found.
//! - Fonts that a program has loaded (`setfont`) begin a page, after four words: a checksum, the number of glyphs, their size, and a
//!   number of users (Linux: `include/linux/font.h`, `fbcon_set_font`).

use std::ops::ControlFlow;

use vm_memory::{Bytes, GuestAddress};

use super::font::{Font, GLYPHS, HEIGHTS, LEFT_HALF, MAX_PITCH, Table};
use crate::memory::{GuestMemory, PAGE_SIZE, visit_resident};

/// Maximum number of fonts that are used. Linux has three, and one for each console that is given another.
const MAX_FONTS: usize = 8;
/// Maximum number of places that are looked at more closely. A guest that has more of them only makes its own text unreadable.
const MAX_PLACES: usize = 100_000;
/// Lines of the left and the right half block, for characters of 8 and 16 pixels.
const HALVES: [(&[u8], &[u8]); MAX_PITCH] = [(&[0xf0], &[0x0f]), (&[0xff, 0], &[0, 0xff])];
/// Eight bytes of the left half block.
const LEFT: [u64; MAX_PITCH] =
    [u64::from_le_bytes([0xf0; 8]), u64::from_le_bytes([0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0])];
/// Length of what precedes the glyphs of a loaded font, in bytes.
const HEADER: usize = 16;

/// Returns all fonts in the memory, the largest first: one that reads a text is more certain the larger its characters are.
pub fn fonts(memory: &GuestMemory) -> Vec<Font> {
    let mut found = Vec::new();
    let mut places = 0;
    visit_resident(memory, |first, bytes| {
        let pages = (first..).step_by(PAGE_SIZE as usize).zip(bytes.chunks(PAGE_SIZE as usize));
        let loaded = pages.flat_map(|(at, page)| Header::parse(page).map(|header| (at, header)));
        let fonts: Vec<_> = (loaded.flat_map(|(at, header)| header.fonts(memory, at)))
            .chain(halves(first, bytes).inspect(|_| places += 1).filter_map(|(at, pitch)| built_in(memory, at, pitch)))
            .take(MAX_FONTS)
            .collect();
        for font in fonts {
            if found.len() < MAX_FONTS && !found.contains(&font) {
                found.push(font);
            }
        }
        if found.len() < MAX_FONTS && places < MAX_PLACES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    found.sort_by_key(|font| std::cmp::Reverse(font.width * font.height));
    found
}

/// Returns places that may be inside of a left half block, and the bytes of a line there.
fn halves(first: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, usize)> {
    let mut before = 0;
    let words = bytes.as_chunks::<8>().0.iter().zip((first..).step_by(8));
    words.filter_map(move |(word, at)| {
        let word = u64::from_le_bytes(*word);
        // A block of more lines is looked at once.
        let is_new = word != std::mem::replace(&mut before, word);
        let pitch = LEFT.iter().position(|left| *left == word).filter(|_| is_new)? + 1;
        Some((at, pitch))
    })
}

/// Returns the font of the kernel whose left half block begins with, or up to 7 bytes before, this address.
fn built_in(memory: &GuestMemory, at: u64, pitch: usize) -> Option<Font> {
    let (left, right) = HALVES[pitch - 1];
    let before = 8 - pitch as u64;
    let mut bytes = [0; 2 * *HEIGHTS.end() * MAX_PITCH + 8];
    memory.read_slice(&mut bytes, GuestAddress(at.checked_sub(before)?)).ok()?;
    let mut lines = bytes.chunks_exact(pitch);
    let skipped = lines.by_ref().take_while(|line| *line != left).count();
    let height = 1 + lines.by_ref().take_while(|line| *line == left).count();
    let halves = [left.repeat(height), right.repeat(height)].concat();
    if !bytes[skipped * pitch..].starts_with(&halves) || !HEIGHTS.contains(&height) {
        return None;
    }
    let start = (at - before + (skipped * pitch) as u64).checked_sub((LEFT_HALF * height * pitch) as u64)?;
    let mut table = vec![0; GLYPHS * height * pitch];
    memory.read_slice(&mut table, GuestAddress(start)).ok()?;
    Font::new(&Table::new(&table, height, pitch)?, false)
}

/// The header of a loaded font, before its glyphs.
struct Header {
    checksum: u32,
    glyphs: usize,
    length: usize,
}

impl Header {
    fn parse(page: &[u8]) -> Option<Self> {
        let [checksum, glyphs, length, _] = *page.as_chunks::<4>().0.first_chunk::<4>()?;
        let [checksum, glyphs, length] = [checksum, glyphs, length].map(u32::from_le_bytes);
        let (glyphs, length) = (glyphs as usize, length as usize);
        let most = glyphs.checked_mul(HEIGHTS.end() * MAX_PITCH)?;
        let fits = [GLYPHS, 2 * GLYPHS].contains(&glyphs) && length <= most && length.is_multiple_of(glyphs);
        (fits && length > 0).then_some(Self { checksum, glyphs, length })
    }

    /// Returns the font after the header at this address: as one of narrow, and one of wide characters, if it can be both.
    fn fonts(self, memory: &GuestMemory, at: u64) -> Vec<Font> {
        let mut bytes = vec![0; self.length];
        let read =
            at.checked_add(HEADER as u64).is_some_and(|at| memory.read_slice(&mut bytes, GuestAddress(at)).is_ok());
        if !read || checksum(&bytes) != self.checksum {
            return Vec::new();
        }
        let size = self.length / self.glyphs;
        let pitches = (1..=MAX_PITCH).filter(|pitch| size.is_multiple_of(*pitch));
        pitches.filter_map(|pitch| Font::new(&Table::new(&bytes, size / pitch, pitch)?, true)).collect()
    }
}

/// Returns the CRC-32 of Linux's `crc32(0, ...)`: without the inversions at its start and its end.
pub fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::font::Extent;
    use super::super::testing::{drawn_font, memory_with, with_glyph};
    use super::*;
    use crate::memory::{Backing, create};

    fn sizes(memory: &GuestMemory) -> Vec<(usize, usize, Extent)> {
        fonts(memory).iter().map(|font| (font.width, font.height, font.extent)).collect()
    }

    /// Returns what a kernel keeps of a font that a program has loaded.
    fn loaded(glyphs: usize, bytes: &[u8]) -> Vec<u8> {
        let words = [checksum(bytes), glyphs as u32, bytes.len() as u32, 1];
        words.iter().flat_map(|word| word.to_le_bytes()).chain(bytes.iter().copied()).collect()
    }

    #[test]
    fn the_checksum_is_that_of_linux() {
        // By the kernel's own definition: the usual CRC-32 of "123456789" is 0xcbf43926 with both inversions.
        assert_eq!(checksum(&[0, 0, 0]), 0);
        assert_eq!(checksum(b"\xce\xcd\xcc\xcb56789") ^ u32::MAX, 0xcbf4_3926);
    }

    #[test]
    fn fonts_of_the_kernel_are_found_wherever_they_are_and_the_largest_is_the_first() {
        let (small, usual, large) = (drawn_font(8, 8), drawn_font(8, 16), drawn_font(16, 32));
        let memory = memory_with(&[(0x10_0020, &small), (0x1f_f900, &usual), (0x21_0010, &large), (0x30_0000, &usual)]);
        let expected = [(16, 32), (8, 16), (8, 8)].map(|(width, height)| (width, height, Extent::CodePage));
        assert_eq!(sizes(&memory), expected);
        let odd = drawn_font(8, 14);
        assert_eq!(sizes(&memory_with(&[(0x12_3450, &odd)])), [(8, 14, Extent::CodePage)]);
        assert_eq!(sizes(&memory_with(&[])), []);
    }

    #[test]
    fn a_loaded_font_is_found_by_its_checksum_also_if_only_its_letters_are_known() {
        let font = with_glyph(&drawn_font(8, 16), 0xdb, &[7; 16]);
        let kept = loaded(256, &font);
        assert_eq!(sizes(&memory_with(&[(0x10_0000, &kept)])), [(8, 16, Extent::Ascii)]);
        assert_eq!(sizes(&memory_with(&[(0x10_0010, &kept)])), [], "it begins a page");
        let twice = [&font[..], &font].concat();
        assert_eq!(sizes(&memory_with(&[(0x10_0000, &loaded(512, &twice))])), [(8, 16, Extent::Ascii)]);
        let mut wrong = kept;
        wrong[100] ^= 1;
        assert_eq!(sizes(&memory_with(&[(0x10_0000, &wrong)])), []);
        let wide = with_glyph(&drawn_font(12, 22), 0xdb, &[0x55, 0x50].repeat(22));
        assert_eq!(sizes(&memory_with(&[(0x10_0000, &loaded(256, &wide))])), [(12, 22, Extent::Ascii)]);
    }

    #[test]
    fn a_guest_full_of_fonts_or_of_what_looks_like_them_is_searched_in_bounds() {
        let memory = create(16 << 20, Backing::Private).unwrap();
        memory.write_slice(&[[0xf0; 8], [0; 8]].concat().repeat(1 << 20), GuestAddress(0)).unwrap();
        assert_eq!(fonts(&memory), []);
        for at in 0..100 {
            let font = with_glyph(&drawn_font(8, 16), 1, &[at; 16]);
            memory.write_slice(&font, GuestAddress(0x10_0000 + u64::from(at) * 0x1000)).unwrap();
        }
        assert_eq!(fonts(&memory).len(), MAX_FONTS);
    }

    proptest! {
        #[test]
        fn no_bytes_harm_the_search(parts in prop::collection::vec((0_u64..0x20_0000, prop::collection::vec(
            prop_oneof![Just(0xf0_u8), Just(0x0f), Just(0xff), Just(0), any::<u8>()], 0..600)), 0..8)) {
            let parts: Vec<_> = parts.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
            prop_assert_eq!(sizes(&memory_with(&parts)), []);
        }

        #[test]
        fn a_header_of_any_numbers_is_harmless(words: [u32; 4], glyphs in prop_oneof![Just(256_u32), Just(512)], at in 0_u64..3) {
            let header: Vec<u8> = [words[0], glyphs, words[2] & 0xffff, words[3]].iter().flat_map(|word| word.to_le_bytes()).collect();
            prop_assert_eq!(sizes(&memory_with(&[((4 << 20) - 0x1000 * (at + 1), &header)])), []);
        }
    }
}
