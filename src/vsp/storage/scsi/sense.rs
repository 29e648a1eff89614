//! Sense data (SPC-4, chapter 4.5).
//!
//! Sense data has two encodings. The initiator chooses with D_SENSE in the Control mode page. Both fit in the 20 bytes
//! of a storvsp packet.

use smallvec::SmallVec;

/// Encoded sense data.
pub type SenseBytes = SmallVec<[u8; 20]>;

/// The sense key (SPC-4, table 43).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// No error.
    NoSense = 0x0,
    /// The unit or its medium is missing or stopped.
    NotReady = 0x2,
    /// The medium has lost data or cannot be written.
    MediumError = 0x3,
    /// The device has failed.
    HardwareError = 0x4,
    /// The unit does not support the command or its parameters.
    IllegalRequest = 0x5,
    /// Something has changed since the initiator's last command.
    UnitAttention = 0x6,
    /// The blocks are write-protected.
    DataProtect = 0x7,
    /// The command was aborted.
    AbortedCommand = 0xb,
    /// The data differs from the medium.
    Miscompare = 0xe,
}

/// A sense key, with the ASC and ASCQ that explain it (SPC-4, annex F).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The sense key.
    pub key: SenseKey,
    /// Additional sense code.
    pub code: u8,
    /// Additional sense code qualifier.
    pub qualifier: u8,
    /// A block or a byte offset in the data, depending on the command.
    pub information: Option<u64>,
}

/// The sense codes of this target, by their SPC-4 names.
#[allow(missing_docs)]
impl Sense {
    pub const NONE: Self = Self::new(SenseKey::NoSense, 0x00, 0x00);
    pub const INITIALIZING_COMMAND_REQUIRED: Self = Self::new(SenseKey::NotReady, 0x04, 0x02);
    pub const MEDIUM_NOT_PRESENT: Self = Self::new(SenseKey::NotReady, 0x3a, 0x00);
    pub const MEDIUM_NOT_PRESENT_TRAY_OPEN: Self = Self::new(SenseKey::NotReady, 0x3a, 0x02);
    pub const WRITE_ERROR: Self = Self::new(SenseKey::MediumError, 0x0c, 0x00);
    pub const UNRECOVERED_READ_ERROR: Self = Self::new(SenseKey::MediumError, 0x11, 0x00);
    pub const INTERNAL_TARGET_FAILURE: Self = Self::new(SenseKey::HardwareError, 0x44, 0x00);
    pub const PARAMETER_LIST_LENGTH_ERROR: Self = Self::new(SenseKey::IllegalRequest, 0x1a, 0x00);
    pub const INVALID_OPCODE: Self = Self::new(SenseKey::IllegalRequest, 0x20, 0x00);
    pub const LBA_OUT_OF_RANGE: Self = Self::new(SenseKey::IllegalRequest, 0x21, 0x00);
    pub const INVALID_FIELD_IN_CDB: Self = Self::new(SenseKey::IllegalRequest, 0x24, 0x00);
    pub const LOGICAL_UNIT_NOT_SUPPORTED: Self = Self::new(SenseKey::IllegalRequest, 0x25, 0x00);
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x00);
    pub const INVALID_RELEASE_OF_PERSISTENT_RESERVATION: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x04);
    pub const SAVING_PARAMETERS_NOT_SUPPORTED: Self = Self::new(SenseKey::IllegalRequest, 0x39, 0x00);
    pub const MEDIUM_REMOVAL_PREVENTED: Self = Self::new(SenseKey::IllegalRequest, 0x53, 0x02);
    pub const INSUFFICIENT_REGISTRATION_RESOURCES: Self = Self::new(SenseKey::IllegalRequest, 0x55, 0x04);
    pub const MEDIUM_MAY_HAVE_CHANGED: Self = Self::attention(0x28, 0x00);
    pub const POWER_ON_OR_RESET: Self = Self::attention(0x29, 0x00);
    pub const POWER_ON: Self = Self::attention(0x29, 0x01);
    pub const BUS_RESET: Self = Self::attention(0x29, 0x02);
    pub const DEVICE_RESET: Self = Self::attention(0x29, 0x03);
    pub const MODE_PARAMETERS_CHANGED: Self = Self::attention(0x2a, 0x01);
    pub const RESERVATIONS_PREEMPTED: Self = Self::attention(0x2a, 0x03);
    pub const RESERVATIONS_RELEASED: Self = Self::attention(0x2a, 0x04);
    pub const REGISTRATIONS_PREEMPTED: Self = Self::attention(0x2a, 0x05);
    pub const CAPACITY_CHANGED: Self = Self::attention(0x2a, 0x09);
    pub const REPORTED_LUNS_CHANGED: Self = Self::attention(0x3f, 0x0e);
    pub const WRITE_PROTECTED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x00);
    pub const SPACE_ALLOCATION_FAILED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x07);
    pub const IO_PROCESS_TERMINATED: Self = Self::new(SenseKey::AbortedCommand, 0x00, 0x06);
    pub const MISCOMPARE: Self = Self::new(SenseKey::Miscompare, 0x1d, 0x00);

    const fn new(key: SenseKey, code: u8, qualifier: u8) -> Self {
        Self { key, code, qualifier, information: None }
    }

    const fn attention(code: u8, qualifier: u8) -> Self {
        Self::new(SenseKey::UnitAttention, code, qualifier)
    }
}

impl Sense {
    /// Returns a copy with the INFORMATION field set.
    pub const fn with_information(self, information: u64) -> Self {
        Self { information: Some(information), ..self }
    }

    /// Returns the descriptor format if `descriptor` (SPC-4, 4.5.2), else the fixed one (4.5.3).
    pub fn encode(&self, descriptor: bool) -> SenseBytes {
        if descriptor { self.encode_descriptor() } else { self.encode_fixed() }
    }

    fn encode_fixed(&self) -> SenseBytes {
        let mut bytes = [0; 18];
        // The field has 32 bits; a block number beyond them is omitted.
        let information = self.information.and_then(|information| u32::try_from(information).ok());
        bytes[0] = 0x70 | if information.is_some() { 0x80 } else { 0 };
        bytes[2] = self.key as u8;
        bytes[3..7].copy_from_slice(&information.unwrap_or(0).to_be_bytes());
        bytes[7] = 10;
        bytes[12] = self.code;
        bytes[13] = self.qualifier;
        SenseBytes::from_slice(&bytes)
    }

    fn encode_descriptor(&self) -> SenseBytes {
        let mut bytes = SenseBytes::from_slice(&[0x72, self.key as u8, self.code, self.qualifier, 0, 0, 0, 0]);
        if let Some(information) = self.information {
            bytes[7] = 12;
            bytes.extend_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        bytes
    }
}

#[cfg(test)]
#[path = "sense_tests.rs"]
mod tests;
