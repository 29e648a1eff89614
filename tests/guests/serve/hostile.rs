//! Clients that send too much, too little, too slowly, or nonsense.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::service::{Host, SOON, over_tcp};
use crate::common::patience::{grown, holds_within};

#[test]
fn invalid_requests_get_the_problem_its_place_and_a_remedy() {
    let host = Host::serve();
    let error = |method: &str, path: &str, body: &str, status: u16| {
        let reply = host.request(method, path, body);
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert!(reply.head.contains("Content-Type: application/json"));
        (reply.json()["error"].clone(), reply.head)
    };
    assert_eq!(error("GET", "/nowhere", "", 404).0["kind"], "not-found");
    assert_eq!(error("GET", "/machines/none", "", 404).0["remedy"], "GET /machines lists what there is");
    for operation in ["start", "stop", "kill", "pause", "resume", "reset"] {
        error("POST", &format!("/machines/none/{operation}"), "", 404);
    }
    for part in ["inspect", "console", "definition"] {
        error("GET", &format!("/machines/none/{part}"), "", 404);
    }
    error("DELETE", "/machines/none", "", 404);
    let (_, head) = error("POST", "/machines/web", "", 405);
    assert!(head.contains("Allow: GET, HEAD, PUT, DELETE\r\n"), "{head}");
    let (toml, _) = error("PUT", "/machines/web", "cmdline = \"x\"\nmemroy = 3\n", 400);
    assert_eq!(toml["where"], "line 2, column 1");
    let (name, _) = error("PUT", "/machines/a%2fb", "#", 400);
    assert!(name["remedy"].as_str().unwrap().contains("letters"), "{name}");
    error("PUT", "/machines/web", &"#".repeat(100_000), 413);
    error("PUT", "/machines/web", "", 400);
    host.define("web", "");
    let (json, _) = error("POST", "/machines/web/stop", "{\n\"force\": 3}", 400);
    assert_eq!(json["where"], "line 2, column 10");
    error("POST", "/machines/web/stop", "{\"shutdown-seconds\": -1}", 400);
    error("POST", "/machines/web/stop", "{\"shutdown-seconds\": 1e300}", 400);
    let long = format!("PUT /machines/web HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
    assert_eq!(host.send(long.as_bytes()).unwrap().status, 413);
    let chunked = "PUT /machines/web HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(host.send(chunked.as_bytes()).unwrap().status, 411);
    let json = "PUT /machines/web HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"x\": 1}\n";
    assert_eq!(host.send(json.as_bytes()).unwrap().status, 400);
    assert_eq!(host.names(), ["web"]);
}

#[test]
fn floods_and_slow_clients_do_not_keep_others_out() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = Host::serve_with(&["--listen", &format!("tcp:127.0.0.1:{port}")]);
    let connect = || TcpStream::connect(("127.0.0.1", port));
    // Each sends a byte now and then.
    let mut slow: Vec<_> = (0..500).filter_map(|_| connect().ok()).collect();
    assert!(slow.len() > 300, "{}", slow.len());
    for round in 0..3 {
        slow.iter_mut().for_each(|stream| _ = stream.write_all(b"GET"));
        let reply = over_tcp(port, "GET / HTTP/1.1\r\n\r\n");
        assert_eq!(reply.status, 200, "round {round}");
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", host.service_id())).unwrap().count();
    assert!(threads < 300, "{threads} threads");
    // The oldest are closed.
    let closed = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Ok(0 | 1)) || stream.write_all(b"x").is_err()
    };
    assert!(holds_within(grown(SOON), || slow.iter_mut().take(300).filter_map(|it| closed(it).then_some(())).count()
        >= 300));
    drop(slow);
    assert_eq!(over_tcp(port, "GET / HTTP/1.1\r\n\r\n").status, 200);
}

#[test]
fn garbage_is_refused_and_the_service_goes_on() {
    let host = Host::serve();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seeds: [&[u8]; 6] = [
        b"PUT /machines/web HTTP/1.1\r\nContent-Length: 14\r\n\r\nmemory = \"64M\"",
        b"POST /machines/web/stop HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"force\": true}",
        b"GET /machines/web/definition HTTP/1.1\r\nLast-Event-ID: 3\r\n\r\n",
        b"PUT /machines/%77eb HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"definition\": \"\"}",
        b"DELETE /machines/web HTTP/1.1\r\n\r\n",
        b"GET /openapi.json HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n",
    ];
    let mut answered = 0;
    for _ in 0..1500 {
        let mut bytes = seeds[random() as usize % seeds.len()].to_vec();
        for _ in 0..random() % 6 {
            let at = random() as usize % bytes.len();
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => _ = bytes.remove(at),
                _ => bytes.insert(at, random() as u8),
            }
        }
        let mut stream = UnixStream::connect(host.socket()).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(grown(Duration::from_secs(20)))).unwrap();
        let reply = super::service::Reply::read(stream);
        answered += u32::from(reply.is_some());
        let status = reply.map_or(400, |reply| reply.status);
        assert!(matches!(status, 200 | 201 | 400..=413), "{status}: {:?}", String::from_utf8_lossy(&bytes));
    }
    assert!(answered > 1400, "{answered}");
    let metrics = host.request("GET", "/metrics", "").body;
    assert!(!metrics.contains("status=\"500\""), "{metrics}");
    assert!(metrics.contains("viridian_requests_total{status=\"400\"}"), "{metrics}");
}
