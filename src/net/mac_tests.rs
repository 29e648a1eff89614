use super::*;

#[test]
fn an_address_prints_as_it_is_read() {
    let address: MacAddress = "02:15:5D:ab:cd:ef".parse().unwrap();
    assert_eq!(address, MacAddress([0x02, 0x15, 0x5d, 0xab, 0xcd, 0xef]));
    assert_eq!(address.to_string(), "02:15:5d:ab:cd:ef");
    assert_eq!("02-15-5d-ab-cd-ef".parse(), Ok(address));
}

#[test]
fn texts_of_another_form_are_refused() {
    for text in [
        "",
        "02:15:5d:ab:cd",
        "02:15:5d:ab:cd:ef:00",
        "2:15:5d:ab:cd:ef",
        "02155dabcdef",
        "02:15-5d:ab:cd:ef",
        "+2:15:5d:ab:cd:ef",
    ] {
        assert_eq!(text.parse::<MacAddress>(), Err(BadMacAddress::Form(text.to_string())));
    }
}

#[test]
fn a_group_address_is_refused_for_a_nic() {
    for text in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"] {
        assert!(matches!(text.parse::<MacAddress>(), Err(BadMacAddress::NoStation(..))), "{text}");
    }
}

#[test]
fn a_derived_address_is_stable_and_unique() {
    assert_eq!(MacAddress::derived("viridian", 0).to_string(), "02:15:5d:03:9b:05");
    let names = ["a", "b", "viridian", "viridian2", ""];
    let mut all: Vec<_> = names.iter().flat_map(|name| (0..16).map(|index| MacAddress::derived(name, index))).collect();
    assert!(all.iter().all(MacAddress::is_station));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 80);
}
