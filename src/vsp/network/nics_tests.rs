use super::*;
use crate::net::attachment::Attachment;
use crate::wire::guid::interface;

fn nics(channels: u16) -> Nics {
    Nics::new(VmBus::default(), "test", channels, None, Devices::default())
}

fn none() -> NetworkOptions {
    NetworkOptions::new(Attachment::None)
}

#[test]
fn adapters_come_and_go_and_numbers_are_used_again() {
    let nics = nics(1);
    nics.attach_all(&[none(), none()]).unwrap();
    assert_eq!(nics.attach(&none()).unwrap(), 2);
    let offered = |number| nics.bus.device(interface::NETWORK, NetworkVsp::instance(number)).is_some();
    assert!(offered(0) && offered(1) && offered(2));
    assert!(nics.detach(1) && !nics.detach(1));
    assert!(!offered(1) && nics.get(1).is_none());
    assert_eq!(nics.attach(&none()).unwrap(), 1);
    for _ in 3..MAX_NICS {
        nics.attach(&none()).unwrap();
    }
    assert!(matches!(nics.attach(&none()), Err(AttachNicError::TooMany)));
}

#[test]
fn two_adapters_with_one_address_are_refused() {
    let nics = nics(1);
    let same = NetworkOptions { mac: Some(MacAddress([2, 0, 0, 0, 0, 9])), ..none() };
    let error = nics.attach_all(&[same.clone(), same.clone()]).unwrap_err();
    assert!(error.to_string().contains("both have the address 02:00:00:00:00:09"), "{error}");
    assert!(!error.is_hosts() && nics.get(0).is_none(), "nothing was begun");
    nics.attach(&same).unwrap();
    assert!(nics.attach(&same).is_err());
}

#[test]
fn a_port_in_use_and_an_unusable_tap_are_errors_of_the_user() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let forward = format!("tcp:{port}:80").parse().unwrap();
    let taken = NetworkOptions { forwards: vec![forward], ..NetworkOptions::new(Attachment::User) };
    let lo = NetworkOptions::new(Attachment::Tap("lo".into()));
    for (options, words) in [(taken, "choose another port"), (lo, "'lo' exists, but not as a tap")] {
        let error = nics(1).attach(&options).unwrap_err();
        // On a host without tap devices, the error is one of the host.
        if !error.is_hosts() {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

#[test]
fn a_detached_adapter_releases_its_network_and_its_ports() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = format!("tcp:{}:80", listener.local_addr().unwrap().port()).parse().unwrap();
    drop(listener);
    let nics = nics(1);
    let options = NetworkOptions { forwards: vec![forward], ..NetworkOptions::new(Attachment::User) };
    for _ in 0..3 {
        let number = nics.attach(&options).unwrap();
        // The detached adapter still exists, but without its port.
        let nic = nics.get(number).unwrap();
        assert!(nics.detach(number));
        assert!(nic.is_link_up());
    }
}

#[test]
fn the_second_adapter_of_a_switch_shares_its_uplink_but_not_its_ports() {
    let nics = nics(1);
    let switch = Attachment::Switch { name: "nics-test".into(), uplink: true };
    nics.attach(&NetworkOptions::new(switch.clone())).unwrap();
    nics.attach(&NetworkOptions::new(switch.clone())).unwrap();
    let forwards = vec!["tcp:1:1".parse().unwrap()];
    let error = nics.attach(&NetworkOptions { forwards, ..NetworkOptions::new(switch) }).unwrap_err();
    assert!(error.to_string().contains("the first adapter"), "{error}");
}

#[test]
fn an_adapter_has_no_more_channels_than_the_machine_has_vps() {
    let nics = nics(2);
    let number = nics.attach(&NetworkOptions { queues: 8, ..none() }).unwrap();
    let nic = nics.get(number).unwrap();
    assert!(nic.lane(1).is_some() && nic.lane(2).is_none());
}
