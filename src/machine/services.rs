//! The integration services of a machine.

use std::sync::Arc;

use super::MachineError;
use crate::config::Config;
use crate::device::Devices;
use crate::vmbus::bus::VmBus;
use crate::vsp::services::Event;
use crate::vsp::services::kvp::{Item, Value};
use crate::vsp::services::set::Services;
use crate::vsp::services::table::Kind;
use crate::wire::guid::Guid;
use crate::wire::hash;

/// `PROCESSOR_ARCHITECTURE_AMD64` of Windows.
const AMD64: u32 = 9;

/// Offers the services that the settings name, and announces their events.
pub(super) fn offer(bus: &VmBus, devices: &Devices, config: &Config) -> Result<Services, MachineError> {
    config.services.check()?;
    let outlet = devices.outlet().clone();
    let announce = move |kind: Kind, event: &Event| {
        log::debug!("{kind}: {event}");
        outlet.tell(kind.profile().name, event.to_string(), event.details());
    };
    let host = rustix::system::uname();
    let [name, release] = [host.nodename(), host.release()].map(|text| text.to_string_lossy().into_owned());
    let facts = facts(&name, &release, &config.name, config.memory.is_dynamic());
    Ok(Services::new(bus.clone(), &config.services, facts, Arc::new(announce), devices.clone())?)
}

/// Returns what KVP tells the guest about its host and its machine: items with Hyper-V's names, all of them text. The host runs Linux, so the
/// version of its system is that of the kernel.
fn facts(host: &str, release: &str, machine: &str, has_dynamic_memory: bool) -> Vec<Item> {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit());
    let mut number = || numbers.next().filter(|digits| !digits.is_empty()).unwrap_or("0").to_owned();
    let items = [
        ("HostName", host.to_owned()),
        ("HostingSystemEditionId", "0".to_owned()),
        ("HostingSystemOsMajor", number()),
        ("HostingSystemOsMinor", number()),
        ("HostingSystemProcessorArchitecture", AMD64.to_string()),
        ("HostingSystemSpMajor", "0".to_owned()),
        ("HostingSystemSpMinor", "0".to_owned()),
        ("PhysicalHostName", host.split('.').next().unwrap_or(host).to_owned()),
        ("PhysicalHostNameFullyQualified", host.to_owned()),
        ("VirtualMachineDynamicMemoryBalancingEnabled", u8::from(has_dynamic_memory).to_string()),
        ("VirtualMachineId", identity(host, machine).to_string().to_uppercase()),
        ("VirtualMachineName", machine.to_owned()),
    ];
    items.map(|(key, value)| Item { key: key.into(), value: Value::Text(value) }).into()
}

/// Returns the id of the machine with this name on this host, which is the same in every run. It is a GUID of version 8: its other bits are a
/// hash.
fn identity(host: &str, machine: &str) -> Guid {
    let half = |seed: u8| {
        let bytes = [seed].into_iter().chain(host.bytes()).chain([0]).chain(machine.bytes());
        u128::from(hash::fnv1a(bytes))
    };
    let (version, variant) = (8 << 76, 2 << 62);
    let fixed = 0xf << 76 | 3 << 62;
    Guid::new((half(1) << 64 | half(2)) & !fixed | version | variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_told_hyper_vs_facts_about_host_and_machine() {
        let items = facts("rack7.example.org", "6.1.0-57-cloud-amd64", "web", true);
        // As many as Microsoft's tests expect, or more.
        assert!(items.len() > 10);
        let value = |key: &str| items.iter().find(|item| item.key == key).map(|item| item.value.to_string());
        for (key, expected) in [
            ("HostName", "rack7.example.org"),
            ("PhysicalHostName", "rack7"),
            ("HostingSystemOsMajor", "6"),
            ("HostingSystemOsMinor", "1"),
            ("VirtualMachineDynamicMemoryBalancingEnabled", "1"),
            ("VirtualMachineName", "web"),
        ] {
            assert_eq!(value(key).as_deref(), Some(expected), "{key}");
        }
        assert_eq!(facts("", "unknown", "", false)[2].value, Value::Text("0".into()));
    }

    #[test]
    fn the_id_of_a_machine_depends_on_its_name_and_its_host() {
        let id = identity("host", "web");
        assert_eq!(id, identity("host", "web"));
        for (host, machine) in [("host", "db"), ("other", "web"), ("hostw", "eb"), ("", "")] {
            assert_ne!(id, identity(host, machine), "{host} {machine}");
        }
        let text = id.to_string();
        assert!(text.as_bytes()[14] == b'8' && b"89ab".contains(&text.as_bytes()[19]), "{text}");
    }
}
