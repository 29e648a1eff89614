//! `viridian serve`: keeps definitions of machines, runs them, and is reached by HTTP.
//!
//! - `store`, `definition`: what is on disk.
//! - `supervisor`, `machine`, `process`: one process for each machine, which outlives the service.
//! - `address`, `secure`, `connections`: who connects, within bounds.
//! - `assets`, `settings`, and the folder `page`: the page.
//! - `websocket`, `streams`, `tickets`: the console and the screen of a machine in a browser.
//! - `route`, `routes`: the table of resources; `api`, `operations`, `metrics`: their handlers; `openapi`: its description.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use viridian::machine::code;
use viridian::process::EndSignals;

mod address;
mod api;
mod assets;
mod connections;
mod definition;
mod event_log;
mod machine;
mod metrics;
mod openapi;
mod operations;
mod problem;
mod process;
mod route;
mod routes;
mod secure;
mod settings;
mod store;
mod streams;
mod supervisor;
mod tickets;
mod websocket;

// These are the library's, which keeps them to itself. Not everything in them is used here.
#[allow(dead_code)]
#[path = "../../control/error.rs"]
mod error;
#[allow(dead_code)]
#[path = "../../control/http.rs"]
mod http;
#[allow(dead_code)]
#[path = "../../host/lock.rs"]
mod lock;
#[allow(dead_code)]
#[path = "../../host/unix_socket.rs"]
mod unix_socket;

use address::{Address, Listener};
use api::{Call, Reply, Service};
use connections::{Client, Connections, Handler};
use error::Problem;
use http::Request;
use process::Places;
use secure::{Acceptor, Files};
use store::Store;
use supervisor::Supervisor;
use websocket::handshake;

use super::control::{create, default_directory};
use super::say;

pub use definition::Restart;

/// The name of the socket in the directory of the control sockets. It does not end with .sock: it is not a machine's.
const SOCKET: &str = "serve.socket";
/// Delay before the next attempt if a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(50);

/// The options of `viridian serve`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Address of the service: unix:PATH, or tcp:ADDRESS:PORT, where requests need a token. Addresses other than 127.0.0.1
    /// and [::1] need --tls; repeat for more [default: unix:serve.socket, in the directory of the control sockets]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Address>,

    /// Speak TLS at the tcp: addresses, with these PEM files: the certificate with those of its authorities, and its key.
    /// With client-ca, clients may show a certificate that an authority in this file has signed
    #[arg(long, value_name = "cert=FILE,key=FILE[,client-ca=FILE]")]
    tls: Option<Files>,

    /// Directory for the definitions [default: $XDG_STATE_HOME/viridian, ~/.local/state/viridian, or /var/lib/viridian
    /// for root]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Returns the path of the socket at which commands find the service.
///
/// # Errors
/// Returns an error if the environment does not name any directory for it.
pub fn default_socket() -> std::io::Result<PathBuf> {
    default_directory().map(|directory| directory.join(SOCKET))
}

fn default_state() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/viridian".into());
    }
    let home = || variable("HOME").map(|home| home.join(".local/state"));
    let state = variable("XDG_STATE_HOME").or_else(home);
    Ok(state.context("neither XDG_STATE_HOME nor HOME is set; give --state DIR")?.join("viridian"))
}

/// Serves until a signal ends it. Machines go on.
pub fn serve(arguments: Arguments, quiet: bool) -> anyhow::Result<u8> {
    if let Some(address) = arguments.listen.iter().find(|address| address.is_for_others())
        && arguments.tls.is_none()
    {
        say!("--listen {address}: other hosts reach this address, so it needs --tls cert=FILE,key=FILE; or listen at");
        say!("tcp:127.0.0.1:PORT, and forward it from other hosts: ssh -L PORT:127.0.0.1:PORT THIS-HOST");
        return Ok(code::USAGE);
    }
    let tls = match arguments.tls.as_ref().map(Acceptor::open).transpose() {
        Ok(tls) => tls.map(Arc::new),
        Err(error) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
    };
    let sockets = default_directory()?;
    let files = sockets.join("serve");
    for directory in [&sockets, &files] {
        create(directory)?;
    }
    let sockets = sockets.canonicalize()?;
    let files = sockets.join("serve");
    let state = arguments.state.map_or_else(default_state, Ok)?;
    let store = Store::open(&state)?;
    // Machines of two services could not be told from each other.
    let _lock = store::lock(&files.join("lock"))?;
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let addresses = match arguments.listen {
        none if none.is_empty() => vec![Address::Unix(sockets.join(SOCKET))],
        some => some,
    };
    let listeners = addresses.iter().map(|address| Listener::open(address, tls.as_ref()));
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>()?;
    let token = if listeners.iter().any(Listener::needs_token) { Some(store.token()?) } else { None };
    let program = std::env::current_exe().context("this program's file is unknown")?;
    let supervisor = Supervisor::start(store, Places { sockets, files }, program)?;
    let service = Arc::new(Service {
        supervisor: supervisor.clone(),
        connections: listeners.iter().map(|_| Arc::default()).collect(),
        requests: metrics::Requests::default(),
        tickets: tickets::Tickets::default(),
        begun: Instant::now(),
    });
    let own_token = |listener: &Listener| token.clone().filter(|_| listener.needs_token());
    let doors = listeners.iter().zip(&service.connections);
    let doors: Vec<_> = doors
        .map(|(listener, connections)| Door {
            listener,
            connections,
            handler: handler(&service, connections, own_token(listener)),
        })
        .collect();
    for listener in listeners.iter().filter(|_| !quiet) {
        say!("serving at {}", listener.url()?);
    }
    if let Some(tls) = tls.as_ref().filter(|_| !quiet) {
        say!("the fingerprint of the certificate is sha256:{}", tls.fingerprint);
    }
    if token.is_some() && !quiet {
        say!("the token for HTTP is in {}", supervisor.store.path().join("token").display());
    }
    notify("READY=1");
    accept(&doors, &signals)?;
    notify("STOPPING=1");
    supervisor.events.close();
    Ok(0)
}

/// An address with its connections.
struct Door<'a> {
    listener: &'a Listener,
    connections: &'a Arc<Connections>,
    handler: Arc<Handler>,
}

/// Accepts connections until a signal comes.
fn accept(doors: &[Door<'_>], signals: &EndSignals) -> anyhow::Result<()> {
    loop {
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        fds.extend(doors.iter().map(|door| PollFd::new(door.listener, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for connections"),
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        for door in doors {
            match door.listener.accept() {
                Ok((stream, peer)) => door.connections.serve(stream, peer, door.listener.tls(), &door.handler),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => {
                    // For example, there are no file descriptors left. The client still waits.
                    log::debug!("a connection cannot be accepted: {error}");
                    thread::sleep(RETRY);
                }
            }
        }
    }
}

/// Returns the function that answers the requests of an address.
fn handler(service: &Arc<Service>, connections: &Arc<Connections>, token: Option<String>) -> Arc<Handler> {
    let (service, connections) = (service.clone(), connections.clone());
    Arc::new(move |stream: &UnixStream, _: &Client, request: Result<Request, Problem>| {
        let answer = request.as_ref().map_err(Clone::clone).and_then(|request| {
            let found = routes::find(&request.method, &request.path);
            let is_open = found.as_ref().is_ok_and(|(route, _)| route.answer == route::Answer::Page);
            // A browser can set no headers of a WebSocket.
            let has_ticket = || {
                let is_stream = found.as_ref().is_ok_and(|(route, _)| route.answer == route::Answer::Stream);
                is_stream && handshake::ticket(request).is_some_and(|ticket| service.tickets.redeem(ticket))
            };
            if !is_open && !token.as_ref().is_none_or(|token| has_token(request, token)) && !has_ticket() {
                return Err(Problem::unauthorized());
            }
            let (route, name) = found?;
            (route.handler)(&Call { service: &service, request, stream, connections: &connections, name })
        });
        let path = request.as_ref().map(|request| request.path.as_slice()).unwrap_or_default();
        reply(&service, stream, path, answer);
    })
}

fn reply(service: &Service, stream: &UnixStream, path: &[String], answer: api::Answered) {
    let security = ("X-Content-Type-Options", "nosniff");
    let json = |value: &serde_json::Value| ("application/json", format!("{value}\n"));
    let (status, (kind, body)) = match &answer {
        Ok(Reply::Sent) => return service.requests.count(200),
        Ok(Reply::Json(value)) => (200, json(value)),
        Ok(Reply::Created(value)) => (201, json(value)),
        Ok(Reply::Text(kind, text)) => (200, (*kind, text.clone())),
        Ok(Reply::File(file)) => (200, (file.kind(), file.text.to_owned())),
        Err(problem) => (problem.status, json(&problem.body())),
    };
    let is_constant = matches!(&answer, Ok(Reply::File(file)) if file.is_constant());
    let cached = if is_constant { "max-age=31536000, immutable" } else { "no-store" };
    let mut headers = vec![("Content-Type", kind), ("Cache-Control", cached), security];
    let allowed = routes::allowed(path);
    match status {
        401 => headers.push(("WWW-Authenticate", "Bearer")),
        405 => headers.push(("Allow", &allowed)),
        426 => headers.extend([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]),
        _ => {}
    }
    if kind.starts_with("text/html") {
        headers.push(("Content-Security-Policy", PAGE_POLICY));
        headers.push(("Referrer-Policy", "no-referrer"));
    }
    service.requests.count(status);
    if let Err(error) = http::send(stream, status, &headers, &body) {
        log::debug!("a client has not read its reply: {error}");
    }
}

/// The content security policy of the page: scripts are files of the service, and requests go to its own host only. xterm.js makes
/// elements with styles.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                           img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns `true` if a request has the token. The time that this takes does not depend on how much of it is right.
fn has_token(request: &Request, token: &str) -> bool {
    let given = request.header("authorization").and_then(|value| {
        let (scheme, given) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
    });
    given.is_some_and(|given| tickets::is_same(given, token))
}

/// Sends the state of the service to systemd (sd_notify(3)), if systemd has started it.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(error) = send() {
        log::warn!("NOTIFY_SOCKET: {error}");
    }
}
