//! The parts of the picture that a viewer lacks: in each tile, the smallest rectangle around them.

use super::tight::MAX_WIDTH;
use super::turn::Scrolled;
use crate::vsp::video::damage::Rectangle;

/// Width and height of a tile.
pub const TILE: u32 = 64;
/// Maximum number of pixels of a rectangle that is sent.
const MAX_AREA: u64 = 1 << 18;
/// Maximum number of pixels that are sent again to have one rectangle less: each has a header, and ends a block of compressed data.
const MAX_WASTE: u64 = 512;

/// The parts of a picture that a viewer wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The part of which it wants what has changed.
    pub area: Rectangle,
    /// The part that it wants as it is.
    pub whole: Option<Rectangle>,
}

/// What a viewer lacks of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    columns: u32,
    /// For each tile, line by line.
    parts: Vec<Option<Rectangle>>,
}

/// Returns the smallest rectangle around both.
fn around(one: Option<Rectangle>, other: Option<Rectangle>) -> Option<Rectangle> {
    [one, other].into_iter().flatten().reduce(Rectangle::around)
}

impl Missing {
    /// Returns all of a picture of this size.
    pub fn all((width, height): (u32, u32)) -> Self {
        let columns = width.div_ceil(TILE);
        let mut missing = Self { columns, parts: vec![None; (columns * height.div_ceil(TILE)) as usize] };
        missing.fill();
        missing
    }

    /// Adds everything.
    pub fn fill(&mut self) {
        let columns = self.columns;
        (0..).zip(&mut self.parts).for_each(|(index, part)| *part = Some(tile(index, columns)));
    }

    /// Returns the numbers of the tiles that a part touches.
    fn tiles(&self, part: Rectangle) -> impl Iterator<Item = u32> + use<> {
        let (columns, count) = (self.columns, self.parts.len() as u32);
        let (left, right) = (part.left / TILE, part.right.div_ceil(TILE).min(columns));
        let rows = part.top / TILE..part.bottom.div_ceil(TILE);
        let indexes = rows.flat_map(move |row| (left..right).map(move |column| row * columns + column));
        indexes.take_while(move |index| *index < count)
    }

    /// Adds a part.
    pub fn add(&mut self, part: Rectangle) {
        for index in self.tiles(part) {
            if let Some(missing) = self.parts.get_mut(index as usize) {
                *missing = around(*missing, tile(index, self.columns).common(part));
            }
        }
    }

    /// Returns the smallest rectangle around what is missing of a part.
    fn within(&self, part: Rectangle) -> Option<Rectangle> {
        let parts = self.tiles(part).filter_map(|index| self.parts.get(index as usize).copied()??.common(part));
        parts.reduce(Rectangle::around)
    }

    /// Follows a scroll: what was missing has moved with the picture. Returns `false` if nothing can be copied.
    pub fn scroll(&mut self, Scrolled { to, from }: Scrolled) -> bool {
        let before = self.clone();
        let moved =
            |part: Rectangle, by: i64| Rectangle { top: lines(part.top, by), bottom: lines(part.bottom, by), ..part };
        let by = i64::from(to.top) - i64::from(from);
        let mut useful = false;
        for index in self.tiles(to) {
            let Some(copied) = tile(index, self.columns).common(to) else { continue };
            let lacks = before.within(moved(copied, -by)).map(|part| moved(part, by));
            useful |= lacks != Some(copied);
            if let Some(missing) = self.parts.get_mut(index as usize) {
                // What the copy replaces is not missing any more.
                *missing = around(missing.filter(|part| part.common(copied) != Some(*part)), lacks);
            }
        }
        useful
    }

    /// Takes what a viewer wants, as rectangles within the part that it shows.
    pub fn take(&mut self, wanted: Wanted, shown: Rectangle) -> Vec<Rectangle> {
        let columns = self.columns;
        // The rectangles that the next line of tiles can continue are the open ones.
        let (mut closed, mut open) = (Vec::new(), Vec::new());
        for (row, parts) in (0..).zip(self.parts.chunks_mut(columns.max(1) as usize)) {
            let mut line: Vec<Rectangle> = Vec::new();
            for (column, missing) in (0..).zip(parts) {
                let tile = tile(row * columns + column, columns);
                let Some(part) = wanted.of(tile, *missing).and_then(|part| part.common(shown)) else { continue };
                *missing = None;
                match line.last_mut().filter(|last| pays(**last, part)) {
                    Some(last) => *last = last.around(part),
                    None => line.push(part),
                }
            }
            for part in &mut line {
                if let Some(at) = open.iter().position(|above| pays(*above, *part)) {
                    *part = open.swap_remove(at).around(*part);
                }
            }
            closed.append(&mut open);
            open = line;
        }
        closed.append(&mut open);
        closed
    }
}

impl Wanted {
    /// Returns the part of a tile that is wanted.
    fn of(&self, tile: Rectangle, missing: Option<Rectangle>) -> Option<Rectangle> {
        if self.whole.is_some_and(|whole| tile.common(whole).is_some()) {
            return Some(tile);
        }
        // Who asks for a part of what is missing of a tile is sent all of it.
        missing.filter(|missing| missing.common(self.area).is_some())
    }
}

fn tile(index: u32, columns: u32) -> Rectangle {
    let columns = columns.max(1);
    let (left, top) = (index % columns * TILE, index / columns * TILE);
    Rectangle { left, top, right: left + TILE, bottom: top + TILE }
}

/// Returns a number of a line that many lines further down.
fn lines(line: u32, by: i64) -> u32 {
    u32::try_from(i64::from(line) + by).unwrap_or(0)
}

/// Returns `true` if it pays to send one rectangle around both.
fn pays(one: Rectangle, other: Rectangle) -> bool {
    let both = one.around(other);
    let area = both.area();
    both.right - both.left <= MAX_WIDTH && area <= MAX_AREA && area <= one.area() + other.area() + MAX_WASTE
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = Wanted { area: Rectangle { left: 0, top: 0, right: 65535, bottom: 65535 }, whole: None };
    const SIZE: (u32, u32) = (1000, 500);
    const SHOWN: Rectangle = Rectangle { left: 0, top: 0, right: SIZE.0, bottom: SIZE.1 };

    fn rectangle(left: u32, top: u32, right: u32, bottom: u32) -> Rectangle {
        Rectangle { left, top, right, bottom }
    }

    fn none() -> Missing {
        let mut missing = Missing::all(SIZE);
        assert_eq!(missing.take(ALL, SHOWN).iter().map(|part| part.area()).sum::<u64>(), 500_000);
        assert_eq!(missing.take(ALL, SHOWN), []);
        missing
    }

    #[test]
    fn a_window_is_one_rectangle_and_what_is_far_away_another() {
        let mut missing = none();
        let window = rectangle(70, 30, 470, 330);
        missing.add(window);
        missing.add(rectangle(900, 100, 916, 116));
        assert_eq!(missing.take(ALL, SHOWN), [rectangle(900, 100, 916, 116), window]);
        missing.add(rectangle(16, 16, 32, 32));
        missing.add(rectangle(48, 16, 80, 32));
        assert_eq!(missing.take(ALL, SHOWN), [rectangle(16, 16, 80, 32)], "a gap costs less than a header");
    }

    #[test]
    fn rectangles_have_limits_and_have_each_pixel() {
        let size = (7680, 2160);
        let mut missing = Missing::all(size);
        let rectangles = missing.take(ALL, rectangle(0, 0, size.0, size.1));
        assert!(rectangles.iter().all(|part| part.right - part.left <= MAX_WIDTH && part.area() <= MAX_AREA));
        assert_eq!(rectangles.iter().map(|part| part.area()).sum::<u64>(), 7680 * 2160);
    }

    #[test]
    fn what_was_missing_moves_with_a_scroll() {
        let mut missing = none();
        missing.add(rectangle(100, 200, 110, 210));
        assert!(missing.scroll(Scrolled { to: rectangle(0, 0, 1000, 484), from: 16 }));
        assert_eq!(missing.take(ALL, SHOWN), [rectangle(100, 184, 110, 194)]);
        missing.fill();
        assert!(!missing.scroll(Scrolled { to: rectangle(0, 16, 1000, 500), from: 0 }), "it has nothing to copy");
    }

    #[test]
    fn only_what_is_wanted_is_taken() {
        let mut missing = none();
        missing.add(rectangle(100, 200, 110, 210));
        let elsewhere = Wanted { area: rectangle(0, 0, 100, 500), whole: None };
        assert_eq!(missing.take(elsewhere, SHOWN), []);
        let whole = Wanted { area: elsewhere.area, whole: Some(rectangle(70, 70, 71, 71)) };
        assert_eq!(missing.take(whole, SHOWN), [rectangle(64, 64, 128, 128)], "whole tiles");
        assert_eq!(missing.take(ALL, SHOWN), [rectangle(100, 200, 110, 210)]);
    }
}
