//! Connections: each is served on a thread of its own, for one request.
//!
//! If there are too many, the oldest is closed that has sent nothing which is not read yet. So a client that opens connections and
//! sends nothing, or sends slowly, takes no place from another. Each address has connections of its own.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::address::Peer;
use super::error::Problem;
use super::http::{self, Request};
use super::lock::Mutex;
use super::secure::Acceptor;

/// Maximum number of connections.
const MAX_CONNECTIONS: usize = 128;
/// Maximum number of connections that follow events. The others are for requests that end.
const MAX_FOLLOWERS: usize = 64;
/// Stack of the thread of a connection.
const STACK: usize = 512 << 10;

/// The connections.
#[derive(Default)]
pub struct Connections {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    followers: usize,
    next: u64,
    /// Those whose requests have not arrived, by age.
    silent: BTreeMap<u64, UnixStream>,
}

impl State {
    /// Takes the oldest connection that waits for its client.
    fn take_silent(&mut self) -> Option<UnixStream> {
        let mut fds: Vec<_> = self.silent.values().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok()?;
        let index = fds.iter().position(|fd| fd.revents().is_empty())?;
        let number = *self.silent.keys().nth(index)?;
        self.silent.remove(&number)
    }
}

/// The other end of a connection, as far as it is known.
pub struct Client {
    /// Where it is.
    pub peer: Peer,
    /// Its certificate, which an authority of the service has signed.
    pub certificate: Option<Vec<u8>>,
}

/// The handler of a request. It sends the reply.
pub type Handler = dyn Fn(&UnixStream, &Client, Result<Request, Problem>) + Send + Sync;

impl Connections {
    /// Serves a connection, or refuses it if there are too many. Does not wait.
    pub fn serve(
        self: &Arc<Self>,
        stream: UnixStream,
        peer: Peer,
        tls: Option<&Arc<Acceptor>>,
        handler: &Arc<Handler>,
    ) {
        let _ = stream.set_nonblocking(false);
        let Ok(other) = stream.try_clone() else { return };
        let number = {
            let mut state = self.state.lock();
            if state.open >= MAX_CONNECTIONS {
                // Threads of closed connections may not have ended yet.
                let oldest = if state.open < 2 * MAX_CONNECTIONS { state.take_silent() } else { None };
                let Some(oldest) = oldest else {
                    drop(state);
                    // A reason in plain text means nothing to a client that speaks TLS.
                    if tls.is_none() {
                        refuse(&stream);
                    }
                    return;
                };
                // Its thread finds the end of the request, and ends.
                let _ = oldest.shutdown(std::net::Shutdown::Both);
            }
            state.open += 1;
            state.next += 1;
            let number = state.next;
            state.silent.insert(number, other);
            number
        };
        let (connections, tls, handler) = (self.clone(), tls.cloned(), handler.clone());
        let serve = move || {
            let _open = Open { connections: &connections, number };
            // A panic is printed, and ends this connection alone.
            let _ = catch_unwind(AssertUnwindSafe(|| match tls {
                None => connections.answer(number, &stream, &Client { peer, certificate: None }, &handler),
                Some(tls) => match tls.accept(stream) {
                    Ok(mut secured) => {
                        let client = Client { peer, certificate: secured.certificate.take() };
                        connections.answer(number, &secured.stream, &client, &handler);
                        secured.finish();
                    }
                    Err(error) => log::debug!("{peer}: {error}"),
                },
            }));
        };
        if let Err(error) = thread::Builder::new().name("request".into()).stack_size(STACK).spawn(serve) {
            log::debug!("a connection is closed: {error}");
            self.closed(number);
        }
    }

    /// Reads the request of a connection, and has it answered.
    fn answer(&self, number: u64, stream: &UnixStream, client: &Client, handler: &Arc<Handler>) {
        let request = Request::read(stream);
        self.state.lock().silent.remove(&number);
        match request {
            Ok(None) => {}
            Ok(Some(request)) => handler(stream, client, Ok(request)),
            Err(problem) => handler(stream, client, Err(problem)),
        }
    }

    /// Takes a place for a connection that follows events, until the result is dropped.
    ///
    /// # Errors
    /// Returns an error if there are too many.
    pub fn follow(&self) -> Result<Follower<'_>, Problem> {
        let mut state = self.state.lock();
        if state.followers >= MAX_FOLLOWERS {
            return Err(Problem::busy(format!("{MAX_FOLLOWERS} connections follow events already")));
        }
        state.followers += 1;
        Ok(Follower(self))
    }

    /// Returns the number of connections.
    pub fn open(&self) -> usize {
        self.state.lock().open
    }

    fn closed(&self, number: u64) {
        let mut state = self.state.lock();
        state.silent.remove(&number);
        state.open -= 1;
    }
}

/// A connection, until it is dropped.
struct Open<'a> {
    connections: &'a Connections,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.connections.closed(self.number);
    }
}

/// A place for a connection that follows events.
pub struct Follower<'a>(&'a Connections);

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        self.0.state.lock().followers -= 1;
    }
}

/// Refuses a connection without waiting for the client.
fn refuse(stream: &UnixStream) {
    let problem = Problem::busy("there are too many connections").with_remedy("try again later");
    let _ = stream.set_nonblocking(true);
    let _ = http::reply(stream, problem.status, &problem.body());
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_oldest_silent_connection_makes_room() {
        let connections = Arc::new(Connections::default());
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let handler: Arc<Handler> =
            Arc::new(move |stream: &UnixStream, _: &Client, request: Result<Request, Problem>| {
                let path = request.map(|request| request.path.concat()).unwrap_or_default();
                let _ = http::send(stream, 200, &[], path.as_bytes(), true);
                let _ = tell.lock().send(path);
            });
        let connect = || {
            let (client, server) = UnixStream::pair().unwrap();
            connections.serve(server, Peer::User(0), None, &handler);
            client
        };
        let mut silent: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect()).collect();
        let mut late = connect();
        late.write_all(b"GET /late HTTP/1.1\r\n\r\n").unwrap();
        let mut reply = String::new();
        late.read_to_string(&mut reply).unwrap();
        assert!(reply.ends_with("late"), "{reply}");
        // The first was closed, and the second is served.
        let mut end = String::new();
        silent.remove(0).read_to_string(&mut end).unwrap();
        assert_eq!(end, "");
        silent[0].write_all(b"GET /second HTTP/1.1\r\n\r\n").unwrap();
        while told.recv().unwrap() != "second" {}
        let followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| connections.follow().unwrap()).collect();
        assert_eq!(connections.follow().err().map(|problem| problem.status), Some(503));
        drop(followers);
        assert!(connections.follow().is_ok());
    }
}
