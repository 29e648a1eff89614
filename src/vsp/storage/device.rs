//! A disk as a device of its machine.

use std::sync::Arc;

use super::place::Place;
use super::scsi::Sense;
use super::unit::Unit;
use crate::device::{Device, Floor, Identity, Value};

/// A disk, or a drive.
///
/// While the machine is paused, nothing of its requests is under way: the threads of the channels see to that before they
/// stop, because each has requests for all disks of its controller.
pub(super) struct DiskDevice {
    pub place: Place,
    pub unit: Arc<Unit>,
}

impl Device for DiskDevice {
    fn identity(&self) -> Identity {
        let Place { controller, lun } = self.place;
        Identity::new(format!("disk{controller}.{lun}"), "disk", Floor::Provider)
    }

    fn reset(&self) {
        self.unit.reset(Sense::POWER_ON);
    }

    fn inspect(&self) -> Value {
        self.unit.inspect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::contract::device_contract;
    use crate::vsp::storage::config::{DiskConfig, Media};

    fn disk(readonly: bool) -> Arc<DiskDevice> {
        device(&DiskConfig { readonly: Some(readonly), ..DiskConfig::of("memory:1M") })
    }

    fn empty_drive() -> Arc<DiskDevice> {
        device(&DiskConfig { media: Media::Dvd, ..DiskConfig::of("") })
    }

    fn device(config: &DiskConfig) -> Arc<DiskDevice> {
        Arc::new(DiskDevice { place: Place { controller: 0, lun: 1 }, unit: config.unit(1).unwrap() })
    }

    device_contract! {
        a_disk_keeps_the_contract: disk(false);
        a_read_only_disk_keeps_the_contract: disk(true);
        an_empty_drive_keeps_the_contract: empty_drive();
    }

    #[test]
    fn inspecting_a_disk_shows_its_size_and_kind() {
        let tree = disk(true).inspect();
        assert_eq!((&tree["medium"]["size-bytes"], &tree["medium"]["read-only"]), (&(1 << 20).into(), &true.into()));
        assert_eq!(empty_drive().inspect()["medium"], Value::Null);
    }
}
