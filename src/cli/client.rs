//! The client of control sockets and of services: finds running machines, and makes requests.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use viridian::machine::code;

use super::control::{default_directory, default_service};
use super::host::{Host, chosen};
use super::reach::{self, Listening, is_stale, name_of};

/// Time limit for a reply that needs nothing of the guest.
pub const PROMPT: Duration = Duration::from_secs(10);
/// Maximum length of a reply.
const MAX_REPLY: u64 = 64 << 20;
/// Maximum length of a reply that is no text: a picture of the largest screen.
const MAX_BYTES: u64 = 256 << 20;
/// Maximum length of the head of a reply.
const MAX_HEAD: u64 = 64 << 10;

/// A running machine, as a client sees it.
#[derive(Clone)]
pub struct Remote {
    /// The name by which it is reached.
    pub name: String,
    place: Place,
    /// Sees each connection before a request is sent.
    watcher: Option<Arc<Watcher>>,
}

/// A function that is called with the connection of each request.
pub type Watcher = dyn Fn(&UnixStream) -> io::Result<()> + Send + Sync;

/// Where requests to a machine go.
#[derive(Clone)]
enum Place {
    /// Its control socket.
    Socket(PathBuf),
    /// The service that was chosen by `--host`, and where the machine's resources are there.
    Service(&'static Host, String),
}

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no machine of this name.
    #[error("there is no running machine {0:?}; {1}")]
    NoMachine(String, String),
    /// The directory of the sockets is not readable.
    #[error("the running machines of this user are unknown: {0}")]
    NoDirectory(io::Error),
    /// The machine refuses.
    #[error("{message}")]
    Refused {
        /// The kind of the reason.
        kind: String,
        /// The reason.
        message: String,
    },
    /// The time is over.
    #[error("there was no answer within {} seconds", .0.as_secs())]
    Slow(Duration),
    /// The machine has ended, or its process does not speak the protocol.
    #[error("the connection to its control socket failed: {0}")]
    Lost(io::Error),
    /// Something else, with the exit code.
    #[error("{1}")]
    Other(u8, String),
}

impl Failure {
    /// Returns the failure that the body of a reply, or an event, describes.
    pub fn of(body: &Value) -> Self {
        let text = |field: &str| body["error"][field].as_str().unwrap_or("unknown").to_owned();
        let mut message = text("message");
        if let Some(place) = body["error"]["where"].as_str() {
            message = format!("{place}: {message}");
        }
        if let Some(remedy) = body["error"]["remedy"].as_str() {
            message = format!("{message}; {}", as_command(remedy));
        }
        Self::Refused { kind: text("kind"), message }
    }

    /// Returns `true` if the machine has ended.
    pub fn is_end(&self) -> bool {
        match self {
            Self::NoMachine(..) => true,
            Self::Refused { kind, .. } => kind == "ended",
            Self::Lost(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::NotFound
                    | ErrorKind::ConnectionReset
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }
}

impl Remote {
    /// Returns all running machines of this user, by name. Sockets that killed processes have left are removed.
    pub fn all() -> Result<Vec<Self>, Failure> {
        if let Some(host) = chosen() {
            return Self::all_of(host);
        }
        let directory = default_directory().map_err(Failure::NoDirectory)?;
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::NoDirectory(error)),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut all: Vec<_> = paths.filter_map(|path| Some((name_of(&path)?, path))).collect();
        all.retain(|(_, path)| !is_stale(path, &directory));
        all.sort();
        Ok(all.into_iter().map(|(name, path)| Self { name, place: Place::Socket(path), watcher: None }).collect())
    }

    fn all_of(host: &'static Host) -> Result<Vec<Self>, Failure> {
        let machines = Self::service(host).get("/machines")?;
        let running = machines["machines"].as_array().into_iter().flatten().filter(|it| !it["process"].is_null());
        Ok(running.filter_map(|machine| Some(Self::of(host, machine["name"].as_str()?))).collect())
    }

    /// Returns the machine of this name at a service.
    fn of(host: &'static Host, name: &str) -> Self {
        let path = format!("/machines/{}/control", encoded(name));
        Self { name: name.to_owned(), place: Place::Service(host, path), watcher: None }
    }

    /// Returns a service that was chosen. Requests to it are made as those to a machine.
    pub fn service(host: &'static Host) -> Self {
        Self { name: "service".into(), place: Place::Service(host, String::new()), watcher: None }
    }

    /// Returns the service that was chosen, or the one of this user, which perhaps does not run.
    pub fn usual_service() -> Result<Self, Failure> {
        if let Some(host) = chosen() {
            return Ok(Self::service(host));
        }
        Ok(Self::at("service", default_service().map_err(Failure::NoDirectory)?))
    }

    /// Returns a machine of the service, whether it has a process or not.
    pub(super) fn expected(name: &str) -> Option<Self> {
        if let Some(host) = chosen() {
            return Some(Self::of(host, name));
        }
        // The names of its machines need no escapes.
        Some(Self::at(name, default_directory().ok()?.join(format!("{name}.sock"))))
    }

    /// Returns the process that listens at the socket of the machine, whether it answers or not.
    ///
    /// # Errors
    /// Returns an error if there is none, or if the machine is reached by a service.
    pub fn process(&self) -> io::Result<Listening> {
        match &self.place {
            Place::Socket(path) => Listening::at(path),
            Place::Service(..) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// Returns the service at which the machine is, if it was chosen.
    pub fn its_service(&self) -> Option<Self> {
        match self.place {
            Place::Socket(_) => None,
            Place::Service(host, _) => Some(Self::service(host)),
        }
    }

    /// Returns `true` if the machine is at a service that was chosen: files of this host may not be files there.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.place, Place::Service(..))
    }

    /// Returns the machine of this name. A name with a `/` is the path of a socket.
    pub fn named(name: &str) -> Result<Self, Failure> {
        if let Some(host) = chosen() {
            return Self::named_at(host, name);
        }
        if name.contains('/') {
            let path = PathBuf::from(name);
            let known = name_of(&path).unwrap_or_else(|| name.to_owned());
            return match reach::connect(&path, PROMPT) {
                Ok(_) => Ok(Self { name: known, place: Place::Socket(path), watcher: None }),
                Err(error) => Err(Failure::NoMachine(name.to_owned(), error.to_string())),
            };
        }
        let all = Self::all()?;
        if let Some(machine) = all.iter().find(|machine| machine.name == name) {
            return Ok(machine.clone());
        }
        if let Some(reason) = Self::unreachable(name) {
            return Err(Failure::NoMachine(name.to_owned(), reason));
        }
        let names: Vec<_> = all.iter().map(|machine| machine.name.as_str()).collect();
        let known = if names.is_empty() { "none runs".into() } else { format!("these run: {}", names.join(", ")) };
        Err(Failure::NoMachine(name.to_owned(), known))
    }

    fn named_at(host: &'static Host, name: &str) -> Result<Self, Failure> {
        let missing = |why: String| Err(Failure::NoMachine(name.to_owned(), why));
        if name.contains('/') {
            return missing(format!("a path is one of this host, and --host names {}", host.name));
        }
        match Self::service(host).get(&format!("/machines/{}", encoded(name))) {
            // One that is starting has no socket yet.
            Ok(machine) if machine["process"].is_null() || machine["state"] == "starting" => {
                let state = machine["state"].as_str().unwrap_or_default();
                missing(idle(&format!("{state} at {}", host.name), name))
            }
            Ok(_) => Ok(Self::of(host, name)),
            Err(Failure::Refused { kind, .. }) if kind == "not-found" => {
                missing(format!("{} has none of this name", host.name))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns the machine with this socket, on which perhaps nobody listens.
    pub fn at(name: &str, path: PathBuf) -> Self {
        Self { name: name.to_owned(), place: Place::Socket(path), watcher: None }
    }

    /// Adds a function that is called with the connection of each request, before the request is sent.
    pub fn watched(self, watcher: Arc<Watcher>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// Connects, for a request that is made otherwise than by [`request`](Self::request).
    pub fn connect(&self) -> io::Result<UnixStream> {
        match &self.place {
            Place::Socket(path) => reach::connect(path, PROMPT),
            Place::Service(host, _) => host.connect(),
        }
    }

    /// Requests a resource.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.request("GET", path, None, PROMPT)
    }

    /// Makes a request that changes something, and that the machine answers promptly.
    pub fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.request("POST", path, body, PROMPT)
    }

    /// Makes a request, and returns the body of the reply.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<Value, Failure> {
        let reply = self.open(method, path, body, Some(limit))?;
        let mut text = Vec::new();
        reply.reader.take(MAX_REPLY).read_to_end(&mut text).map_err(|error| in_words(error, limit))?;
        serde_json::from_slice(&text).map_err(|error| Failure::Lost(io::Error::new(ErrorKind::UnexpectedEof, error)))
    }

    /// Requests a text.
    pub fn text(&self, path: &str) -> Result<String, Failure> {
        let reply = self.open("GET", path, None, Some(PROMPT))?;
        let mut text = String::new();
        reply.reader.take(MAX_REPLY).read_to_string(&mut text).map_err(|error| in_words(error, PROMPT))?;
        Ok(text)
    }

    /// Requests bytes, such as those of a picture.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let mut stream = self.open("GET", path, None, Some(PROMPT))?;
        let mut bytes = Vec::new();
        let read = stream.reader.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| in_words(error, PROMPT))?;
        match stream.length {
            Some(length) if length != bytes.len() as u64 => Err(Failure::Lost(ErrorKind::UnexpectedEof.into())),
            _ => Ok(bytes),
        }
    }

    /// Makes a request whose reply is a stream of events. The limit is that for the reply to begin.
    pub fn stream(&self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<Stream, Failure> {
        self.open(method, path, body, Some(limit))
    }

    /// Connects to a listener in the guest, which has a port of AF_VSOCK. The limit is that for the guest to accept.
    pub fn socket(&self, port: u32, limit: Duration) -> Result<UnixStream, Failure> {
        let (stream, patience) = self.send("POST", &format!("/sockets/{port}"), None, Some(limit), "")?;
        // A byte at a time: what follows the head is the guest's.
        let stream = begun(BufReader::with_capacity(1, stream), patience)?.reader.into_inner();
        stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None)).map_err(Failure::Lost)?;
        Ok(stream)
    }

    /// Follows the events of the machine.
    pub fn events(&self) -> Result<Stream, Failure> {
        self.stream("GET", "/events", None, PROMPT)
    }

    /// Follows the events that come after one.
    pub fn events_after(&self, last: u64) -> Result<Stream, Failure> {
        self.open_with("GET", "/events", None, Some(PROMPT), &format!("Last-Event-ID: {last}\r\n"))
    }

    fn open(&self, method: &str, path: &str, body: Option<&Value>, limit: Option<Duration>) -> Result<Stream, Failure> {
        self.open_with(method, path, body, limit, "")
    }

    fn open_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Option<Duration>,
        header: &str,
    ) -> Result<Stream, Failure> {
        let (stream, patience) = self.send(method, path, body, limit, header)?;
        begun(BufReader::new(stream), patience)
    }

    /// Sends a request. Returns the connection, and the time that it may take.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Option<Duration>,
        header: &str,
    ) -> Result<(UnixStream, Duration), Failure> {
        // A connection may log in first.
        let login = if let Place::Service(host, _) = &self.place { host.login_time() } else { Duration::ZERO };
        let limit = limit.map(|limit| limit + login);
        let patience = limit.unwrap_or(Duration::MAX);
        let (mut stream, base, token) = match &self.place {
            Place::Socket(path) => {
                let time = patience.min(PROMPT);
                (reach::connect(path, time).map_err(|error| in_words(error, time))?, "", String::new())
            }
            Place::Service(host, base) => {
                let lost = |error: io::Error| Failure::Other(code::FAILED, error.to_string());
                (host.connect().map_err(lost)?, base.as_str(), host.header())
            }
        };
        let words = |error| in_words(error, patience);
        if let Some(watcher) = &self.watcher {
            watcher(&stream).map_err(Failure::Lost)?;
        }
        stream.set_read_timeout(limit).map_err(words)?;
        stream.set_write_timeout(limit).map_err(words)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {base}{path} HTTP/1.1\r\nHost: viridian\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{token}{header}\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).map_err(words)?;
        Ok((stream, patience))
    }
}

/// Returns what to do about a machine of the service that has no process.
pub fn idle(state: &str, name: &str) -> String {
    if state.starts_with("waiting") || state.starts_with("starting") {
        return format!("it is {state}, until the service has started it");
    }
    format!("it is {state}; start it: viridian start {name}")
}

/// Reads the head of a reply. A reply that is not a success is the failure.
fn begun(mut reader: BufReader<UnixStream>, patience: Duration) -> Result<Stream, Failure> {
    let words = |error| in_words(error, patience);
    let (status, length) = head_of(&mut reader).map_err(words)?;
    if (200..300).contains(&status) {
        return Ok(Stream { reader, length, line: Vec::new() });
    }
    let mut text = Vec::new();
    reader.take(MAX_REPLY).read_to_end(&mut text).map_err(words)?;
    Err(Failure::of(&serde_json::from_slice(&text).unwrap_or_default()))
}

/// Returns a remedy with the commands in place of the requests that it names.
fn as_command(remedy: &str) -> String {
    let commands = [
        ("GET /machines ", "viridian list --all "),
        ("GET /jobs ", "viridian jobs "),
        ("GET /access ", "viridian access list "),
    ];
    commands.iter().fold(remedy.to_owned(), |text, (request, command)| text.replace(request, command))
}

/// A reply that has begun. See also [`Stream::raw`].
pub struct Stream {
    reader: BufReader<UnixStream>,
    /// Length of the reply, if its head has it.
    length: Option<u64>,
    /// The start of a line whose rest has not arrived yet.
    line: Vec<u8>,
}

impl Stream {
    /// Waits for the next event until the deadline. Returns `None` at the end of the stream.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Value>, Failure> {
        let begun = Instant::now();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let waited = begun.elapsed();
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Failure::Slow(waited));
            }
            self.reader.get_ref().set_read_timeout(left).map_err(Failure::Lost)?;
            match self.reader.by_ref().take(MAX_REPLY).read_until(b'\n', &mut self.line) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(in_words(error, begun.elapsed())),
            }
            let line = std::mem::take(&mut self.line);
            if let Some(data) = line.strip_prefix(b"data: ") {
                let wrong = |error| Failure::Lost(io::Error::new(ErrorKind::InvalidData, error));
                return serde_json::from_slice(data).map(Some).map_err(wrong);
            }
        }
    }

    /// Returns the connection, and what has been received of the reply's body, for a body that is no list of events.
    pub fn raw(self) -> (Vec<u8>, UnixStream) {
        (self.reader.buffer().to_vec(), self.reader.into_inner())
    }

    /// Shuts the connection for writing, which ends the operation that the request began.
    pub fn finish_sending(&self) -> Result<(), Failure> {
        self.reader.get_ref().shutdown(std::net::Shutdown::Write).map_err(Failure::Lost)
    }
}

fn in_words(error: io::Error, limit: Duration) -> Failure {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Slow(limit),
        _ => Failure::Lost(error),
    }
}

/// Reads the head of a reply. Returns its status, and the length of the body if it is known.
fn head_of(reader: &mut BufReader<UnixStream>) -> io::Result<(u16, Option<u64>)> {
    let mut head = Vec::new();
    let mut limited = reader.by_ref().take(MAX_HEAD);
    while !head.ends_with(b"\r\n\r\n") {
        if limited.read_until(b'\n', &mut head)? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the reply ends in its head"));
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let wrong = |error| io::Error::new(ErrorKind::InvalidData, error);
    response.parse(&head).map_err(wrong)?;
    let status = response.code.ok_or(ErrorKind::InvalidData)?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    Ok((status, length.and_then(|length| std::str::from_utf8(length.value).ok()?.trim().parse().ok())))
}

/// Returns the status in the first line of a reply.
pub fn status_of(line: &[u8]) -> Option<u16> {
    std::str::from_utf8(line.get(9..12)?).ok()?.parse().ok()
}

/// Returns a part of a path, encoded.
pub fn encoded(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths_are_encoded() {
        assert_eq!(encoded("a b/ü.-_%"), "a%20b%2F%C3%BC.-_%25");
    }
}
