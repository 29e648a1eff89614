//! Captures in the pcapng format (draft-ietf-opsawg-pcapng), for Wireshark and tcpdump.
//!
//! A capture contains a section, one interface, and a block for each frame with its time in nanoseconds and its
//! direction from the guest's point of view. Incomplete checksums are completed in the capture, so that they do not
//! look like errors.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::frame::{Checksum, Frame, FrameBuffer};
use super::offload::checksum;
use crate::host::records::{self, Records};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u32 = 1;

mod option {
    pub const APPLICATION: u16 = 4;
    pub const INTERFACE_NAME: u16 = 2;
    pub const RESOLUTION: u16 = 9;
    pub const FLAGS: u16 = 2;
    pub const INTERFACE_DROPPED: u16 = 5;
}

/// Maximum number of bytes of frames that are written together.
const BATCH: usize = 64 << 10;

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the guest.
    Inbound = 1,
    /// From the guest.
    Outbound = 2,
}

/// The capture cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the capture {path}: {source}; {advice}")]
pub struct CaptureError {
    /// The file.
    pub path: PathBuf,
    /// The error of the host.
    pub source: io::Error,
    /// A remedy.
    pub advice: &'static str,
}

/// A capture to a file. It never waits for a reader of the file: frames that a reader is too slow for are counted in
/// the capture.
#[derive(Debug)]
pub struct Capture {
    /// Writes to memory, which does not fail.
    batch: Writer<Vec<u8>>,
    frames: u64,
    records: Records,
}

impl Capture {
    /// Creates a capture in a file, which is replaced if it exists.
    ///
    /// # Errors
    /// Returns an error if the file is not writable, or is a pipe without a reader.
    pub fn create(path: &Path, interface: &str) -> Result<Self, CaptureError> {
        let failed = |source: io::Error, advice| CaptureError { path: path.to_path_buf(), source, advice };
        let name = format!("the capture {}", path.display());
        let records = Records::create(path, name, statistics)
            .map_err(|errno| failed(errno.into(), records::advice_on_opening(errno)))?;
        let batch = Writer::new(Vec::new(), interface).map_err(|error| failed(error, "name another file"))?;
        let mut capture = Self { batch, frames: 0, records };
        capture.flush();
        Ok(capture)
    }

    /// Adds a frame.
    pub fn add(&mut self, time: SystemTime, direction: Direction, frame: Frame<'_>) {
        // Writing to memory does not fail.
        let _ = self.batch.add(time, direction, frame);
        self.frames += 1;
        if self.batch.output.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes all frames to the file.
    pub fn flush(&mut self) {
        if !self.batch.output.is_empty() {
            self.records.put(&self.batch.output, self.frames);
            self.batch.output.clear();
            self.frames = 0;
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Returns the block with the number of dropped frames.
fn statistics(_dropped: u64, total: u64) -> Vec<u8> {
    let nanoseconds = nanoseconds(SystemTime::now());
    let mut body = Vec::new();
    for word in [0, (nanoseconds >> 32) as u32, nanoseconds as u32] {
        body.extend_from_slice(&word.to_le_bytes());
    }
    push_option(&mut body, option::INTERFACE_DROPPED, &total.to_le_bytes());
    let mut block = Vec::new();
    // Writing to memory does not fail.
    let _ = write_block(&mut block, INTERFACE_STATISTICS, &[&body, &[0; 4]]);
    block
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// Writes the format.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: W,
    scratch: FrameBuffer,
}

impl<W: Write> Writer<W> {
    /// Starts a capture of an interface with that name.
    ///
    /// # Errors
    /// Returns the error of the output.
    pub fn new(mut output: W, interface: &str) -> io::Result<Self> {
        // Version 1.0; the length of the section is unknown.
        let mut section = Vec::new();
        section.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        section.extend_from_slice(&[1, 0, 0, 0]);
        section.extend_from_slice(&u64::MAX.to_le_bytes());
        push_option(&mut section, option::APPLICATION, concat!("viridian ", env!("CARGO_PKG_VERSION")).as_bytes());
        write_block(&mut output, SECTION, &[&section, &[0; 4]])?;

        let mut block = Vec::new();
        block.extend_from_slice(&ETHERNET.to_le_bytes());
        block.extend_from_slice(&0_u32.to_le_bytes());
        push_option(&mut block, option::INTERFACE_NAME, interface.as_bytes());
        push_option(&mut block, option::RESOLUTION, &[9]);
        write_block(&mut output, INTERFACE, &[&block, &[0; 4]])?;
        Ok(Self { output, scratch: FrameBuffer::default() })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// Returns the error of the output.
    pub fn add(&mut self, time: SystemTime, direction: Direction, frame: Frame<'_>) -> io::Result<()> {
        let bytes = match frame.offload.checksum {
            Checksum::Partial { .. } => {
                self.scratch.set(frame);
                checksum::complete(&mut self.scratch.bytes, frame.offload.checksum);
                &self.scratch.bytes
            }
            _ => frame.bytes,
        };
        let nanoseconds = nanoseconds(time);
        let length = bytes.len() as u32;
        let words = [0, (nanoseconds >> 32) as u32, nanoseconds as u32, length, length];
        let mut header = [0; 20];
        header.chunks_exact_mut(4).zip(words).for_each(|(place, word)| place.copy_from_slice(&word.to_le_bytes()));
        let padding = &[0; 3][..padding(bytes.len())];
        let mut options = Vec::with_capacity(12);
        push_option(&mut options, option::FLAGS, &(direction as u32).to_le_bytes());
        write_block(&mut self.output, ENHANCED_PACKET, &[&header, bytes, padding, &options, &[0; 4]])
    }
}

/// Returns the number of bytes to the next multiple of the word size.
fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

fn push_option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(u16::MAX.into())];
    block.extend_from_slice(&code.to_le_bytes());
    block.extend_from_slice(&(value.len() as u16).to_le_bytes());
    block.extend_from_slice(value);
    block.resize(block.len() + padding(value.len()), 0);
}

/// Writes a block: type and length, its parts, and the length again. All parts except the frame consist of whole words.
fn write_block(output: &mut impl Write, kind: u32, parts: &[&[u8]]) -> io::Result<()> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32 + 12;
    output.write_all(&kind.to_le_bytes())?;
    output.write_all(&length.to_le_bytes())?;
    parts.iter().try_for_each(|part| output.write_all(part))?;
    output.write_all(&length.to_le_bytes())
}

#[cfg(test)]
#[path = "pcap_tests.rs"]
mod tests;
