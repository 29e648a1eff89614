//! Connections: each is served on a thread of its own, for one request.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::error::Problem;
use super::exchange::{Exchange, Reply};
use super::http::{self, Request};
use super::routes;
use crate::fleet::Handle;
use crate::host::limited;
use crate::host::lock::{Condvar, Mutex};
use crate::host::panics::caught;

/// Maximum number of connections of a process.
const MAX_CONNECTIONS: usize = 64;

/// Handlers call little, but a device may.
const STACK: usize = 256 << 10;

/// Time that requests are given to be answered when the process ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The connections of a process.
#[derive(Default)]
pub struct Connections {
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Default)]
struct State {
    /// Number of connections.
    open: usize,
    /// Number of requests that have arrived and are not answered yet.
    at_work: usize,
}

impl Connections {
    /// Serves a connection, or refuses it if there are too many. Does not wait.
    pub fn serve(self: &Arc<Self>, stream: UnixStream, machine: &Handle) {
        let _ = stream.set_nonblocking(false);
        {
            let mut state = self.state.lock();
            if state.open >= MAX_CONNECTIONS {
                drop(state);
                return refuse(&stream, "there are too many connections; try again later");
            }
            state.open += 1;
        }
        let (connections, machine) = (self.clone(), machine.clone());
        // The thread's end of the connection is the only one. It is closed if the thread cannot be started.
        let serve = move || {
            let _open = Open(&connections);
            if let Err(message) = caught(|| connections.exchange(&stream, &machine)) {
                log::error!("{}: a request to the control socket panicked: {message}", machine.name());
            }
        };
        if let Err(error) = thread::Builder::new().name("control".into()).stack_size(STACK).spawn(serve) {
            limited::warn!("a connection to the control socket is closed, because no thread can be started: {error}");
            self.closed();
        }
    }

    fn exchange(&self, stream: &UnixStream, machine: &Handle) {
        let request = Request::read(stream);
        self.state.lock().at_work += 1;
        let _work = Work(self);
        let has_body = !matches!(&request, Ok(Some(request)) if request.is_head());
        let result = match request {
            Ok(None) => return,
            Ok(Some(request)) => routes::answer(Exchange::new(machine, request, stream)),
            Err(problem) => Err(problem),
        };
        let reply = |status, body: &serde_json::Value| {
            let text = format!("{body}\n");
            http::send(stream, status, &[("Content-Type", "application/json")], text.as_bytes(), has_body)
        };
        let sent = match result {
            Ok(Reply::Json(body)) => reply(200, &body),
            Ok(Reply::Bytes(kind, bytes)) => {
                http::send(stream, 200, &[("Content-Type", kind), ("Cache-Control", "no-store")], &bytes, has_body)
            }
            Ok(Reply::Sent) => Ok(()),
            Err(problem) => reply(problem.status, &problem.body()),
        };
        if let Err(error) = sent {
            log::debug!("{}: a client of the control socket has not read its reply: {error}", machine.name());
        }
    }

    fn closed(&self) {
        self.state.lock().open -= 1;
    }

    /// Waits a moment for requests that are being answered.
    pub fn finish(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut state = self.state.lock();
        while state.at_work > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.finished.wait_timeout(state, left);
        }
    }
}

/// A connection, until it is dropped.
struct Open<'a>(&'a Connections);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// A request that is being answered, until it is dropped.
struct Work<'a>(&'a Connections);

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.state.lock().at_work -= 1;
        self.0.finished.notify_all();
    }
}

/// Refuses a connection without waiting for the client.
fn refuse(stream: &UnixStream, message: &str) {
    let problem = Problem::busy(message);
    let _ = stream.set_nonblocking(true);
    let _ = http::reply(stream, problem.status, &problem.body());
}
