use super::*;
use std::net::Shutdown;

/// Returns the outcome of a request that arrives in these pieces, after which the client sends nothing more.
fn read(pieces: &[&[u8]]) -> Result<Option<Request>, Problem> {
    let (mut client, server) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in pieces {
                if client.write_all(piece).is_err() {
                    return;
                }
            }
            let _ = client.shutdown(Shutdown::Write);
        });
        let result = Request::read(&server);
        // The client gets an error if it still sends after the server has stopped reading.
        drop(server);
        result
    })
}

#[track_caller]
fn refused(pieces: &[&[u8]], status: u16, words: &str) {
    let problem = read(pieces).unwrap_err();
    assert!(problem.status == status && problem.message.contains(words), "{problem:?}");
}

#[test]
fn a_request_has_a_method_a_path_and_a_body() {
    let request = read(&[
        b"PUT /kvp/external/a%20b%2F%C3%BC?x=y HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 7\r\nContent-Le",
        b"ngth: 14\r\n\r\n{\"value\"",
        b": \"x\"",
    ]);
    // The body is one byte too short.
    assert_eq!(request.unwrap_err().message, "the request ends in its body");
    let request = read(&[
        b"PUT /kvp//external/a%20b%2F%C3%BC/?x=y HTTP/1.1\r\nlast-event-id: 7\r\nContent-Length: 3\r\n\r\n",
        b"123, and more",
    ]);
    let request = request.unwrap().unwrap();
    assert_eq!(request.method, "PUT");
    assert_eq!(request.path, ["kvp", "external", "a b/ü"]);
    assert_eq!(request.last_event(), Some(7));
    assert_eq!(request.header("content-length"), Some("3"));
    assert_eq!(request.value().unwrap(), 123);
    assert!(read(&[]).unwrap().is_none(), "a client that only wants to know whether somebody listens");
}

#[test]
fn a_malformed_request_is_answered_with_the_reason() {
    refused(&[b"\x16\x03\x01 TLS?\r\n\r\n"], 400, "not an HTTP/1.1 request");
    refused(&[b"GET / HTTP/1.1\r\n"], 400, "ends in its head");
    refused(&[b"GET /%zz HTTP/1.1\r\n\r\n"], 400, "URL encoding");
    refused(&[b"GET /%ff HTTP/1.1\r\n\r\n"], 400, "URL encoding");
    refused(&[b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"], 400, "not a number");
    refused(&[b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"], 413, "at most 1048576");
    refused(&[b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"], 411, "Content-Length");
    let headers = b"GET / HTTP/1.1\r\n".iter().chain(b"a: b\r\n".repeat(100).iter()).copied().collect::<Vec<_>>();
    refused(&[&headers], 400, "header");
    refused(&[&vec![b'a'; 1 << 20]], 413, "at most 16384");
}

#[test]
fn the_error_for_invalid_json_has_its_position() {
    let request = read(&[b"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n{\"a\": 1,\n  }"]).unwrap().unwrap();
    let problem = request.value().unwrap_err();
    assert!(problem.message.contains("line 2 column 3"), "{problem:?}");
}

#[test]
fn replies_and_events_are_valid_http_and_event_streams() {
    let (client, server) = UnixStream::pair().unwrap();
    reply(&server, 404, &serde_json::json!({ "a": "b\nc" })).unwrap();
    let mut events = EventStream::start(&server).unwrap();
    events.send(Some(3), &serde_json::json!({ "event": "x\n\n" })).unwrap();
    events.keep_alive().unwrap();
    drop(server);
    let mut text = String::new();
    (&client).read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n") && text.contains("Content-Length: 13\r\n"), "{text}");
    assert!(text.contains("\r\n\r\n{\"a\":\"b\\nc\"}\nHTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nid: 3\ndata: {\"event\":\"x\\n\\n\"}\n\n:\n\n"), "{text}");
}
