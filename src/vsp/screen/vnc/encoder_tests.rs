use proptest::prelude::*;

use super::*;

#[path = "../../../../tests/common/rfb.rs"]
mod rfb;

const ALL: [i32; 5] = [RAW, HEXTILE, ZLIB, ZRLE, TIGHT];

/// Encodes and decodes the rectangles, one after the other, and returns the bytes of each.
fn check(encoding: i32, rectangles: &[(Vec<u32>, usize)]) -> Vec<usize> {
    let (mut encoder, mut decoder) = (Encoder::default(), rfb::Decoder::default());
    let check = |(pixels, width): &(Vec<u32>, usize)| {
        let mut bytes = Vec::new();
        encoder.encode(&mut bytes, (&Format::NATIVE, encoding), &mut pixels.clone(), *width).unwrap();
        let mut from = &bytes[..];
        let decoded = decoder.decode(&mut from, encoding, *width, pixels.len() / width);
        let decoded = decoded
            .unwrap_or_else(|error| panic!("encoding {encoding}, {} pixels, width {width}: {error}", pixels.len()));
        assert!(decoded == *pixels, "encoding {encoding}, width {width}");
        assert!(from.is_empty(), "encoding {encoding} sends {} bytes too many", from.len());
        bytes.len()
    };
    rectangles.iter().map(check).collect()
}

fn noise(length: usize) -> Vec<u32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn pictures_arrive_as_they_are_in_every_encoding() {
    let (width, height) = (300, 64);
    let line = |colours: u32| (0..width * height).map(move |at| at % colours * 0x01_0001).collect::<Vec<_>>();
    for encoding in ALL {
        let pictures = [1, 2, 3, 4, 5, 16, 17, 255, 256].map(|colours| (line(colours), width as usize));
        check(encoding, &pictures);
        // Noise cannot be compressed, and is larger than the buffers of the compressor.
        check(encoding, &[(noise(1000 * 64), 1000), (vec![0; 64], 1), (noise(64), 64), (noise(1), 1)]);
    }
}

#[test]
fn a_picture_of_several_lines_of_tiles_arrives_as_it_is() {
    let drawn = |x: usize, y: usize| (x as u32) << 16 | (y as u32) << 8 | (x ^ y) as u32;
    for (width, height) in [(200, 100), (320, 200), (1, 65), (65, 1), (72, 130)] {
        let pixels: Vec<_> = (0..height).flat_map(|y| (0..width).map(move |x| drawn(x, y) & 0xff_ffff)).collect();
        for encoding in ALL {
            check(encoding, &[(pixels.clone(), width), (vec![0; width * height], width)]);
        }
    }
}

#[test]
fn a_screen_of_text_is_much_smaller_than_its_pixels() {
    let text = |at: usize| if at % 9 < 3 && at / 640 % 16 < 12 { 0xaa_aaaa } else { 0 };
    let pixels: Vec<u32> = (0..640 * 64).map(text).collect();
    let sizes = ALL.map(|encoding| check(encoding, &[(pixels.clone(), 640)])[0]);
    assert_eq!(sizes[0], pixels.len() * 4);
    assert!(sizes[1] * 2 < sizes[0] && sizes[2] * 10 < sizes[0] && sizes[3] * 20 < sizes[0], "{sizes:?}");
    assert!(sizes[4] * 20 < sizes[0], "{sizes:?}");
}

#[test]
fn a_viewer_gets_the_first_encoding_of_its_list_that_there_is() {
    assert_eq!(best(&[1, 8, ZRLE, HEXTILE, RAW]), ZRLE);
    assert_eq!(best(&[DESKTOP_SIZE, HEXTILE, ZRLE]), HEXTILE);
    assert_eq!(best(&[]), RAW);
    assert_eq!(best(&[2, 4, -1]), RAW);
    assert_eq!(best(&[COPY, TIGHT, ZRLE]), TIGHT);
}

#[test]
fn pixels_of_other_formats_have_their_length_in_every_encoding() {
    let small = Format { bits: 8, depth: 8, most: [7.into(), 7.into(), 3.into()], shifts: [0, 3, 6], ..Format::NATIVE };
    let mut bytes = Vec::new();
    Encoder::default().encode(&mut bytes, (&small, RAW), &mut noise(100), 10).unwrap();
    assert_eq!(bytes.len(), 100);
    bytes.clear();
    Encoder::default().encode(&mut bytes, (&small, HEXTILE), &mut [0xff_ffff; 100], 10).unwrap();
    assert_eq!(bytes, [2, 0xff]);
}

proptest! {
    #[test]
    fn all_rectangles_arrive(
        encoding in prop::sample::select(&ALL),
        rectangles in prop::collection::vec((1_usize..90, 1_usize..64, 1_u32..40, any::<u32>()), 1..4),
    ) {
        let picture = |(width, height, colours, seed): (usize, usize, u32, u32)| {
            let pixels = noise(width * height);
            let few = |pixel: &u32| (pixel % colours).wrapping_mul(seed | 1) & 0xff_ffff;
            (pixels.iter().map(few).collect(), width)
        };
        check(encoding, &rectangles.into_iter().map(picture).collect::<Vec<_>>());
    }
}
