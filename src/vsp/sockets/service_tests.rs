use super::*;

#[test]
fn a_port_is_a_guid_and_back() {
    for port in [0, 22, 1024, 0x8000_0001, u32::MAX] {
        let service = Service::from(port);
        assert_eq!((service.port(), service.to_string()), (Some(port), port.to_string()));
        assert_eq!(service.guid().to_string(), format!("{port:08x}-facb-11e6-bd58-64006a7986d3"));
        assert_eq!(Service::from(service.guid()), service);
    }
    let other = Service::from(Guid::new(0xa1b2_c3d4_0000_0000_0000_0000_0000_0000));
    assert_eq!((other.port(), other.to_string()), (None, "a1b2c3d4-0000-0000-0000-000000000000".into()));
}

#[test]
fn text_is_a_port_or_a_guid() {
    assert_eq!("22".parse(), Ok(Service::from(22)));
    assert_eq!("00000016-FACB-11e6-bd58-64006a7986d3".parse(), Ok(Service::from(22)));
    for text in ["", "-1", "+22", "0x16", "4294967295", "4294967296", "22 ", "one", "00000016-facb"] {
        assert_eq!(text.parse::<Service>(), Err(BadService), "{text}");
    }
}
