use super::*;
use crate::patience::holds_within;
use std::time::Duration;

const A: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xa]);
const B: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xb]);
const C: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xc]);

fn frame(from: MacAddress, to: MacAddress, tail: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &[0x88, 0xb5], tail].concat()
}

fn send(port: &mut Port, bytes: &[u8]) -> bool {
    port.send(Frame::plain(bytes))
}

fn receive(port: &mut Port) -> Option<Vec<u8>> {
    let mut buffer = FrameBuffer::default();
    port.receive(&mut buffer).then_some(buffer.bytes)
}

fn is_readable(port: &Port) -> bool {
    let mut descriptors =
        [rustix::event::PollFd::from_borrowed_fd(port.readiness().unwrap(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut descriptors, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
}

fn three() -> (Arc<Switch>, [Port; 3]) {
    let switch = Switches::default().get("lab");
    let ports = [A, B, C].map(|address| switch.plug(Some(address)).unwrap());
    (switch, ports)
}

#[test]
fn a_frame_goes_only_to_the_port_of_its_destination() {
    let (_switch, [mut a, mut b, mut c]) = three();
    assert!(send(&mut a, &frame(A, B, b"hello")));
    assert!(is_readable(&b) && !is_readable(&c) && !is_readable(&a));
    assert_eq!(receive(&mut b), Some(frame(A, B, b"hello")));
    assert_eq!((receive(&mut b), receive(&mut c), receive(&mut a)), (None, None, None));
    assert!(!is_readable(&b));
}

#[test]
fn broadcast_multicast_and_unknown_addresses_are_flooded() {
    let (_switch, [mut a, mut b, mut c]) = three();
    for to in [MacAddress::BROADCAST, MacAddress([1, 0, 0x5e, 0, 0, 1]), MacAddress([2, 9, 9, 9, 9, 9])] {
        send(&mut a, &frame(A, to, b"x"));
        assert!(receive(&mut b).is_some() && receive(&mut c).is_some() && receive(&mut a).is_none());
    }
}

#[test]
fn an_address_behind_a_port_is_learnt() {
    let (_switch, [mut a, mut b, mut c]) = three();
    let nested = MacAddress([2, 0, 0, 0, 1, 1]);
    send(&mut c, &frame(nested, A, b"from a bridge in the guest"));
    receive(&mut a);
    send(&mut a, &frame(A, nested, b"answer"));
    assert!(receive(&mut c).is_some() && receive(&mut b).is_none());
    // A frame to an address behind the same port is dropped.
    send(&mut c, &frame(C, nested, b"inside"));
    assert!(receive(&mut a).is_none() && receive(&mut b).is_none());
}

#[test]
fn a_frame_with_the_source_address_of_another_nic_is_dropped() {
    let (_switch, [mut a, mut b, mut c]) = three();
    assert!(!send(&mut c, &frame(A, B, b"as if from a")));
    assert!(receive(&mut b).is_none());
    send(&mut b, &frame(B, A, b"for the real one"));
    assert!(receive(&mut a).is_some() && receive(&mut c).is_none());
}

#[test]
fn an_address_belongs_to_one_nic_until_that_is_unplugged() {
    let (switch, [mut a, b, _]) = three();
    assert!(matches!(switch.plug(Some(B)), Err(SwitchError::SameAddress(B))));
    send(&mut a, &frame(A, B, b"still for the first one"));
    let mut b = b;
    assert!(receive(&mut b).is_some());
    drop(b);
    assert!(switch.plug(Some(B)).is_ok());
    let ports: Vec<_> = (3..MAX_PORTS).map(|_| switch.plug(None).unwrap()).collect();
    assert_eq!(ports.len(), MAX_PORTS - 3, "a plug that is refused takes no port");
}

#[test]
fn offloads_are_passed_on_with_the_frame() {
    use crate::net::frame::{Checksum, Offload};
    let (_switch, [mut a, mut b, _]) = three();
    let bytes = frame(A, B, &[0; 60]);
    let offload = Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, segmentation: None };
    a.send(Frame { bytes: &bytes, offload });
    let mut buffer = FrameBuffer::default();
    assert!(b.receive(&mut buffer));
    assert_eq!((buffer.bytes, buffer.offload), (bytes, offload));
}

#[test]
fn frames_of_invalid_length_are_dropped() {
    let (_switch, [mut a, ..]) = three();
    assert!(!send(&mut a, &frame(A, B, b"")[..13]));
    assert!(!send(&mut a, &[]));
    assert!(!send(&mut a, &frame(A, B, &vec![0; MAX_FRAME])));
}

#[test]
fn the_number_of_ports_is_bounded_and_unplugged_ones_are_reused() {
    let switch = Switches::default().get("lab");
    let mut ports: Vec<_> = (0..MAX_PORTS).map(|_| switch.plug(None).unwrap()).collect();
    assert!(matches!(switch.plug(None), Err(SwitchError::NoPort)));
    let second = ports[3].clone();
    drop(ports.remove(3));
    assert!(switch.plug(None).is_err(), "its other queue is still plugged in");
    drop(second);
    assert!(switch.plug(None).is_ok());
}

#[test]
fn an_unplugged_nic_is_forgotten() {
    let (_switch, [mut a, b, mut c]) = three();
    drop(b);
    send(&mut a, &frame(A, B, b"is anybody there?"));
    assert!(receive(&mut c).is_some());
    // Now another port may use its address.
    assert!(send(&mut c, &frame(B, A, b"yes")));
}

#[test]
fn a_switch_exists_as_long_as_a_port_is_plugged_in() {
    let switches = Switches::default();
    let first = switches.get("lab");
    assert!(Arc::ptr_eq(&first, &switches.get("lab")) && !Arc::ptr_eq(&first, &switches.get("other")));
    let port = first.plug(None).unwrap();
    let weak = Arc::downgrade(&first);
    drop(first);
    assert!(weak.upgrade().is_some());
    drop(port);
    assert!(weak.upgrade().is_none());
}

#[test]
fn frames_of_a_flood_are_dropped_and_counted_and_others_get_through() {
    let (_switch, [mut a, mut b, mut c]) = three();
    let big = frame(A, B, &[0; 60_000]);
    for _ in 0..1000 {
        assert!(send(&mut a, &big));
    }
    let dropped = b.dropped();
    assert!(dropped > 900, "{dropped}");
    for number in 0..20 {
        send(&mut c, &frame(C, B, &[number]));
    }
    let mut from_c = 0;
    for _ in 0..40 {
        from_c += u32::from(MacAddress::source(&receive(&mut b).unwrap()) == Some(C));
    }
    assert_eq!(from_c, 20, "by turns");
}

#[test]
fn an_uplink_carries_frames_both_ways_and_ends() {
    let switches = Switches::default();
    let (one, other) = (switches.get("one"), switches.get("other"));
    let (mut a, mut b) = (one.plug(Some(A)).unwrap(), other.plug(Some(B)).unwrap());
    let cable = Cable::connect(one.plug(None).unwrap(), other.plug(None).unwrap()).unwrap();
    let wait = |port: &mut Port| {
        let mut frame = None;
        let arrived = || {
            frame = receive(port);
            frame.is_some()
        };
        assert!(holds_within(Duration::from_secs(10), arrived));
        frame.unwrap()
    };
    send(&mut a, &frame(A, B, b"there"));
    assert_eq!(wait(&mut b), frame(A, B, b"there"));
    send(&mut b, &frame(B, A, b"and back"));
    assert_eq!(wait(&mut a), frame(B, A, b"and back"));
    drop(cable);
    send(&mut a, &frame(A, B, b"cut"));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(receive(&mut b), None);
}

#[test]
fn a_frame_with_the_source_address_of_the_uplinks_router_is_dropped() {
    let (switch, [mut a, mut b, _c]) = three();
    assert!(send(&mut a, &frame(Network::ROUTER, B, b"before there is one")));
    receive(&mut b);
    let _cable = switch.uplink(&[], b.number()).unwrap().unwrap();
    assert!(!send(&mut a, &frame(Network::ROUTER, B, b"as if from the router")));
    assert_eq!(receive(&mut b), None);
}

#[test]
fn a_frame_that_was_fetched_says_which_port_it_came_in_by() {
    let (_switch, [mut a, mut b, mut c]) = three();
    send(&mut c, &frame(C, A, b"x"));
    assert!(receive(&mut a).is_some());
    assert_eq!(a.received_from(), c.number());
    // An invented source address does not change that.
    send(&mut b, &frame(MacAddress([2, 7, 7, 7, 7, 7]), A, b"x"));
    assert!(receive(&mut a).is_some());
    assert_eq!(a.received_from(), b.number());
}

#[test]
fn sixteen_ports_that_flood_one_share_it_fairly() {
    let switch = Switches::default().get("lab");
    let mut target = switch.plug(Some(A)).unwrap();
    let mut senders: Vec<_> = (0..16).map(|_| switch.plug(None).unwrap()).collect();
    let mut counts = [0_u32; 16];
    for _ in 0..400 {
        // Each port sends more than its share. Some send much more, and some send long frames.
        for (number, port) in senders.iter_mut().enumerate() {
            let bytes =
                frame(MacAddress([2, 0, 0, 0, 2, number as u8]), A, &vec![0; if number % 2 == 0 { 9000 } else { 60 }]);
            (0..4 + 4 * number).for_each(|_| assert!(send(port, &bytes)));
        }
        for _ in 0..40 {
            counts[usize::from(MacAddress::source(&receive(&mut target).unwrap()).unwrap().0[5])] += 1;
        }
    }
    assert!(counts.iter().all(|count| (900..=1100).contains(count)), "{counts:?}");
    assert!(target.dropped() > 10_000);
}
