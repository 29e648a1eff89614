//! A set of pages, as a bitmap.
//!
//! A guest decides how its pages are scattered. A tree of ranges could take a hundred bytes for each page; this takes a
//! bit for each page of the machine, whatever the guest does.

use std::ops::Range;

/// Number of pages in a word.
const BITS: u64 = 64;

/// A set of pages with numbers below a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet {
    words: Vec<u64>,
    count: u64,
    /// All pages below this word are missing.
    first_word: usize,
}

impl PageSet {
    /// Creates an empty set for pages below `limit`.
    pub fn new(limit: u64) -> Self {
        Self { words: vec![0; limit.div_ceil(BITS) as usize], count: 0, first_word: 0 }
    }

    /// Returns the number of pages in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds pages. Those at or beyond the limit are ignored. Returns the ranges of pages that are new.
    pub fn insert(&mut self, pages: Range<u64>) -> Vec<Range<u64>> {
        let end = pages.end.min(self.words.len() as u64 * BITS);
        let mut added: Vec<Range<u64>> = Vec::new();
        let mut page = pages.start;
        while page < end {
            let stop = end.min((page / BITS + 1) * BITS);
            let word = &mut self.words[(page / BITS) as usize];
            let mask = mask(page..stop);
            // Runs of new pages in this word.
            let mut new = mask & !*word;
            *word |= mask;
            while new != 0 {
                let from = new.trailing_zeros();
                let length = (new >> from).trailing_ones();
                let first = page / BITS * BITS + u64::from(from);
                match added.last_mut() {
                    Some(last) if last.end == first => last.end += u64::from(length),
                    _ => added.push(first..first + u64::from(length)),
                }
                self.count += u64::from(length);
                new &= new.wrapping_add(1 << from);
            }
            page = stop;
        }
        if let Some(first) = added.first() {
            self.first_word = self.first_word.min((first.start / BITS) as usize);
        }
        added
    }

    /// Removes and returns the lowest run of pages, at most `limit` long. Returns `None` if the set is empty.
    pub fn take(&mut self, limit: u64) -> Option<Range<u64>> {
        if limit == 0 {
            return None;
        }
        while *self.words.get(self.first_word)? == 0 {
            self.first_word += 1;
        }
        let mut index = self.first_word;
        let start = index as u64 * BITS + u64::from(self.words[index].trailing_zeros());
        let mut end = start;
        while let Some(word) = self.words.get(index) {
            let ones = u64::from((word >> (end % BITS)).trailing_ones()).min(limit - (end - start));
            self.words[index] &= !mask(end..end + ones);
            end += ones;
            if !end.is_multiple_of(BITS) || ones == 0 {
                break;
            }
            index += 1;
        }
        self.count -= end - start;
        Some(start..end)
    }
}

/// Returns the bits of pages that are in one word.
fn mask(pages: Range<u64>) -> u64 {
    match pages.end - pages.start {
        0 => 0,
        length => u64::MAX >> (BITS - length) << (pages.start % BITS),
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
