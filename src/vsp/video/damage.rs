//! The parts of a picture that a guest says it has drawn.

/// Maximum number of rectangles. More become one that contains them.
const MAX_RECTANGLES: usize = 64;

/// A rectangle of pixels. Right and bottom are not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// The first column.
    pub left: u32,
    /// The first line.
    pub top: u32,
    /// The column after the last.
    pub right: u32,
    /// The line after the last.
    pub bottom: u32,
}

impl Rectangle {
    /// Returns the rectangle from the origin.
    pub fn of_size(width: u32, height: u32) -> Self {
        Self { left: 0, top: 0, right: width, bottom: height }
    }

    /// Returns the number of pixels, 0 if right or bottom precede left or top.
    pub fn area(self) -> u64 {
        u64::from(self.right.saturating_sub(self.left)) * u64::from(self.bottom.saturating_sub(self.top))
    }

    /// Returns the part that both have, `None` if there is none.
    pub fn common(self, other: Self) -> Option<Self> {
        let both = Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        };
        (both.left < both.right && both.top < both.bottom).then_some(both)
    }

    /// Returns the smallest rectangle that contains both.
    pub fn around(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

/// The rectangles that were drawn since the host last read the picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage(Vec<Rectangle>);

impl Damage {
    /// Adds a rectangle. It is joined with those that it overlaps, if one rectangle around both is no larger.
    pub fn add(&mut self, mut rectangle: Rectangle) {
        let joined =
            |one: Rectangle, other: Rectangle| one.around(other).area() <= one.area().saturating_add(other.area());
        while let Some(at) = self.0.iter().position(|other| joined(*other, rectangle)) {
            rectangle = rectangle.around(self.0.swap_remove(at));
        }
        self.0.push(rectangle);
        if self.0.len() > MAX_RECTANGLES {
            let around = self.0.drain(..).reduce(Rectangle::around);
            self.0.extend(around);
        }
    }

    /// Replaces all by one rectangle.
    pub fn set(&mut self, rectangle: Rectangle) {
        self.0 = vec![rectangle];
    }

    /// Takes the rectangles.
    pub fn take(&mut self) -> Vec<Rectangle> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rectangles_become_one_around_them() {
        let mut damage = Damage::default();
        for at in 0..=MAX_RECTANGLES as u32 {
            damage.add(Rectangle { left: at, top: 2 * at, right: at + 1, bottom: 2 * at + 1 });
        }
        let last = MAX_RECTANGLES as u32;
        assert_eq!(damage.take(), [Rectangle::of_size(last + 1, 2 * last + 1)]);
        assert_eq!(damage.take(), []);
    }

    #[test]
    fn a_window_that_moves_is_read_once() {
        let mut damage = Damage::default();
        let window = |at: u32| Rectangle { left: 4 * at, top: 2 * at, right: 404 + 4 * at, bottom: 302 + 2 * at };
        (0..10).for_each(|at| damage.add(window(at)));
        damage.add(Rectangle { left: 1000, top: 10, right: 1010, bottom: 20 });
        let small = Rectangle { left: 1002, top: 12, right: 1004, bottom: 14 };
        damage.add(small);
        let all = window(0).around(window(9));
        assert_eq!(damage.take(), [all, Rectangle { left: 1000, top: 10, right: 1010, bottom: 20 }]);
    }

    #[test]
    fn rectangles_without_a_common_part_have_none() {
        let one = Rectangle { left: 10, top: 10, right: 20, bottom: 20 };
        assert_eq!(one.common(Rectangle::of_size(10, 100)), None);
        assert_eq!(one.common(Rectangle { left: 30, top: 0, right: 5, bottom: 9 }), None);
        assert_eq!(
            one.common(Rectangle::of_size(11, 12)),
            Some(Rectangle { left: 10, top: 10, right: 11, bottom: 12 })
        );
    }
}
