//! The six services: their GUIDs, versions and message types.

use std::fmt;

use super::wire::{MessageType, Version};
use crate::vmbus::vsp::Offer;
use crate::wire::guid::{Guid, interface};

/// An integration service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Powers the guest off, restarts or hibernates it.
    Shutdown,
    /// Passes the host's time to the guest.
    Time,
    /// Finds out whether the guest is alive.
    Heartbeat,
    /// Exchanges key-value pairs and IP addresses.
    KeyValue,
    /// Freezes the guest's file systems.
    Vss,
    /// Copies a file into the guest.
    FileCopy,
}

/// The properties of a service that the framework needs.
pub struct Profile {
    /// The name on the command line and in reports.
    pub name: &'static str,
    /// Hyper-V's name.
    pub title: &'static str,
    /// The kind of device.
    pub interface: Guid,
    /// Hyper-V's instance, which some guests know by heart.
    pub instance: Guid,
    /// The type of its messages.
    pub message_type: MessageType,
    /// The framework versions that are offered, in ascending order.
    pub frameworks: &'static [Version],
    /// The message versions that are offered, in ascending order.
    pub versions: &'static [Version],
}

const V1: Version = Version::new(1, 0);
const V3: Version = Version::new(3, 0);

/// Linux knows both, and only the newer one for VSS and file copy.
const FRAMEWORKS: &[Version] = &[V1, V3];

const SHUTDOWN: Profile = Profile {
    name: "shutdown",
    title: "Shutdown",
    interface: interface::SHUTDOWN,
    instance: Guid::new(0xb6650ff7_33bc_4840_8048_e0676786f393),
    message_type: MessageType::SHUTDOWN,
    frameworks: FRAMEWORKS,
    versions: &[V1, V3, Version::new(3, 1), Version::new(3, 2)],
};

const TIME: Profile = Profile {
    name: "time",
    title: "Time Synchronization",
    interface: interface::TIME_SYNC,
    instance: Guid::new(0x2dd1ce17_079e_403c_b352_a1921ee207ee),
    message_type: MessageType::TIME_SYNC,
    frameworks: FRAMEWORKS,
    versions: &[V1, V3, Version::new(4, 0)],
};

const HEARTBEAT: Profile = Profile {
    name: "heartbeat",
    title: "Heartbeat",
    interface: interface::HEARTBEAT,
    instance: Guid::new(0xfd149e91_82e0_4a7d_afa6_2a4166cbd7c0),
    message_type: MessageType::HEARTBEAT,
    frameworks: FRAMEWORKS,
    versions: &[V1, V3],
};

const KEY_VALUE: Profile = Profile {
    name: "kvp",
    title: "Key-Value Pair Exchange",
    interface: interface::KVP,
    instance: Guid::new(0x242ff919_07db_4180_9c2e_b86cb68c8c55),
    message_type: MessageType::KVP,
    frameworks: FRAMEWORKS,
    // Windows also knows 5.0, whose messages with addresses differ.
    versions: &[V1, V3, Version::new(4, 0)],
};

const VSS: Profile = Profile {
    name: "vss",
    title: "VSS",
    interface: interface::VSS,
    instance: Guid::new(0x2450ee40_33bf_4fbd_892e_9fb06e9214cf),
    message_type: MessageType::VSS,
    frameworks: FRAMEWORKS,
    versions: &[Version::new(5, 0)],
};

const FILE_COPY: Profile = Profile {
    name: "file-copy",
    title: "Guest Service Interface",
    interface: interface::FILE_COPY,
    instance: Guid::new(0xeb765408_105f_49b6_b4aa_c123b64d17d4),
    message_type: MessageType::FILE_COPY,
    frameworks: FRAMEWORKS,
    versions: &[Version::new(1, 1)],
};

impl Kind {
    /// All services.
    pub const ALL: [Self; 6] = [Self::Shutdown, Self::Time, Self::Heartbeat, Self::KeyValue, Self::Vss, Self::FileCopy];

    /// Returns what distinguishes the service.
    pub fn profile(self) -> &'static Profile {
        match self {
            Self::Shutdown => &SHUTDOWN,
            Self::Time => &TIME,
            Self::Heartbeat => &HEARTBEAT,
            Self::KeyValue => &KEY_VALUE,
            Self::Vss => &VSS,
            Self::FileCopy => &FILE_COPY,
        }
    }

    /// Returns the offer: a pipe of messages. Rings are the guest's choice; Linux's have 16 KiB each.
    pub fn offer(self) -> Offer {
        Offer::pipe(self.profile().interface, self.profile().instance)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.profile().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmbus::vsp::offer_flags;

    #[test]
    fn every_service_has_a_known_guid_and_its_own_instance() {
        let mut instances: Vec<_> = Kind::ALL.map(|kind| kind.profile().instance).to_vec();
        instances.sort();
        instances.dedup();
        assert_eq!(instances.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(interface::name(kind.profile().interface).is_some(), "{kind}");
            assert!(kind.profile().versions.is_sorted() && kind.profile().frameworks.is_sorted(), "{kind}");
        }
    }

    #[test]
    fn a_service_is_offered_as_a_pipe_of_messages() {
        let offer = Kind::Heartbeat.offer();
        assert_eq!(offer.interface.to_string(), "57164f39-9115-4e78-ab55-382f3bd5422d");
        assert_eq!(offer.instance.to_string(), "fd149e91-82e0-4a7d-afa6-2a4166cbd7c0");
        assert_eq!(offer.flags, offer_flags::ENUMERATE_DEVICE_INTERFACE | offer_flags::NAMED_PIPE_MODE);
        assert_eq!(offer.user_defined.0[..4], [4, 0, 0, 0], "VMBUS_PIPE_TYPE_MESSAGE");
    }
}
