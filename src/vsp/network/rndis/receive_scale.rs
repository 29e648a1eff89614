//! The objects for receive-side scaling (MS-DOC `NDIS_RECEIVE_SCALE_CAPABILITIES`, `NDIS_RECEIVE_SCALE_PARAMETERS`).

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::wire::{ObjectHeader, Status};
use crate::net::rss::{KEY, MAX_TABLE, Scaling, hash_type};
use crate::vsp::network::wire;

wire! { 20,
/// `NDIS_RECEIVE_SCALE_CAPABILITIES`, revision 2 with two bytes of padding.
pub struct Capabilities {
    /// Type, revision, size (18, without the padding).
    pub header: ObjectHeader,
    /// Hash function and hash types.
    pub flags: u32,
    /// 1.
    pub interrupt_messages: u32,
    /// Maximum number of channels.
    pub receive_queues: u32,
    /// Maximum number of table entries.
    pub table_entries: u16,
    /// 0.
    pub padding: u16,
}}

wire! { 40,
/// `NDIS_RECEIVE_SCALE_PARAMETERS`, revision 2. It contains the offsets of table and key.
pub struct Parameters {
    /// Type, revision, size.
    pub header: ObjectHeader,
    /// See the constants.
    pub flags: u16,
    /// Not used.
    pub base_cpu: u16,
    /// Hash function and types: see [`hash_type`].
    pub hash_information: u32,
    /// Length of the table in bytes.
    pub table_size: u16,
    /// 0.
    pub padding0: u16,
    /// Offset of the table.
    pub table_offset: u32,
    /// Length of the key in bytes.
    pub key_size: u16,
    /// 0.
    pub padding1: u16,
    /// Offset of the key.
    pub key_offset: u32,
    /// Not used: offset, number and size of processor masks.
    pub processor_masks: [u32; 3],
}}

impl Parameters {
    /// Hash function and types do not change.
    pub const HASH_INFORMATION_UNCHANGED: u16 = 2;
    /// The table does not change.
    pub const TABLE_UNCHANGED: u16 = 4;
    /// The key does not change.
    pub const KEY_UNCHANGED: u16 = 8;
    /// Disables scaling.
    pub const DISABLE: u16 = 0x10;
}

/// Returns the capabilities of the adapter.
pub fn capabilities(queues: u16) -> Vec<u8> {
    const SIZE: usize = 18;
    const TCP_IPV4: u32 = 0x100;
    const TCP_IPV6: u32 = 0x200;
    let capabilities = Capabilities {
        header: ObjectHeader { object_type: ObjectHeader::RSS_CAPABILITIES, revision: 2, size: SIZE as u16 },
        flags: TCP_IPV4 | TCP_IPV6 | hash_type::TOEPLITZ,
        interrupt_messages: 1,
        receive_queues: queues.into(),
        table_entries: MAX_TABLE as u16,
        padding: 0,
    };
    capabilities.as_bytes()[..SIZE].to_vec()
}

/// Returns the present parameters.
pub fn parameters(scaling: Option<&Scaling>) -> Vec<u8> {
    let mut parameters = Parameters::new_zeroed();
    let size = size_of::<Parameters>();
    parameters.header = ObjectHeader { object_type: ObjectHeader::RSS_PARAMETERS, revision: 2, size: size as u16 };
    let Some(scaling) = scaling else {
        parameters.flags = Parameters::DISABLE;
        return parameters.as_bytes().to_vec();
    };
    let table: Vec<u32> = scaling.table.iter().map(|entry| u32::from(*entry)).collect();
    let table = table.as_bytes();
    parameters.hash_information = scaling.hash_types;
    parameters.table_size = table.len() as u16;
    parameters.table_offset = size as u32;
    parameters.key_size = KEY as u16;
    parameters.key_offset = (size + table.len()) as u32;
    [parameters.as_bytes(), table, &scaling.key].concat()
}

/// Applies the guest's parameters. `queues` is the maximum number of channels.
///
/// # Errors
/// Returns the status of the reply, and changes nothing, if they are invalid.
pub fn set(scaling: &mut Option<Scaling>, information: &[u8], queues: u16) -> Result<(), Status> {
    // Older drivers send shorter structures, and do not fill in the header. vmswitch does not check it, either.
    let mut parameters = Parameters::new_zeroed();
    let length = information.len().min(size_of::<Parameters>());
    if length < 12 {
        return Err(Status::INVALID_LENGTH);
    }
    parameters.as_mut_bytes()[..length].copy_from_slice(&information[..length]);
    let Parameters { flags, hash_information, .. } = parameters;
    let keeps = |flag: u16| flags & flag != 0;
    let hash_types = match scaling {
        Some(old) if keeps(Parameters::HASH_INFORMATION_UNCHANGED) => old.hash_types,
        _ => hash_information,
    };
    if keeps(Parameters::DISABLE) || hash_types & 0xff == 0 {
        *scaling = None;
        return Ok(());
    }
    if hash_types & 0xff != hash_type::TOEPLITZ {
        return Err(Status::NOT_SUPPORTED);
    }
    let part = |offset: u32, size: u16| {
        let start = offset as usize;
        start.checked_add(size.into()).and_then(|end| information.get(start..end)).ok_or(Status::INVALID_DATA)
    };
    let key = match scaling {
        Some(old) if keeps(Parameters::KEY_UNCHANGED) => old.key,
        _ => part(parameters.key_offset, parameters.key_size)?.try_into().map_err(|_| Status::INVALID_DATA)?,
    };
    let table = match scaling {
        Some(old) if keeps(Parameters::TABLE_UNCHANGED) => old.table.clone(),
        _ => read_table(part(parameters.table_offset, parameters.table_size)?, queues)?,
    };
    *scaling = Some(Scaling { hash_types, key, table });
    Ok(())
}

fn read_table(bytes: &[u8], queues: u16) -> Result<Vec<u16>, Status> {
    let entries = <[[u8; 4]]>::ref_from_bytes(bytes).map_err(|_| Status::INVALID_DATA)?;
    if entries.is_empty() || entries.len() > MAX_TABLE {
        return Err(Status::INVALID_DATA);
    }
    let channel = |entry: &[u8; 4]| u16::try_from(u32::from_le_bytes(*entry)).ok().filter(|channel| *channel < queues);
    entries.iter().map(channel).collect::<Option<_>>().ok_or(Status::INVALID_DATA)
}

#[cfg(test)]
#[path = "receive_scale_tests.rs"]
mod tests;
