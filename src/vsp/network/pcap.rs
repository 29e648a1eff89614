//! Captures in the pcapng format (draft-ietf-opsawg-pcapng), as Wireshark and tcpdump read them.
//!
//! A section, one interface, and then a block for each frame with its time in nanoseconds and its direction as the guest sees it. Checksums that are
//! left open are completed in the capture, so that nobody takes them for errors.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::frame::{Checksum, Frame, FrameBuffer};
use super::offload::checksum;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u32 = 1;

mod option {
    pub const APPLICATION: u16 = 4;
    pub const INTERFACE_NAME: u16 = 2;
    pub const RESOLUTION: u16 = 9;
    pub const FLAGS: u16 = 2;
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the guest.
    Inbound = 1,
    /// From the guest.
    Outbound = 2,
}

/// A capture cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the capture {path}: {source}")]
pub struct CaptureError {
    /// The file.
    pub path: PathBuf,
    /// The host's answer.
    pub source: io::Error,
}

/// A capture that is being written.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: W,
    scratch: FrameBuffer,
}

impl Writer<BufWriter<File>> {
    /// Begins a capture in a file, which is replaced if it exists.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, interface: &str) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError { path: path.to_path_buf(), source };
        let file = File::create(path).map_err(failed)?;
        let mut writer = Self::new(BufWriter::new(file), interface).map_err(failed)?;
        writer.flush().map_err(failed)?;
        Ok(writer)
    }
}

impl<W: Write> Writer<W> {
    /// Begins a capture of an interface with that name.
    ///
    /// # Errors
    /// The output's own.
    pub fn new(mut output: W, interface: &str) -> io::Result<Self> {
        // Version 1.0, length of the section unknown.
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
    /// The output's own.
    pub fn add(&mut self, time: SystemTime, direction: Direction, frame: Frame<'_>) -> io::Result<()> {
        let bytes = match frame.offload.checksum {
            Checksum::Partial { .. } => {
                self.scratch.set(frame);
                checksum::complete(&mut self.scratch.bytes, frame.offload.checksum);
                &self.scratch.bytes
            }
            _ => frame.bytes,
        };
        let nanoseconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let length = bytes.len() as u32;
        let words = [0, (nanoseconds >> 32) as u32, nanoseconds as u32, length, length];
        let mut header = [0; 20];
        header.chunks_exact_mut(4).zip(words).for_each(|(place, word)| place.copy_from_slice(&word.to_le_bytes()));
        let padding = &[0; 3][..padding(bytes.len())];
        let mut options = Vec::with_capacity(12);
        push_option(&mut options, option::FLAGS, &(direction as u32).to_le_bytes());
        write_block(&mut self.output, ENHANCED_PACKET, &[&header, bytes, padding, &options, &[0; 4]])
    }

    /// Gives everything to the output.
    ///
    /// # Errors
    /// The output's own.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// How many bytes are missing to a whole number of words.
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

/// Writes a block: type and length before its parts, the length again after them. Each part but the frame is whole words long.
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
