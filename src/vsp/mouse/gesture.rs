//! Clicks and drags: several reports of the mouse that belong together.

use super::protocol::{Mouse, MouseError, coordinate};

/// Number of moves of a drag. Programs take a button that is released far from where it was pressed for a click now and then.
const STEPS: u32 = 8;

/// The pixels where the pointer goes, with the buttons that are down there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gesture(Vec<((u32, u32), u8)>);

impl Gesture {
    /// Returns a move to a pixel.
    pub fn move_to(at: (u32, u32)) -> Self {
        Self(vec![(at, 0)])
    }

    /// Returns a click at a pixel.
    pub fn click(at: (u32, u32), buttons: u8) -> Self {
        Self(vec![(at, 0), (at, buttons), (at, 0)])
    }

    /// Returns a move from one pixel to another one with buttons that are down.
    pub fn drag(from: (u32, u32), to: (u32, u32), buttons: u8) -> Self {
        let between = |from: u32, to: u32, step: u32| {
            let (from, to, step) = (i64::from(from), i64::from(to), i64::from(step));
            (from + (to - from) * step / i64::from(STEPS)) as u32
        };
        let moves = (1..=STEPS).map(|step| ((between(from.0, to.0, step), between(from.1, to.1, step)), buttons));
        Self([(from, 0), (from, buttons)].into_iter().chain(moves).chain([(to, 0)]).collect())
    }

    /// Reports it, on a screen of that size.
    ///
    /// # Errors
    /// Returns an error, and reports nothing, if the guest does not use the mouse or does not read it.
    pub fn make(&self, mouse: &mut Mouse, size: (u32, u32)) -> Result<(), MouseError> {
        mouse.has_room(self.0.len())?;
        self.0
            .iter()
            .try_for_each(|((x, y), buttons)| mouse.report(coordinate(*x, size.0), coordinate(*y, size.1), *buttons, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drag_goes_from_one_place_to_the_other_and_holds_the_button_between() {
        let Gesture(click) = Gesture::click((3, 4), 1);
        assert_eq!(click, [((3, 4), 0), ((3, 4), 1), ((3, 4), 0)]);
        assert_eq!(Gesture::move_to((3, 4)), Gesture(vec![((3, 4), 0)]));
        for (from, to) in [((10, 0), (0, 80)), ((0, 0), (u32::MAX, u32::MAX)), ((5, 5), (5, 5))] {
            let Gesture(drag) = Gesture::drag(from, to, 2);
            assert_eq!((drag[0], drag[1], drag[9], drag[10]), ((from, 0), (from, 2), (to, 2), (to, 0)));
            assert_eq!(drag.len(), 11);
        }
    }

    #[test]
    fn nothing_is_pressed_without_a_driver() {
        assert_eq!(Gesture::click((0, 0), 1).make(&mut Mouse::default(), (10, 10)), Err(MouseError::NotReady));
    }
}
