//! Helpers for tests of those who look at a screen.

use std::time::Duration;

use vm_memory::GuestAddress;
use zerocopy::IntoBytes;

use super::protocol::Video;
use super::wire::{Situation, SituationUpdate, VramLocation};
use crate::memory::GuestMemory;
use crate::vsp::pipe::provider::{Handle, Protocol};
use crate::vsp::pipe::testing::drain;
use crate::vsp::pipe::wire::wrap;

/// The address of the screen's memory.
pub const VRAM: u64 = 0x10_0000;
/// The size of the screen.
pub const WIDTH: u32 = 16;
/// The size of the screen.
pub const HEIGHT: u32 = 32;

/// Returns a message with its headers.
pub fn message(message_type: u32, body: &[u8]) -> Vec<u8> {
    wrap(&[&message_type.to_le_bytes(), &(8 + body.len() as u32).to_le_bytes(), body])
}

/// Returns a screen whose guest shows a black picture, and its memory.
pub fn showing() -> (Handle<Video>, GuestMemory) {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(VRAM), 0x1_0000)]).unwrap();
    let location = VramLocation { context: 0.into(), specified: 1, address: VRAM.into() };
    let (width, height) = (WIDTH.into(), HEIGHT.into());
    let output = Situation { active: 1, offset: 0.into(), depth: 32, width, height, pitch: (WIDTH * 4).into() };
    let situation = SituationUpdate { context: 0.into(), outputs: 1, output };
    let video = Handle::new(Video::new(64, 64));
    video.change(|video| {
        video.attach(&memory);
        video.opened();
        for (message_type, body) in
            [(1, &(5_u32 << 16 | 3).to_le_bytes()[..]), (3, location.as_bytes()), (5, situation.as_bytes())]
        {
            video.receive(&message(message_type, body)).unwrap();
            drain(video, Duration::ZERO);
        }
    });
    (video, memory)
}
