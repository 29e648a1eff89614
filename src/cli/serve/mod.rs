//! `viridian serve`: keeps definitions of machines, runs them, and is reached by HTTP.
//!
//! - `store`, `definition`, `lab`, `written`, `defining`: what is on disk.
//! - `supervisor`, `machine`, `process`, `following`: one process for each machine, which outlives the service; `labs`: one for several machines.
//! - `autostart`: machines that start after the start of the host, and are stopped before its end.
//! - `meter`, `metering`: what machines have used since a reset.
//! - `resources`, `cgroup`, `shares`: the shares of the host that machines get; `budget`, `memory_shares`: the memory that they share.
//! - `address`, `inherited`, `secure`, `connections`: who connects, within bounds; `accepting`: the main thread; `attention`: signals, and files that change; `guard`, `access`: who that is, and what they may do; `leases`, `pace`: until when, and how much; `audit`.
//! - `assets`, `settings`, and the folder `page`: the page.
//! - `websocket`, `streams`, `tickets`: the console and the screen of a machine in a browser.
//! - `route`, `routes`: the table of resources; `api`, `operations`, `exposition`, `metrics`, `machine_metrics`, `tunnel`: their handlers; `openapi`, `schemas`: its description; `jobs`, `job_worker`, `job_work`, `job_requests`: long operations.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use viridian::config::Size;
use viridian::machine::code;

mod accepting;
mod access;
mod address;
mod api;
mod assets;
mod attention;
mod audit;
mod autostart;
mod budget;
mod cgroup;
mod connections;
mod defining;
mod definition;
mod event_log;
mod exposition;
#[cfg(test)]
mod exposition_reader;
mod following;
mod guard;
mod inherited;
mod job_requests;
mod job_work;
mod job_worker;
mod jobs;
mod lab;
mod labs;
mod leases;
mod machine;
mod machine_metrics;
mod machine_routes;
mod machine_schemas;
mod memory_shares;
mod meter;
mod metering;
mod metrics;
mod openapi;
mod operations;
mod pace;
mod problem;
mod process;
mod resources;
mod route;
mod routes;
mod schemas;
mod secure;
mod settings;
mod shares;
mod store;
mod streams;
mod supervisor;
mod tickets;
mod tunnel;
mod websocket;
mod written;

// These are the library's, which keeps them to itself. Not everything in them is used here.
#[allow(dead_code)]
#[path = "../../control/error.rs"]
mod error;
#[path = "../../fleet/governor.rs"]
mod governor;
#[allow(dead_code)]
#[path = "../../control/http.rs"]
mod http;
#[allow(dead_code)]
#[path = "../../host/lock.rs"]
pub(super) mod lock;
#[allow(dead_code)]
#[path = "../../host/unix_socket.rs"]
mod unix_socket;

use accepting::{Door, Renewal, accept};
use access::Caller;
use address::{Address, Listener};
use api::{Call, Reply, Service};
use attention::Signals;
use audit::Audit;
use budget::Budget;
use cgroup::Groups;
use connections::{Client, Connections, Handler};
use error::Problem;
use guard::Guard;
use http::Request;
use problem::TOO_FAST;
use process::Places;
use route::Answer;
use routes::Found;
use secure::{Acceptor, Files};
use store::Store;
use supervisor::Supervisor;
use websocket::handshake;

use super::control::{SERVICE, create, default_directory};
use super::notify::notify;
use super::{Wrong, say};

pub use access::Role;
pub use api::add_usage;
pub use definition::{Autostart, MAX_LENGTH, Restart, Treatment, apply_defaults, split};
pub use lab::{is_lab, rewritten};
pub use machine_metrics::text as metrics_of;

/// Stack of a thread that mostly waits.
const STACK: usize = 128 << 10;

/// The options of `viridian serve`.
#[derive(clap::Args)]
pub struct Arguments {
    /// One more address of the service: unix:PATH, or tcp:ADDRESS:PORT, where requests need a token. Addresses other than
    /// 127.0.0.1 and [::1] need --tls; repeat for more. The service always listens at unix:serve.socket in the directory of the
    /// control sockets, where commands find it
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Address>,

    /// Speak TLS at the tcp: addresses, with these PEM files: the certificate with those of its authorities, and its key.
    /// With client-ca, clients may show a certificate that an authority in this file has signed
    #[arg(long, value_name = "cert=FILE,key=FILE[,client-ca=FILE]")]
    tls: Option<Files>,

    /// Print the address of the page with a code that opens it once, without a token. Listens at a free port of 127.0.0.1 if
    /// there is no tcp: address
    #[arg(long)]
    open: bool,

    /// Directory for the definitions [default: $XDG_STATE_HOME/viridian, ~/.local/state/viridian, or /var/lib/viridian
    /// for root]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Directory of cgroup v2 for the groups of the machines, such as /sys/fs/cgroup/viridian: it gives the keys cpu and
    /// memory of definitions their effect
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,

    /// Memory that all guests have together: dynamic memory moves to where it is needed, and a machine whose startup size does not
    /// fit does not start
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<Size>,
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
    let passed = match inherited::take() {
        Ok(passed) => passed,
        Err(error) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
    };
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
    let store = Store::open(&state).context(Wrong("--state"))?;
    // Machines of two services could not be told from each other.
    let _lock = store::lock(&files.join("lock"))?;
    let signals = Signals::catch().context("cannot listen for signals")?;
    let mut addresses = arguments.listen;
    if arguments.open && !addresses.iter().any(|address| matches!(address, Address::Tcp(_))) {
        addresses.push(Address::Tcp((Ipv4Addr::LOCALHOST, 0).into()));
    }
    let inherit = |socket| Listener::inherit(socket, tls.as_ref()).map_err(anyhow::Error::from);
    let listeners = passed.into_iter().map(inherit);
    let open = |address: &Address| Listener::open(address, tls.as_ref()).context(Wrong("the service cannot listen"));
    let mut listeners = listeners.chain(addresses.iter().map(open)).collect::<anyhow::Result<Vec<_>>>()?;
    // Commands without an address look for the service here.
    let usual = sockets.join(SERVICE);
    if !listeners.iter().any(|listener| listener.is_at(&usual)) {
        listeners.push(Listener::open(&Address::Unix(usual), None)?);
    }
    let token = if listeners.iter().any(Listener::needs_token) { Some(store.token()?) } else { None };
    let has_token = token.is_some();
    let guard = Guard::open(&store, token)?;
    let audit = Audit::open(store.path())?;
    let program = std::env::current_exe().context("this program's file is unknown")?;
    let groups = arguments.cgroup.as_deref().map(Groups::open).transpose().context(Wrong("--cgroup"))?;
    let budget = arguments.memory_budget.map(|size| Budget::new(size.0));
    let supervisor = Supervisor::start(store, Places { sockets, files }, program, groups, budget)?;
    let service = Arc::new(Service {
        supervisor: supervisor.clone(),
        connections: listeners.iter().map(|_| Arc::default()).collect(),
        requests: metrics::Requests::default(),
        tickets: tickets::Tickets::default(),
        guard,
        audit,
        begun: Instant::now(),
    });
    let doors = listeners.iter().zip(&service.connections);
    let doors = doors.map(|(listener, connections)| {
        let handler = handler(&service, connections);
        Door { listener, connections, handler }
    });
    let doors: Vec<_> = doors.collect();
    for listener in listeners.iter().filter(|_| !quiet) {
        say!("serving at {}", listener.url()?);
    }
    if let Some(tls) = tls.as_ref().filter(|_| !quiet) {
        say!("the fingerprint of the certificate is sha256:{}", tls.fingerprint());
    }
    if has_token && !quiet {
        say!("the token for HTTP is in {}", supervisor.store.path().join("token").display());
    }
    if arguments.open {
        for listener in &listeners {
            if let Some(page) = listener.page()? {
                // For whoever started the service, whatever else is printed.
                say!("open {page}#code={} within 10 minutes; it opens the page once", service.guard.code()?);
                break;
            }
        }
    }
    let watched = service.clone();
    std::thread::Builder::new().name("leases".into()).stack_size(STACK).spawn(move || watched.guard.watch())?;
    notify("READY=1");
    let renewal = tls.map(|tls| Renewal::of(tls, supervisor.clone(), quiet));
    accept(&doors, &signals, renewal)?;
    notify("STOPPING=1");
    supervisor.events.close();
    supervisor.save_meters();
    Ok(0)
}

/// Returns the function that answers the requests of an address.
fn handler(service: &Arc<Service>, connections: &Arc<Connections>) -> Arc<Handler> {
    let (service, connections) = (service.clone(), connections.clone());
    Arc::new(move |stream: &UnixStream, client: &Client, request: Result<Request, Problem>| {
        let path = request.as_ref().map(|request| request.path.clone()).unwrap_or_default();
        let has_body = !request.as_ref().is_ok_and(Request::is_head);
        let answer = request.and_then(|request| answer(&service, &connections, stream, client, &request));
        reply(&service, stream, &path, answer, has_body);
    })
}

/// Finds out whom a request comes from, whether it is allowed, and what it is; and has it carried out and noted.
fn answer(
    service: &Service,
    connections: &Connections,
    stream: &UnixStream,
    client: &Client,
    request: &Request,
) -> api::Answered {
    let found = routes::find(&request.method, &request.path);
    let admitted = admit(service, client, request, found.as_ref().ok());
    let caller = match admitted {
        Ok(caller) => caller,
        Err(problem) => {
            let refused = Noted { found: found.as_ref().ok(), request, caller: None, client };
            service.audit.note_refused(&refused.with(Some(&Err(problem.clone()))));
            return Err(problem);
        }
    };
    let lasts = found.as_ref().is_ok_and(|found| found.route.is_stream());
    let is_open = found.as_ref().is_ok_and(|found| found.route.is_open());
    let _turn = if is_open { None } else { service.guard.begin(client, &caller, lasts)? };
    let found = found?;
    let Found { route, name } = found;
    if caller.role < route.role && !route.is_open() {
        let refused = Err(Problem::forbidden(&caller, route.role));
        if route.changes() {
            let noted = Noted { found: Some(&found), request, caller: Some(&caller), client };
            service.audit.note(&noted.with(Some(&refused)));
        }
        return refused;
    }
    let noted = Noted { found: Some(&found), request, caller: Some(&caller), client };
    if route.changes() && route.is_stream() {
        // It may last long.
        service.audit.note(&noted.with(None));
    }
    let answer = (route.handler)(&Call { service, request, stream, client, caller: &caller, connections, name });
    match api::status(&answer) {
        401 | 429 => service.audit.note_refused(&noted.with(Some(&answer))),
        _ if route.changes() => service.audit.note(&noted.with(Some(&answer))),
        _ => {}
    }
    answer
}

/// Finds out whom a request comes from.
fn admit(service: &Service, client: &Client, request: &Request, found: Option<&Found<'_>>) -> Result<Caller, Problem> {
    match found {
        // The page has no secrets, and a session begins with a code instead of a token.
        Some(found) if found.route.is_open() => Ok(Caller::lasting("anybody", Role::Read)),
        // A browser can set no headers of a WebSocket.
        Some(found) if found.route.answer == Answer::Stream && handshake::ticket(request).is_some() => {
            let ticket = handshake::ticket(request).and_then(|ticket| service.tickets.redeem(ticket));
            // Whoever has asked for it may have lost the role since.
            ticket.filter(|caller| service.guard.still_knows(caller)).ok_or_else(Problem::unauthorized)
        }
        _ => service.guard.admit(client, request),
    }
}

/// Characters of a name or a path in the audit log.
const MAX_NOTED: usize = 100;

fn short(text: &str) -> String {
    text.chars().take(MAX_NOTED).collect()
}

/// A request for the audit log.
struct Noted<'a> {
    found: Option<&'a Found<'a>>,
    request: &'a Request,
    /// The caller, if it is known.
    caller: Option<&'a Caller>,
    client: &'a Client,
}

impl Noted<'_> {
    /// Returns the line of the request, with the answer if there is one already. It has neither the body nor the reply: they may have
    /// secrets.
    fn with(&self, answer: Option<&api::Answered>) -> serde_json::Value {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let id = self.found.map(|found| found.route.id);
        let job = match answer {
            Some(Ok(Reply::Created(job))) if id == Some("begin") => Some(job),
            _ => None,
        };
        let part = |key: &str| job.and_then(|job| job[key].as_str());
        let operation = id.map(|id| part("kind").map_or_else(|| id.to_owned(), |kind| format!("{id}-{kind}")));
        let is_of_machine = self.found.is_some_and(|found| found.route.path.contains("/control/"));
        let problem = answer.and_then(|answer| answer.as_ref().err());
        serde_json::json!({
            "time": time,
            "who": self.caller.map(|caller| &caller.who),
            "role": self.caller.map(|caller| caller.role),
            "from": self.client.peer.to_string(),
            "what": operation,
            // A name or a path that nobody has may have any length.
            "path": is_of_machine.then(|| short(&tunnel::path_of(self.request).join("/"))),
            "name": short(part("machine").unwrap_or(self.found.map_or("", |found| found.name))),
            "status": answer.map(api::status),
            "error": problem.map(|problem| problem.kind),
        })
    }
}

fn reply(service: &Service, stream: &UnixStream, path: &[String], answer: api::Answered, has_body: bool) {
    let security = ("X-Content-Type-Options", "nosniff");
    let json = |value: &serde_json::Value| ("application/json", format!("{value}\n"));
    let status = api::status(&answer);
    let (kind, body) = match &answer {
        Ok(Reply::Sent | Reply::Forwarded(_)) => return service.requests.count(status),
        Ok(Reply::Json(value) | Reply::Created(value)) => json(value),
        Ok(Reply::Text(kind, text)) => (*kind, text.clone()),
        Ok(Reply::File(file)) => (file.kind(), file.text.to_owned()),
        Err(problem) => json(&problem.body()),
    };
    // Wrong tokens are forgotten more slowly.
    let pause = matches!(&answer, Err(problem) if problem.kind == TOO_FAST);
    let pause = if pause { pace::PAUSE } else { guard::FORGET }.as_secs().to_string();
    let is_constant = matches!(&answer, Ok(Reply::File(file)) if file.is_constant());
    let cached = if is_constant { "max-age=31536000, immutable" } else { "no-store" };
    let mut headers = vec![("Content-Type", kind), ("Cache-Control", cached), security];
    let allowed = routes::allowed(path);
    match status {
        401 => headers.push(("WWW-Authenticate", "Bearer")),
        405 => headers.push(("Allow", &allowed)),
        426 => headers.extend([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]),
        429 => headers.push(("Retry-After", &pause)),
        _ => {}
    }
    if kind.starts_with("text/html") {
        headers.push(("Content-Security-Policy", PAGE_POLICY));
        headers.push(("Referrer-Policy", "no-referrer"));
    }
    service.requests.count(status);
    if let Err(error) = http::send(stream, status, &headers, body.as_bytes(), has_body) {
        log::debug!("a client has not read its reply: {error}");
    }
}

/// The content security policy of the page: scripts are files of the service, and requests go to its own host only. xterm.js makes
/// elements with styles.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                           img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
