//! Messages of synthetic video, as plain data. Each has a pipe header. (Linux: `drivers/gpu/drm/hyperv/hyperv_drm_proto.c`,
//! `drivers/video/fbdev/hyperv_fb.c`.)

use zerocopy::{FromBytes, little_endian};

use crate::wire::{open_enum, wire};

open_enum! {
/// The type of a message.
MessageType: u32, "message type {}";
    /// The guest asks for a version.
    VERSION_REQUEST = 1, "version request";
    /// The host accepts it or not.
    VERSION_RESPONSE = 2, "version response";
    /// The guest says where the screen's memory is.
    VRAM_LOCATION = 3, "VRAM location";
    /// The host has found it.
    VRAM_LOCATION_ACK = 4, "VRAM location acknowledgement";
    /// The guest sets size and place of the picture.
    SITUATION_UPDATE = 5, "situation update";
    /// The host shows it.
    SITUATION_UPDATE_ACK = 6, "situation update acknowledgement";
    /// The guest moves its pointer.
    POINTER_POSITION = 7, "pointer position";
    /// The guest gives its pointer a shape.
    POINTER_SHAPE = 8, "pointer shape";
    /// The host says what it wants to be told.
    FEATURE_CHANGE = 9, "feature change";
    /// The guest has drawn.
    DIRT = 10, "dirt";
    /// The guest asks whether its BIOS uses the screen.
    BIOS_INFO_REQUEST = 11, "BIOS info request";
    /// The host answers.
    BIOS_INFO_RESPONSE = 12, "BIOS info response";
    /// The guest asks which sizes the screen can have.
    RESOLUTION_REQUEST = 13, "resolution request";
    /// The host lists them.
    RESOLUTION_RESPONSE = 14, "resolution response";
    /// The guest asks what the host can do. From version 3.5 on.
    CAPABILITY_REQUEST = 15, "capability request";
    /// The host lists it.
    CAPABILITY_RESPONSE = 16, "capability response";
}

/// A version: the minor version in the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoVersion(pub u32);

impl VideoVersion {
    /// Returns `true` if the host speaks it: 3.0 to 3.5. Windows Server 2012 has 3.2, 2019 has 3.5.
    pub fn is_known(self) -> bool {
        self.major() == 3 && self.minor() <= 5
    }

    /// Returns `true` if its guests can ask for capabilities.
    pub fn has_capabilities(self) -> bool {
        self.minor() >= 5
    }

    /// Returns `true` if the host can tell its guests which size it prefers.
    pub fn has_preferred_size(self) -> bool {
        self.minor() >= 4
    }

    /// Returns the major version.
    pub fn major(self) -> u32 {
        self.0 & 0xffff
    }

    /// Returns the minor version.
    pub fn minor(self) -> u32 {
        self.0 >> 16
    }
}

wire! { 8,
/// The start of each message.
pub struct Header {
    /// The type.
    pub message_type: MessageType,
    /// Length of the message with this header, in bytes.
    pub length: u32,
}}

wire! { 6,
/// The body of `VERSION_RESPONSE`.
pub struct VersionResponse {
    /// The version that the guest asked for.
    pub version: little_endian::U32,
    /// One of the constants.
    pub accepted: u8,
    /// Maximum number of screens.
    pub outputs: u8,
}}

impl VersionResponse {
    /// The host does not speak the version.
    pub const REFUSED: u8 = 0;
    /// The version is accepted.
    pub const ACCEPTED: u8 = 1;
    /// The version is accepted, and the guest may ask for one again on the same channel, as guests from 3.2 on do.
    pub const ACCEPTED_WITH_EXCHANGE: u8 = 2;
}

wire! { 16,
/// The body of `BIOS_INFO_RESPONSE`.
#[derive(Default)]
pub struct BiosInfo {
    /// 1 if the firmware stops using the screen before the guest's driver begins, as on machines of generation 2.
    pub stops: u32,
    /// Zero.
    pub reserved: [u32; 3],
}}

wire! { 64,
/// The body of `CAPABILITY_RESPONSE`.
#[derive(Default)]
pub struct Capabilities {
    /// Bit 0: the host asks the guest to lock its session when the last viewer leaves.
    pub lock: u32,
    /// Zero.
    pub reserved: [u32; 15],
}}

wire! { 17,
/// The body of `VRAM_LOCATION`.
pub struct VramLocation {
    /// Returned in the acknowledgement.
    pub context: little_endian::U64,
    /// 0: the screen has no memory any more.
    pub specified: u8,
    /// The guest physical address.
    pub address: little_endian::U64,
}}

wire! { 27,
/// The body of `SITUATION_UPDATE`, with one screen.
pub struct SituationUpdate {
    /// Returned in the acknowledgement.
    pub context: little_endian::U64,
    /// 1.
    pub outputs: u8,
    /// The situation of the screen.
    pub output: Situation,
}}

wire! { 18,
/// The situation of a screen.
pub struct Situation {
    /// 0: the screen is off.
    pub active: u8,
    /// Offset of the first pixel in the memory, in bytes.
    pub offset: little_endian::U32,
    /// Bits of a pixel.
    pub depth: u8,
    /// Pixels in a line.
    pub width: little_endian::U32,
    /// Lines.
    pub height: little_endian::U32,
    /// Distance of two lines in memory, in bytes.
    pub pitch: little_endian::U32,
}}

wire! { 4,
/// The body of `FEATURE_CHANGE`: 1 for each kind of message that the host wants. From version 3.4 on, an EDID follows, whose
/// preferred timing has the size that the host prefers.
pub struct FeatureChange {
    /// Rectangles that were drawn.
    pub dirt: u8,
    /// Positions of the pointer.
    pub pointer_position: u8,
    /// Shapes of the pointer.
    pub pointer_shape: u8,
    /// Changes of the situation.
    pub situation: u8,
}}

wire! { 4,
/// A size that the screen can have.
pub struct Resolution {
    /// Pixels in a line.
    pub width: u16,
    /// Lines.
    pub height: u16,
}}

wire! { 16,
/// A rectangle in `DIRT`. Right and bottom are not part of it.
pub struct Dirt {
    /// The first column.
    pub left: i32,
    /// The first line.
    pub top: i32,
    /// The column after the last.
    pub right: i32,
    /// The line after the last.
    pub bottom: i32,
}}

wire! { 10,
/// The body of `POINTER_POSITION`.
pub struct PointerPosition {
    /// 0: the pointer is not to be seen.
    pub visible: u8,
    /// The screen.
    pub output: u8,
    /// The column.
    pub x: little_endian::I32,
    /// The line.
    pub y: little_endian::I32,
}}

wire! { 18,
/// The start of the body of `POINTER_SHAPE`. Pixels follow.
pub struct PointerShape {
    /// The number of the part, 255 for the last one.
    pub part: u8,
    /// 1: a pixel has four bytes: blue, green, red, opacity. 0: a pixel has a bit in each of two masks.
    pub argb: u8,
    /// Pixels in a line.
    pub width: little_endian::U32,
    /// Lines.
    pub height: little_endian::U32,
    /// The column of the pixel that points.
    pub hot_x: little_endian::U32,
    /// Its line.
    pub hot_y: little_endian::U32,
}}

/// Length of the EDID in `RESOLUTION_RESPONSE` and `FEATURE_CHANGE`, in bytes.
pub const EDID: usize = 128;

/// Reads the start of a message.
pub fn read<T: FromBytes>(body: &[u8]) -> Option<T> {
    T::read_from_prefix(body).ok().map(|(value, _)| value)
}
