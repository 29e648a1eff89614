//! The protocol between hv_storvsc and the host, as in Windows 7 to 10: a pure state machine.
//!
//! The driver opens the primary channel and negotiates: begin, protocol version, properties, end. Then it can request
//! subchannels, and each channel carries SCSI requests. [`Negotiation`] is the state of a controller, which its channels
//! share. [`Srb`] is a checked packet with a SCSI command.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::scsi::{MAX_CDB_LENGTH, MAX_TRANSFER, Response, Status};

pub mod wire;

use wire::{
    ChannelProperties, DataDirection, MIN_PACKET, NtStatus, Operation, PacketHeader, ProtocolVersion, Reply,
    ScsiRequest, SrbStatus, Version,
};

/// Maximum length of the sense data in a reply.
pub const MAX_SENSE: usize = 20;

/// The progress of the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Begun,
    Versioned(Version),
    Described(Version),
    Ready(Version),
}

/// The result of the negotiation, shared by the channels of a controller.
#[derive(Debug)]
pub struct Negotiation {
    state: State,
    max_subchannels: u16,
}

/// What a packet requests apart from its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Nothing,
    /// The driver starts the negotiation: units are reset as after power-on.
    Begin,
    /// Offer this many subchannels.
    OfferSubchannels(u16),
    /// Reset units.
    Reset(Scope),
}

/// The scope of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One unit.
    Lun(u8),
    /// All units, by a bus reset.
    Bus,
    /// All units, by a controller reset.
    Adapter,
}

/// A packet that cannot be answered. It is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The packet is too short.
    #[error("a storage packet of {0} bytes is too short")]
    TooShort(usize),
}

impl Negotiation {
    /// Creates a controller that offers up to `max_subchannels` beside its primary channel.
    pub fn new(max_subchannels: u16) -> Self {
        Self { state: State::Closed, max_subchannels }
    }

    /// Resets the state, because the primary channel was closed or opened.
    pub fn reset(&mut self) {
        self.state = State::Closed;
    }

    /// Returns `true` if SCSI requests are accepted.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Returns `true` if the driver supports [`Operation::ENUMERATE_BUS`].
    pub fn wants_notices(&self) -> bool {
        matches!(self.state, State::Ready(version) if version >= Version::WIN7)
    }

    /// Processes a packet that is not a SCSI request. Only the `primary` channel negotiates.
    ///
    /// # Errors
    /// Returns an error if the packet is too short.
    pub fn control(&mut self, primary: bool, packet: &[u8]) -> Result<(Reply, Demand), PacketError> {
        let (header, body) = PacketHeader::read_from_prefix(packet).map_err(|_| PacketError::TooShort(packet.len()))?;
        let reply = |status, body: &[u8]| Reply::new(packet.len(), status, body);
        let refuse = |status| Ok((reply(status, &[]), Demand::Nothing));
        let done = |demand| Ok((reply(NtStatus::SUCCESS, &[]), demand));
        let scope = match header.operation {
            Operation::RESET_LUN => body.get(std::mem::offset_of!(ScsiRequest, lun)).map(|lun| Scope::Lun(*lun)),
            Operation::RESET_BUS => Some(Scope::Bus),
            Operation::RESET_ADAPTER => Some(Scope::Adapter),
            _ => None,
        };
        if let Some(scope) = scope.filter(|_| self.is_ready()) {
            return done(Demand::Reset(scope));
        }
        if !primary {
            return refuse(NtStatus::INVALID_DEVICE_STATE);
        }
        match (header.operation, self.state) {
            (Operation::BEGIN_INITIALIZATION, _) => {
                self.state = State::Begun;
                done(Demand::Begin)
            }
            // Linux tries one version after the other until one is accepted.
            (Operation::QUERY_PROTOCOL_VERSION, State::Begun | State::Versioned(_)) => {
                let Ok((asked, _)) = ProtocolVersion::read_from_prefix(body) else {
                    return refuse(NtStatus::INVALID_PARAMETER);
                };
                if !asked.version.is_known() {
                    return Ok((reply(NtStatus::REVISION_MISMATCH, asked.as_bytes()), Demand::Nothing));
                }
                self.state = State::Versioned(asked.version);
                Ok((reply(NtStatus::SUCCESS, asked.as_bytes()), Demand::Nothing))
            }
            (Operation::QUERY_PROPERTIES, State::Versioned(version)) => {
                self.state = State::Described(version);
                Ok((reply(NtStatus::SUCCESS, self.properties(version).as_bytes()), Demand::Nothing))
            }
            (Operation::END_INITIALIZATION, State::Described(version)) => {
                self.state = State::Ready(version);
                done(Demand::Nothing)
            }
            (Operation::CREATE_SUB_CHANNELS, State::Described(version) | State::Ready(version)) => {
                let count = body.first_chunk().map(|count| u16::from_le_bytes(*count));
                match count.filter(|count| *count <= self.subchannels(version)) {
                    Some(count) => done(Demand::OfferSubchannels(count)),
                    None => refuse(NtStatus::INVALID_PARAMETER),
                }
            }
            // The controller is not a Fibre Channel adapter.
            (Operation::FCHBA_DATA, _) => refuse(NtStatus::INVALID_DEVICE_REQUEST),
            _ => refuse(NtStatus::INVALID_DEVICE_STATE),
        }
    }

    fn subchannels(&self, version: Version) -> u16 {
        if version >= Version::WIN8 { self.max_subchannels } else { 0 }
    }

    fn properties(&self, version: Version) -> ChannelProperties {
        let max_subchannels = self.subchannels(version);
        ChannelProperties {
            reserved: 0,
            max_subchannels,
            reserved2: 0,
            flags: if max_subchannels > 0 { ChannelProperties::MULTI_CHANNEL } else { 0 },
            max_transfer_bytes: MAX_TRANSFER,
            reserved3: [0; 2],
        }
    }
}

/// Returns the operation of a packet, if it is one.
pub fn operation(packet: &[u8]) -> Option<Operation> {
    PacketHeader::read_from_prefix(packet).ok().map(|(header, _)| header.operation)
}

/// A SCSI request block: a command from the guest, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Srb {
    /// The unit, if the address exists: bus 0, target 0.
    pub lun: Option<u8>,
    /// The command, with zeros after its end.
    pub cdb: [u8; MAX_CDB_LENGTH],
    /// Direction of the data.
    pub direction: DataDirection,
    /// Length of the data in the guest's pages, in bytes.
    pub length: u32,
    /// The data for the reply.
    pub ticket: Ticket,
}

/// The fields that a reply copies from its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    packet_length: usize,
    address: [u8; 4],
    cdb_length: u8,
    /// Maximum length of the sense data.
    sense: u8,
}

impl Srb {
    /// Parses an EXECUTE_SRB packet with `pages` bytes of guest memory.
    ///
    /// # Errors
    /// Returns the reply that refuses the packet.
    pub fn parse(packet: &[u8], pages: usize) -> Result<Self, Reply> {
        let mut bytes = [0; size_of::<ScsiRequest>()];
        let body = packet.get(size_of::<PacketHeader>()..).unwrap_or(&[]);
        let taken = body.len().min(bytes.len());
        bytes[..taken].copy_from_slice(&body[..taken]);
        let Ok(request) = ScsiRequest::read_from_bytes(&bytes) else {
            return Err(Reply::new(packet.len(), NtStatus::INVALID_PARAMETER, &[]));
        };
        let ticket = Ticket {
            packet_length: packet.len(),
            address: [request.port_number, request.path_id, request.target_id, request.lun],
            cdb_length: request.cdb_length,
            // Hosts up to Windows 7 had 18 bytes for sense data; Linux states how many it has.
            sense: request.sense_length.min(MAX_SENSE as u8),
        };
        let length = request.data_transfer_length;
        let cdb_length = usize::from(request.cdb_length);
        if packet.len() < MIN_PACKET || cdb_length > MAX_CDB_LENGTH || length as usize > pages || length > MAX_TRANSFER
        {
            return Err(ticket.refuse(SrbStatus::INVALID_REQUEST));
        }
        let mut cdb = [0; MAX_CDB_LENGTH];
        cdb[..cdb_length].copy_from_slice(&request.cdb[..cdb_length]);
        let lun = (request.path_id == 0 && request.target_id == 0).then_some(request.lun);
        Ok(Self { lun, cdb, direction: request.data_in, length, ticket })
    }
}

impl Ticket {
    /// Returns the reply to a command that ended with `response` after transferring `moved` of `wanted` bytes.
    pub fn complete(&self, response: &Response, moved: u32, wanted: u32) -> Reply {
        match response.status {
            Status::Good if moved < wanted => self.reply(SrbStatus::DATA_OVERRUN, response, moved),
            Status::Good => self.reply(SrbStatus::SUCCESS, response, moved),
            _ => self.reply(SrbStatus::ERROR, response, 0),
        }
    }

    /// Returns the reply to a command for a missing unit. Linux then removes the device.
    pub fn no_such_unit(&self, response: &Response) -> Reply {
        self.reply(SrbStatus::INVALID_LUN, response, 0)
    }

    /// Returns the reply to an invalid request.
    pub fn refuse(&self, status: SrbStatus) -> Reply {
        self.reply(status, &Response { status: Status::CheckCondition, ..Response::GOOD }, 0)
    }

    fn reply(&self, srb_status: SrbStatus, response: &Response, moved: u32) -> Reply {
        let [port_number, path_id, target_id, lun] = self.address;
        let mut payload = [0; MAX_SENSE];
        let sense = response.sense.as_deref().unwrap_or(&[]);
        let sense = &sense[..sense.len().min(self.sense.into())];
        payload[..sense.len()].copy_from_slice(sense);
        let body = ScsiRequest {
            length: size_of::<ScsiRequest>() as u16,
            srb_status: if sense.is_empty() { srb_status } else { srb_status.with_autosense() },
            scsi_status: response.status as u8,
            port_number,
            path_id,
            target_id,
            lun,
            cdb_length: self.cdb_length,
            sense_length: sense.len() as u8,
            data_in: DataDirection::OUT,
            properties: 0,
            data_transfer_length: moved,
            cdb: payload,
            ..ScsiRequest::new_zeroed()
        };
        let status = match srb_status {
            SrbStatus::SUCCESS => NtStatus::SUCCESS,
            SrbStatus::DATA_OVERRUN => NtStatus::BUFFER_OVERFLOW,
            SrbStatus::INVALID_LUN => NtStatus::DEVICE_DOES_NOT_EXIST,
            SrbStatus::INVALID_REQUEST => NtStatus::INVALID_DEVICE_REQUEST,
            _ => NtStatus::IO_DEVICE_ERROR,
        };
        Reply::new(self.packet_length, status, body.as_bytes())
    }
}

#[cfg(test)]
#[path = "storvsp_tests.rs"]
mod tests;
