use super::*;
use crate::device::Devices;
use crate::device::contract::device_contract;
use crate::net::attachment::Attachment;
use crate::vmbus::bus::VmBus;
use crate::vsp::network::config::NetworkOptions;
use crate::vsp::network::nics::Nics;

fn adapter() -> Arc<NicDevice> {
    let nics = Nics::new(VmBus::default(), "test", 1, None, Devices::default());
    nics.attach(&NetworkOptions::new(Attachment::None)).unwrap();
    Arc::new(NicDevice { number: 0, nic: nics.get(0).unwrap() })
}

device_contract! {
    an_adapter_keeps_the_contract: adapter();
}

#[test]
fn the_cable_is_plugged_by_command() {
    let adapter = adapter();
    assert_eq!(adapter.command("link", &json!("up")), Ok(json!("down")));
    assert!(adapter.nic.is_link_up());
    assert_eq!(adapter.inspect()["link"], "up");
    assert_eq!(adapter.command("link", &json!("down")), Ok(json!("up")));
    let error = adapter.command("link", &json!(1)).unwrap_err();
    assert_eq!(error.to_string(), "link takes \"up\" or \"down\"");
}
