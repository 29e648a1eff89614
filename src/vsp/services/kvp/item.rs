//! Items and adapters, and how they lie in messages.

use std::fmt;

use serde::Serialize;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::super::protocol::Failure;
use super::super::text;
use super::wire::{AdapterMessage, Delete, Enumerate, KEY, Operation, Pair, Set, VALUE, ValueType};
use crate::wire::array;

/// A list of items in the guest. Linux keeps pool N in `/var/lib/hyperv/.kvp_pool_N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Items that the host's user has sent.
    External,
    /// Items of the guest, for the host.
    Guest,
    /// Items of the guest's daemon about the guest, such as its addresses.
    Intrinsic,
    /// Items of the host about itself and the machine.
    Host,
}

impl Pool {
    fn number(self) -> u8 {
        self as u8
    }

    /// Returns `true` if the host may change items of the pool.
    pub fn is_hosts(self) -> bool {
        matches!(self, Self::External | Self::Host)
    }
}

/// The value of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A text of up to 1023 UTF-16 units.
    Text(String),
    /// A 32-bit number. Linux stores it as text.
    Number32(u32),
    /// A 64-bit number. Linux stores it as text.
    Number64(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Number32(number) => number.fmt(formatter),
            Self::Number64(number) => number.fmt(formatter),
        }
    }
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The key, of up to 255 UTF-16 units.
    pub key: String,
    /// The value.
    pub value: Value,
}

/// A network adapter of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// `true` if the addresses come from DHCP.
    pub dhcp: bool,
    /// Addresses.
    pub addresses: Vec<String>,
    /// A network mask for each IPv4 address, a prefix length for each IPv6 address.
    pub masks: Vec<String>,
    /// Gateways.
    pub gateways: Vec<String>,
    /// Name servers.
    pub name_servers: Vec<String>,
}

fn key(field: &mut [u8; KEY], key: &str) -> Result<u32, Failure> {
    if key.is_empty() {
        return Err(Failure::Invalid("the key is empty".into()));
    }
    Ok(text::put(field, key, "the key")?)
}

/// Returns the body that adds or replaces an item.
pub fn set(pool: Pool, item: &Item) -> Result<Vec<u8>, Failure> {
    let mut set = Set { operation: Operation::SET, pool: pool.number(), ..Set::new_zeroed() };
    let pair = &mut set.pair;
    pair.key_length = key(&mut pair.key, &item.key)?;
    (pair.value_type, pair.value_length) = match &item.value {
        Value::Text(value) => (ValueType::TEXT, text::put(&mut pair.value, value, "the value")?),
        Value::Number32(number) => {
            pair.value[..4].copy_from_slice(&number.to_le_bytes());
            (ValueType::NUMBER_32, 4)
        }
        Value::Number64(number) => {
            pair.value[..8].copy_from_slice(&number.to_le_bytes());
            (ValueType::NUMBER_64, 8)
        }
    };
    Ok(set.as_bytes().to_vec())
}

/// Returns the body that deletes an item.
pub fn delete(pool: Pool, name: &str) -> Result<Vec<u8>, Failure> {
    let mut delete = Delete { operation: Operation::DELETE, pool: pool.number(), ..Delete::new_zeroed() };
    delete.key_length = key(&mut delete.key, name)?;
    Ok(delete.as_bytes().to_vec())
}

/// Returns the body that asks for the item with this number.
pub fn enumerate(pool: Pool, index: u32) -> Vec<u8> {
    let (operation, pool) = (Operation::ENUMERATE, pool.number());
    Enumerate { operation, pool, index, ..Enumerate::new_zeroed() }.as_bytes().to_vec()
}

/// Returns the item in the reply to an enumeration.
pub fn enumerated(body: &[u8]) -> Result<Item, Failure> {
    let bad = |why: String| Failure::BadReply(why);
    let Ok((message, _)) = Enumerate::read_from_prefix(body) else {
        return Err(bad(format!("an item has {} bytes", body.len())));
    };
    let Pair { value_type, key_length, value_length, key, value } = &message.pair;
    let within = |field: usize, length: u32| usize::try_from(length).ok().filter(|length| *length <= field);
    let (Some(key_length), Some(value_length)) = (within(KEY, *key_length), within(VALUE, *value_length)) else {
        return Err(bad(format!("a key of {key_length} bytes with a value of {value_length} bytes")));
    };
    let value = match *value_type {
        ValueType::TEXT | ValueType::EXPANDABLE_TEXT => Value::Text(text::get(&value[..value_length])),
        ValueType::NUMBER_32 => Value::Number32(u32::from_le_bytes(array(value, 0))),
        ValueType::NUMBER_64 | ValueType::QWORD => Value::Number64(u64::from_le_bytes(array(value, 0))),
        other => return Err(bad(format!("an item is of {other}"))),
    };
    Ok(Item { key: text::get(&key[..key_length]), value })
}

/// Returns the body that asks for the adapter with this MAC address.
pub fn get_adapter(mac: &str) -> Result<Vec<u8>, Failure> {
    let mut message = AdapterMessage { operation: Operation::GET_ADAPTER, ..AdapterMessage::new_zeroed() };
    message.family = FAMILIES;
    text::put(&mut message.adapter, mac, "the MAC address")?;
    Ok(message.as_bytes().to_vec())
}

/// IPv4 and IPv6.
const FAMILIES: u8 = 3;

/// Returns the body that configures the adapter with this GUID.
pub fn set_adapter(guid: &str, adapter: &Adapter) -> Result<Vec<u8>, Failure> {
    let mut message = AdapterMessage { operation: Operation::SET_ADAPTER, ..AdapterMessage::new_zeroed() };
    text::put(&mut message.adapter, guid, "the GUID")?;
    let has = |colon: bool| adapter.addresses.iter().any(|address| address.contains(':') == colon);
    message.family = u8::from(has(false)) | u8::from(has(true)) << 1;
    message.dhcp = adapter.dhcp.into();
    text::put(&mut message.addresses, &adapter.addresses.join(";"), "the list of addresses")?;
    text::put(&mut message.masks, &adapter.masks.join(";"), "the list of network masks")?;
    text::put(&mut message.gateways, &adapter.gateways.join(";"), "the list of gateways")?;
    text::put(&mut message.name_servers, &adapter.name_servers.join(";"), "the list of name servers")?;
    Ok(message.as_bytes().to_vec())
}

/// Returns the adapter in the reply.
pub fn got_adapter(body: &[u8]) -> Result<Adapter, Failure> {
    let Ok((message, _)) = AdapterMessage::read_from_prefix(body) else {
        return Err(Failure::BadReply(format!("an adapter has {} bytes", body.len())));
    };
    let list = |field: &[u8]| split_list(&text::get(field));
    Ok(Adapter {
        dhcp: message.dhcp != 0,
        addresses: list(&message.addresses),
        masks: list(&message.masks),
        gateways: list(&message.gateways),
        name_servers: list(&message.name_servers),
    })
}

/// Returns the parts of a list, as guests write it: separated by semicolons, perhaps with one at the end.
pub fn split_list(list: &str) -> Vec<String> {
    list.split(';').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "item_tests.rs"]
mod tests;
