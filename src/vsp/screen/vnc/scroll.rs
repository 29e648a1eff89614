//! Finds pictures that have scrolled: their lines are those that were there before, further up or down.

use std::collections::HashMap;

/// The minimum height of a part that is looked at, in lines.
const MIN_LINES: usize = 64;
/// The part of the lines that must have moved together: one in so many. Lines that are there more than once do not count.
const MOVED: usize = 16;
/// Number of looks without a scroll after which there is a pause, so that a film is not searched for nothing.
const PATIENCE: u32 = 4;
/// Number of looks of the pause.
const PAUSE: u32 = 32;

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

/// Decides whether looking for scrolls pays.
#[derive(Debug, Default)]
pub struct Detector {
    misses: u32,
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

    /// Returns how far the lines have moved up: line `y` was line `y + n` before. `None` if they have not.
    pub fn find(&mut self, old: &[u64], new: &[u64]) -> Option<i32> {
        let found = moved(old, new);
        if found.is_some() {
            self.misses = 0;
        } else if old != new {
            self.misses += 1;
            if self.misses >= PATIENCE {
                (self.misses, self.pause) = (0, PAUSE);
            }
        }
        found
    }
}

fn moved(old: &[u64], new: &[u64]) -> Option<i32> {
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
    let stays = votes.remove(&0).unwrap_or(0);
    let (by, count) = votes.into_iter().max_by_key(|(by, count)| (*count, -by.abs()))?;
    (count > stays && count * MOVED >= new.len()).then_some(by)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_scrolls_is_found_and_a_window_that_changes_is_not() {
        let old: Vec<u64> = (0..160).map(|y| if y % 16 < 4 { 7 } else { y }).collect();
        let up: Vec<u64> = old[16..].iter().copied().chain(1000..1016).collect();
        assert_eq!(moved(&old, &up), Some(16));
        assert_eq!(moved(&up, &old), Some(-16));
        assert_eq!(moved(&old, &old), None);
        let changed: Vec<u64> = old.iter().map(|line| if *line > 100 { line + 5000 } else { *line }).collect();
        assert_eq!(moved(&old, &changed), None);
        assert_eq!(moved(&[7; 160], &[7; 160]), None, "an empty screen does not move");
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
        assert!(looks.count() <= 4 * PATIENCE as usize);
        let mut detector = Detector::default();
        assert!((0..100).all(|_| detector.is_worthwhile(100) && detector.find(&film(0), &film(0)).is_none()));
    }

    proptest! {
        #[test]
        fn what_is_found_is_within_the_picture(old in prop::collection::vec(0_u64..50, 0..80), new in prop::collection::vec(0_u64..50, 0..80)) {
            if let Some(by) = moved(&old, &new) {
                prop_assert!(by != 0 && by.unsigned_abs() < 80);
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
