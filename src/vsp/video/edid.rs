//! The description of the screen that a monitor would give (VESA E-EDID 1.4). Windows reads it; Linux's drivers do not.

use super::wire::EDID;

/// The preferred timing's fields have 12 bits for the size, and 16 bits for the clock.
pub const MAX_SIZE: u16 = 0xfff;
/// Blank pixels of each line, and lines of each picture, as CVT's reduced blanking has them.
const BLANK: (u16, u16) = (160, 40);
/// Blank pixels before the pulse of a line, and length of the pulse.
const LINE_PULSE: (u8, u8) = (48, 32);
/// The same for a picture, in lines.
const PICTURE_PULSE: (u8, u8) = (3, 5);
/// Pictures a second.
const REFRESH: u32 = 60;

/// The start of a descriptor with the name of the screen, of 13 characters.
const NAME: &[u8; 18] = b"\0\0\0\xfc\0Viridian\n    ";
/// A descriptor without content.
const NOTHING: [u8; 18] = [0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Returns the description of a screen that prefers this size, or the largest size that a description can have.
pub fn edid(width: u16, height: u16) -> [u8; EDID] {
    let mut edid = [0; EDID];
    let mut put = |at: usize, bytes: &[u8]| edid[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    // The manufacturer "VRD", a product and a serial number, no week, 2026, EDID 1.4.
    put(8, &[0x5a, 0x44, 1, 0, 0, 0, 0, 0, 0, 36, 1, 4]);
    // Digital, 8 bits for each colour; no size in centimetres; gamma 2.2; sRGB, and the first timing is the native one.
    put(20, &[0xa0, 0, 0, 120, 0x06]);
    // The colours of sRGB.
    put(25, &[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // No standard timings.
    put(38, &[1; 16]);
    put(54, &timing(width.min(MAX_SIZE), height.min(MAX_SIZE)));
    put(72, NAME);
    put(90, &NOTHING);
    put(108, &NOTHING);
    edid[EDID - 1] = edid.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    edid
}

/// Returns the descriptor of a timing.
fn timing(width: u16, height: u16) -> [u8; 18] {
    let total = u32::from(width + BLANK.0) * u32::from(height + BLANK.1);
    // In units of 10 kHz. A screen that is very high is refreshed less often.
    let clock = u16::try_from(total * REFRESH / 10_000).unwrap_or(u16::MAX).to_le_bytes();
    let upper = |size: u16, blank: u16| (size >> 8 << 4 | blank >> 8) as u8;
    let pulses = PICTURE_PULSE.0 << 4 | PICTURE_PULSE.1;
    [
        clock[0],
        clock[1],
        width as u8,
        BLANK.0 as u8,
        upper(width, BLANK.0),
        height as u8,
        BLANK.1 as u8,
        upper(height, BLANK.1),
        LINE_PULSE.0,
        LINE_PULSE.1,
        pulses,
        0,
        0,
        0,
        0,
        0,
        0,
        // Separate pulses, positive for lines and negative for pictures.
        0x1a,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size and the refresh rate of the preferred timing.
    fn preferred(edid: &[u8; EDID]) -> (u32, u32, u32) {
        let [low, high, width, blank, upper, height, blank_lines, upper_lines, ..] = edid[54..72] else { panic!() };
        let twelve = |low: u8, high: u8| u32::from(low) | u32::from(high) << 8;
        let (width, height) = (twelve(width, upper >> 4), twelve(height, upper_lines >> 4));
        let total = (width + twelve(blank, upper & 15)) * (height + twelve(blank_lines, upper_lines & 15));
        (width, height, (twelve(low, high) * 10_000 + total / 2) / total)
    }

    #[test]
    fn a_screen_is_described_with_its_size() {
        for (width, height) in [(64, 64), (800, 600), (1024, 768), (1920, 1080), (3840, 2160)] {
            let edid = edid(width, height);
            assert_eq!(edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "the checksum");
            assert_eq!(preferred(&edid), (width.into(), height.into(), 60));
        }
        let (width, height, rate) = preferred(&edid(7680, 4320));
        assert_eq!((width, height), (0xfff, 0xfff));
        assert!((1..60).contains(&rate), "{rate}");
    }

    #[test]
    fn the_manufacturer_is_three_letters() {
        let word = u16::from_be_bytes([edid(640, 480)[8], edid(640, 480)[9]]);
        let letters = [10, 5, 0].map(|shift| (b'A' - 1 + (word >> shift & 31) as u8) as char);
        assert_eq!(letters, ['V', 'R', 'D']);
    }
}
