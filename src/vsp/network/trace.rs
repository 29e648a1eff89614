//! Messages as readable lines, for `--trace network`.

use std::fmt::Write;

use zerocopy::FromBytes;

use super::nvsp::wire::{
    IndirectionTable, Init, InitComplete, MessageType, NdisConfig, NdisVersion, ReceiveBufferComplete, RevokeBuffer,
    SendBuffer, SendBufferComplete, SendRndisPacket, SendRndisPacketComplete, Subchannel, SwitchDataPath, Version,
    VfAssociation, split,
};
use super::rndis::packet::{DataMessage, DataMessages};
use super::rndis::wire::{
    Complete, HEADER, IndicateStatus, Initialize, InitializeComplete, MessageHeader, MessageType as RndisType,
    QueryComplete, Request, RequestId, ResetComplete,
};
use crate::engine::TraceKind;
use crate::net::offload::headers::{Headers, IpVersion, be16, protocol};
use crate::net::offload::vlan::TagControl;
use crate::vmbus::ids::ChannelId;
use crate::vmbus::trace::Tracer;

/// NVSP and RNDIS messages, and frames.
pub(crate) const KIND: TraceKind = TraceKind::named("network");

/// Number of bytes of an object that are shown.
const SHOWN: usize = 32;

/// Formats an NVSP message.
pub fn nvsp(payload: &[u8]) -> String {
    let Some((message_type, body)) = split(payload) else {
        return format!("NVSP: {} bytes, no message", payload.len());
    };
    let details = nvsp_details(message_type, body).unwrap_or_else(|| format!("cut off after {} bytes", body.len()));
    if details.is_empty() { format!("NVSP {message_type}") } else { format!("NVSP {message_type}: {details}") }
}

fn read<T: FromBytes>(body: &[u8]) -> Option<T> {
    T::read_from_prefix(body).ok().map(|(body, _)| body)
}

fn version(number: u32) -> String {
    Version::from_number(number)
        .map_or_else(|| format!("unknown version {number:#x}"), |version| format!("version {version}"))
}

/// Returns `None` if the body is too short.
fn nvsp_details(message_type: MessageType, body: &[u8]) -> Option<String> {
    Some(match message_type {
        MessageType::INIT => {
            let Init { minimum, maximum } = read(body)?;
            if minimum == maximum { version(minimum) } else { format!("{} to {}", version(minimum), version(maximum)) }
        }
        MessageType::INIT_COMPLETE => read::<InitComplete>(body)?.status.to_string(),
        MessageType::SEND_NDIS_VERSION => {
            let NdisVersion { major, minor } = read(body)?;
            format!("NDIS {major}.{minor}")
        }
        MessageType::SEND_NDIS_CONFIG => {
            let NdisConfig { frame_length, capabilities, .. } = read(body)?;
            format!("frames of {frame_length} bytes, capabilities {:#x}", capabilities[0])
        }
        MessageType::SEND_RECEIVE_BUFFER | MessageType::SEND_SEND_BUFFER => {
            let SendBuffer { gpadl, id, .. } = read(body)?;
            format!("GPADL {gpadl}, id {id:#x}")
        }
        MessageType::SEND_RECEIVE_BUFFER_COMPLETE => {
            let ReceiveBufferComplete { status, section_size, section_count, .. } = read(body)?;
            format!("{status}, {section_count} sections of {section_size} bytes")
        }
        MessageType::SEND_SEND_BUFFER_COMPLETE => {
            let SendBufferComplete { status, section_size } = read(body)?;
            format!("{status}, sections of {section_size} bytes")
        }
        MessageType::REVOKE_RECEIVE_BUFFER | MessageType::REVOKE_SEND_BUFFER => {
            format!("id {:#x}", read::<RevokeBuffer>(body)?.id)
        }
        MessageType::SEND_RNDIS_PACKET => {
            let SendRndisPacket { channel_type, section, section_length } = read(body)?;
            let kind = if channel_type == SendRndisPacket::DATA { "data" } else { "control" };
            match section {
                SendRndisPacket::NO_SECTION => kind.to_string(),
                section => format!("{kind}, {section_length} bytes in section {section}"),
            }
        }
        MessageType::SEND_RNDIS_PACKET_COMPLETE => read::<SendRndisPacketComplete>(body)?.status.to_string(),
        MessageType::SEND_VF_ASSOCIATION => {
            let VfAssociation { allocated, serial } = read(body)?;
            if allocated == 0 { "none".to_string() } else { format!("serial number {serial}") }
        }
        MessageType::SWITCH_DATA_PATH => match read::<SwitchDataPath>(body)?.active {
            0 => "synthetic".to_string(),
            1 => "virtual function".to_string(),
            other => format!("path {other}"),
        },
        MessageType::SUBCHANNEL => {
            let Subchannel { operation_or_status, count } = read(body)?;
            format!("operation or status {operation_or_status}, {count} subchannels")
        }
        MessageType::SEND_INDIRECTION_TABLE => {
            let IndirectionTable { count, offset } = read(body)?;
            format!("{count} entries at {offset}")
        }
        _ => String::new(),
    })
}

/// Formats the RNDIS messages of a transfer, one line each.
pub fn rndis(transfer: &[u8]) -> Vec<String> {
    let is_data = read::<MessageHeader>(transfer).is_some_and(|header| header.message_type == RndisType::PACKET);
    if !is_data {
        return vec![control(transfer)];
    }
    let line = |message| match message {
        Ok(message) => data(&message),
        Err(error) => format!("RNDIS: {error}"),
    };
    DataMessages::new(transfer).map(line).collect()
}

/// Formats a control message.
pub fn control(message: &[u8]) -> String {
    let Some(header) = read::<MessageHeader>(message) else {
        return format!("RNDIS: {} bytes, no message", message.len());
    };
    let body = message.get(HEADER..).unwrap_or_default();
    let details =
        control_details(header.message_type, body).unwrap_or_else(|| format!("cut off after {} bytes", body.len()));
    format!("RNDIS {}: {details}", header.message_type)
}

fn control_details(message_type: RndisType, body: &[u8]) -> Option<String> {
    let shown = |offset: u32, length: u32| {
        let start = offset as usize;
        let value = start.checked_add(length as usize).and_then(|end| body.get(start..end));
        value.map_or_else(|| " beyond the message".to_string(), hex)
    };
    Some(match message_type {
        RndisType::INITIALIZE => {
            let Initialize { request_id, major_version, minor_version, max_transfer_size } = read(body)?;
            format!("#{request_id} version {major_version}.{minor_version}, transfers of {max_transfer_size} bytes")
        }
        RndisType::INITIALIZE_COMPLETE => {
            let InitializeComplete { request_id, status, .. } = read(body)?;
            format!("#{request_id} {status}")
        }
        RndisType::QUERY | RndisType::SET => {
            let Request { request_id, oid, information_length, information_offset, .. } = read(body)?;
            format!("#{request_id} {oid}{}", shown(information_offset, information_length))
        }
        RndisType::QUERY_COMPLETE => {
            let QueryComplete { request_id, status, information_length, information_offset } = read(body)?;
            format!("#{request_id} {status}{}", shown(information_offset, information_length))
        }
        RndisType::SET_COMPLETE | RndisType::KEEPALIVE_COMPLETE => {
            let Complete { request_id, status } = read(body)?;
            format!("#{request_id} {status}")
        }
        RndisType::RESET_COMPLETE => read::<ResetComplete>(body)?.status.to_string(),
        RndisType::HALT | RndisType::KEEPALIVE => format!("#{}", read::<RequestId>(body)?.request_id),
        RndisType::INDICATE_STATUS => {
            let IndicateStatus { status, buffer_length, buffer_offset } = read(body)?;
            format!("{status}{}", shown(buffer_offset, buffer_length))
        }
        _ => format!("{} bytes", body.len()),
    })
}

/// Returns the start of a value in hexadecimal, after a space, or nothing if there is no value.
fn hex(value: &[u8]) -> String {
    let mut text = String::new();
    if !value.is_empty() {
        text.push(' ');
    }
    for byte in &value[..value.len().min(SHOWN)] {
        let _ = write!(text, "{byte:02x}");
    }
    if value.len() > SHOWN {
        let _ = write!(text, "… ({} bytes)", value.len());
    }
    text
}

fn data(message: &DataMessage<'_>) -> String {
    let mut line = format!("RNDIS PACKET: {} bytes{}", message.frame.len(), frame(message.frame));
    let notes = &message.information;
    if let Some(checksum) = notes.checksum {
        let _ = write!(line, ", checksum {checksum:#x}");
    }
    if let Some(large_send) = notes.large_send {
        let _ = write!(line, ", to be cut at {}", large_send.segment_size());
    }
    if let Some(vlan) = notes.vlan {
        let TagControl(tag) = vlan.into();
        let _ = write!(line, ", VLAN {} priority {}", tag & 0xfff, tag >> 13);
    }
    if let Some(hash) = notes.hash {
        let _ = write!(line, ", hash {hash:#010x}");
    }
    if let Some(id) = notes.packet_id {
        let _ = write!(line, ", part {:#x}", id.flags);
    }
    line
}

/// Formats a frame for the guest, before its header is added.
pub fn incoming(bytes: &[u8]) -> String {
    format!("frame: {} bytes{}", bytes.len(), frame(bytes))
}

/// Formats a frame in a few words.
fn frame(frame: &[u8]) -> String {
    let Some(headers) = Headers::parse(frame) else {
        return be16(frame, 12).map_or_else(String::new, |kind| format!(" of type {kind:#06x}"));
    };
    let version = if headers.version == IpVersion::V4 { "IPv4" } else { "IPv6" };
    let name = match headers.protocol {
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        protocol::ICMP | protocol::ICMP6 => "ICMP",
        _ => "protocol",
    };
    match headers.ports(frame) {
        Some([a, b, c, d]) => {
            format!(" {version} {name} {} to {}", u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ if name == "protocol" => format!(" {version} protocol {}", headers.protocol),
        _ => format!(" {version} {name}"),
    }
}

/// The trace of a channel's messages, if it is enabled.
pub(super) struct ChannelTrace {
    tracer: Option<Tracer>,
    channel: ChannelId,
}

impl ChannelTrace {
    /// Creates the trace of a channel.
    pub fn new(tracer: Option<Tracer>, channel: ChannelId) -> Self {
        Self { tracer, channel }
    }

    /// Returns the channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Traces a packet of `side`: guest or host.
    pub fn nvsp(&self, side: &str, transaction: u64, payload: &[u8]) {
        // A completion need not have a message.
        if let Some(tracer) = self.tracer.as_ref().filter(|_| !payload.is_empty()).and_then(Tracer::if_on) {
            let line = nvsp(payload);
            tracer.line(format_args!("network channel {} {side}: transaction {transaction:#x} {line}", self.channel));
        }
    }

    /// Traces RNDIS messages of `side`.
    pub fn rndis(&self, side: &str, transfer: &[u8]) {
        if let Some(tracer) = self.tracer.as_ref().and_then(Tracer::if_on) {
            for line in rndis(transfer) {
                tracer.line(format_args!("network channel {} {side}: {line}", self.channel));
            }
        }
    }

    /// Traces a frame for the guest.
    pub fn frame(&self, frame: &[u8]) {
        if let Some(tracer) = self.tracer.as_ref().and_then(Tracer::if_on) {
            tracer.line(format_args!("network channel {} host: {}", self.channel, incoming(frame)));
        }
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
