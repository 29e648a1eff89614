//! Real taps, in a network namespace of the test. This requires root.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::UnshareFlags;

use super::*;
use crate::need::{Need, ready};
use crate::net::frame::{Checksum, Offload};
use crate::net::switch::Switches;
use crate::net::switch::uplink::Cable;
use crate::patience::{grown, holds_within};

/// Runs `test` on a thread of its own in a namespace of its own.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !ready(&[Need::Namespaces, Need::Tun, Need::Tool("ip")]) {
        return;
    }
    let run = move || {
        unshare().unwrap();
        test();
    };
    thread::spawn(run).join().unwrap();
}

#[allow(unsafe_code)]
fn unshare() -> rustix::io::Result<()> {
    // SAFETY: the thread was started for this and shares no descriptor table or memory that would become another by it: only
    // the network namespace changes.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn receive(tap: &mut Tap) -> FrameBuffer {
    let mut frame = FrameBuffer::default();
    assert!(holds_within(Duration::from_secs(10), || tap.receive(&mut frame)), "nothing arrives");
    frame
}

#[test]
fn names_that_linux_would_truncate_are_refused() {
    for name in ["", "a234567890123456", "a/b", "a b", ".", "a:1"] {
        assert!(matches!(Tap::open(name, 1), Err(TapError::Name(_))), "{name}");
    }
    assert!(is_interface_name("a23456789012345"));
}

#[test]
fn a_created_tap_is_up_and_carries_frames_with_open_checksums() {
    in_namespace(|| {
        let mut tap = Tap::open("vtest0", 1).unwrap().remove(0);
        ip("addr add 10.9.0.1/24 dev vtest0");
        ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev vtest0");
        let socket = UdpSocket::bind("10.9.0.1:7000").unwrap();
        socket.send_to(b"from the host", "10.9.0.2:7001").unwrap();
        let frame = loop {
            let frame = receive(&mut tap);
            if frame.bytes.ends_with(b"from the host") {
                break frame;
            }
        };
        assert!(matches!(frame.offload.checksum, Checksum::Partial { start: 34, offset: 6 }), "{:?}", frame.offload);
        // Send it back, with its checksum still partial. The kernel completes it or does not need to.
        let mut bytes = frame.bytes.clone();
        let (to, from) = (frame.bytes[6..12].to_vec(), frame.bytes[..6].to_vec());
        bytes[..12].copy_from_slice(&[to, from].concat());
        bytes[26..34].rotate_left(4);
        bytes[34..38].rotate_left(2);
        socket.set_read_timeout(Some(grown(Duration::from_secs(10)))).unwrap();
        assert!(tap.send(Frame { bytes: &bytes, offload: frame.offload }));
        let mut answer = [0; 64];
        let (length, peer) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], peer.to_string().as_str()), (&b"from the host"[..], "10.9.0.2:7001"));
        // With a wrong checksum that is not partial, it is dropped.
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(tap.send(Frame { bytes: &bytes, offload: Offload::default() }));
        assert!(socket.recv_from(&mut answer).is_err());
    });
}

#[test]
fn a_tap_in_use_is_an_error() {
    in_namespace(|| {
        let first = Tap::open("vtest1", 1).unwrap();
        assert!(matches!(Tap::open("vtest1", 1), Err(TapError::Busy(name)) if name == "vtest1"));
        drop(first);
        ip("link add vtest2 type bridge");
        assert!(matches!(Tap::open("vtest2", 1), Err(TapError::Kind { .. })));
    });
}

#[test]
fn an_existing_tap_is_used_with_its_number_of_queues() {
    in_namespace(|| {
        ip("tuntap add dev vtest3 mode tap multi_queue");
        ip("link set vtest3 up");
        assert_eq!(Tap::open("vtest3", 4).unwrap().len(), 4);
        assert_eq!(Tap::open("vtest3", 1).unwrap().len(), 1);
        ip("tuntap add dev vtest4 mode tap");
        assert_eq!(Tap::open("vtest4", 1).unwrap().len(), 1);
        let error = Tap::open("vtest4", 2).unwrap_err().to_string();
        assert!(error.contains("create it with multi_queue, or give queues=1"), "{error}");
    });
}

#[test]
fn large_segments_pass_unsplit_between_two_taps_of_a_switch() {
    in_namespace(|| {
        const LENGTH: usize = 16 << 20;
        // One end of the connection is in this namespace, the other in another one. A switch connects them.
        let here = Tap::open("vtest5", 1).unwrap().remove(0);
        ip("addr add 10.9.1.1/24 dev vtest5");
        let (send_tap, receive_tap) = std::sync::mpsc::channel();
        let server = thread::spawn(move || {
            unshare().unwrap();
            send_tap.send(Tap::open("vtest6", 1).unwrap().remove(0)).unwrap();
            ip("addr add 10.9.1.2/24 dev vtest6");
            let listener = TcpListener::bind((Ipv4Addr::new(10, 9, 1, 2), 7000)).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let there = receive_tap.recv().unwrap();
        let switch = Switches::default().get("between");
        let _cables = [
            Cable::connect(here, switch.plug(None).unwrap()).unwrap(),
            Cable::connect(there, switch.plug(None).unwrap()).unwrap(),
        ];
        let sent: Vec<u8> = (0..LENGTH).map(|index| (index ^ index >> 7) as u8).collect();
        let mut stream = loop {
            match TcpStream::connect((Ipv4Addr::new(10, 9, 1, 2), 7000)) {
                Ok(stream) => break stream,
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.write_all(&sent).unwrap();
        drop(stream);
        assert!(server.join().unwrap() == sent);
    });
}

#[test]
fn the_error_for_a_missing_privilege_says_how_to_get_it() {
    let unknown = TapError::Unknown("tap7".to_string()).to_string();
    assert!(unknown.contains("ip tuntap add dev tap7 mode tap user") && unknown.contains("multi_queue"), "{unknown}");
    assert!(matches!(explain("tap7", 1, false, Errno::PERM), TapError::Unknown(_)));
    assert!(matches!(explain("tap7", 1, true, Errno::PERM), TapError::NotAllowed(_)));
}
