//! The start of an update: its header, and what it has beside pixels.

use super::encoder::{COPY, CURSOR, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, LIGHTS, QEMU_KEYS};
use super::format::Format;
use super::turn::Turn;
use crate::vsp::video::pointer::Look;

/// Opacity from which on a pixel of the pointer is to be seen.
const OPAQUE: u32 = 0x80;

/// Appends the header of a rectangle.
pub fn rectangle(bytes: &mut Vec<u8>, at: [u32; 4], encoding: i32) {
    at.iter().for_each(|number| bytes.extend((*number as u16).to_be_bytes()));
    bytes.extend(encoding.to_be_bytes());
}

/// Returns the start of an update: its header, and the rectangles that are no pixels of the screen.
pub fn head(turn: &Turn) -> Vec<u8> {
    let Turn { wishes, keys, desktop, pointer, lights, scrolled, rectangles } = turn;
    let others = [*keys, desktop.is_some(), pointer.is_some(), lights.is_some(), scrolled.is_some()];
    let count = rectangles.len() + others.into_iter().filter(|is_there| *is_there).count();
    let mut bytes = vec![0, 0];
    bytes.extend((count as u16).to_be_bytes());
    if *keys {
        rectangle(&mut bytes, [0; 4], QEMU_KEYS);
    }
    if let Some(pointer) = pointer {
        cursor(&mut bytes, &wishes.format, pointer);
    }
    if let Some(lights) = lights {
        rectangle(&mut bytes, [0, 0, 1, 1], LIGHTS);
        bytes.push(u8::from(lights.scroll) | u8::from(lights.num) << 1 | u8::from(lights.caps) << 2);
    }
    if let Some(scrolled) = scrolled {
        let to = scrolled.to;
        rectangle(&mut bytes, [to.left, to.top, to.right - to.left, to.bottom - to.top], COPY);
        bytes.extend((to.left as u16).to_be_bytes());
        bytes.extend((scrolled.from as u16).to_be_bytes());
    }
    let Some(desktop) = desktop else { return bytes };
    let (width, height) = desktop.size;
    if wishes.extended {
        // The reason: the server, or this viewer. The result: success, or the answer to the viewer.
        let (reason, result) = desktop.answer.map_or((0, 0), |answer| (1, answer as u32));
        rectangle(&mut bytes, [reason, result, width, height], EXTENDED_DESKTOP_SIZE);
        // One screen, at the origin, with flags 0. libvncclient up to 0.9.14 ignores the message if its number is 0.
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        bytes.extend((width as u16).to_be_bytes());
        bytes.extend((height as u16).to_be_bytes());
        bytes.extend([0; 4]);
    } else {
        rectangle(&mut bytes, [0, 0, width, height], DESKTOP_SIZE);
    }
    bytes
}

/// Appends the shape of the pointer. Where the guest has none, the viewer's is empty.
fn cursor(bytes: &mut Vec<u8>, format: &Format, look: &Look) {
    let Look::Shown(shape) = look else { return rectangle(bytes, [0; 4], CURSOR) };
    rectangle(bytes, [shape.hot.0, shape.hot.1, shape.width, shape.height], CURSOR);
    let pixels = format.pixels(false);
    shape.pixels.iter().for_each(|pixel| pixels.write(bytes, pixels.convert(pixel & 0xff_ffff)));
    // A bit for each pixel that is to be seen. Lines begin with a byte.
    for line in shape.pixels.chunks(shape.width as usize) {
        for part in line.chunks(8) {
            let bit = |byte: u8, pixel: &u32| byte << 1 | u8::from(pixel >> 24 >= OPAQUE);
            bytes.push(part.iter().fold(0, bit) << (8 - part.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::vsp::video::pointer::Shape;

    #[test]
    fn a_pointer_has_its_pixels_and_a_bit_for_each_that_is_to_be_seen() {
        let mut bytes = Vec::new();
        let pixels = (0..18).map(|at| if at % 3 == 0 { 0xff01_0203 } else { 0 }).collect();
        let shape = Shape { width: 9, height: 2, hot: (4, 1), pixels };
        cursor(&mut bytes, &Format::NATIVE, &Look::Shown(Arc::new(shape)));
        assert_eq!(bytes[..12], [0, 4, 0, 1, 0, 9, 0, 2, 0xff, 0xff, 0xff, 0x11]);
        assert_eq!(bytes[12..20], [3, 2, 1, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[12 + 18 * 4..], [0b1001_0010, 0, 0b1001_0010, 0]);
        bytes.clear();
        cursor(&mut bytes, &Format::NATIVE, &Look::Hidden);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x11]);
    }
}
