use super::*;

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

#[test]
fn linux_finds_the_offloads_that_it_uses() {
    // Linux: rndis_netdev_set_hwcaps, with the offsets of struct ndis_offload.
    let bytes = Offloads::all(true).to_bytes(3);
    assert_eq!((bytes.len(), &bytes[..4]), (156, &[0xa7, 3, 156, 0][..]));
    let (ip4_transmit, ip6_transmit) = (word(&bytes, 8), word(&bytes, 24));
    assert_eq!(ip4_transmit & 0x14, 0x14, "TCP over IPv4 with options");
    assert_eq!(ip4_transmit & 0x40, 0x40, "UDP over IPv4");
    assert_eq!(ip6_transmit & 0x15, 0x15, "TCP over IPv6 with options and extension headers");
    assert_eq!(ip6_transmit & 0x40, 0x40, "UDP over IPv6");
    let large_send = 4 + 32 + 16 + 28;
    assert_eq!(word(&bytes, large_send) & 2, 2, "large send over IPv4");
    assert_eq!(word(&bytes, large_send + 4), MAX_LARGE_SEND);
    assert_eq!(word(&bytes, large_send + 12) & 2, 2, "large send over IPv6");
    assert_eq!(word(&bytes, large_send + 24) & 5, 5, "with options and extension headers");
    assert_eq!(&bytes[144..146], [1, 1], "coalescing");
    assert_eq!(&Offloads::all(false).to_bytes(3)[144..146], [0, 0]);
}

#[test]
fn older_drivers_get_shorter_structures() {
    assert_eq!(Offloads::all(true).to_bytes(1)[..4], [0xa7, 1, 112, 0]);
    assert_eq!(Offloads::all(true).to_bytes(2)[..4], [0xa7, 2, 144, 0]);
    assert_eq!(Offloads::all(true).to_bytes(9)[..4], [0xa7, 3, 156, 0]);
    assert_eq!(Offloads::all(true).to_bytes(1).len(), 112);
}

#[test]
fn disabled_offloads_are_all_zeros() {
    let bytes = Offloads::default().to_bytes(3);
    assert!(bytes[4..].iter().all(|byte| *byte == 0));
}

/// Returns the parameters that Linux sends with NVSP 5 and later.
fn linux() -> Vec<u8> {
    let mut bytes = vec![0x80, 3, 28, 0, 1, 4, 4, 4, 4, 0, 0, 2, 2];
    bytes.resize(28, 0);
    bytes
}

#[test]
fn a_driver_switches_only_the_offloads_that_it_names() {
    let supported = Offloads::all(false);
    let mut offloads = supported;
    assert!(offloads.switch(&linux(), &supported));
    assert_eq!(offloads, Offloads { ipv4: BothWays::default(), ..supported });
    let mut change = linux();
    change[4..13].copy_from_slice(&[0, 2, 3, 0, 0, 0, 0, 1, 0]);
    assert!(offloads.switch(&change, &supported));
    assert_eq!(offloads.tcp4, BothWays { transmit: true, receive: false });
    assert_eq!(offloads.udp4, BothWays { transmit: false, receive: true });
    assert_eq!((offloads.large_send4, offloads.large_send6), (false, true));
    assert_eq!(offloads.tcp6, BothWays::ON);
}

#[test]
fn unsupported_offloads_cannot_be_switched_on() {
    let supported = Offloads::all(false);
    let mut offloads = supported;
    let mut request = linux();
    request[22..24].copy_from_slice(&[2, 2]);
    assert!(offloads.switch(&request, &supported));
    assert!(!offloads.coalescing4);
    assert!(offloads.switch(&request, &Offloads::all(true)));
    assert!(offloads.coalescing4 && offloads.coalescing6);
    // The 22 bytes of NVSP 4 have no such fields.
    assert!(offloads.switch(&linux()[..22], &Offloads::all(true)));
}

#[test]
fn invalid_offload_parameters_change_nothing() {
    let supported = Offloads::all(true);
    for (place, value) in [(0, 0x81), (5, 5), (9, 2), (11, 3), (23, 9)] {
        let mut bad = linux();
        bad[place] = value;
        let mut offloads = supported;
        assert!(!offloads.switch(&bad, &supported), "{place}");
        assert_eq!(offloads, supported);
    }
    assert!(!supported.clone().switch(&linux()[..19], &supported));
}

#[test]
fn encapsulation_other_than_ethernet_is_not_supported() {
    let mut request = encapsulation();
    assert!(is_encapsulation_supported(&request));
    request[8] = 4;
    assert!(!is_encapsulation_supported(&request));
    request[4] = 2;
    assert!(is_encapsulation_supported(&request));
    assert!(!is_encapsulation_supported(&request[..20]));
}
