use super::*;
use crate::vmbus::bus::Settings;

fn disks() -> Disks {
    Disks::new(VmBus::new(Settings::default()), 3, None, Devices::default())
}

fn at(controller: u8, lun: u8) -> Place {
    Place { controller, lun }
}

#[test]
fn an_added_disk_gets_the_lowest_free_lun_or_the_one_it_names() {
    let disks = disks();
    disks
        .attach_all(&[DiskConfig::of("memory:1M"), DiskConfig { lun: Some(2), ..DiskConfig::of("memory:1M") }])
        .unwrap();
    assert_eq!(disks.attach(&DiskConfig::of("memory:1M")).unwrap(), at(0, 1));
    assert_eq!(disks.attach(&DiskConfig::of("memory:1M")).unwrap(), at(0, 3));
    let named = DiskConfig { lun: Some(2), ..DiskConfig::of("memory:1M") };
    assert_eq!(disks.attach(&named).unwrap_err().to_string(), {
        "controller=0,lun=2 is taken; give the disk another lun=, or another controller="
    });
    assert!(disks.detach(at(0, 2)) && !disks.detach(at(0, 2)));
    assert_eq!(disks.attach(&named).unwrap(), at(0, 2));
}

#[test]
fn a_controller_is_offered_with_its_first_disk_and_is_kept() {
    let disks = disks();
    assert_eq!(disks.bus.device_count(), 0);
    let disk = DiskConfig { controller: 2, ..DiskConfig::of("memory:1M") };
    assert_eq!(disks.attach(&disk).unwrap(), at(2, 0));
    assert!(disks.detach(at(2, 0)) && !disks.detach(at(3, 0)));
    assert_eq!(disks.attach(&disk).unwrap(), at(2, 0));
    assert_eq!(disks.bus.device_count(), 1);
}

#[test]
fn a_disk_that_cannot_be_opened_changes_nothing() {
    let disks = disks();
    let wrong = disks.attach(&DiskConfig::of("/nowhere/disk.img")).unwrap_err();
    assert!(wrong.to_string().contains("truncate -s"), "{wrong}");
    assert!(disks.attach(&DiskConfig { controller: 9, ..DiskConfig::of("memory:1M") }).is_err());
    assert!(disks.attach(&DiskConfig { lun: Some(99), ..DiskConfig::of("memory:1M") }).is_err());
    assert_eq!(disks.bus.device_count(), 0);
    assert!(disks.controller(0).is_none());
}

#[test]
fn of_two_disks_that_are_opened_for_one_place_the_second_is_refused() {
    let disks = disks();
    let named = || DiskConfig { lun: Some(3), ..DiskConfig::of("memory:1M") };
    let (first, second, any) = (named(), named(), DiskConfig::of("memory:1M"));
    assert_eq!((disks.free_place(&first).unwrap(), disks.free_place(&second).unwrap()), (at(0, 3), at(0, 3)));
    let opened = [first.open().unwrap(), second.open().unwrap(), any.open().unwrap()];
    // While images are open, or are being opened, others use the disks.
    assert_eq!(disks.attach(&DiskConfig::of("memory:1M")).unwrap(), at(0, 0));
    let [first, second, any] = opened.map(|disk| disks.insert(disk));
    assert_eq!((first.unwrap(), any.unwrap()), (at(0, 3), at(0, 1)));
    assert!(matches!(second, Err(AttachDiskError::Taken(place)) if place == at(0, 3)));
    assert!(matches!(disks.free_place(&named()), Err(AttachDiskError::Taken(_))), "before its image is opened");
}

#[test]
fn an_image_is_free_again_when_its_disk_was_detached() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let (disks, disk) = (disks(), DiskConfig::of(image.path()));
    let place = disks.attach(&disk).unwrap();
    assert!(disks.attach(&disk).unwrap_err().to_string().contains("is in use"));
    disks.detach(place);
    assert_eq!(disks.attach(&disk).unwrap(), place);
}

#[test]
fn a_change_of_the_size_is_reported_to_the_guest() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let disks = disks();
    disks.attach(&DiskConfig::of(image.path())).unwrap();
    let controller = disks.controller(0).unwrap();
    let before = controller.changes();
    disks.check_sizes();
    assert_eq!(controller.changes(), before);
    image.as_file().set_len(2 << 20).unwrap();
    disks.check_sizes();
    assert_ne!(controller.changes(), before);
    let before = controller.changes();
    image.as_file().set_len(1 << 20).unwrap();
    disks.check_sizes_aside();
    while controller.changes() == before {
        std::thread::yield_now();
    }
}
