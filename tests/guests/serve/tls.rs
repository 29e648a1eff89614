//! TLS: certificates that are right, wrong and expired, and clients that do not do their part.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::service::{Host, Reply, SOON};
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within, slowness};

/// An authority, and certificates that it has signed.
pub struct Authority(tempfile::TempDir);

impl Authority {
    pub fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let own = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=authority",
        ];
        authority.openssl(&[&own[..], &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
        authority
    }

    fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Makes a certificate for a common name, valid for so many days from now.
    pub fn sign(&self, name: &str, days: u32) {
        let file = |kind: &str| format!("{name}.{kind}");
        let subject = format!("/CN={name}");
        let key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", &subject];
        self.openssl(&[&key[..], &["-keyout", &file("key"), "-out", &file("csr")]].concat());
        std::fs::write(
            self.path("extensions"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n",
        )
        .unwrap();
        let sign = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-extfile", "extensions", "-set_serial", "7"];
        let (days, csr, pem) = (days.to_string(), file("csr"), file("pem"));
        self.openssl(&[&sign[..], &["-days", &days, "-in", &csr, "-out", &pem]].concat());
    }

    /// Starts a service with the certificate of this name.
    pub fn serve(&self, name: &str, more: &str) -> (Host, u16) {
        let files = format!("cert={0}.pem,key={0}.key{more}", self.path(name).display());
        let host = Host::serve_with(&["--listen", "tcp:0.0.0.0:0", "--listen", "unix:", "--tls", &files]);
        let url = host.said("serving at https://0.0.0.0:");
        (host, url.trim_end_matches('/').parse().unwrap())
    }

    /// Returns a client that trusts this authority, and perhaps shows a certificate.
    pub fn client(&self, name: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let Some(name) = name else { return Arc::new(builder.with_no_client_auth()) };
        let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        Arc::new(builder.with_client_auth_cert(chain, key).unwrap())
    }
}

/// Connects to a port, and does the handshake with the first message.
pub fn connect(config: &Arc<ClientConfig>, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
    let session = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(grown(SOON))).unwrap();
    StreamOwned::new(session, stream)
}

/// Sends a request, and returns the reply, or why there is none.
pub fn over_tls(config: &Arc<ClientConfig>, port: u16, request: &str) -> Result<Reply, String> {
    let mut stream = connect(config, port);
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Reply::read(&bytes[..]).ok_or_else(|| "there is no reply".into())
}

pub fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n")
}

fn token(host: &Host) -> String {
    std::fs::read_to_string(host.state().join("token")).unwrap().trim().to_owned()
}

#[test]
fn other_hosts_are_served_by_tls() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    authority.sign("server", 30);
    let (host, port) = authority.serve("server", "");
    let client = authority.client(None);
    let right = over_tls(&client, port, &get("/machines", &token(&host))).unwrap();
    assert_eq!((right.status, right.json()["machines"].as_array().map(Vec::len)), (200, Some(0)), "{right:?}");
    assert_eq!(over_tls(&client, port, &get("/machines", "wrong")).unwrap().status, 401);
    assert_eq!(over_tls(&client, port, "GET /machines HTTP/1.1\r\n\r\n").unwrap().status, 401);
    assert_eq!(over_tls(&client, port, "GET / HTTP/1.1\r\n\r\n").unwrap().status, 200);
    // A role that does not allow it.
    let reader = host.request("PUT", "/access/reader", r#"{"role": "read", "expires-seconds": 3600.0}"#).json();
    let reader = reader["token"].as_str().unwrap();
    assert_eq!(over_tls(&client, port, &get("/machines", reader)).unwrap().status, 200);
    let define = format!("PUT /machines/web HTTP/1.1\r\nAuthorization: Bearer {reader}\r\nContent-Length: 1\r\n\r\n#");
    let reply = over_tls(&client, port, &define).unwrap();
    assert!(reply.status == 403 && reply.body.contains("administer"), "{reply:?}");
    // A large body and a large reply.
    let text = format!("# {}\n", "x".repeat(60_000));
    let put = format!(
        "PUT /machines/web HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{text}",
        token(&host),
        text.len()
    );
    assert_eq!(over_tls(&client, port, &put).unwrap().status, 201);
    let reply = over_tls(&client, port, &get("/machines/web/definition", &token(&host))).unwrap();
    assert_eq!(reply.body, text);
    // A client that does not know the authority refuses.
    let stranger = Authority::new();
    let error = over_tls(&stranger.client(None), port, &get("/machines", "")).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn plain_text_at_a_tls_port_is_refused_in_words() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    authority.sign("server", 30);
    let (host, port) = authority.serve("server", "");
    let reply = super::service::over_tcp(port, "GET /machines HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(reply.status == 400 && reply.json()["error"]["remedy"] == "use https instead of http", "{reply:?}");
    // A record of TLS with nonsense in it is refused, too.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&[22, 3, 1, 0, 4, 9, 0, 0, 0]).unwrap();
    let mut alert = Vec::new();
    let _ = stream.read_to_end(&mut alert);
    assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
    assert_eq!(over_tls(&authority.client(None), port, &get("/machines", &token(&host))).unwrap().status, 200);
}

#[test]
fn wrong_files_are_named_with_a_remedy() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    authority.sign("server", 30);
    authority.sign("other", 30);
    let path = |file: &str| authority.path(file).display().to_string();
    for (files, words) in [
        (format!("cert={},key={}", path("none.pem"), path("none.key")), "none.pem: No such file or directory"),
        (
            format!("cert={},key={}", path("server.pem"), path("other.key")),
            "other.key: it is not the key of the certificate",
        ),
        (format!("cert={},key={}", path("server.key"), path("server.key")), "server.key: it has no certificate"),
        (format!("cert={0},key={0}", path("server.pem")), "it has no private key"),
        (
            format!("cert={},key={},client-ca=/dev/null", path("server.pem"), path("server.key")),
            "/dev/null: it has no certificate",
        ),
        (format!("cert={}", path("server.pem")), "a certificate and its key are needed"),
    ] {
        let run = crate::command::run_with(["serve", "--listen", "tcp:0.0.0.0:0", "--tls", &files]);
        assert!(run.code == Some(2) && run.errors.contains(words), "{files}: {run:?}");
    }
    // The pair that the remedy makes can be used.
    let files = format!("cert={},key={}", path("new.pem"), path("new.key"));
    let run = crate::command::run_with(["serve", "--listen", "tcp:0.0.0.0:0", "--tls", &files]);
    let (_, command) = run.errors.split_once("run: ").unwrap();
    let made = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    drop(authority.serve("new", ""));
}

#[test]
fn clients_that_do_not_finish_their_handshake_take_no_place_from_others() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    authority.sign("server", 30);
    let (host, port) = authority.serve("server", "");
    let client = authority.client(None);
    let mut slow: Vec<_> = (0..500).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    assert!(slow.len() > 300, "{}", slow.len());
    // Some have begun a record, and some have finished the handshake and send no request.
    slow.iter_mut().step_by(2).for_each(|stream| _ = stream.write_all(&[22, 3, 1, 2]));
    let mut silent: Vec<_> = (0..40).map(|_| connect(&client, port)).collect();
    silent.iter_mut().for_each(|stream| _ = stream.conn.complete_io(&mut stream.sock));
    for round in 0..3 {
        slow.iter_mut().for_each(|stream| _ = stream.write_all(&[0]));
        let begun = Instant::now();
        let reply = over_tls(&client, port, &get("/machines", &token(&host)));
        assert!(reply.as_ref().is_ok_and(|reply| reply.status == 200), "round {round}: {reply:?}");
        assert!(begun.elapsed() < grown(Duration::from_secs(5)), "round {round}: {:?}", begun.elapsed());
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", host.service_id())).unwrap().count();
    assert!(threads < 600, "{threads} threads");
    drop((slow, silent));
    let idle = || std::fs::read_dir(format!("/proc/{}/task", host.service_id())).unwrap().count() < 20;
    assert!(holds_within(grown(SOON), idle), "threads of closed connections end");
}

#[test]
fn a_flood_of_requests_leaves_the_service_prompt() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    authority.sign("server", 30);
    let files = format!("cert={0}.pem,key={0}.key", authority.path("server").display());
    let host = Host::serve_with(&["--listen", "unix:", "--listen", "tcp:127.0.0.1:0", "--tls", &files]);
    let url = host.said("serving at https://127.0.0.1:");
    let port = url.trim_end_matches('/').parse().unwrap();
    let (client, token) = (authority.client(None), token(&host));
    let socket = host.socket();
    let is_over = AtomicBool::new(false);
    let (counts, longest): (Vec<(u32, u32)>, Duration) = std::thread::scope(|scope| {
        // Another client meanwhile.
        let another = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let reply = over_tls(&client, port, &get("/machines", &token));
                if let Ok(reply) = &reply {
                    assert!(matches!(reply.status, 200 | 429 | 503), "{reply:?}");
                }
                longest = longest.max(begun.elapsed().div_f64(slowness()));
            }
            longest
        });
        let threads: Vec<_> = (0..100)
            .map(|number| {
                let (client, token, socket) = (&client, &token, &socket);
                scope.spawn(move || {
                    let (mut done, mut refused) = (0, 0);
                    for _ in 0..100 {
                        // One of ten by TLS, which costs the client as much as the service.
                        let status = match number % 10 {
                            0 => over_tls(client, port, &get("/machines", token)).ok().map(|reply| reply.status),
                            _ => {
                                let stream = std::os::unix::net::UnixStream::connect(socket);
                                stream.ok().and_then(|mut stream| {
                                    stream.write_all(b"GET /machines HTTP/1.1\r\n\r\n").ok()?;
                                    Reply::read(stream).map(|reply| reply.status)
                                })
                            }
                        };
                        match status {
                            Some(200) => done += 1,
                            None | Some(429 | 503) => refused += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                    (done, refused)
                })
            })
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>();
        is_over.store(true, Ordering::Relaxed);
        (counts.into_iter().map(Result::unwrap).collect(), another.join().unwrap())
    });
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let (done, refused) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(done + refused, 10_000);
    assert!(done > 5000, "{done} done, {refused} refused");
    assert_eq!(over_tls(&client, port, &get("/machines", &token)).unwrap().status, 200);
    let metrics = host.request("GET", "/metrics", "").body;
    assert!(!metrics.contains("status=\"500\""), "{metrics}");
}
