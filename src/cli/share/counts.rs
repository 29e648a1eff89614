//! Counts a guest's requests by their kinds, for the log.

use std::fmt;

use super::wire::opcode;

/// One more than the highest kind that has a count of its own.
const KINDS: usize = 64;

/// The number of requests of each kind. The first count is that of all other kinds.
pub struct Counts([u64; KINDS]);

impl Counts {
    pub fn new() -> Self {
        Self([0; KINDS])
    }

    pub fn add(&mut self, opcode: u32) {
        let kind = usize::try_from(opcode).ok().filter(|kind| *kind < KINDS).unwrap_or(0);
        self.0[kind] += 1;
    }

    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Counts {
    /// Prints the kinds, the most frequent first: `5000 READ, 12 LOOKUP`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: Vec<_> = (0u32..).zip(self.0).filter(|(_, count)| *count > 0).collect();
        kinds.sort_by_key(|(kind, count)| (u64::MAX - count, *kind));
        for (place, (kind, count)) in kinds.into_iter().enumerate() {
            let separator = if place > 0 { ", " } else { "" };
            match opcode::name(kind) {
                Some(name) => write!(formatter, "{separator}{count} {name}")?,
                None => write!(formatter, "{separator}{count} of kind {kind}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_kinds_come_first() {
        let mut counts = Counts::new();
        for kind in [opcode::LOOKUP, opcode::READ, opcode::READ, 63, 64, u32::MAX] {
            counts.add(kind);
        }
        assert_eq!(counts.to_string(), "2 of kind 0, 2 READ, 1 LOOKUP, 1 of kind 63");
        assert_eq!(counts.all(), 6);
    }
}
