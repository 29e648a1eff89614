//! The pixels of a viewer.

use zerocopy::big_endian::U16;

use crate::wire::wire;

wire! { 16,
/// The format of a viewer's pixels (RFB: `PIXEL_FORMAT`).
pub struct Format {
    /// Bits of a pixel: 8, 16 or 32.
    pub bits: u8,
    /// Number of bits that are used.
    pub depth: u8,
    /// Not 0: the most significant byte comes first.
    pub big_endian: u8,
    /// 0: pixels are indexes of a palette.
    pub true_colour: u8,
    /// The largest values of red, green and blue.
    pub most: [U16; 3],
    /// The positions of their lowest bits.
    pub shifts: [u8; 3],
    /// Unused.
    pub padding: [u8; 3],
}}

impl Format {
    /// The format of the guest's own pixels.
    pub const NATIVE: Self = Self {
        bits: 32,
        depth: 24,
        big_endian: 0,
        true_colour: 1,
        most: [U16::new(255); 3],
        shifts: [16, 8, 0],
        padding: [0; 3],
    };

    /// Returns `true` if the server can send such pixels.
    pub fn is_possible(&self) -> bool {
        if !matches!(self.bits, 8 | 16 | 32) || self.true_colour == 0 {
            return false;
        }
        self.shifts
            .iter()
            .zip(&self.most)
            .all(|(shift, most)| *shift < self.bits && u64::from(most.get()) << shift < 1_u64 << self.bits)
    }

    /// Returns the converter of pixels. `compact` leaves out the unused byte of a pixel, if there is one (RFB: `CPIXEL`).
    pub fn pixels(&self, compact: bool) -> Pixels {
        let most = self.most.map(|most| u32::from(most.get()));
        let mask = most.iter().zip(self.shifts).fold(0, |mask, (most, shift)| mask | most << shift);
        let mut length = usize::from(self.bits / 8);
        let big = self.big_endian != 0;
        // Where the pixel begins in its four bytes.
        let mut first = if big { 4_usize.saturating_sub(length) } else { 0 };
        if compact && self.bits == 32 && self.depth <= 24 {
            let (low, high) = (mask & 0xff00_0000 == 0, mask & 0xff == 0);
            if low || high {
                (first, length) = (usize::from(low == big), 3);
            }
        }
        let native = most == [255; 3] && self.shifts == Self::NATIVE.shifts;
        Pixels { most, shifts: self.shifts, native, big, first, end: first + length }
    }

    /// Returns the converter of pixels for Tight: red, green and blue in this order, if each has eight bits (RFB: `TPIXEL`).
    pub fn tight_pixels(&self) -> Pixels {
        if self.bits == 32 && self.depth == 24 && self.most.iter().all(|most| most.get() == 255) {
            return Pixels { big: true, first: 1, end: 4, ..Self::NATIVE.pixels(false) };
        }
        self.pixels(false)
    }
}

/// Converts pixels to a viewer's format, and writes them.
pub struct Pixels {
    most: [u32; 3],
    shifts: [u8; 3],
    /// Pixels have the same value as the guest's.
    native: bool,
    big: bool,
    /// The part of the four bytes of a pixel that is sent.
    first: usize,
    end: usize,
}

impl Pixels {
    /// Converts pixels 0x00RRGGBB.
    pub fn convert_all(&self, pixels: &mut [u32]) {
        if !self.native {
            pixels.iter_mut().for_each(|pixel| *pixel = self.convert(*pixel));
        }
    }

    /// Converts a pixel 0x00RRGGBB.
    pub fn convert(&self, pixel: u32) -> u32 {
        if self.native {
            return pixel & 0xff_ffff;
        }
        let part = |index: usize, value: u32| (((value & 0xff) * self.most[index] + 127) / 255) << self.shifts[index];
        part(0, pixel >> 16) | part(1, pixel >> 8) | part(2, pixel)
    }

    /// Appends a converted pixel.
    pub fn write(&self, to: &mut Vec<u8>, pixel: u32) {
        self.write_all(to, &[pixel]);
    }

    /// Appends converted pixels.
    pub fn write_all(&self, to: &mut Vec<u8>, pixels: &[u32]) {
        match self.length() {
            1 => self.write_each::<1>(to, pixels),
            2 => self.write_each::<2>(to, pixels),
            3 => self.write_each::<3>(to, pixels),
            _ => self.write_each::<4>(to, pixels),
        }
    }

    fn write_each<const LENGTH: usize>(&self, to: &mut Vec<u8>, pixels: &[u32]) {
        // The bytes of a pixel are the lowest ones in the right order.
        let shift = if self.big { 8 * (4 - self.end) } else { 8 * self.first };
        let at = to.len();
        to.resize(at + pixels.len() * LENGTH, 0);
        let places = to.get_mut(at..).unwrap_or_default().as_chunks_mut::<LENGTH>().0;
        for (place, pixel) in places.iter_mut().zip(pixels) {
            let bytes = (pixel >> shift).to_le_bytes();
            for (at, byte) in place.iter_mut().enumerate() {
                *byte = bytes[if self.big { LENGTH - 1 - at } else { at }];
            }
        }
    }

    /// Returns the length of a pixel, in bytes.
    pub fn length(&self) -> usize {
        self.end - self.first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromBytes;

    use super::*;

    fn written(format: &Format, pixel: u32, compact: bool) -> Vec<u8> {
        let (mut bytes, pixels) = (Vec::new(), format.pixels(compact));
        pixels.write(&mut bytes, pixels.convert(pixel));
        assert_eq!(bytes.len(), pixels.length());
        bytes
    }

    #[test]
    fn pixels_are_sent_as_the_viewer_wants_them() {
        let native = Format::NATIVE;
        assert_eq!(written(&native, 0x11_2233, false), [0x33, 0x22, 0x11, 0]);
        assert_eq!(written(&native, 0x11_2233, true), [0x33, 0x22, 0x11]);
        let big = Format { big_endian: 1, ..native };
        assert_eq!(written(&big, 0x11_2233, false), [0, 0x11, 0x22, 0x33]);
        assert_eq!(written(&big, 0x11_2233, true), [0x11, 0x22, 0x33]);
        let high = Format { shifts: [24, 16, 8], ..native };
        assert_eq!(written(&high, 0x11_2233, true), [0x33, 0x22, 0x11]);
        assert_eq!(written(&Format { big_endian: 1, ..high }, 0x11_2233, true), [0x11, 0x22, 0x33]);
        let small =
            Format { bits: 16, depth: 16, most: [31.into(), 63.into(), 31.into()], shifts: [11, 5, 0], ..native };
        assert_eq!(written(&small, 0xff_00ff, false), 0xf81f_u16.to_le_bytes());
        assert_eq!(written(&Format { big_endian: 1, ..small }, 0xff_00ff, true), 0xf81f_u16.to_be_bytes());
        assert_eq!(written(&small, 0xff_ffff, true), [0xff, 0xff]);
        let tiny = Format { bits: 8, depth: 8, most: [7.into(), 7.into(), 3.into()], shifts: [0, 3, 6], ..native };
        assert_eq!(written(&Format { big_endian: 1, ..tiny }, 0xff_0000, false), [7]);
        for format in [native, big, high] {
            let (mut bytes, pixels) = (Vec::new(), format.tight_pixels());
            pixels.write(&mut bytes, pixels.convert(0x11_2233));
            assert_eq!(bytes, [0x11, 0x22, 0x33], "the order is Tight's");
        }
        assert_eq!(small.tight_pixels().length(), 2);
    }

    #[test]
    fn formats_that_cannot_be_sent_are_refused() {
        let native = Format::NATIVE;
        assert!(native.is_possible());
        for wrong in [
            Format { bits: 24, ..native },
            Format { bits: 0, ..native },
            Format { true_colour: 0, ..native },
            Format { shifts: [16, 8, 32], ..native },
            Format { shifts: [25, 8, 0], ..native },
            Format { bits: 8, ..native },
        ] {
            assert!(!wrong.is_possible(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_possible_format_sends_pixels_of_its_length(
            bytes: [u8; 16], bits in prop::sample::select(&[8_u8, 16, 32]), pixel: u32,
        ) {
            let format = Format { bits, true_colour: 1, ..Format::read_from_bytes(&bytes).unwrap() };
            if format.is_possible() {
                prop_assert_eq!(written(&format, pixel, false).len(), usize::from(format.bits / 8));
            }
        }
    }
}
