//! Finds pictures that have scrolled: their lines are those that were there before, further up or down.

use std::collections::HashMap;
use std::ops::Range;

/// The minimum height of a part that is looked at, in lines.
const MIN_LINES: usize = 64;
/// The part of the lines that must have moved together: one in so many.
const MOVED: usize = 16;
/// Number of looks without a scroll after which there is a pause, so that a film is not searched for nothing.
const PATIENCE: u32 = 4;
/// The maximum number of looks until the next one that searches. Each one without a scroll doubles the number.
const MAX_PAUSE: u32 = 32;

/// Returns a number for a line of pixels of four bytes that is another one for another line, almost always.
pub fn hash(line: &[u8]) -> u64 {
    /// The bytes of two pixels that are part of the picture.
    const COLOURS: u64 = 0x00ff_ffff_00ff_ffff;
    let mix = |hash: u64, value: u64| (hash.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let colours = |pixels: &[u8; 8]| u64::from_le_bytes(*pixels) & COLOURS;
    // Four at a time, because each multiplication waits for the one before.
    let mut hashes = [0_u64; 4];
    let (pairs, rest) = line.as_chunks();
    let (fours, pairs) = pairs.as_chunks::<4>();
    for four in fours {
        hashes.iter_mut().zip(four).for_each(|(hash, pair)| *hash = mix(*hash, colours(pair)));
    }
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let pairs = pairs.iter().chain([&last]).map(colours);
    hashes.into_iter().chain(pairs).fold(line.len() as u64, mix)
}

/// Lines that were there before, further up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The distance upwards: line `y` was line `y + by` before.
    pub by: i32,
    /// Their present range. Few of them are not among those that have moved.
    pub lines: Range<usize>,
}

/// Decides whether looking for scrolls pays.
#[derive(Debug, Default)]
pub struct Detector {
    /// Searches without a scroll since the last one.
    misses: u32,
    /// Number of looks until the next one that searches.
    pause: u32,
}

impl Detector {
    /// Returns `true` if a part of this height is to be looked at.
    pub fn is_worthwhile(&mut self, lines: usize) -> bool {
        if lines < MIN_LINES {
            return false;
        }
        self.pause = self.pause.saturating_sub(1);
        self.pause == 0
    }

    /// Returns the lines that have moved up or down, `None` if there are none.
    pub fn find(&mut self, old: &[u64], new: &[u64]) -> Option<Moved> {
        let found = moved(old, new);
        if found.is_some() {
            self.misses = 0;
        } else if old != new {
            self.misses = self.misses.saturating_add(1);
            let doublings = self.misses.saturating_sub(PATIENCE - 1);
            self.pause = 1_u32.checked_shl(doublings).unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
        }
        found
    }
}

fn moved(old: &[u64], new: &[u64]) -> Option<Moved> {
    /// Stands for a line that is there more than once.
    const MANY: usize = usize::MAX;
    let places = |lines: &[u64]| {
        let mut places = HashMap::with_capacity(lines.len());
        for (y, line) in lines.iter().enumerate() {
            places.entry(*line).and_modify(|place| *place = MANY).or_insert(y);
        }
        places
    };
    let (before, now) = (places(old), places(new));
    let mut votes: HashMap<i32, usize> = HashMap::new();
    for (line, y) in now.iter().filter(|(_, y)| **y != MANY) {
        if let Some(from) = before.get(line).filter(|from| **from != MANY) {
            *votes.entry(*from as i32 - *y as i32).or_default() += 1;
        }
    }
    votes.remove(&0);
    let (by, _) = votes.into_iter().max_by_key(|(by, count)| (*count, -by.abs()))?;
    let (lines, gain) = block(old, new, by);
    (gain > 0 && gain * MOVED >= new.len()).then_some(Moved { by, lines })
}

/// Returns the part of the new lines in which moving all lines has the greatest gain: lines that are right then and were not before,
/// without those that were right and are not then. A picture that is read while it scrolls has lines that have not moved yet. Also
/// returns the gain.
fn block(old: &[u64], new: &[u64], by: i32) -> (Range<usize>, usize) {
    let (mut start, mut gain) = (0, 0_isize);
    let (mut best, mut best_gain) = (0..0, 0);
    for (y, line) in new.iter().enumerate() {
        let Some(from) = y.checked_add_signed(by as isize).and_then(|from| old.get(from)) else { continue };
        if gain <= 0 {
            (start, gain) = (y, 0);
        }
        gain += isize::from(from == line) - isize::from(old.get(y) == Some(line));
        if gain > best_gain {
            (best, best_gain) = (start..y + 1, gain);
        }
    }
    (best, best_gain.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_scrolls_is_found_and_a_window_that_changes_is_not() {
        let old: Vec<u64> = (0..160).map(|y| if y % 16 < 4 { 7 } else { y }).collect();
        let up: Vec<u64> = old[16..].iter().copied().chain(1000..1016).collect();
        assert_eq!(moved(&old, &up), Some(Moved { by: 16, lines: 4..144 }));
        assert_eq!(moved(&up, &old), Some(Moved { by: -16, lines: 20..160 }));
        assert_eq!(moved(&old, &old), None);
        let changed: Vec<u64> = old.iter().map(|line| if *line > 100 { line + 5000 } else { *line }).collect();
        assert_eq!(moved(&old, &changed), None);
        assert_eq!(moved(&[7; 160], &[7; 160]), None, "an empty screen does not move");
    }

    #[test]
    fn a_picture_that_is_read_while_it_scrolls_is_found_in_parts() {
        let old: Vec<u64> = (0..200).collect();
        let scrolled: Vec<u64> = (16..200).chain(1000..1016).collect();
        // The guest moves its lines from top to bottom.
        for done in [40, 100, 150] {
            let torn = [&scrolled[..done], &old[done..]].concat();
            assert_eq!(moved(&old, &torn), Some(Moved { by: 16, lines: 0..done }));
            assert_eq!(moved(&torn, &scrolled).map(|moved| (moved.by, moved.lines.end)), Some((16, 184)));
        }
        let window: Vec<u64> = (0..50).chain(66..120).chain(500..516).chain(120..200).collect();
        assert_eq!(moved(&old, &window), Some(Moved { by: 16, lines: 50..104 }), "a part of the lines scrolls");
    }

    #[test]
    fn it_is_not_looked_for_where_it_does_not_pay() {
        let mut detector = Detector::default();
        assert!(!detector.is_worthwhile(MIN_LINES - 1));
        let film = |frame: u64| (0..100).map(|y| frame * 1000 + y).collect::<Vec<_>>();
        let looks = (0..100).filter(|frame| {
            let looks = detector.is_worthwhile(100);
            assert!(!looks || detector.find(&film(*frame), &film(frame + 1)).is_none());
            looks
        });
        assert!((5..=PATIENCE as usize + 7).contains(&looks.count()), "fewer and fewer, but not none");
        let mut detector = Detector::default();
        assert!((0..100).all(|_| detector.is_worthwhile(100) && detector.find(&film(0), &film(0)).is_none()));
    }

    proptest! {
        #[test]
        fn what_is_found_is_within_the_picture(old in prop::collection::vec(0_u64..50, 0..80), new in prop::collection::vec(0_u64..50, 0..80)) {
            if let Some(Moved { by, lines }) = moved(&old, &new) {
                prop_assert!(by != 0 && by.unsigned_abs() < 80 && !lines.is_empty() && lines.end <= new.len());
                let from = lines.start as i64 + i64::from(by)..lines.end as i64 + i64::from(by);
                prop_assert!(from.start >= 0 && from.end <= old.len() as i64);
            }
        }
    }

    #[test]
    fn lines_of_other_pixels_have_other_hashes() {
        let line = |at: usize, colour: [u8; 4]| {
            let mut line = [[0; 4]; 75];
            line[at] = colour;
            hash(line.as_flattened())
        };
        let hashes = (0..75).flat_map(|at| (0..3).map(move |part| line(at, 1_u32.rotate_left(8 * part).to_le_bytes())));
        assert_eq!(hashes.collect::<std::collections::BTreeSet<_>>().len(), 3 * 75);
        assert!(
            (0..75).all(|at| line(at, [0, 0, 0, 7]) == line(0, [0; 4])),
            "the fourth byte is no part of the picture"
        );
        assert_ne!(hash(&[0; 8]), hash(&[0; 4]));
    }
}
