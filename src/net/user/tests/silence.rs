//! Idle connections, and connections whose guest has ended. The tests advance the clock.

use smoltcp::socket::tcp::State;

use super::client::Guest;
use super::tcp::server;
use super::*;
use crate::patience::{Patience, receive_within};

const MINUTE: Duration = Duration::from_secs(60);

/// Advances the clock in small steps, so that every timer expires in its turn.
fn pass(guest: &mut Guest, time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(MINUTE / 2);
        guest.cable.ahead += step;
        left -= step;
        (0..4).for_each(|_| guest.step());
    }
}

/// Advances only the network's time, as if the guest were paused or had ended.
fn pass_unseen(guest: &mut Guest, time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(MINUTE / 2);
        guest.cable.ahead += step;
        left -= step;
        (0..4).for_each(|_| drop(guest.cable.receive()));
    }
}

fn echo() -> u16 {
    server(|mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    })
}

fn say(guest: &mut Guest, handle: smoltcp::iface::SocketHandle, byte: u8) {
    guest.write_all(handle, &[byte]);
    let mut answer = [0];
    guest.run("an answer", |guest| {
        let socket = guest.socket(handle);
        socket.can_recv().then(|| socket.recv_slice(&mut answer).unwrap())
    });
    assert_eq!(answer, [byte]);
}

#[test]
fn a_silent_connection_of_the_guest_is_kept_without_limit() {
    let port = echo();
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    say(&mut guest, handle, 1);
    for minutes in [16, 61, 5 * 60, 26 * 60] {
        pass(&mut guest, minutes * MINUTE);
        assert_eq!(guest.socket(handle).state(), State::Established, "after {minutes} minutes");
        say(&mut guest, handle, 2);
    }
}

#[test]
fn a_silent_connection_through_a_forwarded_port_is_kept_without_limit() {
    let port = free_port();
    let mut guest = Guest::new(network(None), &[forward(&format!("tcp:{port}:80"))]);
    let handle = guest.listen(80);
    let first = guest.connect(gateway(1));
    guest.run("a first packet", |guest| (guest.socket(first).state() == State::Closed).then_some(()));
    let mut client = TcpStream::connect(loopback(port)).unwrap();
    guest.run("a connection", |guest| (guest.socket(handle).state() == State::Established).then_some(()));
    pass(&mut guest, 16 * MINUTE);
    client.write_all(b"x").unwrap();
    guest.run("a byte from the host", |guest| guest.socket(handle).can_recv().then_some(()));
    pass(&mut guest, 60 * MINUTE);
    guest.write_all(handle, b"y");
    let mut byte = [0];
    let reader = thread::spawn(move || client.read_exact(&mut byte).map(|()| byte));
    guest.run("the byte to be read", |_| reader.is_finished().then_some(()));
    assert_eq!(reader.join().unwrap().unwrap(), *b"y");
}

#[test]
fn a_close_after_a_long_silence_is_not_a_reset() {
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let receive = Mutex::new(receive);
    let port = server(move |stream| {
        receive.lock().recv().unwrap();
        drop(stream);
    });
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    guest.run("a connection", |guest| (guest.socket(handle).state() == State::Established).then_some(()));
    pass(&mut guest, 40 * MINUTE);
    send.send(()).unwrap();
    guest.run("the server's end", |guest| (guest.socket(handle).state() == State::CloseWait).then_some(()));
    // One direction stays open without limit.
    pass(&mut guest, 40 * MINUTE);
    assert_eq!(guest.socket(handle).state(), State::CloseWait);
    guest.socket(handle).close();
    guest.run("the guest's end", |guest| (guest.cable.queue.stack.lock().flows().0 == 0).then_some(()));
}

#[test]
fn a_guest_that_does_not_acknowledge_data_loses_the_connection() {
    let (send, receive) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&[7; 1000]).unwrap();
        send.send(stream.read(&mut byte).map_err(|error| error.kind())).unwrap();
    });
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    guest.write_all(handle, b"x");
    // From now on, the guest receives no frames.
    guest.step();
    let mut patience = Patience::new(Duration::from_secs(10));
    while guest.cable.receive().is_none_or(|frame| frame.len() < 1000) {
        assert!(!patience.is_over());
    }
    pass_unseen(&mut guest, 14 * MINUTE);
    assert_eq!(guest.cable.queue.stack.lock().flows().0, 1);
    pass_unseen(&mut guest, 2 * MINUTE);
    assert_eq!(guest.cable.queue.stack.lock().flows().0, 0);
    assert_eq!(receive_within(&receive, Duration::from_secs(10)).unwrap(), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_guest_that_does_not_answer_a_forwarded_connection_loses_it() {
    let port = free_port();
    let mut guest = Guest::new(network(None), &[forward(&format!("tcp:{port}:80"))]);
    let first = guest.connect(gateway(1));
    guest.run("a first packet", |guest| (guest.socket(first).state() == State::Closed).then_some(()));
    let _client = TcpStream::connect(loopback(port)).unwrap();
    let queue = guest.cable.queue.clone();
    let mut patience = Patience::new(Duration::from_secs(10));
    while queue.stack.lock().flows().0 == 0 {
        assert!(!patience.is_over());
        guest.cable.receive();
    }
    pass_unseen(&mut guest, MINUTE);
    assert_eq!(queue.stack.lock().flows().0, 1);
    pass_unseen(&mut guest, 2 * MINUTE);
    assert_eq!(queue.stack.lock().flows().0, 0);
}

#[test]
fn a_connection_of_a_guest_that_restarted_is_probed_and_ends() {
    let port = echo();
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    say(&mut guest, handle, 1);
    // Wait until everything is acknowledged.
    pass(&mut guest, MINUTE);
    // The guest was reset, and has no connections.
    guest.forget(handle);
    pass(&mut guest, 110 * MINUTE);
    assert_eq!(guest.cable.queue.stack.lock().flows().0, 1);
    pass(&mut guest, 20 * MINUTE);
    assert_eq!(guest.cable.queue.stack.lock().flows().0, 0);
}
