//! Messages of the key-value pair exchange.

use crate::wire::{open_enum, wire};

open_enum! {
/// An operation in the guest.
Operation: u8, "operation {}";
    GET = 0, "GET";
    SET = 1, "SET";
    DELETE = 2, "DELETE";
    ENUMERATE = 3, "ENUMERATE";
    GET_ADAPTER = 4, "GET_IP_INFO";
    SET_ADAPTER = 5, "SET_IP_INFO";
}

open_enum! {
/// The type of a value, as Windows has it in its registry.
ValueType: u32, "value type {}";
    TEXT = 1, "text";
    EXPANDABLE_TEXT = 2, "expandable text";
    NUMBER_32 = 4, "32-bit number";
    /// Linux's constant for a 64-bit number.
    NUMBER_64 = 8, "64-bit number";
    /// `REG_QWORD`, as Windows has it.
    QWORD = 11, "64-bit number";
}

/// Room for a key, in bytes, with its terminating 0.
pub const KEY: usize = 512;
/// Room for a value, in bytes, with its terminating 0.
pub const VALUE: usize = 2048;

wire! { 2572,
/// A pair.
pub struct Pair {
    /// The type of the value.
    pub value_type: ValueType,
    /// Length of the key, in bytes, with its terminating 0.
    pub key_length: u32,
    /// Length of the value, in bytes, with the terminating 0 of a text.
    pub value_length: u32,
    /// The key.
    pub key: [u8; KEY],
    /// The value.
    pub value: [u8; VALUE],
}}

wire! { 2580,
/// `ENUMERATE`, in both directions.
pub struct Enumerate {
    /// The operation.
    pub operation: Operation,
    /// The pool.
    pub pool: u8,
    /// 0.
    pub reserved: u16,
    /// Number of the item.
    pub index: u32,
    /// The item, in the reply.
    pub pair: Pair,
}}

wire! { 2580,
/// `SET`
pub struct Set {
    /// The operation.
    pub operation: Operation,
    /// The pool.
    pub pool: u8,
    /// 0.
    pub reserved: u16,
    /// The item.
    pub pair: Pair,
    /// Messages about items have the same length.
    pub rest: u32,
}}

wire! { 2580,
/// `DELETE`
pub struct Delete {
    /// The operation.
    pub operation: Operation,
    /// The pool.
    pub pool: u8,
    /// 0.
    pub reserved: u16,
    /// Length of the key, in bytes, with its terminating 0.
    pub key_length: u32,
    /// The key.
    pub key: [u8; KEY],
    /// Messages about items have the same length.
    pub rest: [u8; 2060],
}}

wire! { 7428,
/// `GET_ADAPTER` and `SET_ADAPTER`. Lists are separated by semicolons.
pub struct AdapterMessage {
    /// The operation.
    pub operation: Operation,
    /// 0.
    pub pool: u8,
    /// The adapter: its MAC address for `GET_ADAPTER`, the GUID of its instance in braces for `SET_ADAPTER`.
    pub adapter: [u8; 256],
    /// Bit 0: IPv4; bit 1: IPv6.
    pub family: u8,
    /// 1 if the addresses come from DHCP.
    pub dhcp: u8,
    /// Addresses.
    pub addresses: [u8; 2048],
    /// A network mask or a prefix length for each.
    pub masks: [u8; 2048],
    /// Gateways.
    pub gateways: [u8; 1024],
    /// Name servers.
    pub name_servers: [u8; 2048],
}}
