//! INQUIRY and the vital product data pages (SPC-4, 6.6 and 7.8; SBC-3, 6.6).

use super::blocks::{MAX_COMPARE_AND_WRITE, MAX_TRANSFER, physical_exponent};
use super::provisioning::{MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME};
use super::sense::Sense;
use super::unit::{DeviceKind, LogicalUnit};
use super::{Command, Reply, answer};

// Hyper-V's own names: Linux allows such disks WRITE SAME, and Windows has drivers for them.
const VENDOR: &[u8; 8] = b"Msft    ";
const DISK: &[u8; 16] = b"Virtual Disk    ";
const DVD: &[u8; 16] = b"Virtual DVD-ROM ";
const REVISION: &[u8; 4] = b"1.0 ";
/// Marker in the vendor-specific bytes: the embedded guest writes only to disks with it.
const SCRATCH: &[u8; 7] = b"scratch";

/// Version descriptors (SPC-4, table 139): SAM-5, SPC-4 and the device's own standard.
const SAM_5: u16 = 0x00a0;
const SPC_4: u16 = 0x0460;
const SBC_3: u16 = 0x04c0;
const MMC_6: u16 = 0x04e0;

const SUPPORTED_PAGES: u8 = 0x00;
const UNIT_SERIAL_NUMBER: u8 = 0x80;
const DEVICE_IDENTIFICATION: u8 = 0x83;
const BLOCK_LIMITS: u8 = 0xb0;
const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;

/// In ascending order, as SPC-4 requires.
const DISK_PAGES: &[u8] = &[
    SUPPORTED_PAGES,
    UNIT_SERIAL_NUMBER,
    DEVICE_IDENTIFICATION,
    BLOCK_LIMITS,
    BLOCK_DEVICE_CHARACTERISTICS,
    LOGICAL_BLOCK_PROVISIONING,
];
const OPTICAL_PAGES: &[u8] = &[SUPPORTED_PAGES, UNIT_SERIAL_NUMBER, DEVICE_IDENTIFICATION];

fn device_type(kind: DeviceKind) -> u8 {
    match kind {
        DeviceKind::Disk => 0x00,
        DeviceKind::Optical => 0x05,
    }
}

/// Returns the INQUIRY data for a missing unit: peripheral qualifier 011b, no device type.
///
/// Linux sends INQUIRY first, and through storvsc it cannot see an error of it.
pub fn absent_unit_inquiry(allocation_length: usize) -> Vec<u8> {
    let mut data = vec![0; 36];
    data[0] = 0x7f;
    data[2] = 0x06;
    data[3] = 0x02;
    data[4] = 31;
    data.truncate(allocation_length);
    data
}

impl LogicalUnit {
    /// INQUIRY.
    pub(super) fn inquiry(&mut self, command: &Command<'_>) -> Result<Reply, Sense> {
        let page = command.byte(2);
        let data = match command.bit(1, 0) {
            false if page != 0 => return Err(Sense::INVALID_FIELD_IN_CDB),
            false => self.standard_inquiry(),
            true => self.vital_product_data(page)?,
        };
        answer(data, command.be16(3).into())
    }

    fn standard_inquiry(&self) -> Vec<u8> {
        let (product, removable, standard) = match self.kind {
            DeviceKind::Disk => (DISK, 0x00, SBC_3),
            DeviceKind::Optical => (DVD, 0x80, MMC_6),
        };
        let mut data = vec![0; 96];
        data[0] = device_type(self.kind);
        data[1] = removable;
        data[2] = 0x06; // SPC-4
        data[3] = 0x12; // hierarchical LUNs, response data format 2
        data[4] = 96 - 5;
        data[7] = 0x02; // command queuing
        data[8..16].copy_from_slice(VENDOR);
        data[16..32].copy_from_slice(product);
        data[32..36].copy_from_slice(REVISION);
        if self.identity.scratch {
            data[36..43].copy_from_slice(SCRATCH);
        }
        for (at, descriptor) in (58..).step_by(2).zip([SAM_5, SPC_4, standard]) {
            data[at..at + 2].copy_from_slice(&descriptor.to_be_bytes());
        }
        data
    }

    fn vital_product_data(&self, page: u8) -> Result<Vec<u8>, Sense> {
        let pages = if self.kind == DeviceKind::Disk { DISK_PAGES } else { OPTICAL_PAGES };
        if !pages.contains(&page) {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let body = match page {
            SUPPORTED_PAGES => pages.to_vec(),
            UNIT_SERIAL_NUMBER => self.identity.serial.as_bytes().to_vec(),
            DEVICE_IDENTIFICATION => self.designators(),
            BLOCK_LIMITS => self.block_limits(),
            BLOCK_DEVICE_CHARACTERISTICS => {
                let mut body = vec![0; 60];
                body[1] = 1; // nothing turns
                body
            }
            _ => self.provisioning_page(),
        };
        let mut data = vec![device_type(self.kind), page];
        data.extend_from_slice(&(body.len() as u16).to_be_bytes());
        data.extend_from_slice(&body);
        Ok(data)
    }

    /// Device Identification: a locally assigned NAA name, and vendor and serial number.
    fn designators(&self) -> Vec<u8> {
        let naa = (3 << 60) | (self.identity.unique & ((1 << 60) - 1));
        let mut body = vec![0x01, 0x03, 0, 8];
        body.extend_from_slice(&naa.to_be_bytes());
        body.extend_from_slice(&[0x02, 0x01, 0, (VENDOR.len() + self.identity.serial.len()) as u8]);
        body.extend_from_slice(VENDOR);
        body.extend_from_slice(self.identity.serial.as_bytes());
        body
    }

    /// Block Limits (SBC-3, 6.6.4). All of these limits are enforced by the commands.
    fn block_limits(&self) -> Vec<u8> {
        let mut page = vec![0; 64];
        let Some(medium) = self.medium else { return page.split_off(4) };
        let granularity = 1 << physical_exponent(medium.block_size);
        page[5] = MAX_COMPARE_AND_WRITE;
        page[6..8].copy_from_slice(&(granularity as u16).to_be_bytes());
        page[8..12].copy_from_slice(&(MAX_TRANSFER / medium.block_size).to_be_bytes());
        if medium.provisioning {
            page[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
            page[24..28].copy_from_slice(&(MAX_UNMAP_DESCRIPTORS as u32).to_be_bytes());
            page[28..32].copy_from_slice(&u32::to_be_bytes(granularity));
            page[32] = 0x80; // the alignment that follows, 0, is valid
        }
        page[36..44].copy_from_slice(&MAX_WRITE_SAME.to_be_bytes());
        page.split_off(4)
    }

    /// Logical Block Provisioning (SBC-3, 6.6.6).
    fn provisioning_page(&self) -> Vec<u8> {
        match self.medium {
            // UNMAP and both WRITE SAME; blocks read as zeros afterwards; thin provisioning.
            Some(medium) if medium.provisioning => vec![0, 0xe4, 0x02, 0],
            _ => vec![0; 4],
        }
    }
}

#[cfg(test)]
#[path = "inquiry_tests.rs"]
mod tests;
