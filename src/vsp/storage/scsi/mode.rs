//! Mode pages: settings of the unit that the initiator can read and change (SPC-4, 6.9 on and 7.5; SBC-3, 6.5; MMC-6,
//! 7).

use super::sense::Sense;
use super::unit::{DeviceKind, LogicalUnit};
use super::{Command, Reply, answer};

const READ_WRITE_ERROR_RECOVERY: u8 = 0x01;
const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;
const CAPABILITIES: u8 = 0x2a;
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

const DISK_PAGES: &[u8] = &[READ_WRITE_ERROR_RECOVERY, CACHING, CONTROL, INFORMATIONAL_EXCEPTIONS];
const OPTICAL_PAGES: &[u8] = &[READ_WRITE_ERROR_RECOVERY, CONTROL, CAPABILITIES];

/// WCE in byte 2 of the Caching page.
const WRITE_CACHE: u8 = 0x04;
/// D_SENSE in byte 2 of the Control page.
const DESCRIPTOR_SENSE: u8 = 0x04;
/// SWP in byte 4 of the Control page.
const SOFTWARE_WRITE_PROTECT: u8 = 0x08;

/// The settings that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModePages {
    /// Writes may complete before they are durable.
    pub write_cache: bool,
    /// Sense data uses the descriptor format.
    pub descriptor_sense: bool,
    /// The initiator has write-protected the medium.
    pub software_write_protect: bool,
}

impl Default for ModePages {
    fn default() -> Self {
        Self { write_cache: true, descriptor_sense: false, software_write_protect: false }
    }
}

impl ModePages {
    /// All settings on. The bits in which its pages differ from those of `NONE_SET` are the changeable bits.
    const ALL_SET: Self = Self { write_cache: true, descriptor_sense: true, software_write_protect: true };
    const NONE_SET: Self = Self { write_cache: false, descriptor_sense: false, software_write_protect: false };

    /// Returns a page, including its two-byte header. `prevented` is `true` if removal of the medium is prevented.
    fn page(&self, code: u8, prevented: bool) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        match code {
            READ_WRITE_ERROR_RECOVERY => vec![code, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            CACHING => {
                let mut page = vec![0; 20];
                page[..3].copy_from_slice(&[code, 18, flag(self.write_cache, WRITE_CACHE)]);
                page
            }
            CONTROL => {
                let (format, protect) = (
                    flag(self.descriptor_sense, DESCRIPTOR_SENSE),
                    flag(self.software_write_protect, SOFTWARE_WRITE_PROTECT),
                );
                // Commands may be reordered; the duration of BUSY is not limited.
                vec![code, 10, format, 0x10, protect, 0, 0, 0, 0xff, 0xff, 0, 0]
            }
            // Nothing is ever reported (DEXCPT).
            INFORMATIONAL_EXCEPTIONS => vec![code, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // A drive that reads all CDs and DVDs and writes none, with a tray that locks and ejects. 11,080 kB/s: DVD at 8x.
            _ => {
                let mut page = vec![0; 22];
                page[..7].copy_from_slice(&[code, 20, 0x3f, 0, 0x70, 0, 0x29 | flag(prevented, 0x02)]);
                page[8..10].copy_from_slice(&11_080_u16.to_be_bytes());
                page[12..14].copy_from_slice(&512_u16.to_be_bytes());
                page[14..16].copy_from_slice(&11_080_u16.to_be_bytes());
                page
            }
        }
    }

    /// Returns a page in which the bits that MODE SELECT may change are set.
    fn changeable(code: u8) -> Vec<u8> {
        let (all, none) = (Self::ALL_SET.page(code, false), Self::NONE_SET.page(code, false));
        let mut mask: Vec<u8> = all.iter().zip(&none).map(|(all, none)| all ^ none).collect();
        mask[..2].copy_from_slice(&all[..2]);
        mask
    }

    /// Applies a page from MODE SELECT. Returns an error if it would change a bit that is not changeable.
    fn set(&mut self, page: &[u8]) -> Result<(), Sense> {
        let code = page[0] & 0x3f;
        let (current, changeable) = (self.page(code, false), Self::changeable(code));
        let differ = |at: usize| (page[at] ^ current[at]) & !changeable[at] != 0;
        if page.len() != current.len() || (2..page.len()).any(differ) {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
        }
        match code {
            CACHING => self.write_cache = page[2] & WRITE_CACHE != 0,
            CONTROL => {
                self.descriptor_sense = page[2] & DESCRIPTOR_SENSE != 0;
                self.software_write_protect = page[4] & SOFTWARE_WRITE_PROTECT != 0;
            }
            _ => {}
        }
        Ok(())
    }
}

impl LogicalUnit {
    fn mode_pages(&self) -> &'static [u8] {
        if self.kind == DeviceKind::Disk { DISK_PAGES } else { OPTICAL_PAGES }
    }

    /// MODE SENSE (6).
    pub(super) fn mode_sense_6(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let pages = self.sense_pages(command)?;
        let descriptor = self.block_descriptor(command, false);
        let mut data = vec![0, 0, self.device_specific(), descriptor.len() as u8];
        data.extend_from_slice(&descriptor);
        data.extend_from_slice(&pages);
        data[0] = (data.len() - 1) as u8;
        answer(data, command.byte(4).into())
    }

    /// MODE SENSE (10).
    pub(super) fn mode_sense_10(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let long = command.bit(1, 4);
        let pages = self.sense_pages(command)?;
        let descriptor = self.block_descriptor(command, long);
        let mut data = vec![0, 0, 0, self.device_specific(), u8::from(long), 0, 0, descriptor.len() as u8];
        data.extend_from_slice(&descriptor);
        data.extend_from_slice(&pages);
        let length = (data.len() - 2) as u16;
        data[..2].copy_from_slice(&length.to_be_bytes());
        answer(data, command.be16(7).into())
    }

    /// Returns the device-specific parameter of the header (SBC-3, 6.5.1): WP and DPOFUA.
    fn device_specific(&self) -> u8 {
        if self.kind == DeviceKind::Optical {
            return 0;
        }
        let protected = self.medium.is_some_and(|medium| medium.read_only) || self.mode.software_write_protect;
        0x10 | if protected { 0x80 } else { 0 }
    }

    /// Returns the block descriptor, or nothing if the command disables it (DBD) or there is none.
    fn block_descriptor(&self, command: &Command<'_>, long: bool) -> Vec<u8> {
        let Some(medium) = self.medium.filter(|_| self.kind == DeviceKind::Disk && !command.bit(1, 3)) else {
            return Vec::new();
        };
        let mut descriptor = vec![0; if long { 16 } else { 8 }];
        if long {
            descriptor[..8].copy_from_slice(&medium.blocks.to_be_bytes());
            descriptor[12..].copy_from_slice(&medium.block_size.to_be_bytes());
        } else {
            let blocks = u32::try_from(medium.blocks).unwrap_or(u32::MAX);
            descriptor[..4].copy_from_slice(&blocks.to_be_bytes());
            descriptor[4..].copy_from_slice(&medium.block_size.to_be_bytes());
        }
        descriptor
    }

    /// Returns the pages that MODE SENSE requests, with the values that its PC field selects.
    fn sense_pages(&self, command: &Command<'_>) -> Result<Vec<u8>, Sense> {
        let (code, subpage) = (command.byte(2) & 0x3f, command.byte(3));
        let known = self.mode_pages();
        let wanted = match (code, subpage) {
            (ALL_PAGES, 0 | ALL_SUBPAGES) => known,
            (code, 0) => match known.iter().position(|known| *known == code) {
                Some(index) => &known[index..=index],
                None => return Err(Sense::INVALID_FIELD_IN_CDB),
            },
            _ => return Err(Sense::INVALID_FIELD_IN_CDB),
        };
        let page = |code: &u8| match command.byte(2) >> 6 {
            0 => Ok(self.mode.page(*code, self.removal_prevented)),
            1 => Ok(ModePages::changeable(*code)),
            2 => Ok(ModePages::default().page(*code, false)),
            _ => Err(Sense::SAVING_PARAMETERS_NOT_SUPPORTED),
        };
        Ok(wanted.iter().map(page).collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// MODE SELECT (6).
    pub(super) fn mode_select_6(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let list = select_list(command, command.byte(4).into())?;
        let Some((header, rest)) = list.split_first_chunk::<4>() else { return too_short(&list) };
        self.mode_select(command, header[3].into(), false, rest)
    }

    /// MODE SELECT (10).
    pub(super) fn mode_select_10(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let list = select_list(command, command.be16(7).into())?;
        let Some((header, rest)) = list.split_first_chunk::<8>() else { return too_short(&list) };
        let descriptors = u16::from_be_bytes([header[6], header[7]]);
        self.mode_select(command, descriptors.into(), header[4] & 1 != 0, rest)
    }

    /// Applies a parameter list. `rest` is the list without its header, and `descriptors` the length of the block descriptors
    /// in it. The whole list is checked before any of it takes effect (SPC-4, 6.9).
    fn mode_select(
        &mut self,
        command: &Command<'_>,
        descriptors: usize,
        long: bool,
        rest: &[u8],
    ) -> Result<Reply, Sense> {
        let (descriptor, mut rest) = rest.split_at_checked(descriptors).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        self.accept_block_descriptor(descriptor, long)?;
        let mut mode = self.mode;
        while let [code, length, ..] = *rest {
            let known = code & 0x40 == 0 && self.mode_pages().contains(&(code & 0x3f));
            if !known {
                return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
            }
            let split = rest.split_at_checked(2 + usize::from(length));
            let (page, after) = split.ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
            mode.set(page)?;
            rest = after;
        }
        if !rest.is_empty() {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        if mode != self.mode {
            self.mode = mode;
            self.raise_for_others(Some(command.nexus), Sense::MODE_PARAMETERS_CHANGED);
        }
        // If the write cache is off now, data that is still in it must be flushed.
        Ok(if self.mode.write_cache || self.ready().is_err() { Reply::Good } else { super::blocks::flush() })
    }

    /// Returns an error if a block descriptor would change anything, because the medium cannot be formatted.
    fn accept_block_descriptor(&self, descriptor: &[u8], long: bool) -> Result<(), Sense> {
        let (blocks, size) = match (descriptor.len(), long) {
            (0, _) => return Ok(()),
            (8, false) => {
                let blocks = u32::from_be_bytes(super::array(descriptor, 0));
                let blocks = if blocks == u32::MAX { 0 } else { blocks.into() };
                (blocks, u32::from_be_bytes(super::array(descriptor, 4)) & 0xff_ffff)
            }
            (16, true) => {
                (u64::from_be_bytes(super::array(descriptor, 0)), u32::from_be_bytes(super::array(descriptor, 12)))
            }
            _ => return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST),
        };
        let same =
            self.medium.is_some_and(|medium| medium.block_size == size && (blocks == 0 || blocks == medium.blocks));
        if same { Ok(()) } else { Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST) }
    }
}

/// Returns the parameter list of MODE SELECT.
fn select_list(command: &Command<'_>, length: usize) -> Result<Vec<u8>, Sense> {
    // The SP bit is set, but settings cannot be saved.
    if command.bit(1, 0) { Err(Sense::INVALID_FIELD_IN_CDB) } else { command.parameters(length) }
}

/// Returns the reply to a list without a complete header. An empty list is not an error (SPC-4, 6.9).
fn too_short(list: &[u8]) -> Result<Reply, Sense> {
    if list.is_empty() { Ok(Reply::Good) } else { Err(Sense::PARAMETER_LIST_LENGTH_ERROR) }
}

#[cfg(test)]
#[path = "mode_tests.rs"]
mod tests;
