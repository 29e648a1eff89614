use super::*;

#[test]
fn disk_images_are_recognised_by_their_first_or_last_bytes() {
    assert_eq!(disk_format(b"KDMV\x01"), Some("VMDK"));
    assert_eq!(disk_format(b"vhdxfile"), Some("VHDX"));
    let mut vdi = b"<<< Oracle VM VirtualBox Disk Image >>>\n".to_vec();
    vdi.resize(64, 0);
    assert_eq!(disk_format(&vdi), None);
    vdi.extend([0x7f, 0x10, 0xda, 0xbe]);
    assert_eq!(disk_format(&vdi), Some("VDI"));
    assert_eq!(disk_format(b""), None);
    assert_eq!(disk_format(&[0; 512]), None);
    assert_eq!(disk_format_by_tail(b"conectix\0\0\0\x02"), Some("VHD"));
    assert_eq!(disk_format_by_tail(b"conectiX"), None);
}

#[test]
fn the_advice_for_a_compressed_file_depends_on_its_name() {
    let gzip = Compression::of(b"\x1f\x8b\x08").expect("known");
    assert_eq!(gzip.advice(Path::new("a/d.gz"), "disk.img"), "unpack it first: gunzip -k a/d.gz");
    assert_eq!(
        gzip.advice(Path::new("d"), "disk.img"),
        "unpack it first: gunzip < d > disk.img (gunzip -k wants a name that ends in .gz)"
    );
    assert!(Compression::of(b"\x1f").is_none());
}

#[test]
fn each_compression_has_the_tool_that_unpacks_it() {
    let advice = |name: &str, head: &[u8]| Compression::of(head).expect("known").advice(Path::new(name), "kernel");
    assert_eq!(advice("v.xz", b"\xfd7zXZ\0"), "unpack it first: unxz -k v.xz");
    assert_eq!(advice("v.zst", b"\x28\xb5\x2f\xfd"), "unpack it first: unzstd -k v.zst");
    assert_eq!(advice("v.lz4", b"\x02\x21\x4c\x18"), "unpack it first: unlz4 -k v.lz4");
    assert_eq!(advice("v.bz2", b"BZh9"), "unpack it first: bunzip2 -k v.bz2");
}
