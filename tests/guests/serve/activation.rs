//! Sockets that a service manager passes to the service, and new certificates while it runs.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use super::service::{Host, SOON, over_tcp, signal};
use super::tls::{Authority, get, over_tls};
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within};

#[test]
fn the_service_listens_at_sockets_that_it_is_given_and_leaves_them_there() {
    let mut host = Host::new();
    std::fs::create_dir(host.sockets()).unwrap();
    let unix = UnixListener::bind(host.socket()).unwrap();
    std::fs::set_permissions(host.socket(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    // A client that comes before the service waits for it.
    let mut early = UnixStream::connect(host.socket()).unwrap();
    std::io::Write::write_all(&mut early, b"GET /service HTTP/1.1\r\n\r\n").unwrap();
    host.start_on([unix.try_clone().unwrap().into(), tcp.try_clone().unwrap().into()]);
    host.said(&format!("serving at unix:{}", host.socket().display()));
    host.said(&format!("serving at http://127.0.0.1:{port}/"));
    let reply = super::service::Reply::read(early).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let token = std::fs::read_to_string(host.state().join("token")).unwrap();
    assert_eq!(over_tcp(port, &get("/machines", token.trim())).status, 200);
    assert_eq!(over_tcp(port, "GET /machines HTTP/1.1\r\n\r\n").status, 401);
    // A machine gets none of the sockets.
    host.define("web", "");
    host.post("/machines/web/start");
    let machine = host.process("web").unwrap();
    let sockets = |id: u32| {
        let links = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).collect::<Vec<_>>()
    };
    let own = sockets(std::process::id());
    assert!(!sockets(machine).iter().any(|link| own.contains(link) && link.to_string_lossy().starts_with("socket:")));
    assert_eq!(host.terminate(), Some(0));
    assert!(host.socket().exists(), "the socket is not the service's");
    // The next one gets them, too.
    host.start_on([unix.into(), tcp.into()]);
    host.until_state("web", "running");
}

#[test]
fn other_kinds_of_sockets_are_refused_with_a_remedy_for_the_unit() {
    let mut host = Host::new();
    let (connected, _other) = UnixStream::pair().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let run = host.run_on([OwnedFd::from(connected), tcp.into()]);
    assert!(
        run.code == Some(2) && run.errors.contains("descriptor 3") && run.errors.contains("ListenStream="),
        "{run:?}"
    );
    let all = [TcpListener::bind("0.0.0.0:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let run = host.run_on(all.map(OwnedFd::from));
    assert!(run.code == Some(125) && run.errors.contains("so the service needs --tls"), "{run:?}");
}

#[test]
fn new_certificates_are_used_without_a_restart() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let (old, new) = (Authority::new(), Authority::new());
    old.sign("server", 30);
    new.sign("server", 30);
    let (host, port) = old.serve("server", "");
    let token = std::fs::read_to_string(host.state().join("token")).unwrap();
    let is_served = |authority: &Authority| {
        over_tls(&authority.client(None), port, &get("/machines", token.trim())).is_ok_and(|reply| reply.status == 200)
    };
    assert!(is_served(&old) && !is_served(&new));
    let last = host.get("/machines")["last-event"].as_u64().unwrap();
    // As a program does that renews certificates: one file after the other, each by a rename.
    let replace = |authority: &Authority, file: &str| {
        std::fs::copy(authority.path(file), old.path("next")).unwrap();
        std::fs::rename(old.path("next"), old.path(file)).unwrap();
    };
    let keep = |file: &str| std::fs::copy(old.path(file), old.path(&format!("{file}.old"))).unwrap();
    keep("server.pem");
    keep("server.key");
    replace(&new, "server.pem");
    replace(&new, "server.key");
    assert!(holds_within(grown(SOON), || is_served(&new)));
    assert!(!is_served(&old));
    host.said("the files of --tls were read again; the fingerprint of the certificate is sha256:");
    let (_, event) = host.events(last).wait(|event| event["event"] == "certificate");
    assert!(event["fingerprint"].as_str().unwrap().starts_with("sha256:"), "{event}");
    // Wrong files are reported, and what was read before remains in use.
    std::fs::write(old.path("server.key"), "no key").unwrap();
    signal(host.service_id(), rustix::process::Signal::HUP);
    host.said("server.key: it has no private key in PEM");
    assert!(is_served(&new));
    // By a signal, as systemctl reload sends it.
    std::fs::rename(old.path("server.pem.old"), old.path("server.pem")).unwrap();
    std::fs::rename(old.path("server.key.old"), old.path("server.key")).unwrap();
    signal(host.service_id(), rustix::process::Signal::HUP);
    assert!(holds_within(grown(SOON), || is_served(&old)));
    assert!(!is_served(&new));
}
