//! Messages of the synthetic HID device, as plain data. Each has a pipe header. (Linux: `drivers/hid/hid-hyperv.c`; Device Class
//! Definition for HID 1.11.)

use zerocopy::{IntoBytes, little_endian};

use crate::wire::{open_enum, wire};

open_enum! {
/// The type of a message.
MessageType: u32, "message type {}";
    /// The guest asks for a version.
    PROTOCOL_REQUEST = 0, "protocol request";
    /// The host approves it or not.
    PROTOCOL_RESPONSE = 1, "protocol response";
    /// The host describes the device.
    INITIAL_DEVICE_INFO = 2, "device info";
    /// The guest has read the description.
    INITIAL_DEVICE_INFO_ACK = 3, "acknowledgement of the device info";
    /// The device moved, or a button changed.
    INPUT_REPORT = 4, "input report";
}

/// The only version: 2.0.
pub const VERSION: u32 = 2 << 16;

/// The largest coordinate. The pointer is at the right or lower edge of the screen there.
pub const MAX_COORDINATE: u16 = 0x7fff;

wire! { 8,
/// The start of each message.
pub struct Header {
    /// The type.
    pub message_type: MessageType,
    /// Length of what follows, in bytes.
    pub length: u32,
}}

wire! { 5,
/// The body of `PROTOCOL_RESPONSE`.
pub struct ProtocolResponse {
    /// The version that the guest asked for.
    pub version: little_endian::U32,
    /// 1 if it is approved, else 0.
    pub approved: u8,
}}

wire! { 32,
/// `hv_input_dev_info`, the start of the body of `INITIAL_DEVICE_INFO`. A HID descriptor and a report descriptor follow.
pub struct DeviceAttributes {
    /// 32.
    pub length: u32,
    /// The USB vendor id: Microsoft's.
    pub vendor: u16,
    /// The product id.
    pub product: u16,
    /// The version of the product.
    pub version: u16,
    /// 0.
    pub reserved: [u16; 11],
}}

wire! { 9,
/// The HID descriptor (HID 1.11, 6.2.1).
pub struct HidDescriptor {
    /// 9.
    pub length: u8,
    /// 0x21: a HID descriptor.
    pub descriptor_type: u8,
    /// 1.11 in BCD.
    pub hid_version: [u8; 2],
    /// 0: not localized.
    pub country: u8,
    /// Number of descriptors that follow.
    pub count: u8,
    /// 0x22: a report descriptor.
    pub report_type: u8,
    /// Length of the report descriptor, in bytes.
    pub report_length: [u8; 2],
}}

wire! { 7,
/// A report of the mouse, as [`REPORT_DESCRIPTOR`] describes it.
pub struct Report {
    /// Bit N: button N + 1 is down. They are left, right, middle, back and forward.
    pub buttons: u8,
    /// From 0 to [`MAX_COORDINATE`].
    pub x: little_endian::U16,
    /// From 0 to [`MAX_COORDINATE`].
    pub y: little_endian::U16,
    /// Notches away from the user.
    pub wheel: i8,
    /// Notches to the right.
    pub tilt: i8,
}}

/// The items of the report descriptor (HID 1.11, 6.2.2).
pub const REPORT_DESCRIPTOR: &[u8] = &[
    0x05, 0x01, // Usage Page (Generic Desktop)
    0x09, 0x02, // Usage (Mouse)
    0xa1, 0x01, // Collection (Application)
    0x09, 0x01, //   Usage (Pointer)
    0xa1, 0x00, //   Collection (Physical)
    0x05, 0x09, //     Usage Page (Button)
    0x19, 0x01, //     Usage Minimum (1)
    0x29, 0x05, //     Usage Maximum (5)
    0x15, 0x00, //     Logical Minimum (0)
    0x25, 0x01, //     Logical Maximum (1)
    0x95, 0x05, //     Report Count (5)
    0x75, 0x01, //     Report Size (1)
    0x81, 0x02, //     Input (Data, Variable, Absolute)
    0x95, 0x01, //     Report Count (1)
    0x75, 0x03, //     Report Size (3)
    0x81, 0x03, //     Input (Constant): padding
    0x05, 0x01, //     Usage Page (Generic Desktop)
    0x09, 0x30, //     Usage (X)
    0x09, 0x31, //     Usage (Y)
    0x26, 0xff, 0x7f, // Logical Maximum (32767)
    0x75, 0x10, //     Report Size (16)
    0x95, 0x02, //     Report Count (2)
    0x81, 0x02, //     Input (Data, Variable, Absolute)
    0x09, 0x38, //     Usage (Wheel)
    0x15, 0x81, //     Logical Minimum (-127)
    0x25, 0x7f, //     Logical Maximum (127)
    0x75, 0x08, //     Report Size (8)
    0x95, 0x01, //     Report Count (1)
    0x81, 0x06, //     Input (Data, Variable, Relative)
    0x05, 0x0c, //     Usage Page (Consumer)
    0x0a, 0x38, 0x02, // Usage (AC Pan)
    0x81, 0x06, //     Input (Data, Variable, Relative)
    0xc0, //         End Collection
    0xc0, //       End Collection
];

/// Returns the body of `INITIAL_DEVICE_INFO`.
pub fn device_info() -> Vec<u8> {
    let attributes = DeviceAttributes {
        length: size_of::<DeviceAttributes>() as u32,
        vendor: 0x045e,
        product: 0x0621,
        version: 0x0101,
        reserved: [0; 11],
    };
    let descriptor = HidDescriptor {
        length: size_of::<HidDescriptor>() as u8,
        descriptor_type: 0x21,
        hid_version: [0x11, 0x01],
        country: 0,
        count: 1,
        report_type: 0x22,
        report_length: (REPORT_DESCRIPTOR.len() as u16).to_le_bytes(),
    };
    [attributes.as_bytes(), descriptor.as_bytes(), REPORT_DESCRIPTOR].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of bits of the inputs that the descriptor describes.
    fn input_bits(mut items: &[u8]) -> u32 {
        let (mut size, mut count, mut bits) = (0, 0, 0);
        while let [tag, rest @ ..] = items {
            let length = [0, 1, 2, 4][usize::from(tag & 3)];
            let value = rest[..length].iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            match tag & 0xfc {
                0x74 => size = value,
                0x94 => count = value,
                0x80 => bits += size * count,
                _ => {}
            }
            items = &rest[length..];
        }
        bits
    }

    #[test]
    fn the_descriptor_describes_the_report() {
        assert_eq!(input_bits(REPORT_DESCRIPTOR) as usize, 8 * size_of::<Report>());
        assert_eq!(device_info().len(), 32 + 9 + REPORT_DESCRIPTOR.len());
    }
}
