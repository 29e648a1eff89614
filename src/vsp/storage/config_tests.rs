use super::*;

fn disk(path: &str, lun: Option<u8>) -> DiskConfig {
    DiskConfig { path: path.into(), lun, ..DiskConfig::default() }
}

fn message(disks: &[DiskConfig]) -> String {
    controllers(disks, 0).err().expect("an error").to_string()
}

#[test]
fn the_keys_of_a_disk_are_those_of_the_command_line() {
    let disk: DiskConfig = toml::from_str(
        "path = 'a.img'\nreadonly = true\ncache = 'none'\nserial = 'S1'\nsector = 4096\ndiscard = false\nformat = 'raw'\n\
         backing = 'any'\nmedia = 'dvd'\ncontroller = 1\nlun = 5",
    )
    .expect("a disk");
    let expected = DiskConfig {
        path: "a.img".into(),
        readonly: Some(true),
        cache: Cache::None,
        serial: Some("S1".into()),
        sector: 4096,
        discard: false,
        format: Format::Raw,
        backing: BackingFiles::Any,
        media: Media::Dvd,
        controller: 1,
        lun: Some(5),
    };
    assert_eq!(disk, expected);
    assert_eq!(toml::from_str::<DiskConfig>("path = 'x'").expect("a disk"), tests::disk("x", None));
    assert!(toml::from_str::<DiskConfig>("pth = 'x'").is_err());
}

#[test]
fn disks_without_a_lun_get_the_lowest_that_is_free() {
    let other = DiskConfig { controller: 1, ..disk("d", None) };
    let disks = [disk("a", None), disk("b", Some(0)), disk("c", None), other, disk("e", Some(2))];
    assert_eq!(places(&disks).expect("places"), [(0, 1), (0, 0), (0, 3), (1, 0), (0, 2)]);
}

#[test]
fn the_error_for_two_disks_with_one_lun_names_both() {
    let text = message(&[disk("memory:1M", Some(3)), disk("memory:2M", Some(3))]);
    assert_eq!(text, "memory:1M and memory:2M both have controller=0,lun=3; give one of them another lun=");
}

#[test]
fn a_disk_for_a_full_controller_is_refused() {
    let disks: Vec<_> = (0..65).map(|_| disk("memory:1M", None)).collect();
    assert!(message(&disks).contains("no free LUN"));
}

#[test]
fn invalid_settings_of_a_disk_are_refused() {
    let base = || disk("memory:1M", None);
    for (disk, said) in [
        (disk("", None), "needs a path"),
        (DiskConfig { sector: 520, ..base() }, "512 or 4096"),
        (DiskConfig { serial: Some(String::new()), ..base() }, "printable ASCII"),
        (DiskConfig { serial: Some("ä".into()), ..base() }, "printable ASCII"),
        (DiskConfig { serial: Some("x".repeat(37)), ..base() }, "printable ASCII"),
        (DiskConfig { controller: 4, ..base() }, "controllers 0 to 3"),
        (DiskConfig { lun: Some(64), ..base() }, "LUNs 0 to 63"),
        (disk("memory:", None), "is not a valid disk size"),
        (disk("memory:1Q", None), "is not a valid disk size"),
        (disk("memory:99999999999T", None), "is not a valid disk size"),
        (disk("memory:0", None), "is not a valid disk size"),
        (disk("memory:1000", None), "multiple of the sector size 512"),
        (DiskConfig { media: Media::Dvd, readonly: Some(false), ..base() }, "leave out readonly=off"),
        (DiskConfig { media: Media::Dvd, sector: 4096, ..base() }, "media=dvd,sector=4096"),
        (DiskConfig { format: Format::Raw, ..base() }, "memory:1M cannot have format="),
        (DiskConfig { cache: Cache::None, ..base() }, "memory:1M cannot have cache="),
        (DiskConfig { backing: BackingFiles::Any, ..base() }, "memory:1M cannot have backing="),
        (
            DiskConfig { backing: BackingFiles::Any, readonly: Some(true), ..disk("Cargo.toml", None) },
            "leave out backing=any",
        ),
    ] {
        let text = message(std::slice::from_ref(&disk));
        assert!(text.contains(said), "{disk:?}: {text}");
    }
}

#[test]
fn only_a_writable_memory_disk_is_scratch() {
    let named = |path| disk(path, None);
    assert!(named("memory:1M").identity(0, Path::new("a.img")).scratch);
    for kept in [
        named("/tmp/memory:1M"),
        DiskConfig { serial: Some("scratch".into()), ..named("disk.img") },
        DiskConfig { readonly: Some(true), ..named("memory:1M") },
        DiskConfig { media: Media::Dvd, ..named("memory:1M") },
    ] {
        assert!(!kept.identity(0, Path::new("a.img")).scratch, "{kept:?}");
    }
}

#[test]
fn a_drive_may_be_empty_and_a_disk_may_not() {
    let drive = DiskConfig { media: Media::Dvd, ..DiskConfig::default() };
    assert!(drive.readonly() && drive.sector() == 2048);
    assert!(controllers(&[drive], 0).is_ok());
}

#[test]
fn serial_numbers_stay_the_same_and_differ_between_disks() {
    let identity = |path, lun| disk(path, None).identity(lun, Path::new(path));
    assert_eq!(identity("memory:1M", 0), identity("memory:1M", 0));
    assert_ne!(identity("memory:1M", 0), identity("memory:1M", 1));
    assert_ne!(identity("memory:1M", 0).serial, identity("memory:2M", 0).serial);
    let named = DiskConfig { serial: Some("mine".into()), ..disk("memory:1M", None) };
    assert_eq!(named.identity(0, &named.path).serial, "mine");
}
