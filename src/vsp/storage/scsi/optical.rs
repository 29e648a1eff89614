//! The commands of a DVD drive: the part of MMC-6 that Linux's sr and its readers use.
//!
//! A disc is one finished session with one data track.

use super::sense::Sense;
use super::unit::{LogicalUnit, Medium};
use super::{Command, Reply, answer};

const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;
/// A disc larger than any CD is treated as a DVD: 80 minutes of 75 blocks a second.
const CD_BLOCKS: u64 = 80 * 60 * 75;
/// The number of the lead-out in a table of contents.
const LEAD_OUT: u8 = 0xaa;
/// Offset of minutes, seconds and frames: they count from two seconds before the first block.
const PREGAP: u64 = 150;

/// A media event, as GET EVENT STATUS NOTIFICATION reports it (MMC-6, 6.6.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum MediaEvent {
    NewMedia = 2,
    MediaRemoval = 3,
}

impl MediaEvent {
    pub fn of(present: bool) -> Self {
        if present { Self::NewMedia } else { Self::MediaRemoval }
    }
}

impl LogicalUnit {
    fn disc(&self) -> Option<Medium> {
        self.medium.filter(|_| !self.tray_open)
    }

    /// READ TOC/PMA/ATIP: the table of contents and the sessions.
    pub(super) fn read_toc(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let medium = self.ready()?;
        let by_time = command.bit(1, 1);
        // MMC has the format in byte 2; early drives had it in the two high bits of byte 9.
        let format = if command.byte(2) & 0x0f == 0 { command.byte(9) >> 6 } else { command.byte(2) & 0x0f };
        let from = command.byte(6);
        let track = |number: u8, lba: u64| {
            let mut entry = vec![0, 0x14, number, 0];
            entry.extend_from_slice(&address(lba, by_time));
            entry
        };
        let body = match format {
            0 if from > 1 && from != LEAD_OUT => return Err(Sense::INVALID_FIELD_IN_CDB),
            0 if from == LEAD_OUT => track(LEAD_OUT, medium.blocks),
            0 => [track(1, 0), track(LEAD_OUT, medium.blocks)].concat(),
            1 => track(1, 0),
            _ => return Err(Sense::INVALID_FIELD_IN_CDB),
        };
        let mut data = ((body.len() + 2) as u16).to_be_bytes().to_vec();
        data.extend_from_slice(&[1, 1]);
        data.extend_from_slice(&body);
        answer(data, command.be16(7).into())
    }

    /// GET CONFIGURATION: profiles and features.
    pub(super) fn get_configuration(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let (wanted, start) = (command.byte(1) & 3, command.be16(2));
        let profile = self.disc().map_or(0, |medium| if medium.blocks > CD_BLOCKS { DVD_ROM } else { CD_ROM });
        let mut body = Vec::new();
        for (code, flags, data) in features(profile) {
            let current = flags & 1 != 0;
            let told = match wanted {
                0 => code >= start,
                1 => code >= start && current,
                2 => code == start,
                _ => return Err(Sense::INVALID_FIELD_IN_CDB),
            };
            if told {
                body.extend_from_slice(&code.to_be_bytes());
                body.extend_from_slice(&[flags, data.len() as u8]);
                body.extend_from_slice(&data);
            }
        }
        let mut data = ((body.len() + 4) as u32).to_be_bytes().to_vec();
        data.extend_from_slice(&[0, 0]);
        data.extend_from_slice(&profile.to_be_bytes());
        data.extend_from_slice(&body);
        answer(data, command.be16(7).into())
    }

    /// GET EVENT STATUS NOTIFICATION: media events, only by polling.
    pub(super) fn get_event_status(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        const MEDIA: u8 = 4;
        if !command.bit(1, 0) {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        if command.byte(4) & 1 << MEDIA == 0 {
            return answer(vec![0, 2, 0x80, 1 << MEDIA], command.be16(7).into());
        }
        let event = self.media_event.take().map_or(0, |event| event as u8);
        let status = u8::from(self.tray_open) | if self.disc().is_some() { 2 } else { 0 };
        answer(vec![0, 6, MEDIA, 1 << MEDIA, event, status, 0, 0], command.be16(7).into())
    }

    /// READ DISC INFORMATION: standard disc information only.
    pub(super) fn read_disc_information(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        self.ready()?;
        if command.byte(1) & 7 != 0 {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let mut data = vec![0; 34];
        // One finished session with one track, on a finalized disc of unrestricted use.
        data[..9].copy_from_slice(&[0, 32, 0x0e, 1, 1, 1, 1, 0x20, 0]);
        data[16..24].fill(0xff); // no lead-in and lead-out to be written
        answer(data, command.be16(7).into())
    }

    /// MECHANISM STATUS: no changer, nothing under way.
    pub(super) fn mechanism_status(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let door_open = if self.tray_open { 0x10 } else { 0 };
        answer(vec![0, door_open, 0, 0, 0, 1, 0, 0], command.be16(8).into())
    }
}

/// Returns the drive's features (MMC-6, 5.3): code, version and flags (persistent is 2, current 1), data.
fn features(profile: u16) -> Vec<(u16, u8, Vec<u8>)> {
    let [cd, dvd] = [CD_ROM, DVD_ROM].map(|known| u8::from(known == profile));
    let readable = cd | dvd;
    let profiles = vec![0, DVD_ROM as u8, dvd, 0, 0, CD_ROM as u8, cd, 0];
    vec![
        (0x0000, 0x03, profiles),
        (0x0001, 0x0b, vec![0, 0, 0, 8, 3, 0, 0, 0]), // core: a SCSI interface
        (0x0002, 0x07, vec![2, 0, 0, 0]),             // morphing: events are polled for
        (0x0003, 0x0b, vec![0x39, 0, 0, 0]),          // removable: a tray that loads, ejects and locks
        (0x0010, readable, vec![0, 0, 8, 0, 0, 1, 0, 0]), // random readable: 2048 bytes, one by one
        (0x001e, 0x08 | cd, vec![0, 0, 0, 0]),        // reads CDs
        (0x001f, 0x08 | dvd, vec![0, 0, 0, 0]),       // reads DVDs
    ]
}

fn address(lba: u64, by_time: bool) -> [u8; 4] {
    if !by_time {
        return u32::try_from(lba).unwrap_or(u32::MAX).to_be_bytes();
    }
    let frames = lba + PREGAP;
    let minutes = u8::try_from(frames / (60 * 75)).unwrap_or(u8::MAX);
    [0, minutes, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

#[cfg(test)]
#[path = "optical_tests.rs"]
mod tests;
