//! Connections in both directions.

use smoltcp::socket::tcp::State;

use super::client::Guest;
use super::*;
use crate::need::{Need, ready};

/// Starts a server on the loopback that serves each connection on a thread of its own.
pub fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    port
}

#[test]
fn a_download_arrives_complete_in_large_segments() {
    const LENGTH: usize = 8 << 20;
    let port = server(|mut stream| stream.write_all(&pattern(LENGTH)).unwrap());
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    assert!(guest.read_to_end(handle) == pattern(LENGTH));
    assert!(guest.cable.uncut > 10, "{} frames came uncut", guest.cable.uncut);
    assert_eq!(guest.cable.queue.dropped(), 0);
}

#[test]
fn an_upload_arrives_complete_with_its_end() {
    const LENGTH: usize = 4 << 20;
    let (send, receive) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        // The other direction is still open after the guest has closed its own.
        stream.write_all(b"thanks").unwrap();
        send.send(received).unwrap();
    });
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    guest.write_all(handle, &pattern(LENGTH));
    guest.socket(handle).close();
    assert_eq!(guest.read_to_end(handle), b"thanks");
    assert!(receive.recv().unwrap() == pattern(LENGTH));
    guest.run("the flow's end", |guest| (guest.cable.queue.stack.lock().flows().0 == 0).then_some(()));
}

#[test]
fn a_small_request_is_acknowledged_by_its_answer() {
    let port = server(|mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    });
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    guest.run("a connection", |guest| guest.socket(handle).can_send().then_some(()));
    let mut quick = 0;
    // A late answer is preceded by an acknowledgement. On a busy host, some answers are late.
    while quick < 20 {
        let (before, begin) = (guest.cable.received, Instant::now());
        guest.write_all(handle, &[1]);
        guest.run("an answer", |guest| {
            let socket = guest.socket(handle);
            socket.can_recv().then(|| socket.recv_slice(&mut [0]).unwrap())
        });
        let frames = guest.cable.received - before;
        if begin.elapsed() < Duration::from_millis(8) {
            quick += 1;
            assert_eq!(frames, 1);
        }
    }
}

#[test]
fn a_server_that_does_not_read_stops_the_guest_and_not_the_network() {
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let receive = Mutex::new(receive);
    let port = server(move |mut stream| {
        receive.lock().recv().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&(received.len() as u64).to_le_bytes()).unwrap();
    });
    let echo = server(|mut stream| {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let mut guest = Guest::new(network(None), &[]);
    let slow = guest.connect(gateway(port));
    // Fill all buffers on the way, until nothing more can be sent.
    let mut written = 0;
    let mut still = 0;
    guest.run("filling the buffers", |guest| {
        let before = written;
        if guest.socket(slow).can_send() {
            written += guest.socket(slow).send_slice(&[7; 65536]).unwrap();
        }
        still = if written == before { still + 1 } else { 0 };
        (still > 40).then_some(())
    });
    let other = guest.connect(gateway(echo));
    guest.write_all(other, b"quick");
    assert_eq!(guest.read_to_end(other), b"quick");
    send.send(()).unwrap();
    guest.socket(slow).close();
    let answer = guest.read_to_end(slow);
    assert_eq!(answer, (written as u64).to_le_bytes());
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(free_port()));
    guest.run("the refusal", |guest| (guest.socket(handle).state() == State::Closed).then_some(()));
    assert_eq!(guest.cable.queue.stack.lock().flows().0, 0);
}

#[test]
fn a_reset_goes_through_both_ways() {
    let (send, receive) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        if byte[0] == b'r' {
            // Closing a socket with unread data causes a reset.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        } else {
            send.send(stream.read(&mut byte).map_err(|error| error.kind())).unwrap();
        }
    });
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(gateway(port));
    guest.write_all(handle, b"r");
    guest.run("the server's reset", |guest| (guest.socket(handle).state() == State::Closed).then_some(()));

    let handle = guest.connect(gateway(port));
    guest.write_all(handle, b"g");
    guest.run("the byte to be sent", |guest| (guest.socket(handle).send_queue() == 0).then_some(()));
    guest.socket(handle).abort();
    let end = guest.run("the guest's reset", |_| receive.try_recv().ok());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn many_connections_at_once_all_get_their_own_answer() {
    const CONNECTIONS: usize = 200;
    let port = server(|mut stream| {
        let mut number = [0; 4];
        stream.read_exact(&mut number).unwrap();
        let number = u32::from_le_bytes(number);
        stream.write_all(&number.wrapping_mul(3).to_le_bytes().repeat(500)).unwrap();
    });
    let mut guest = Guest::new(network(None), &[]);
    let handles: Vec<_> = (0..CONNECTIONS).map(|_| guest.connect(gateway(port))).collect();
    for (number, handle) in handles.iter().enumerate() {
        guest.write_all(*handle, &(number as u32).to_le_bytes());
    }
    for (number, handle) in handles.iter().enumerate() {
        let expected = (number as u32 * 3).to_le_bytes().repeat(500);
        assert!(guest.read_to_end(*handle) == expected, "connection {number}");
    }
}

#[test]
fn the_number_of_connections_is_bounded_and_the_rest_is_refused() {
    let port = server(|mut stream| drop(stream.read(&mut [0])));
    let mut guest = Guest::new(network(None), &[]);
    let handles: Vec<_> = (0..stack::MAX_CONNECTIONS + 3).map(|_| guest.connect(gateway(port))).collect();
    let refused = guest.run("the connections", |guest| {
        let states: Vec<_> = handles.iter().map(|handle| guest.socket(*handle).state()).collect();
        let settled = states.iter().all(|state| matches!(state, State::Established | State::Closed));
        settled.then(|| states.iter().filter(|state| **state == State::Closed).count())
    });
    assert_eq!(refused, 3);
    assert_eq!(guest.cable.queue.stack.lock().flows().0, stack::MAX_CONNECTIONS);
}

#[test]
fn a_forwarded_port_leads_to_the_guest() {
    let port = free_port();
    let mut guest = Guest::new(network(None), &[forward(&format!("tcp:{port}:80"))]);
    let handle = guest.listen(80);
    // The network learns the guest's addresses from its first packet.
    let other = guest.connect(gateway(1));
    guest.run("a first packet", |guest| (guest.socket(other).state() == State::Closed).then_some(()));
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(loopback(port)).unwrap();
        stream.write_all(b"GET /").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert_eq!(guest.read_to_end(handle), b"GET /");
    assert_eq!(guest.socket(handle).remote_endpoint().unwrap().addr, IpAddr::from(Network::GATEWAY).into());
    guest.write_all(handle, b"hello from the guest");
    guest.socket(handle).close();
    guest.run("the guest's end", |guest| (guest.socket(handle).state() != State::LastAck).then_some(()));
    assert_eq!(client.join().unwrap(), "hello from the guest");
}

#[test]
fn a_port_in_use_is_an_error_before_any_guest_starts() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = User::open(network(None), &[forward(&format!("tcp:{port}:80"))], 1).err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("choose another port"), "{text}");
}

#[test]
fn an_ipv6_connection_to_the_router_reaches_the_loopback() {
    if !ready(&[Need::Ipv6]) {
        return;
    }
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = SocketAddr::from((Network::GATEWAY6, listener.local_addr().unwrap().port()));
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 300_000];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let mut guest = Guest::new(network(None), &[]);
    let handle = guest.connect(address);
    guest.write_all(handle, &pattern(300_000));
    assert!(guest.read_to_end(handle) == pattern(300_000));
}
