//! The packets of the protocol as plain data (Linux: `drivers/scsi/storvsc_drv.c`; Windows calls them VSTOR packets).
//!
//! Every packet consists of a [`PacketHeader`] and the data of its operation, padded to 64 bytes; up to Windows 7,
//! packets had only the first 48. A reply is as long as its request.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::wire::{open_enum, wire};

/// Maximum length of a packet.
pub const MAX_PACKET: usize = size_of::<PacketHeader>() + size_of::<ScsiRequest>();
/// Minimum length of a packet with a SCSI request: up to Windows 7 it ended before [`ScsiRequest::reserved`].
pub const MIN_PACKET: usize = 48;

open_enum! {
/// The operation of a packet.
Operation: u32, "{:#x}";
    /// Host to guest: the reply to any other packet.
    COMPLETE_IO = 1;
    /// Host to guest: a device was removed.
    REMOVE_DEVICE = 2;
    /// A SCSI command.
    EXECUTE_SRB = 3;
    /// Reset one unit.
    RESET_LUN = 4;
    /// Reset the controller.
    RESET_ADAPTER = 5;
    /// Reset the bus.
    RESET_BUS = 6;
    /// The first packet.
    BEGIN_INITIALIZATION = 7;
    /// Ends the negotiation; commands can follow.
    END_INITIALIZATION = 8;
    /// Requests a protocol version.
    QUERY_PROTOCOL_VERSION = 9;
    /// Requests the controller's properties.
    QUERY_PROPERTIES = 10;
    /// Host to guest: units have changed, rescan.
    ENUMERATE_BUS = 11;
    /// Requests the names of a Fibre Channel adapter.
    FCHBA_DATA = 12;
    /// Requests subchannels.
    CREATE_SUB_CHANNELS = 13;
}

open_enum! {
/// The result of a packet: an NTSTATUS.
NtStatus: u32, "{:#x}";
    /// Success.
    SUCCESS = 0;
    /// There was more data than room.
    BUFFER_OVERFLOW = 0x8000_0005;
    /// A value is invalid.
    INVALID_PARAMETER = 0xc000_000d;
    /// The controller does not support this.
    INVALID_DEVICE_REQUEST = 0xc000_0010;
    /// The version is not supported.
    REVISION_MISMATCH = 0xc000_0059;
    /// There is no such unit.
    DEVICE_DOES_NOT_EXIST = 0xc000_00c0;
    /// Not allowed in this state.
    INVALID_DEVICE_STATE = 0xc000_0184;
    /// The command failed.
    IO_DEVICE_ERROR = 0xc000_0185;
}

open_enum! {
/// The result of a SCSI request, as in Windows' SRBs. The two high bits are flags.
SrbStatus: u8, "{:#x}";
    /// Success.
    SUCCESS = 0x01;
    /// Failure: see the SCSI status.
    ERROR = 0x04;
    /// The request is invalid.
    INVALID_REQUEST = 0x06;
    /// There was more data than room.
    DATA_OVERRUN = 0x12;
    /// There is no such unit.
    INVALID_LUN = 0x20;
}

impl SrbStatus {
    /// Flag: the reply contains sense data.
    pub const AUTOSENSE_VALID: u8 = 0x80;

    /// Returns the status with that flag.
    pub fn with_autosense(self) -> Self {
        Self(self.0 | Self::AUTOSENSE_VALID)
    }
}

/// A protocol version: major in the high byte, minor in the low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Version(pub u16);

impl Version {
    /// Windows Server 2008.
    pub const WIN6: Self = Self(0x0200);
    /// Windows 7.
    pub const WIN7: Self = Self(0x0402);
    /// Windows 8: more than one channel.
    pub const WIN8: Self = Self(0x0501);
    /// Windows 8.1.
    pub const WIN8_1: Self = Self(0x0600);
    /// Windows 10.
    pub const WIN10: Self = Self(0x0602);

    /// Returns `true` if it is one of these versions.
    pub fn is_known(self) -> bool {
        matches!(self, Self::WIN6 | Self::WIN7 | Self::WIN8 | Self::WIN8_1 | Self::WIN10)
    }
}

wire! { 12,
/// The start of every packet.
pub struct PacketHeader {
    /// The operation.
    pub operation: Operation,
    /// 1 requests a completion.
    pub flags: u32,
    /// In replies: the result.
    pub status: NtStatus,
}}

wire! { 52,
/// A SCSI command, and in the reply its result (Linux: `struct vmscsi_request`).
pub struct ScsiRequest {
    /// Length of this structure.
    pub length: u16,
    /// The result, for the driver.
    pub srb_status: SrbStatus,
    /// The SCSI status.
    pub scsi_status: u8,
    /// The guest's number for the controller.
    pub port_number: u8,
    /// The bus, always 0.
    pub path_id: u8,
    /// The target, always 0.
    pub target_id: u8,
    /// The unit.
    pub lun: u8,
    /// Length of the command in `cdb`.
    pub cdb_length: u8,
    /// Room for sense data; in the reply, its length.
    pub sense_length: u8,
    /// Direction of the data: see [`DataDirection`].
    pub data_in: DataDirection,
    /// 0.
    pub properties: u8,
    /// Length of the data in bytes; in the reply, the number of bytes transferred.
    pub data_transfer_length: u32,
    /// The command; in the reply, the sense data.
    pub cdb: [u8; 20],
    /// The fields from here on exist since Windows 8.
    pub reserved: u16,
    /// The guest's number for the command, if it has one.
    pub queue_tag: u8,
    /// 0x20: a simple task.
    pub queue_action: u8,
    /// SRB_FLAGS_* of Windows.
    pub srb_flags: u32,
    /// The guest's timeout, in seconds.
    pub timeout: u32,
    /// The guest's sort key.
    pub queue_sort_key: u32,
}}
const _: () = assert!(MAX_PACKET == 64);
const _: () = assert!(std::mem::offset_of!(ScsiRequest, reserved) + size_of::<PacketHeader>() == MIN_PACKET);

open_enum! {
/// Direction of the data.
DataDirection: u8, "{:#x}";
    /// From the guest to the disk.
    OUT = 0;
    /// From the disk to the guest.
    IN = 1;
    /// No data.
    NONE = 2;
}

wire! { 24,
/// The properties of the controller (Linux: `struct vmstorage_channel_properties`).
pub struct ChannelProperties {
    /// 0.
    pub reserved: u32,
    /// Maximum number of subchannels.
    pub max_subchannels: u16,
    /// 0.
    pub reserved2: u16,
    /// See [`MULTI_CHANNEL`](Self::MULTI_CHANNEL).
    pub flags: u32,
    /// Maximum number of bytes per request.
    pub max_transfer_bytes: u32,
    /// 0.
    pub reserved3: [u32; 2],
}}

impl ChannelProperties {
    /// Flag: there can be subchannels.
    pub const MULTI_CHANNEL: u32 = 1;
}

wire! { 4,
/// The version that a packet requests.
pub struct ProtocolVersion {
    /// The version.
    pub version: Version,
    /// Used only by Windows.
    pub revision: u16,
}}

/// A packet to the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    bytes: [u8; MAX_PACKET],
    length: u8,
}

impl Reply {
    /// Creates a reply to a packet of `request_length` bytes.
    pub fn new(request_length: usize, status: NtStatus, body: &[u8]) -> Self {
        Self::of(Operation::COMPLETE_IO, request_length, status, body)
    }

    /// Creates a notification, which is not a reply.
    pub fn notice(operation: Operation) -> Self {
        Self::of(operation, MAX_PACKET, NtStatus::SUCCESS, &[])
    }

    fn of(operation: Operation, request_length: usize, status: NtStatus, body: &[u8]) -> Self {
        let mut bytes = [0; MAX_PACKET];
        let (header, rest) = bytes.split_at_mut(size_of::<PacketHeader>());
        header.copy_from_slice(PacketHeader { operation, flags: 0, status }.as_bytes());
        let body = &body[..body.len().min(rest.len())];
        rest[..body.len()].copy_from_slice(body);
        Self { bytes, length: request_length.clamp(MIN_PACKET, MAX_PACKET) as u8 }
    }

    /// Returns the bytes to write into the ring.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = PacketHeader::read_from_prefix(&self.bytes).map(|(header, _)| header);
        write!(formatter, "Reply({header:?}, {} bytes)", self.length)
    }
}
