//! A minimal VNC viewer for tests.
#![allow(dead_code)] // Each test binary uses only a part.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::common::patience::grown;
use crate::rfb::{Decoder, array};

/// The encoding of a pseudo-rectangle that announces a new size of the screen.
const DESKTOP_SIZE: i32 = -223;
const EXTENDED_DESKTOP_SIZE: i32 = -308;
const QEMU_KEYS: i32 = -258;
const COPY: i32 = 1;
const CURSOR: i32 = -239;
const LIGHTS: i32 = -261;

/// A pixel that was not sent.
const UNSEEN: u32 = 0xff00_0000;

/// A viewer that is connected.
pub struct Viewer {
    stream: UnixStream,
    decoder: Decoder,
    encoding: i32,
    pub size: (usize, usize),
    /// 0x00RRGGBB.
    pub pixels: Vec<u32>,
    /// Set when the server has announced that it accepts scan codes.
    pub takes_codes: bool,
    /// The answers to requests for a size.
    pub answers: Vec<usize>,
    /// The received rectangles of pixels: left, top, width, height.
    pub rectangles: Vec<[usize; 4]>,
    /// Number of rectangles that it was told to copy.
    pub copies: usize,
    /// The pointer: the pixel that points, the size, the pixels, and which of them are to be seen.
    pub pointer: Option<([usize; 4], Vec<u8>, Vec<u8>)>,
    /// The keyboard's lights.
    pub lights: Option<u8>,
}

/// Connects, and reads the server's version.
pub fn connect(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(grown(Duration::from_secs(60)))).unwrap();
    assert_eq!(&array(&mut stream).unwrap(), b"RFB 003.008\n");
    stream
}

impl Viewer {
    /// Connects, and requests this encoding.
    pub fn new(socket: &Path, encoding: i32) -> Self {
        let mut stream = connect(socket);
        stream.write_all(b"RFB 003.008\n").unwrap();
        assert_eq!(array(&mut stream).unwrap(), [1, 1], "there is no password");
        stream.write_all(&[1]).unwrap();
        assert_eq!(array(&mut stream).unwrap(), [0; 4]);
        stream.write_all(&[1]).unwrap();
        let start: [u8; 24] = array(&mut stream).unwrap();
        let [width, height] = [0, 2].map(|at| usize::from(u16::from_be_bytes([start[at], start[at + 1]])));
        let mut name = vec![0; usize::from(start[23])];
        stream.read_exact(&mut name).unwrap();
        let mut viewer = Self {
            stream,
            decoder: Decoder::default(),
            encoding,
            size: (width, height),
            pixels: vec![UNSEEN; width * height],
            takes_codes: false,
            answers: Vec::new(),
            rectangles: Vec::new(),
            copies: 0,
            pointer: None,
            lights: None,
        };
        viewer.know(&[encoding, COPY, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, QEMU_KEYS, CURSOR, LIGHTS]);
        viewer
    }

    /// Says which encodings it knows.
    pub fn know(&mut self, encodings: &[i32]) {
        let known = encodings.iter().flat_map(|number| number.to_be_bytes());
        self.send(&[&[2, 0, 0, encodings.len() as u8][..], &known.collect::<Vec<_>>()].concat());
    }

    /// Sends the text of the clipboard.
    pub fn paste(&mut self, text: &str) {
        self.send(&[&[6, 0, 0, 0][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat());
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Requests a size of the screen, with this many screens, and returns the answer.
    pub fn ask_for_size(&mut self, (width, height): (u16, u16), screens: u8) -> usize {
        let [width, height] = [width, height].map(u16::to_be_bytes);
        let head = [251, 0, width[0], width[1], height[0], height[1], screens, 0];
        self.send(&[&head[..], &vec![0; 16 * usize::from(screens)]].concat());
        self.answers.clear();
        while self.answers.is_empty() {
            self.ask(true);
            self.take();
        }
        self.answers[0]
    }

    /// Requests the screen, or only its changes if `incremental`.
    pub fn ask(&mut self, incremental: bool) {
        self.send(&[3, incremental.into(), 0, 0, 0, 0, 255, 255, 255, 255]);
    }

    /// Reads an update.
    pub fn take(&mut self) {
        let [kind, _, high, low] = array(&mut self.stream).unwrap();
        assert_eq!(kind, 0, "an update");
        for _ in 0..u16::from_be_bytes([high, low]) {
            self.take_rectangle();
        }
    }

    fn take_rectangle(&mut self) {
        let head: [u8; 12] = array(&mut self.stream).unwrap();
        let [left, top, width, height] =
            [0, 2, 4, 6].map(|at| usize::from(u16::from_be_bytes([head[at], head[at + 1]])));
        let encoding = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        match encoding {
            QEMU_KEYS => self.takes_codes = true,
            EXTENDED_DESKTOP_SIZE => {
                let screens: [u8; 20] = array(&mut self.stream).unwrap();
                assert_eq!((screens[0], &screens[8..16]), (1, &[&[0; 4][..], &head[4..8]].concat()[..]), "one screen");
                assert!(left == 1 || top == 0, "only the viewer that requested a size gets the answer");
                self.answers.extend((left == 1).then_some(top));
                self.resize(width, height);
            }
            DESKTOP_SIZE => self.resize(width, height),
            LIGHTS => self.lights = Some(array::<1>(&mut self.stream).unwrap()[0]),
            CURSOR => {
                let (mut pixels, mut mask) = (vec![0; width * height * 4], vec![0; width.div_ceil(8) * height]);
                self.stream.read_exact(&mut pixels).unwrap();
                self.stream.read_exact(&mut mask).unwrap();
                self.pointer = Some(([left, top, width, height], pixels, mask));
            }
            COPY => {
                let from: [u8; 4] = array(&mut self.stream).unwrap();
                let [x, y] = [0, 2].map(|at| usize::from(u16::from_be_bytes([from[at], from[at + 1]])));
                let stride = self.size.0;
                let part = |y: usize, x: usize| y * stride + x..y * stride + x + width;
                let lines: Vec<_> = (0..height).map(|line| self.pixels[part(y + line, x)].to_vec()).collect();
                for (line, pixels) in lines.iter().enumerate() {
                    self.pixels[part(top + line, left)].copy_from_slice(pixels);
                }
                self.copies += 1;
            }
            _ => {
                assert_eq!(encoding, self.encoding);
                self.rectangles.push([left, top, width, height]);
                let part = self.decoder.decode(&mut self.stream, encoding, width, height);
                let part = part.unwrap_or_else(|error| {
                    panic!("{width}x{height} at {left}, {top} in encoding {encoding}: {error}");
                });
                for (y, line) in part.chunks(width).enumerate() {
                    let at = (top + y) * self.size.0 + left;
                    self.pixels[at..at + width].copy_from_slice(line);
                }
            }
        }
    }

    fn resize(&mut self, width: usize, height: usize) {
        if self.size != (width, height) {
            (self.size, self.pixels) = ((width, height), vec![UNSEEN; width * height]);
        }
    }

    /// Requests and reads changes until the screen has this size and these pixels.
    pub fn wait_for(&mut self, size: (usize, usize), pixel: impl Fn(usize, usize) -> u32) {
        while !self.shows(size, &pixel) {
            self.ask(true);
            self.take();
        }
    }

    /// Returns `true` if the screen has this size and these pixels.
    pub fn shows(&self, size: (usize, usize), pixel: impl Fn(usize, usize) -> u32) -> bool {
        let mut pixels = (0..size.1).flat_map(|y| (0..size.0).map(move |x| (x, y))).zip(&self.pixels);
        self.size == size && pixels.all(|((x, y), seen)| *seen == pixel(x, y))
    }

    /// Presses and releases the key with this scan code.
    pub fn key(&mut self, code: u8) {
        for down in [1, 0] {
            self.send(&[255, 0, 0, down, 0, 0, 0, 0, 0, 0, 0, code]);
        }
    }

    pub fn keysym(&mut self, keysym: u32, down: bool) {
        self.send(&[&[4, down.into(), 0, 0][..], &keysym.to_be_bytes()].concat());
    }

    /// Returns `true` when the server has closed the connection.
    pub fn is_over(&mut self) -> bool {
        is_over(&mut self.stream)
    }
}

/// Returns `true` when the server has closed the connection.
pub fn is_over(stream: &mut UnixStream) -> bool {
    let end = std::io::copy(stream, &mut std::io::sink());
    end.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true)
}
