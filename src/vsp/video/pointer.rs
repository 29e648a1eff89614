//! The guest's pointer: its shape, which may come in several messages, and whether it is to be seen.

use std::sync::Arc;

use super::wire::{PointerPosition, PointerShape, read};

/// Maximum width and height of a pointer, in pixels.
const MAX_SIZE: u32 = 96;
/// The number of the last part of a shape, or of the only one.
const LAST_PART: u8 = 0xff;

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
        let length = if fits { (width * height * 4) as usize } else { 0 };
        if head.part == 0 {
            self.parts.clear();
        }
        let room = length.saturating_sub(self.parts.len());
        self.parts.extend(&data[..data.len().min(room)]);
        if head.part == LAST_PART {
            let bytes = std::mem::take(&mut self.parts);
            let is_whole = fits && head.argb != 0 && bytes.len() == length;
            self.shape = match (width, height) {
                // Drivers say so that they draw it themselves.
                (1, 1) => Look::Hidden,
                _ if is_whole => {
                    let pixels = bytes.as_chunks().0.iter().map(|pixel| u32::from_le_bytes(*pixel)).collect();
                    let hot = (head.hot_x.get().min(width - 1), head.hot_y.get().min(height - 1));
                    Look::Shown(Arc::new(Shape { width, height, hot, pixels }))
                }
                _ => Look::Unknown,
            };
        }
        Some(())
    }
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
        fn no_message_makes_it_grow(messages in prop::collection::vec((any::<u8>(), 0_u32..200, 0_u32..200, 0_usize..50_000), 0..8)) {
            let mut pointer = Pointer::default();
            for (number, width, height, length) in messages {
                pointer.take_shape(&part(number, (width, height), &vec![0; length])).unwrap();
                prop_assert!(pointer.parts.len() <= (MAX_SIZE * MAX_SIZE * 4) as usize);
                if let Look::Shown(shape) = pointer.look() {
                    prop_assert_eq!(shape.pixels.len() as u32, shape.width * shape.height);
                }
            }
        }
    }
}
