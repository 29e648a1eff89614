//! GUIDs of VMBus, and those of the interfaces for which guests have drivers.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A globally unique identifier in its mixed-endian memory layout.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Guid {
    data1: u32,
    data2: u16,
    data3: u16,
    data4: [u8; 8],
}
const _: () = assert!(size_of::<Guid>() == 16);

impl Guid {
    /// Creates the GUID whose hexadecimal digits, without hyphens, are the 128-bit number `value`.
    pub const fn new(value: u128) -> Self {
        Self {
            data1: (value >> 96) as u32,
            data2: (value >> 80) as u16,
            data3: (value >> 64) as u16,
            data4: (value as u64).to_be_bytes(),
        }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = u64::from_be_bytes(self.data4);
        write!(
            formatter,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            self.data1,
            self.data2,
            self.data3,
            tail >> 48,
            tail & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The text is not a GUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a GUID; write it like ba6163d9-04a1-4d29-b605-72e2ffb1dc7f")]
pub struct BadGuid(String);

impl FromStr for Guid {
    type Err = BadGuid;

    fn from_str(text: &str) -> Result<Self, BadGuid> {
        const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
        let groups: Vec<&str> = text.split('-').collect();
        let well_formed = groups.iter().map(|group| group.len()).eq(GROUPS)
            && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let value = well_formed.then(|| u128::from_str_radix(&groups.concat(), 16).ok()).flatten();
        value.map(Self::new).ok_or_else(|| BadGuid(text.to_string()))
    }
}

macro_rules! interfaces {
    ($($(#[$doc:meta])* $visibility:vis $constant:ident = $value:literal, $name:literal;)*) => {
        /// The GUIDs of interfaces that guests support and Viridian does not offer to each guest by itself.
        pub mod interface {
            use super::Guid;
            $($(#[$doc])* $visibility const $constant: Guid = Guid::new($value);)*

            /// Returns the usual name of the interface, for logs and traces.
            pub(crate) fn name(interface: Guid) -> Option<&'static str> {
                match interface {
                    $($constant => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

interfaces! {
    /// Synthetic SCSI controller (Linux: hv_storvsc).
    pub SCSI = 0xba6163d9_04a1_4d29_b605_72e2ffb1dc7f, "SCSI";
    /// Synthetic IDE controller: the same protocol on a disk that the firmware also shows as IDE.
    pub(crate) IDE = 0x32412632_86cb_44a2_9b5c_50d1417354f5, "IDE";
    /// Synthetic Fibre Channel adapter.
    pub(crate) FIBRE_CHANNEL = 0x2f9bcc4a_0069_4af3_b76b_6fd0be528cda, "Fibre Channel";
    /// Synthetic network adapter (Linux: hv_netvsc).
    pub(crate) NETWORK = 0xf8615163_df3e_46c5_913f_f2d2f965ed0e, "network";
    /// Synthetic video (Linux: hyperv_fb, hyperv_drm).
    pub VIDEO = 0xda0a7802_e377_4aac_8e77_0558eb1073f8, "video";
    /// Synthetic keyboard.
    pub(crate) KEYBOARD = 0xf912ad6d_2b17_48ea_bd65_f927a61c7684, "keyboard";
    /// Synthetic mouse.
    pub(crate) MOUSE = 0xcfa8b69e_5b4a_4cc0_b98b_8ba1a1f3f95a, "mouse";
    /// Dynamic memory (Linux: hv_balloon).
    pub(crate) BALLOON = 0x525074dc_8985_46e2_8057_a307dc18a502, "balloon";
    /// Network Direct: RDMA, for which Linux has no driver in `hv_vmbus`.
    pub(crate) NETWORK_DIRECT = 0x8c2eaf3d_32a7_4b09_ab99_bd1f1c86b501, "network direct";
    /// hvsocket on a vsock port: the first group of the GUID is the port number, 0 in this template.
    pub(crate) VSOCK_TEMPLATE = 0x00000000_facb_11e6_bd58_64006a7986d3, "vsock";
    /// Virtual PCI bus for passed-through devices.
    pub PCI = 0x44c4f61d_4444_4400_9d52_802e27ede19f, "PCI";
    /// Integration service: checks whether the guest is alive.
    pub(crate) HEARTBEAT = 0x57164f39_9115_4e78_ab55_382f3bd5422d, "heartbeat";
    /// Integration service: shuts the guest down.
    pub(crate) SHUTDOWN = 0x0e0b6031_5213_4934_818b_38d90ced39db, "shutdown";
    /// Integration service: sets the guest's clock.
    pub(crate) TIME_SYNC = 0x9527e630_d0ae_497b_adce_e80ab0175caf, "time sync";
    /// Integration service: key-value pairs.
    pub(crate) KVP = 0xa9a0f4e7_5a45_4d96_b827_8a841e8c03e6, "KVP";
    /// Integration service: freezes file systems for a backup.
    pub(crate) VSS = 0x35fa2e29_ea23_4236_96ae_3a6ebacba440, "VSS";
    /// Integration service: copies a file into the guest.
    pub(crate) FILE_COPY = 0x34d14be3_dee4_41c8_9ae7_6b174977c192, "file copy";
    /// Remote desktop's data channel, for which Linux has no driver.
    pub REMOTE_DESKTOP = 0x276aacf4_ac15_426c_98dd_7521ad3f01fe, "remote desktop";
}

#[cfg(test)]
#[path = "guid_tests.rs"]
mod tests;
