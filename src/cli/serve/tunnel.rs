//! Requests to a machine itself, which are passed on to its control socket: see docs/control.md.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::Value;

use super::access::Role;
use super::api::{Answered, Call, Reply};
use super::error::Problem;
use super::http::Request;
use super::operations::problem;
use crate::cli::client::{Failure, encoded, status_of};

/// Time for a client to take some of a reply that is not a stream.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for a machine to begin its reply to a request that asks nobody else.
const OWN: Duration = Duration::from_secs(10);
/// Time for what its guest is asked for, or what opens files of the host.
const OF_OTHERS: Duration = Duration::from_secs(120);
/// Longest wait for what the guest shows.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// The first parts of the paths of requests that ask the guest or open files of the host.
const ASK_OTHERS: [&str; 8] = ["shutdown", "devices", "kvp", "freeze", "copy", "disks", "adapters", "sockets"];
/// Maximum length of the first line of a reply.
const MAX_LINE: usize = 256;
/// Resources whose answer has no end of its own.
const STREAMS: [&str; 7] = ["events", "console", "freeze", "copy", "screen", "sockets", "trace"];

/// Returns the path of a request, as the machine has it.
pub fn path_of(request: &Request) -> &[String] {
    let rest = request.path.get(2..).unwrap_or_default();
    match rest.split_first() {
        Some((first, rest)) if first == "control" => rest,
        _ => rest,
    }
}

/// Returns the time for a machine to begin its reply.
fn patience(rest: &[String], body: &[u8]) -> Duration {
    let path: Vec<_> = rest.iter().map(String::as_str).collect();
    match path[..] {
        ["screen", "wait"] => {
            // The machine says what is wrong about a body.
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let limit = body["limit-seconds"].as_f64().map(|seconds| Duration::try_from_secs_f64(seconds).ok());
            limit.flatten().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT) + OWN
        }
        [first, ..] if ASK_OTHERS.contains(&first) => OF_OTHERS,
        _ => OWN,
    }
}

/// Returns `true` if the answer lasts until somebody ends it.
fn is_stream(rest: &[String]) -> bool {
    rest.first().is_some_and(|first| STREAMS.contains(&first.as_str())) && rest != ["screen", "picture"]
}

/// Passes a request on, and the reply back.
pub fn forward(call: &Call<'_>) -> Answered {
    let request = call.request;
    let path = path_of(request);
    let is_stream = is_stream(path);
    let _place = if is_stream { Some(call.follow()?) } else { None };
    let remote = call.service.supervisor.remote(call.name)?;
    let lost = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => problem(Failure::Slow(PATIENCE)),
        _ => Problem::state(format!("{} cannot be reached: {error}", call.name)),
    };
    let mut machine = remote.connect().map_err(lost)?;
    let limit = patience(path, &request.body);
    let path: Vec<_> = path.iter().map(|part| encoded(part)).collect();
    let last = request.last_event().map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
    let head = format!(
        "{} /{} HTTP/1.1\r\nHost: viridian\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{last}\r\n",
        request.method,
        path.join("/"),
        request.body.len()
    );
    machine.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
    machine.write_all(head.as_bytes()).and_then(|()| machine.write_all(&request.body)).map_err(lost)?;
    let mut carried = Carried { status: None, line: Vec::new(), deadline: Instant::now().checked_add(limit) };
    if let Err(error) = carried.carry(call.stream, &machine, is_stream) {
        log::debug!("{}: a request to its control socket has ended: {error}", call.name);
        if carried.is_late() {
            return Err(problem(Failure::Slow(limit)));
        }
    }
    match carried.status {
        Some(status) => {
            if !matches!(request.method.as_str(), "GET" | "HEAD") && !is_stream && status < 300 {
                // The client, which still waits for the end of the connection, finds the new state in the list.
                let _ = call.service.supervisor.refresh(call.name, &remote);
            }
            Ok(Reply::Forwarded(status))
        }
        None => Err(Problem::ended(format!("{} has ended", call.name)).with_remedy("start it first")),
    }
}

/// Passes a wait for the screen on. A file with a picture is one of the host, which only those name who may read its files.
pub fn wait(call: &Call<'_>) -> Answered {
    let body: Value = call.json()?;
    if ["picture", "difference"].iter().any(|key| body.get(key).is_some()) && call.caller.role < Role::Administer {
        return Err(Problem::forbidden(call.caller, Role::Administer));
    }
    forward(call)
}

/// What is known of a reply that is passed on.
struct Carried {
    /// Its status, when its first line has come.
    status: Option<u16>,
    /// The start of its first line.
    line: Vec<u8>,
    /// The time until which it has to begin.
    deadline: Option<Instant>,
}

impl Carried {
    /// Returns `true` if the reply has not begun in time.
    fn is_late(&self) -> bool {
        self.line.is_empty() && self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Carries bytes both ways until the reply is over or the client is gone.
    fn carry(&mut self, client: &UnixStream, machine: &UnixStream, is_stream: bool) -> io::Result<()> {
        client.set_nonblocking(true)?;
        machine.set_nonblocking(true)?;
        let (mut to_client, mut to_machine) = (Vec::new(), Vec::new());
        let mut client_sends = true;
        let mut piece = [0; 16 << 10];
        let mut last = Instant::now();
        loop {
            if write(client, &mut to_client)? > 0 || to_client.is_empty() {
                last = Instant::now();
            }
            write(machine, &mut to_machine)?;
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::OUT, !to_client.is_empty());
            wanted.set(PollFlags::IN, client_sends && to_machine.is_empty());
            let mut asked = PollFlags::empty();
            asked.set(PollFlags::IN, to_client.is_empty());
            asked.set(PollFlags::OUT, !to_machine.is_empty());
            // The end of the machine's side is found when all that it has sent is passed on.
            let mut fds = vec![PollFd::new(client, wanted)];
            if !asked.is_empty() {
                fds.push(PollFd::new(machine, asked));
            }
            let limit = match self.deadline {
                Some(deadline) if self.line.is_empty() => Some(deadline.saturating_duration_since(Instant::now())),
                _ if is_stream || to_client.is_empty() => None,
                _ => Some(PATIENCE.saturating_sub(last.elapsed())),
            };
            match poll(&mut fds, limit.and_then(|limit| Timespec::try_from(limit).ok()).as_ref()) {
                // A client that sends without end does not put the time off.
                Ok(_) if self.is_late() => return Err(ErrorKind::TimedOut.into()),
                Ok(0) if limit.is_some() => return Err(ErrorKind::TimedOut.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let found: Vec<_> = fds.iter().map(PollFd::revents).collect();
            let readable = PollFlags::IN | PollFlags::HUP;
            if found[0].contains(PollFlags::IN) && wanted.contains(PollFlags::IN) {
                match read(client, &mut piece)? {
                    Some(0) => {
                        client_sends = false;
                        machine.shutdown(std::net::Shutdown::Write)?;
                    }
                    Some(count) => to_machine.extend(&piece[..count]),
                    None => {}
                }
            } else if found[0].intersects(PollFlags::HUP | PollFlags::ERR) {
                return Ok(());
            }
            if found.get(1).is_some_and(|found| found.intersects(readable | PollFlags::ERR))
                && asked.contains(PollFlags::IN)
            {
                match read(machine, &mut piece)? {
                    Some(0) => {
                        // Nothing waits for a client that has closed its side.
                        let _ = client.shutdown(std::net::Shutdown::Write);
                        return if client_sends { carry_rest(client, machine, to_machine) } else { Ok(()) };
                    }
                    Some(count) => {
                        self.see(&piece[..count]);
                        to_client.extend(&piece[..count]);
                    }
                    None => {}
                }
            }
        }
    }

    /// Finds the status in the first line.
    fn see(&mut self, bytes: &[u8]) {
        if self.status.is_some() {
            return;
        }
        let room = MAX_LINE - self.line.len();
        self.line.extend(&bytes[..bytes.len().min(room)]);
        if self.line.contains(&b'\n') || self.line.len() == MAX_LINE {
            self.status = Some(status_of(&self.line).unwrap_or(502));
        }
    }
}

/// Carries what the client still sends after the machine has sent everything: a socket of the guest ends each direction on its own.
/// Returns at once if the machine has closed the connection.
fn carry_rest(client: &UnixStream, machine: &UnixStream, mut to_machine: Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 16 << 10];
    loop {
        write(machine, &mut to_machine)?;
        let is_idle = to_machine.is_empty();
        let mut fds = vec![PollFd::new(machine, if is_idle { PollFlags::empty() } else { PollFlags::OUT })];
        if is_idle {
            fds.push(PollFd::new(client, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            match read(client, &mut piece)? {
                Some(0) => return Ok(()),
                Some(count) => to_machine.extend(&piece[..count]),
                None => {}
            }
        }
    }
}

/// Writes what can be written now, and returns how much.
fn write(mut stream: &UnixStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match stream.write(bytes) {
        Ok(count) => {
            bytes.drain(..count);
            Ok(count)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Reads what is there. Returns `None` if there is nothing yet.
fn read(mut stream: &UnixStream, piece: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(piece) {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        // Its process has ended.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn a_picture_ends_and_a_viewer_stays() {
        for (path, expected) in [("screen", true), ("screen/wait", true), ("screen/picture", false), ("disks", false)] {
            assert_eq!(is_stream(&parts(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_reply_has_to_begin_within_a_time_that_depends_on_the_request() {
        for (path, body, seconds) in [
            ("", "", 10),
            ("inspect", "", 10),
            ("events", "", 10),
            ("console", "{}", 10),
            ("screen", "", 10),
            ("kvp/guest/a", "", 120),
            ("disks", "{}", 120),
            ("screen/wait", "{\"limit-seconds\": 600}", 610),
            ("screen/wait", "{\"limit-seconds\": 1e300}", 86_410),
            ("screen/wait", "garbage", 86_410),
        ] {
            assert_eq!(patience(&parts(path), body.as_bytes()).as_secs(), seconds, "{path} {body}");
        }
        let ((_client, service), (machine, _control)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let deadline = Some(Instant::now() + Duration::from_millis(5));
        let mut carried = Carried { status: None, line: Vec::new(), deadline };
        assert_eq!(carried.carry(&service, &machine, true).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(carried.is_late());
    }

    #[test]
    fn bytes_are_carried_both_ways_and_the_status_is_seen() {
        let (client, service) = UnixStream::pair().unwrap();
        let (machine, control) = UnixStream::pair().unwrap();
        let carry = std::thread::spawn(move || {
            let mut carried = Carried { status: None, line: Vec::new(), deadline: None };
            carried.carry(&service, &machine, false).unwrap();
            carried.status
        });
        (&client).write_all(b"typed").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut typed = Vec::new();
        (&control).read_to_end(&mut typed).unwrap();
        assert_eq!(typed, b"typed");
        (&control).write_all(b"HTTP/1.").unwrap();
        (&control).write_all(b"1 404 Not Found\r\n\r\nx").unwrap();
        drop(control);
        let mut reply = Vec::new();
        assert_eq!(carry.join().unwrap(), Some(404));
        (&client).read_to_end(&mut reply).unwrap();
        assert_eq!(reply, b"HTTP/1.1 404 Not Found\r\n\r\nx");
    }
    #[test]
    fn each_direction_of_a_socket_ends_on_its_own() {
        let (client, service) = UnixStream::pair().unwrap();
        let (machine, control) = UnixStream::pair().unwrap();
        let carry = std::thread::spawn(move || {
            let mut carried = Carried { status: None, line: Vec::new(), deadline: None };
            carried.carry(&service, &machine, true).unwrap();
        });
        (&control).write_all(b"HTTP/1.1 200 OK\r\n\r\nall").unwrap();
        control.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        (&client).read_to_end(&mut all).unwrap();
        assert!(all.ends_with(b"all"));
        let sent = vec![7; 1 << 20];
        let send = std::thread::spawn(move || {
            (&client).write_all(&sent).unwrap();
            sent
        });
        let mut received = Vec::new();
        (&control).read_to_end(&mut received).unwrap();
        assert!(received == send.join().unwrap());
        carry.join().unwrap();
    }
}
