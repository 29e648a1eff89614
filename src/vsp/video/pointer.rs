//! The guest's pointer: its shape, which may come in several messages, and whether it is to be seen.

use std::sync::Arc;

use super::wire::{PointerPosition, PointerShape, read};

/// Maximum width and height of a pointer, in pixels.
const MAX_SIZE: u32 = 96;
/// The number of the last part of a shape, or of the only one.
const LAST_PART: u8 = 0xff;
/// Opaque colours.
const BLACK: u32 = 0xff00_0000;
const WHITE: u32 = 0xffff_ffff;

/// A pointer's shape.
#[derive(Clone, PartialEq, Eq)]
pub struct Shape {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// The pixel that points.
    pub hot: (u32, u32),
    /// 0xAARRGGBB, from the upper left corner on.
    pub pixels: Vec<u32>,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Shape {}x{} at {:?}", self.width, self.height, self.hot)
    }
}

/// What there is to be seen of the pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// The guest has said nothing of its pointer, or nothing that is known.
    #[default]
    Unknown,
    /// There is none: the guest draws it itself, or has none.
    Hidden,
    /// A shape.
    Shown(Arc<Shape>),
}

/// The pointer.
#[derive(Debug, Default)]
pub struct Pointer {
    parts: Vec<u8>,
    hidden: bool,
    shape: Look,
}

impl Pointer {
    /// Returns what there is to be seen.
    pub fn look(&self) -> Look {
        if self.hidden { Look::Hidden } else { self.shape.clone() }
    }

    /// Takes a message about the place. `None` if it is too short.
    pub fn take_position(&mut self, body: &[u8]) -> Option<()> {
        let position: PointerPosition = read(body)?;
        self.hidden = position.visible == 0;
        Some(())
    }

    /// Takes a message about the shape. `None` if it is too short.
    pub fn take_shape(&mut self, body: &[u8]) -> Option<()> {
        let head: PointerShape = read(body)?;
        let data = body.get(size_of::<PointerShape>()..)?;
        let (width, height) = (head.width.get(), head.height.get());
        let fits = (1..=MAX_SIZE).contains(&width) && (1..=MAX_SIZE).contains(&height);
        let length = match (fits, head.argb) {
            (false, _) => 0,
            (true, 0) => (2 * width.div_ceil(8) * height) as usize,
            (true, _) => (width * height * 4) as usize,
        };
        if head.part == 0 {
            self.parts.clear();
        }
        let room = length.saturating_sub(self.parts.len());
        self.parts.extend(&data[..data.len().min(room)]);
        if head.part == LAST_PART {
            let bytes = std::mem::take(&mut self.parts);
            let is_whole = fits && bytes.len() == length;
            self.shape = match (width, height) {
                // Drivers say so that they draw it themselves.
                (1, 1) => Look::Hidden,
                _ if is_whole => {
                    let pixels = match head.argb {
                        0 => of_masks(&bytes, width, height),
                        _ => bytes.as_chunks().0.iter().map(|pixel| u32::from_le_bytes(*pixel)).collect(),
                    };
                    let hot = (head.hot_x.get().min(width - 1), head.hot_y.get().min(height - 1));
                    Look::Shown(Arc::new(Shape { width, height, hot, pixels }))
                }
                _ => Look::Unknown,
            };
        }
        Some(())
    }
}

/// Returns the pixels of two masks of a bit for each pixel: what is kept of the screen, and what is inverted then.
fn of_masks(masks: &[u8], width: u32, height: u32) -> Vec<u32> {
    let stride = width.div_ceil(8) as usize;
    let (keep, invert) = masks.split_at(stride * height as usize);
    let pixel = |x: u32, y: u32| {
        let is_set = |mask: &[u8]| mask[y as usize * stride + x as usize / 8] >> (7 - x % 8) & 1 != 0;
        match (is_set(keep), is_set(invert)) {
            (false, false) => BLACK,
            (false, true) => WHITE,
            (true, false) => 0,
            // A viewer cannot invert. Both colours side by side can be seen on any background.
            (true, true) => [BLACK, WHITE][((x + y) % 2) as usize],
        }
    };
    (0..height).flat_map(|y| (0..width).map(move |x| pixel(x, y))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn part(number: u8, (width, height): (u32, u32), data: &[u8]) -> Vec<u8> {
        let head = PointerShape {
            part: number,
            argb: 1,
            width: width.into(),
            height: height.into(),
            hot_x: 1.into(),
            hot_y: u32::MAX.into(),
        };
        [head.as_bytes(), data].concat()
    }

    #[test]
    fn a_shape_comes_whole_or_in_parts() {
        let bytes: Vec<u8> = (0..24).collect();
        let mut pointer = Pointer::default();
        assert_eq!(pointer.look(), Look::Unknown);
        pointer.take_shape(&part(LAST_PART, (3, 2), &bytes)).unwrap();
        let Look::Shown(shape) = pointer.look() else { panic!("{pointer:?}") };
        assert_eq!((shape.hot, shape.pixels[1]), ((1, 1), 0x0706_0504));
        let mut parts = Pointer::default();
        parts.take_shape(&part(0, (3, 2), &bytes[..10])).unwrap();
        parts.take_shape(&part(1, (3, 2), &bytes[10..20])).unwrap();
        assert_eq!(parts.look(), Look::Unknown);
        parts.take_shape(&part(LAST_PART, (3, 2), &bytes[20..])).unwrap();
        assert_eq!(parts.look(), Look::Shown(shape));
    }

    #[test]
    fn a_pointer_of_two_masks_is_shown_in_black_and_white() {
        let mut head = part(LAST_PART, (10, 2), &[]);
        head[1] = 0;
        // Two bytes a line: what is kept of the screen, then what is inverted.
        let masks = [0b0011_0000, 0b0100_0000, 0xff, 0xff, 0b0101_0000, 0b0100_0000, 0, 0];
        let mut pointer = Pointer::default();
        pointer.take_shape(&[&head[..], &masks].concat()).unwrap();
        let Look::Shown(shape) = pointer.look() else { panic!("{pointer:?}") };
        assert_eq!(shape.pixels[..4], [BLACK, WHITE, 0, WHITE], "the fourth is inverted");
        assert_eq!(shape.pixels[8..12], [BLACK, WHITE, 0, 0]);
        assert_eq!((shape.width, shape.height, shape.pixels.len()), (10, 2, 20));
        pointer.take_shape(&[&head[..], &masks[..7]].concat()).unwrap();
        assert_eq!(pointer.look(), Look::Unknown, "a byte is missing");
    }

    #[test]
    fn a_pointer_of_one_pixel_or_out_of_sight_is_hidden() {
        let mut pointer = Pointer::default();
        pointer.take_shape(&part(LAST_PART, (1, 1), &[0; 4])).unwrap();
        assert_eq!(pointer.look(), Look::Hidden);
        pointer.take_shape(&part(LAST_PART, (2, 1), &[0; 8])).unwrap();
        assert!(matches!(pointer.look(), Look::Shown(_)));
        pointer.take_position(&[0; 10]).unwrap();
        assert_eq!(pointer.look(), Look::Hidden);
        pointer.take_position(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert!(matches!(pointer.look(), Look::Shown(_)));
        assert!(pointer.take_position(&[1; 9]).is_none() && pointer.take_shape(&[0; 17]).is_none());
    }

    proptest! {
        #[test]
        fn no_message_makes_it_grow(messages in prop::collection::vec(((any::<u8>(), 0..2_u8), 0_u32..200, 0_u32..200, 0_usize..50_000), 0..8)) {
            let mut pointer = Pointer::default();
            for ((number, argb), width, height, length) in messages {
                let mut shape = part(number, (width, height), &vec![0; length]);
                shape[1] = argb;
                pointer.take_shape(&shape).unwrap();
                prop_assert!(pointer.parts.len() <= (MAX_SIZE * MAX_SIZE * 4) as usize);
                if let Look::Shown(shape) = pointer.look() {
                    prop_assert_eq!(shape.pixels.len() as u32, shape.width * shape.height);
                }
            }
        }
    }
}
