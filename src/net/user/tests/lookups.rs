//! Look-ups: which of the host's name servers are asked, and the reply to a guest when none answers.

use super::client::Guest;
use super::frames::{read_udp, udp};
use super::*;
use crate::patience::grown;

const NAME_SERVER: (Ipv4Addr, u16) = (Network::DNS, 53);

/// Returns a question for a name, with this number.
fn question(number: u16) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend_from_slice(b"\x01\0\0\x01\0\0\0\0\0\0\x04name\x04test\0\0\x01\0\x01");
    bytes
}

/// Starts a name server that answers every question with this result and `answer` after the header.
fn server(result: u8, answer: &'static [u8]) -> SocketAddr {
    let socket = UdpSocket::bind(loopback(0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            (bytes[2], bytes[3]) = (0x81, 0x80 | result);
            socket.send_to(&[&bytes[..length], answer].concat(), from).unwrap();
        }
    });
    address
}

fn nobody() -> SocketAddr {
    UdpSocket::bind(loopback(0)).unwrap().local_addr().unwrap()
}

fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(loopback(0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn asking(servers: Vec<SocketAddr>) -> Guest {
    Guest::new(Network { resolver: Some(Resolver::Servers(servers)) }, &[])
}

/// Sends a question, and returns the answer.
fn ask(guest: &mut Guest, number: u16) -> Vec<u8> {
    assert!(guest.send(&udp(5000, NAME_SERVER.into(), &question(number))));
    hear(guest, number)
}

fn hear(guest: &mut Guest, number: u16) -> Vec<u8> {
    guest.expect("an answer", |frame| {
        let (from, to, answer) = read_udp(frame)?;
        assert_eq!((from, to), (NAME_SERVER.into(), 5000));
        answer.starts_with(&number.to_be_bytes()).then_some(answer)
    })
}

fn is_failure(answer: &[u8]) -> bool {
    answer[2] & 0x80 != 0 && answer[3] & 0xf == 2 && answer[12..] == question(0)[12..]
}

#[test]
fn an_unreachable_server_is_skipped_at_once() {
    let mut guest = asking(vec![nobody(), nobody(), server(0, b"third")]);
    assert!(ask(&mut guest, 1).ends_with(b"third"));
    assert!(guest.cable.ahead.is_zero());
    assert_eq!(guest.cable.queue.stack.lock().flows().1, 0, "the look-up is over with its answer");
}

#[test]
fn a_silent_server_is_skipped_after_a_second_and_asked_last_from_then_on() {
    let (deaf, address) = silent();
    let mut guest = asking(vec![address, server(0, b"second")]);
    assert!(guest.send(&udp(5000, NAME_SERVER.into(), &question(1))));
    let mut bytes = [0; 100];
    deaf.recv_from(&mut bytes).unwrap();
    guest.cable.ahead += Duration::from_millis(999);
    assert!(guest.cable.receive().is_none());
    guest.cable.ahead += Duration::from_millis(1);
    assert!(hear(&mut guest, 1).ends_with(b"second"));
    // The next question is sent to the other server first.
    assert!(ask(&mut guest, 2).ends_with(b"second"));
    deaf.set_nonblocking(true).unwrap();
    assert!(deaf.recv_from(&mut bytes).is_err());
    // After a minute, the first server is asked first again.
    guest.cable.ahead += Duration::from_secs(61);
    assert!(guest.send(&udp(5000, NAME_SERVER.into(), &question(3))));
    deaf.set_nonblocking(false).unwrap();
    let (length, from) = deaf.recv_from(&mut bytes).unwrap();
    deaf.send_to(&[&bytes[..length], b"first"].concat(), from).unwrap();
    assert!(hear(&mut guest, 3).ends_with(b"first"));
}

#[test]
fn a_late_answer_of_the_first_server_is_used() {
    let (slow, slow_address) = silent();
    let (deaf, deaf_address) = silent();
    let mut guest = asking(vec![slow_address, deaf_address]);
    guest.send(&udp(5000, NAME_SERVER.into(), &question(1)));
    let mut bytes = [0; 100];
    let (length, from) = slow.recv_from(&mut bytes).unwrap();
    guest.cable.ahead += Duration::from_secs(3);
    assert!(guest.cable.receive().is_none());
    deaf.recv_from(&mut bytes).unwrap();
    slow.send_to(&bytes[..length], from).unwrap();
    assert_eq!(hear(&mut guest, 1), question(1));
}

#[test]
fn after_a_failure_the_next_server_is_asked() {
    for result in [2, 4, 5] {
        let mut guest = asking(vec![server(result, b""), server(0, b"good")]);
        assert!(ask(&mut guest, 1).ends_with(b"good"));
        // If all fail, the guest gets the answer of one of them.
        let mut guest = asking(vec![server(result, b"sorry"), nobody()]);
        let answer = ask(&mut guest, 1);
        assert!(answer.ends_with(b"sorry") && answer[3] & 0xf == result);
    }
    // That a name does not exist is an answer.
    let mut guest = asking(vec![server(3, b"none"), server(0, b"good")]);
    assert!(ask(&mut guest, 1).ends_with(b"none"));
}

#[test]
fn a_guest_gets_a_failure_if_no_server_answers_or_there_is_none() {
    assert!(is_failure(&ask(&mut asking(vec![]), 1)));
    assert!(is_failure(&ask(&mut asking(vec![nobody(), nobody()]), 2)));
    let (_deaf, address) = silent();
    let mut guest = asking(vec![address]);
    guest.send(&udp(5000, NAME_SERVER.into(), &question(3)));
    guest.cable.ahead += Duration::from_secs(11);
    assert!(guest.cable.receive().is_none());
    guest.cable.ahead += Duration::from_secs(1);
    assert!(is_failure(&hear(&mut guest, 3)));
    assert_eq!(guest.cable.queue.stack.lock().flows().1, 0);
}

#[test]
fn changes_of_resolv_conf_take_effect_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    let file = Resolver::File(path.clone());
    assert_eq!(file.servers(), []);
    let mut guest = Guest::new(Network { resolver: Some(file.clone()) }, &[]);
    assert!(is_failure(&ask(&mut guest, 1)));
    for server in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        std::fs::write(&path, format!("options timeout:1\nnameserver {server}\n")).unwrap();
        assert_eq!(file.servers(), [(server.parse::<IpAddr>().unwrap(), 53).into()]);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file.servers(), []);
    // A path whose reading could block is not read.
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert_eq!(file.servers(), []);
    assert!(is_failure(&ask(&mut guest, 2)));
}

#[test]
fn a_repeated_question_is_sent_again_and_parallel_questions_get_their_own_answers() {
    let (server, address) = silent();
    let mut guest = asking(vec![address]);
    for number in [1, 2, 1] {
        guest.send(&udp(5000, NAME_SERVER.into(), &question(number)));
    }
    assert_eq!(guest.cable.queue.stack.lock().flows().1, 2);
    let mut bytes = [0; 100];
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        seen.push((bytes[1], from, bytes[..length].to_vec()));
    }
    seen.sort();
    assert_eq!(seen.iter().map(|seen| seen.0).collect::<Vec<_>>(), [1, 1, 2]);
    // An answer with another number is ignored.
    server.send_to(&question(9), seen[2].1).unwrap();
    for (number, from, bytes) in seen.into_iter().rev().take(2) {
        server.send_to(&bytes, from).unwrap();
        assert_eq!(hear(&mut guest, number.into()), question(number.into()));
    }
}

#[test]
fn the_next_server_is_also_tried_over_tcp() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut question = [0; 3];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"long answer").unwrap();
        }
    });
    let mut guest = asking(vec![loopback(free_port()), loopback(free_port()), address]);
    let handle = guest.connect(NAME_SERVER.into());
    guest.write_all(handle, b"who");
    assert_eq!(guest.read_to_end(handle), b"long answer");
    let mut guest = asking(vec![]);
    let handle = guest.connect(NAME_SERVER.into());
    let closed = smoltcp::socket::tcp::State::Closed;
    guest.run("the refusal", |guest| (guest.socket(handle).state() == closed).then_some(()));
}

#[test]
fn a_network_with_look_ups_and_connections_that_hang_ends_at_once() {
    let (_deaf, address) = silent();
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let mut guest = asking(vec![address]);
    for number in 1..=50 {
        guest.send(&udp(number, NAME_SERVER.into(), &question(number)));
    }
    let stalled = guest.connect(gateway(listener.local_addr().unwrap().port()));
    guest.run("a connection", |guest| guest.socket(stalled).can_send().then_some(()));
    (0..100).for_each(|_| {
        let _ = guest.socket(stalled).send_slice(&[0; 10_000]);
        guest.step();
    });
    let begin = Instant::now();
    drop(guest);
    assert!(begin.elapsed() < grown(Duration::from_secs(1)));
}
